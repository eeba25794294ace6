//! What keeps only packets to a server from it: the director's own routes; and checks that can't be made.

use std::time::Duration;

use anyhow::Result;
use lvs_tests::{
    lab::{agent::log::EventKind, clock::Moment, layout::Method, network::ip},
    testbed::{Setup, Testbed},
};

use crate::expect_failover::{BY_CHECK, HEALTHY};

/// The words of the reason for each kind of route.
const ROUTES: [(&str, &str); 2] = [
    ("blackhole", "a blackhole route of this director leads there"),
    ("prohibit", "a prohibit route of this director leads there"),
];

/// Changes a route of this kind to the servers that are no backups: `add` or `del`.
fn route(testbed: &Testbed, change: &str, kind: &str) -> Result<()> {
    let servers = testbed.lab.servers[..2].iter();
    let lines: Vec<_> =
        servers.map(|server| format!("route {change} {kind} {}/32\n", server.address().ip())).collect();
    ip(&testbed.lab.network.director, &lines.concat()).map(drop)
}

#[test]
#[ignore = "needs root, IPVS and the agent: cargo xtask test"]
fn servers_behind_a_closed_route_are_out_with_the_reason_and_their_backup_serves() -> Result<()> {
    let mut setup = Setup::new(Method::Masquerade);
    setup.config = setup.config.backups(1);
    let mut testbed = Testbed::start(&setup)?;
    testbed.run_for(HEALTHY)?;
    let (first, backup) = (testbed.lab.servers[0].address(), testbed.lab.servers[2].address());
    for (kind, words) in ROUTES {
        route(&testbed, "add", kind)?;
        testbed.wait("the backup to be alone", BY_CHECK, |testbed| {
            let table = testbed.watcher.table()?;
            Ok(table.is_out(first) && !table.is_out(backup))
        })?;
        let since = Moment::now();
        let name = testbed.lab.servers[2].name.clone();
        testbed
            .wait("the backup to serve", BY_CHECK, |testbed| Ok(testbed.served_since(&name, since) >= 3))?;
        let is_reason = |event: &EventKind| matches!(event, EventKind::State { to, reason: Some(reason), .. } if to == "down" && reason.contains(words));
        let said = testbed.agent.events().iter().any(|event| is_reason(&event.kind));
        assert!(said, "{kind}: {}", testbed.diagnosis());
        route(&testbed, "del", kind)?;
        (0..2).try_for_each(|server| testbed.wait_until_back(server))?;
    }
    Ok(())
}

#[test]
#[ignore = "needs root, IPVS and the agent: cargo xtask test"]
fn servers_that_cannot_be_asked_serve_where_there_is_no_backup() -> Result<()> {
    let mut setup = Setup::new(Method::Masquerade);
    let check = &mut setup.config.service[0].check;
    check.kind = "https".to_owned();
    check.tls_ca = Some("/nowhere/ca.pem".into());
    // Until every server is in the table and serves.
    let mut testbed = Testbed::start(&setup)?;
    // And they stay there.
    testbed.run_for(Duration::from_secs(3))?;
    testbed.wait_until_serving()
}
