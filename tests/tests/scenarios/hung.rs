//! Servers that take connections, or try to, and don't serve.

use std::time::Duration;

use anyhow::{Context as _, Result};
use lvs_tests::{
    lab::{
        agent::log::EventKind,
        clients::{Load, LoadPlan, Pattern, requests::failures_since},
        clock::Moment,
        director::{table::same_server, table_watcher::changes},
        faults::Fault,
        layout::Method,
    },
    say,
    testbed::{Setup, Testbed},
};

use crate::expect_failover::{Limits, expect_failovers, ms};

/// To the suspicion of a hung process; the HTTP checks that confirm it have a second each, and overlap. The doubt that
/// brings them comes after 200 ms at the earliest, until a hint comes before it.
const HUNG: Limits = Limits::ms(500, 1500);
/// How long a trouble lasts that must not take a server out.
const TROUBLE: Duration = Duration::from_secs(6);

fn setup(method: Method) -> Setup {
    Setup::new(method).rate(200.0).distance(Duration::from_millis(1))
}

#[test]
#[ignore = "needs root, IPVS and the agent: cargo xtask test"]
fn a_hung_server_is_suspected_and_its_http_check_confirms_that() -> Result<()> {
    for method in Method::ALL {
        expect_failovers(&setup(method), &[(Fault::ProcessHung, HUNG)])?;
    }
    Ok(())
}

#[test]
#[ignore = "needs root, IPVS and the agent: cargo xtask test"]
fn a_hung_server_whose_application_nobody_checks_is_reported_and_stays() -> Result<()> {
    for method in [Method::Masquerade, Method::DirectRoute] {
        let mut setup = setup(method);
        setup.config = setup.config.check_by_connect();
        let mut testbed = Testbed::start(&setup)?;
        let at = testbed.inject(Fault::ProcessHung, 0)?;
        testbed.run_for(TROUBLE)?;
        assert_eq!(changes(&testbed.history_since_healthy()?), [], "{}", testbed.diagnosis());
        let suspected = first_word_against(&testbed, 0, at).with_context(|| testbed.diagnosis())?;
        say(&format!("{method}, hung, checked by connect: suspected after {suspected:.0} ms, not taken out"));
        assert!(suspected <= ms(Duration::from_millis(500)), "{suspected}");
    }
    Ok(())
}

/// When the server was first suspected, in ms after the fault.
fn first_word_against(testbed: &Testbed, server: usize, fault: Moment) -> Option<f64> {
    let address = testbed.lab.servers[server].address();
    let events = testbed.agent.events();
    let mut against = events.iter().filter(|event| {
        event.at >= fault
            && event.server.is_some_and(|server| same_server(server, address))
            && matches!(event.kind, EventKind::Suspicion { .. })
    });
    against.next().map(|event| event.at.ms_after(fault))
}

#[test]
#[ignore = "needs root, IPVS and the agent: cargo xtask test"]
fn a_full_accept_queue_is_reported_and_old_connections_survive() -> Result<()> {
    for method in [Method::Masquerade, Method::DirectRoute] {
        let mut testbed = Testbed::start(&setup(method))?;
        let pattern = Pattern::LongLived { flows: 30, pause: Duration::from_millis(100) };
        let plan = LoadPlan { pattern, ..LoadPlan::paced(1.0) };
        let mut old = Load::start(&testbed.lab.network.clients, plan)?;
        testbed.wait("old connections", Duration::from_secs(20), |_| Ok(old.count(|_| true) > 120))?;
        let at = testbed.inject(Fault::AcceptQueueFull, 0)?;
        testbed.run_for(TROUBLE)?;
        let lines = testbed.agent.lines();
        let report = lines.iter().find(|line| line.contains("overload"));
        let old = old.stop()?;
        assert_eq!(failures_since(&old, Moment::from_ns(0)).count(), 0, "{}", testbed.diagnosis());
        let served = |name: &str| {
            let by = |request: &&lvs_tests::lab::clients::requests::Request| {
                request.started > at && request.outcome.server() == Some(name)
            };
            old.iter().filter(by).count()
        };
        assert!(served("rs1") > 50, "the overloaded server's old connections go on: {}", served("rs1"));
        let others = testbed.lab.servers[1..].iter().map(lvs_tests::lab::servers::RealServer::address);
        let history = testbed.history_since_healthy()?;
        for other in others {
            assert!(history.iter().all(|seen| !seen.table.is_out(other)), "{other} was taken out");
        }
        let out = history.last().is_some_and(|seen| seen.table.is_out(testbed.lab.servers[0].address()));
        say(&format!("{method}: accept queue full: out: {out}; {report:?}"));
        report.with_context(|| format!("{method}: nothing about overload: {}", testbed.diagnosis()))?;
    }
    Ok(())
}
