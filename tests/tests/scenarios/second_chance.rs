//! Connections that have just begun when their server dies: with a second chance nobody notices.

use std::time::Duration;

use anyhow::{Result, ensure};
use lvs_tests::{
    lab::{
        clients::requests::Request,
        faults::Fault,
        layout::{Family, Layout, Method},
    },
    say,
    testbed::{Setup, Testbed, failover::Failover},
};

use crate::expect_failover::{AFTER, HEALTHY, ms};

/// New connections a second, over four servers.
const RATE: f64 = 200.0;

/// How long the last client may have waited that was connected at last.
const REFUSED: Duration = Duration::from_millis(120);
/// The same where the dead server is silent.
const SILENT: Duration = Duration::from_millis(400);

fn setup(layout: Layout) -> Setup {
    let mut setup = Setup::of(layout.servers(4)).rate(RATE).distance(Duration::from_millis(1));
    setup.config = setup.config.second_chance();
    setup
}

/// The requests that second chance is for: those whose connection was not there yet when the server died. One that was
/// is lost with its server.
fn begun(failover: &Failover) -> impl Iterator<Item = &Request> {
    failover.requests.iter().filter(|request| {
        request.ended >= failover.fault
            && request.started < failover.watched_until
            && request.connected.is_none_or(|connected| connected > failover.fault)
    })
}

/// Each fault at another server, one after the other. Nobody fails or is late.
fn expect_nobody_harmed(setup: &Setup, faults: &[(Fault, Duration)]) -> Result<()> {
    let mut testbed = Testbed::start(setup)?;
    let mut violations = Vec::new();
    for (server, (fault, limit)) in faults.iter().enumerate() {
        testbed.reset_healthy_since();
        testbed.run_for(HEALTHY)?;
        let (failover, _) = testbed.failover(*fault, server, AFTER)?;
        let took = |request: &Request| request.ended.since(request.started);
        let worst = begun(&failover).map(took).max().unwrap_or_default();
        let harmed: Vec<&Request> = begun(&failover).filter(|request| request.is_harmed()).collect();
        let all = failover.harmed().count();
        say(&format!(
            "{}, {fault}: {} of {all} harmed requests had no connection yet, the worst took {:.0} ms",
            setup.layout,
            harmed.len(),
            ms(worst)
        ));
        if !harmed.is_empty() || worst > *limit {
            violations.push(format!("{fault}: worst {:.0} ms, {harmed:?}", ms(worst)));
        }
    }
    ensure!(violations.is_empty(), "{violations:#?}\n{}", testbed.diagnosis());
    Ok(())
}

#[test]
#[ignore = "needs root, IPVS and the agent: cargo xtask test"]
fn clients_of_a_masqueraded_server_that_dies_notice_nothing() -> Result<()> {
    let faults = [(Fault::ProcessKilled, REFUSED), (Fault::PortFiltered, SILENT), (Fault::LinkDown, SILENT)];
    expect_nobody_harmed(&setup(Layout::new(Method::Masquerade)), &faults)
}

#[test]
#[ignore = "needs root, IPVS and the agent: cargo xtask test"]
fn clients_of_a_directly_routed_server_that_falls_silent_notice_nothing() -> Result<()> {
    let faults = [(Fault::PortFiltered, SILENT), (Fault::LinkDown, SILENT)];
    expect_nobody_harmed(&setup(Layout::new(Method::DirectRoute)), &faults)
}

#[test]
#[ignore = "needs root, IPVS and the agent: cargo xtask test"]
fn clients_of_a_tunnelled_server_that_falls_silent_notice_nothing() -> Result<()> {
    expect_nobody_harmed(&setup(Layout::new(Method::ALL[2])), &[(Fault::PortFiltered, SILENT)])
}

#[test]
#[ignore = "needs root, IPVS and the agent: cargo xtask test"]
fn clients_of_an_ipv6_server_that_dies_notice_nothing() -> Result<()> {
    let layout = Layout::new(Method::Masquerade).families(Family::V6, Family::V6);
    let faults = [(Fault::ProcessKilled, REFUSED), (Fault::PortFiltered, SILENT)];
    expect_nobody_harmed(&setup(layout), &faults)
}
