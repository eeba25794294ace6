//! More servers than a process may usually have files open, and all of them fall silent.

use std::{
    net::{IpAddr, SocketAddr},
    time::Duration,
};

use anyhow::{Result, ensure};
use lvs_tests::{
    lab::{
        Lab,
        agent::config::{CheckSection, ServerSection},
        clock::Moment,
        daemon::Daemon,
        director::prepare_ipvs,
        layout::{Layout, Method},
        namespace::Namespace,
        network::ip,
        process,
    },
    say,
    testbed::{Setup, Testbed},
};

/// How many.
const SERVERS: u16 = 1_300;
/// Where they listen.
const LISTENING: u16 = 8100;
/// The usual soft limit of open files.
const LIMIT: &str = "1024";
/// How long three failed checks may take of so many, on a slow machine.
const OUT: Duration = Duration::from_secs(30);
/// How long an answer may take meanwhile.
const ANSWER: Duration = Duration::from_secs(2);

fn address(number: u16) -> SocketAddr {
    let [high, low] = number.to_be_bytes();
    ([10, 9, high, low], LISTENING).into()
}

/// One machine has all the addresses.
fn route_all_to(director: &Namespace, machine: &Namespace, at: IpAddr) -> Result<()> {
    ip(machine, "route add local 10.9.0.0/16 dev lo\n")?;
    ip(director, &format!("route add 10.9.0.0/16 via {at}\n")).map(drop)
}

#[test]
#[ignore = "needs root, IPVS and the agent: cargo xtask test"]
fn more_silent_servers_than_open_files_are_out_and_status_answers() -> Result<()> {
    let layout = Layout::new(Method::Masquerade);
    let mut setup = Setup::of(layout);
    setup.wrapper = ["prlimit".to_owned(), format!("--nofile={LIMIT}:")].to_vec();
    let mut many = setup.config.service[0].clone();
    "many".clone_into(&mut many.name);
    many.address = Some(layout.second_service().to_string());
    many.check = CheckSection::of_type("connect");
    let template = many.server[0].clone();
    many.server = (1..=SERVERS)
        .map(|number| ServerSection { address: address(number).to_string(), ..template.clone() })
        .collect();
    setup.config.service.push(many);
    let lab = Lab::build(&layout)?;
    prepare_ipvs(&lab.network.director)?;
    let machine = lab.servers[2].namespace().clone();
    route_all_to(&lab.network.director, &machine, lab.servers[2].address().ip())?;
    let _daemon = Daemon::start(&machine, SocketAddr::from(([0, 0, 0, 0], LISTENING)), "well\n")?;
    let mut testbed = Testbed::in_lab(lab, &setup)?;
    let weights = |testbed: &Testbed| -> Result<usize> {
        let table = testbed.watcher.table()?;
        Ok((1..=SERVERS).filter(|number| !table.is_out(address(*number))).count())
    };
    testbed.wait("all servers to be in", OUT, |testbed| Ok(weights(testbed)? == usize::from(SERVERS)))?;

    let silence = format!(
        "table ip silence {{ chain in {{ type filter hook input priority 0; tcp dport {LISTENING} drop; }}; }}\n"
    );
    process::run(&machine, &["nft", "-f", "-"], &silence)?;
    let since = Moment::now();
    let mut slowest = Duration::ZERO;
    testbed.wait("all silent servers to be out", OUT, |testbed| {
        let asked = Moment::now();
        let status = testbed.agent.command(&["status", "web"])?;
        ensure!(status.code.is_some_and(|code| code <= 2), "{status}");
        slowest = slowest.max(Moment::now().since(asked));
        Ok(weights(testbed)? == 0)
    })?;
    say(&format!(
        "{SERVERS} silent servers are out after {:.1?}; status answered after {slowest:.0?} at most",
        Moment::now().since(since)
    ));
    assert!(slowest <= ANSWER, "{slowest:?}");
    // The other service has nothing to do with it.
    testbed.wait_until_serving()
}
