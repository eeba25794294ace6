//! Disturbances that look like failing servers: nobody may be taken out.

use std::time::Duration;

use anyhow::Result;
use lvs_tests::{
    lab::{
        agent::log::{AgentEvent, EventKind},
        clients::requests::Request,
        clock::Moment,
        director::table_watcher::changes,
        faults::{Fault, disturbance::Disturbance, flood::Flood},
        layout::{Family, Method},
        network::ip,
    },
    say,
    testbed::{Setup, Testbed},
};

use crate::expect_failover::{BY_CHECK, HEALTHY, print_times};

/// How long each trouble lasts.
const TROUBLE: Duration = Duration::from_secs(8);
/// Confirming probes in a burst, the ping that goes with them included.
const BURST: usize = 4;
/// Bursts a second for one server.
const BURSTS: usize = 5;

/// No server is taken out, and the probes stay below what the configuration allows.
fn assert_nobody_out(testbed: &Testbed, since: Moment) -> Result<()> {
    assert_eq!(changes(&testbed.history_since_healthy()?), [], "{}", testbed.diagnosis());
    let asked = testbed.agent.events().into_iter().filter(|event| {
        event.at >= since && matches!(&event.kind, EventKind::Probe { kind, .. } if kind != "baseline")
    });
    let (asked, seconds) = (asked.count(), Moment::now().since(since).as_secs_f64());
    let servers = testbed.lab.servers.len();
    say(&format!("{}: {asked} confirming probes in {seconds:.1} s", testbed.lab.network.layout));
    #[expect(clippy::cast_precision_loss, reason = "small numbers")]
    let most = (BURST * BURSTS * servers) as f64 * (seconds + 1.0);
    #[expect(clippy::cast_precision_loss, reason = "small numbers")]
    let asked = asked as f64;
    assert!(asked <= most, "{asked} probes, more than {most}");
    Ok(())
}

fn assert_nobody_out_under(disturbance: Disturbance) -> Result<()> {
    for method in Method::ALL {
        let mut testbed = Testbed::start(&Setup::new(method))?;
        let since = Moment::now();
        let disturbed = disturbance.begin(&testbed.lab.network.clients, Family::V4)?;
        testbed.run_for(TROUBLE)?;
        drop(disturbed);
        assert_nobody_out(&testbed, since)?;
        let harmed = testbed.load.count(Request::is_harmed);
        say(&format!(
            "{method}, {disturbance:?}: {harmed} requests failed or were late, nobody was taken out"
        ));
        assert!(harmed > 0, "no trouble at all: {disturbance:?}");
    }
    Ok(())
}

#[test]
#[ignore = "needs root, IPVS and the agent: cargo xtask test"]
fn a_client_network_that_hears_nothing_takes_nobody_out() -> Result<()> {
    assert_nobody_out_under(Disturbance::BlackHole)
}

#[test]
#[ignore = "needs root, IPVS and the agent: cargo xtask test"]
fn loss_on_the_clients_side_takes_nobody_out() -> Result<()> {
    assert_nobody_out_under(Disturbance::Loss(30))
}

#[test]
#[ignore = "needs root, IPVS and the agent: cargo xtask test"]
fn a_flood_of_syns_takes_nobody_out_but_a_killed_server_still_goes() -> Result<()> {
    for method in Method::ALL {
        let mut testbed = Testbed::start(&Setup::new(method).rate(50.0))?;
        let since = Moment::now();
        let mut flood = Flood::start(&testbed.lab.network.clients, 300.0)?;
        testbed.run_for(TROUBLE)?;
        assert_nobody_out(&testbed, since)?;

        let (seen, _) = testbed.failover(Fault::ProcessKilled, 0, Duration::from_secs(1))?;
        say(&format!("{method}: {} SYNs", flood.sent()));
        flood.stop()?;
        print_times(&testbed, Fault::ProcessKilled, &seen);
        assert_eq!(seen.unexpected_changes(), []);
        let out = seen.milestones().table.unwrap_or(f64::INFINITY);
        assert!(out <= 2000.0, "out after {out:.0} ms");
    }
    Ok(())
}

