//! Checks that ask somebody else than the server's own port: an agent on it, or a daemon at another address.

use std::{net::SocketAddr, time::Duration};

use anyhow::Result;
use lvs_tests::{
    lab::{
        Lab,
        agent::config::CheckSection,
        clients::requests::Summary,
        clock::Moment,
        daemon::Daemon,
        director::{prepare_ipvs, table_watcher::changes},
        layout::{Layout, Method},
    },
    say,
    testbed::{Setup, Testbed},
};

use crate::expect_failover::{BY_CHECK, HEALTHY};

/// Where agents listen.
const AGENT_PORT: u16 = 9000;
/// Where a daemon listens on the VIP.
const DAEMON_PORT: u16 = 8081;
/// The servers' weight.
const WEIGHT: u16 = 10;

fn wait_for_weight(testbed: &mut Testbed, server: SocketAddr, weight: u16) -> Result<()> {
    testbed.wait(&format!("{server} to have weight {weight}"), BY_CHECK, |testbed| {
        Ok(testbed.watcher.table()?.weight(server) == Some(weight.into()))
    })
}

#[test]
#[ignore = "needs root, IPVS and the agent: cargo xtask test"]
fn what_an_agent_on_the_server_says_is_its_weight_and_state() -> Result<()> {
    let layout = Layout::new(Method::Masquerade);
    let mut setup = Setup::of(layout);
    let service = &mut setup.config.service[0];
    service.check = CheckSection { port: Some(AGENT_PORT), ..CheckSection::of_type("agent") };
    "wrr".clone_into(&mut service.scheduler);
    service.server.iter_mut().for_each(|server| server.weight = WEIGHT);
    let lab = Lab::build(&layout)?;
    prepare_ipvs(&lab.network.director)?;
    let daemons: Vec<Daemon> = lab
        .servers
        .iter()
        .map(|server| {
            let address = SocketAddr::new(server.address().ip(), AGENT_PORT);
            Daemon::start(server.namespace(), address, "up ready 100%\n")
        })
        .collect::<Result<_>>()?;
    let mut testbed = Testbed::in_lab(lab, &setup)?;
    let server = testbed.lab.servers[0].address();
    let since = Moment::now();
    for (line, weight) in [
        ("75%\n", 7),
        ("up 50% # half of it is busy\r\n", 5),
        ("drain\n", 0),
        // Only the agent takes its own word back.
        ("100%\n", 0),
        ("ready 20%\n", 2),
        ("maint\n", 0),
        ("ready 100%\n", WEIGHT),
        ("down # disk full\n", 0),
        ("up\n", WEIGHT),
    ] {
        daemons[0].say(line);
        if weight == 0 && line.starts_with("100%") {
            testbed.run_for(HEALTHY)?;
        }
        wait_for_weight(&mut testbed, server, weight)?;
    }
    let others = changes(&testbed.history_since_healthy()?);
    assert!(others.iter().all(|change| change.change.server == server), "{others:?}");
    let summary = Summary::between(&testbed.load.requests(), since, Moment::now());
    say(&summary.to_string());
    assert_eq!(summary.failed(), 0, "no word of an agent costs a request: {}", testbed.diagnosis());
    Ok(())
}

/// keepalived's `connect_ip`: a daemon on the director itself that listens on the VIP only.
#[test]
#[ignore = "needs root, IPVS and the agent: cargo xtask test"]
fn a_daemon_at_another_address_says_how_the_server_is() -> Result<()> {
    let layout = Layout::new(Method::Masquerade).servers(1);
    let vip = SocketAddr::new(layout.service().ip(), DAEMON_PORT);
    let mut setup = Setup::of(layout);
    let mut check = CheckSection::of_type("connect");
    check.other.insert("connect-to".to_owned(), vip.to_string().into());
    setup.config.service[0].check = check;
    let lab = Lab::build(&layout)?;
    prepare_ipvs(&lab.network.director)?;
    let mut daemon = Daemon::start(&lab.network.director, vip, "well\n")?;
    let mut testbed = Testbed::in_lab(lab, &setup)?;
    testbed.run_for(HEALTHY)?;
    let server = testbed.lab.servers[0].address();
    assert_eq!(changes(&testbed.history_since_healthy()?), [], "{}", testbed.diagnosis());
    daemon.stop()?;
    testbed.wait_until_out(0)?;
    let status = testbed.agent.command(&["status"])?;
    assert!(status.stdout.contains(&format!("probes go to the address {vip}")), "{status}");
    testbed.run_for(Duration::from_secs(2))?;
    assert!(testbed.watcher.table()?.is_out(server), "the server itself is well, and isn't asked");
    let _daemon = Daemon::start(&testbed.lab.network.director, vip, "well\n")?;
    testbed.wait_until_back(0)
}
