//! Attribution of packets to servers: firewall marks, persistence, servers in several services, servers behind one
//! address.

use std::time::Duration;

use anyhow::Result;
use lvs_tests::{
    lab::{
        Lab,
        agent::log::EventKind,
        clock::Moment,
        director::{
            mark, prepare_ipvs,
            table::{ChangeKind, same_server},
            table_watcher::changes,
        },
        faults::Fault,
        layout::{Encapsulation, Family, Layout, Link, Method, PORT, SECOND_PORT},
    },
    say,
    testbed::{Setup, Testbed},
};

use crate::expect_failover::{Limits, expect_failover, ms, print_times, violations_of};

/// The mark of the service.
const MARK: u32 = 7;
/// Clients of the persistent service.
const CLIENTS: u32 = 40;

/// Times for a killed process.
fn killed(method: Method) -> Limits {
    if method.sees_answers() { Limits::ms(20, 40) } else { Limits::ms(100, 150) }
}

/// One service over two ports by a firewall mark; a server dies.
fn mark_service(layout: Layout) -> Result<()> {
    let mut setup = Setup::of(layout).rate(200.0).distance(Duration::from_millis(1));
    setup.load = setup.load.to(&[layout.service(), layout.second_service()]);
    setup.config = setup.config.by_mark(MARK, &layout);
    let lab = Lab::build(&layout)?;
    prepare_ipvs(&lab.network.director)?;
    mark(&lab.network.director, &layout, &[PORT, SECOND_PORT], MARK)?;
    let mut testbed = Testbed::in_lab(lab, &setup)?;
    let seen = expect_failover(&mut testbed, Fault::ProcessKilled, 1)?;
    assert_eq!(violations_of(&seen, killed(layout.method)), [] as [&str; 0], "{}", testbed.diagnosis());
    Ok(())
}

#[test]
#[ignore = "needs root, IPVS and the agent: cargo xtask test"]
fn a_masqueraded_server_of_a_mark_service_fails() -> Result<()> {
    mark_service(Layout::new(Method::Masquerade))
}

#[test]
#[ignore = "needs root, IPVS and the agent: cargo xtask test"]
fn a_directly_routed_server_of_a_mark_service_fails() -> Result<()> {
    mark_service(Layout::new(Method::DirectRoute))?;
    mark_service(Layout::new(Method::DirectRoute).families(Family::V6, Family::V6))
}

#[test]
#[ignore = "needs root, IPVS and the agent: cargo xtask test"]
fn a_tunnelled_server_of_a_mark_service_fails() -> Result<()> {
    mark_service(Layout::new(Method::Tunnel(Encapsulation::Ipip)))
}

#[test]
#[ignore = "needs root, IPVS and the agent: cargo xtask test"]
fn clients_of_a_persistent_service_go_to_a_living_server() -> Result<()> {
    for method in [Method::Masquerade, Method::DirectRoute] {
        let mut setup = Setup::new(method).rate(200.0).distance(Duration::from_millis(1));
        setup.load.clients = CLIENTS;
        setup.config.service[0].persistent = Some("300s".to_owned());
        let lab = Lab::build(&setup.layout)?;
        prepare_ipvs(&lab.network.director)?;
        // As the agent's documentation asks for: templates of a server at weight 0 are given up.
        lvs_tests::lab::network::set(&lab.network.director, &["net/ipv4/vs/expire_quiescent_template=1"])?;
        let mut testbed = Testbed::in_lab(lab, &setup)?;
        testbed.run_for(crate::expect_failover::HEALTHY)?;
        let at = testbed.inject(Fault::ProcessKilled, 0)?;
        testbed.wait_until_out(0)?;
        testbed.run_for(crate::expect_failover::AFTER)?;
        let seen = testbed.record(0, at, Moment::now(), None)?;
        print_times(&testbed, Fault::ProcessKilled, &seen);
        let theirs = |request: &&lvs_tests::lab::clients::requests::Request| {
            request.started < at && request.outcome.server() == Some("rs1")
        };
        let of_dead: std::collections::BTreeSet<_> =
            seen.requests.iter().filter(theirs).map(|request| request.client).collect();
        assert!(!of_dead.is_empty(), "somebody was the dead server's client");
        let again = seen.after();
        assert_eq!(violations_of(&seen, killed(method)), [] as [&str; 0], "{}", testbed.diagnosis());
        say(&format!("{method}: {} clients of the dead server; after the edit: {again}", of_dead.len()));
        let out = seen.table_out().unwrap_or(at);
        for client in of_dead {
            let served = seen.requests.iter().any(|request| {
                request.client == client && request.started > out && request.outcome.is_success()
            });
            assert!(served, "{client} has no server");
        }
    }
    Ok(())
}

