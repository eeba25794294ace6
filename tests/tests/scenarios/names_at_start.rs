//! Host names that have no address yet when the agent starts, as after a boot: the rest of the file is in force
//! meanwhile, and what has them comes as soon as they have addresses.

use std::{
    fs,
    net::{IpAddr, Ipv4Addr, SocketAddr, UdpSocket},
    sync::atomic::{AtomicBool, Ordering},
    thread,
    time::Duration,
};

use anyhow::{Context as _, Result, bail};
use lvs_tests::{
    lab::{
        Lab,
        agent::Agent,
        director::{prepare_ipvs, table_watcher::TableWatcher},
        dns_server,
        layout::{Layout, Method},
        process, wait,
    },
    testbed::EDIT_LIMIT,
};

/// Gives the agent a name server of its own, and nobody else.
const OWN_NAME_SERVER: &str = "set -e; mount --bind \"$resolv\" /etc/resolv.conf; exec \"$@\"";
/// Far longer than the agent waits before it asks again, on a slow machine.
const LIMIT: Duration = Duration::from_mins(1);
/// How soon the test looks whether it is over.
const PAUSE: Duration = Duration::from_millis(100);

/// A file of ldirectord's: a service with addresses, one with names alone, and one with both.
fn text(services: [SocketAddr; 3], servers: &[SocketAddr]) -> String {
    let lines = services.map(|service| format!("virtual={service}\n    checktype=connect\n"));
    let port = servers[1].port();
    let late = format!("    real=late.lab.example:{port} masq\n");
    let early = format!("    real={} masq\n", servers[0]);
    format!(
        "checkinterval=1\nchecktimeout=1\nquiescent=yes\n{}{early}{}{late}{}{early}{late}",
        lines[0], lines[1], lines[2]
    )
}

#[test]
#[ignore = "needs root, IPVS and the agent: cargo xtask test"]
fn a_name_that_resolves_only_later_holds_up_nothing_else() -> Result<()> {
    let lab = Lab::build(&Layout::new(Method::Masquerade))?;
    let director = lab.network.director.clone();
    prepare_ipvs(&director)?;
    process::run(&director, &["ip", "link", "set", "lo", "up"], "")?;
    let folder = tempfile::tempdir()?;
    let resolv = folder.path().join("resolv.conf");
    fs::write(&resolv, "nameserver 127.0.0.1\noptions timeout:1 attempts:1\n")?;
    let service = Layout::new(Method::Masquerade).service();
    let services = [0, 1, 2].map(|more| SocketAddr::new(service.ip(), service.port() + more));
    let servers = lab.addresses();
    let watcher = TableWatcher::start(&director)?;
    let resolv = format!("resolv={}", resolv.display());
    let wrapper = ["env", &resolv, "unshare", "--mount", "sh", "-c", OWN_NAME_SERVER, "sh"];
    let mut agent = Agent::start_under(&director, &text(services, &servers), &wrapper)?;
    agent.wait_until_ready()?;
    // The servers with weight of each service.
    let serving = |service: SocketAddr| -> Result<Option<Vec<SocketAddr>>> {
        let (table, name) = (watcher.table()?, format!("TCP {service}"));
        let known = table.services.iter().any(|one| one.name == name);
        let of_service = table.destinations().filter(|(of, one)| *of == name && one.weight > 0);
        Ok(known.then(|| of_service.map(|(_, one)| one.server).collect()))
    };
    let becomes = |agent: &mut Agent, service: SocketAddr, expected: &[SocketAddr], limit| {
        let became = wait::until_true(&format!("{service} to have {expected:?}"), limit, || {
            agent.check_running()?;
            Ok(serving(service)?.is_some_and(|mut serving| {
                serving.sort();
                serving == expected
            }))
        });
        became.with_context(|| agent.diagnosis())
    };
    // Nobody answers for the name yet.
    becomes(&mut agent, services[0], &servers[..1], LIMIT)?;
    becomes(&mut agent, services[2], &servers[..1], LIMIT)?;
    assert_eq!(serving(services[1])?.unwrap_or_default(), []);
    assert!(
        agent.lines().iter().any(|line| line.contains("late.lab.example")),
        "it is said what is left out: {}",
        agent.diagnosis()
    );
    // A reload by hand in the meantime takes nothing away.
    let reload = agent.command(&["reload"])?;
    // In force, with a warning of the name.
    assert_eq!(reload.code, Some(1), "{reload}");
    becomes(&mut agent, services[0], &servers[..1], EDIT_LIMIT)?;
    let edits = |agent: &Agent| agent.events().iter().filter(|event| event.is_edit()).count();
    let before = edits(&agent);
    let IpAddr::V4(late) = servers[1].ip() else { bail!("a server without an IPv4 address") };
    let is_over = AtomicBool::new(false);
    thread::scope(|scope| -> Result<()> {
        let socket = director.run(|| Ok(UdpSocket::bind((Ipv4Addr::LOCALHOST, 53))?))?;
        socket.set_read_timeout(Some(PAUSE))?;
        let over = &is_over;
        scope.spawn(move || {
            let mut buffer = [0; 512];
            while !over.load(Ordering::Relaxed) {
                let Ok((length, client)) = socket.recv_from(&mut buffer) else { continue };
                if let Some(reply) = dns_server::reply(&buffer[..length], late) {
                    // Who has given up is no fault here.
                    socket.send_to(&reply, client).ok();
                }
            }
        });
        let came = becomes(&mut agent, services[1], &servers[1..2], LIMIT)
            .and_then(|()| becomes(&mut agent, services[2], &servers[..2], LIMIT));
        is_over.store(true, Ordering::Relaxed);
        came
    })?;
    // Each of both services gets its server, and it gets its weight; the service may be new as well.
    assert!((2..=6).contains(&(edits(&agent) - before)), "{}", agent.diagnosis());
    assert_eq!(serving(services[0])?.unwrap_or_default(), servers[..1]);
    agent.stop()?;
    Ok(())
}