#[test]
#[ignore = "needs root, IPVS and the agent: cargo xtask test"]
fn a_switch_that_fails_raises_an_alarm_and_the_regular_checks_decide() -> Result<()> {
    for method in Method::ALL {
        let mut testbed = Testbed::start(&Setup::new(method))?;
        testbed.run_for(HEALTHY)?;
        ip(&testbed.lab.network.switch, "link set director nomaster\n")?;
        assert_left_to_regular_checks(&mut testbed)?;
        assert_alarm(&testbed);
        ip(&testbed.lab.network.switch, "link set director master sw0\n")?;
        (0..testbed.lab.servers.len()).try_for_each(|server| testbed.wait_until_back(server))?;
    }
    Ok(())
}

#[test]
#[ignore = "needs root, IPVS and the agent: cargo xtask test"]
fn a_director_without_a_carrier_leaves_it_to_the_regular_checks() -> Result<()> {
    for method in [Method::Masquerade, Method::DirectRoute] {
        let mut testbed = Testbed::start(&Setup::new(method))?;
        testbed.run_for(HEALTHY)?;
        // The kernel forgets all neighbours then, and no packet gets as far as the device.
        ip(&testbed.lab.network.switch, "link set director down\n")?;
        assert_left_to_regular_checks(&mut testbed)?;
        ip(&testbed.lab.network.switch, "link set director up\n")?;
        (0..testbed.lab.servers.len()).try_for_each(|server| testbed.wait_until_back(server))?;
    }
    Ok(())
}

/// No mass removal by the fast path; in the end the regular checks agree that all are out.
fn assert_left_to_regular_checks(testbed: &mut Testbed) -> Result<()> {
    // Less than three regular checks: only the fast path could have taken anybody out.
    testbed.run_for(Duration::from_millis(1500))?;
    assert!(
        fewest_in(testbed)? >= 2,
        "more than half of the servers were taken out: {}",
        testbed.diagnosis()
    );
    testbed.wait("every server to be out", BY_CHECK, |testbed| {
        let table = testbed.watcher.table()?;
        Ok(testbed.lab.servers.iter().all(|server| table.is_out(server.address())))
    })
}

#[test]
#[ignore = "needs root, IPVS and the agent: cargo xtask test"]
fn servers_that_all_fail_at_once_are_not_taken_out_by_the_fast_path() -> Result<()> {
    let mut testbed = Testbed::start(&Setup::new(Method::Masquerade).rate(200.0))?;
    // As long as nothing is known of the servers, most of their clients might be a flood.
    testbed.run_for(HEALTHY)?;
    let switch = testbed.lab.network.switch.clone();
    let armed: Result<Vec<_>> =
        testbed.lab.servers.iter().map(|server| Fault::LinkDown.arm(&switch, server)).collect();
    for fault in armed? {
        fault.inject()?;
    }
    // Less than three regular checks: only the fast path could have taken anybody out.
    testbed.run_for(Duration::from_millis(1500))?;
    assert!(
        fewest_in(&testbed)? >= 2,
        "more than half of the servers were taken out: {}",
        testbed.diagnosis()
    );
    assert_alarm(&testbed);
    for server in 0..testbed.lab.servers.len() {
        testbed.repair(Fault::LinkDown, server)?;
    }
    (0..testbed.lab.servers.len()).try_for_each(|server| testbed.wait_until_back(server))
}

/// The least number of servers that new connections could go to.
fn fewest_in(testbed: &Testbed) -> Result<usize> {
    let numbers = testbed
        .history_since_healthy()?
        .into_iter()
        .map(|seen| testbed.lab.servers.iter().filter(|server| !seen.table.is_out(server.address())).count());
    Ok(numbers.min().unwrap_or(0))
}

/// The agent has said that it is not one server's fault.
fn assert_alarm(testbed: &Testbed) {
    let events = testbed.agent.events();
    let alarm = |event: &AgentEvent| matches!(event.kind, EventKind::Common {} | EventKind::Retained {});
    assert!(events.iter().any(alarm), "no alarm: {}", testbed.diagnosis());
}