#[test]
#[ignore = "needs root, IPVS and the agent: cargo xtask test"]
fn a_server_of_two_services_fails_in_both() -> Result<()> {
    for method in [Method::Masquerade, Method::DirectRoute] {
        let layout = Layout::new(method);
        let mut setup = Setup::of(layout).rate(200.0).distance(Duration::from_millis(1));
        setup.load = setup.load.to(&[layout.service(), layout.second_service()]);
        let mut second = setup.config.service[0].clone();
        second.name = "shop".to_owned();
        second.address = Some(layout.second_service().to_string());
        if !method.sees_answers() {
            // A directly routed packet keeps its port.
            for (number, server) in (0..).zip(&mut second.server) {
                server.address = format!("{}:{SECOND_PORT}", layout.server_address(number));
            }
        }
        setup.config.service.push(second);
        let mut testbed = Testbed::start(&setup)?;
        testbed.run_for(crate::expect_failover::HEALTHY)?;
        let at = testbed.inject(Fault::ProcessKilled, 0)?;
        testbed.wait_until_out(0)?;
        let ip = testbed.lab.servers[0].address().ip();
        testbed.wait("both services to give it up", Duration::from_secs(10), |testbed| {
            let table = testbed.watcher.table()?;
            let mut its = table.destinations().filter(|(_, found)| found.server.ip() == ip);
            Ok(its.all(|(_, found)| found.weight == 0))
        })?;
        let changed = changes(&testbed.history_since_healthy()?);
        let last = changed.last().map_or(f64::NAN, |change| change.at.ms_after(at));
        say(&format!("{method}: out of both services after {last:.0} ms"));
        assert_eq!(changed.len(), 2, "{changed:?}\n{}", testbed.diagnosis());
        assert!(
            changed.iter().all(|seen| {
                seen.change.server.ip() == ip && seen.change.kind == ChangeKind::Weight(1, 0)
            })
        );
        // Each service has half of the rate: what counts here is that both know.
        let limit = if method.sees_answers() { 100.0 } else { 1000.0 };
        assert!(last <= limit, "{last} ms\n{}", testbed.diagnosis());
    }
    Ok(())
}

#[test]
#[ignore = "needs root, IPVS and the agent: cargo xtask test"]
fn servers_behind_one_mac_address_are_called_ambiguous_and_checked_actively() -> Result<()> {
    let layout = Layout::new(Method::DirectRoute).link(Link::Router);
    let mut testbed = Testbed::start(&Setup::of(layout).rate(200.0))?;
    let text = testbed.agent.lines().join("\n");
    assert!(text.contains("MAC"), "it says why there is no passive signal:\n{text}");
    let at = testbed.inject(Fault::ProcessKilled, 0)?;
    testbed.wait_until_out(0)?;
    let seen = testbed.record(0, at, Moment::now(), None)?;
    print_times(&testbed, Fault::ProcessKilled, &seen);
    let suspected: Vec<_> = seen
        .events
        .iter()
        // The end of its idle connection needs no packet to be attributed.
        .filter(|event| {
            matches!(&event.kind, EventKind::Suspicion { evidence, .. } if !evidence.contains("idle connection"))
        })
        .collect();
    assert!(suspected.is_empty(), "nothing can be said of one of them: {suspected:?}");
    assert!(
        seen.unexpected_changes().is_empty()
            && changes(&seen.table)
                .iter()
                .all(|change| { change.at < at || same_server(change.change.server, seen.faulty.address) }),
        "{}",
        testbed.diagnosis()
    );
    let out = seen.milestones().table.unwrap_or(f64::INFINITY);
    assert!(out <= ms(crate::expect_failover::BY_CHECK), "{out} ms");
    Ok(())
}
