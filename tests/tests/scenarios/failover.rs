//! A server fails under load.

use std::time::Duration;

use anyhow::Result;
use lvs_tests::{
    lab::{clients::Pattern, director::table::ChangeKind, faults::Fault, layout::Method},
    testbed::{Setup, Testbed},
};

use crate::expect_failover::{Limits, edits, expect_failovers};

/// The clients of the scenarios with limits to their times.
const NEAR: Duration = Duration::from_millis(1);
/// New connections a second there.
const RATE: f64 = 200.0;

/// Times for a failure that the director sees as silence, with clients 1 ms away.
const SILENCE: Limits = Limits::ms(100, 250);

/// How fast a killed process must be noticed: its host refuses, which a half-seen director doesn't see.
fn killed(method: Method) -> Limits {
    if method.sees_answers() { Limits::ms(20, 40) } else { Limits::ms(100, 150) }
}

/// Killed, filtered, without power: one after the other, and each time exactly one server goes and comes back.
fn die_in_every_way(method: Method) -> Result<()> {
    let setup = Setup::new(method).rate(RATE).distance(NEAR);
    let failures =
        [(Fault::ProcessKilled, killed(method)), (Fault::PortFiltered, SILENCE), (Fault::LinkDown, SILENCE)];
    for seen in expect_failovers(&setup, &failures)? {
        assert_eq!(edits(&seen), [ChangeKind::Weight(1, 0), ChangeKind::Weight(0, 1)]);
    }
    Ok(())
}

#[test]
#[ignore = "needs root, IPVS and the agent: cargo xtask test"]
fn a_masqueraded_server_that_dies_in_any_way_is_out_in_time() -> Result<()> {
    die_in_every_way(Method::ALL[0])
}

#[test]
#[ignore = "needs root, IPVS and the agent: cargo xtask test"]
fn a_directly_routed_server_that_dies_in_any_way_is_out_in_time() -> Result<()> {
    die_in_every_way(Method::ALL[1])
}

#[test]
#[ignore = "needs root, IPVS and the agent: cargo xtask test"]
fn a_tunnelled_server_that_dies_in_any_way_is_out_in_time() -> Result<()> {
    die_in_every_way(Method::ALL[2])
}

#[test]
#[ignore = "needs root, IPVS and the agent: cargo xtask test"]
fn a_server_without_power_is_out_within_a_second_at_most_rates() -> Result<()> {
    for method in Method::ALL {
        for rate in [50.0, 500.0] {
            let setup = Setup::new(method).rate(rate);
            expect_failovers(&setup, &[(Fault::LinkDown, Limits::ms(1000, 1000))])?;
        }
    }
    Ok(())
}

#[test]
#[ignore = "needs root, IPVS and the agent: cargo xtask test"]
fn a_server_without_power_is_found_by_its_check_at_a_low_rate() -> Result<()> {
    for method in Method::ALL {
        expect_failovers(&Setup::new(method).rate(5.0), &[(Fault::LinkDown, Limits::BY_CHECK)])?;
    }
    Ok(())
}

#[test]
#[ignore = "needs root, IPVS and the agent: cargo xtask test"]
fn a_half_seen_server_is_suspected_as_soon_as_distant_clients_allow() -> Result<()> {
    for distance in [20, 50, 200] {
        let limit = 3 * distance + 100;
        let setup = Setup::new(Method::DirectRoute).rate(RATE).distance(Duration::from_millis(distance));
        let silence = Limits::ms(limit, limit + 150);
        expect_failovers(
            &setup,
            &[(Fault::ProcessKilled, Limits::ms(limit, limit + 50)), (Fault::LinkDown, silence)],
        )?;
    }
    let distant = Setup::new(Method::ALL[2]).rate(RATE).distance(Duration::from_millis(50));
    expect_failovers(&distant, &[(Fault::LinkDown, Limits::ms(250, 400))]).map(drop)
}

#[test]
#[ignore = "needs root, IPVS and the agent: cargo xtask test"]
fn a_masqueraded_server_of_distant_clients_is_suspected_in_time() -> Result<()> {
    let setup = Setup::new(Method::Masquerade).rate(RATE).distance(Duration::from_millis(200));
    // Three times the distance and 100 ms, as where answers are not seen: what distant clients send on old connections
    // still arrives when the server is dead already.
    let silence = Limits::ms(700, 850);
    expect_failovers(
        &setup,
        &[(Fault::ProcessKilled, killed(Method::Masquerade)), (Fault::LinkDown, silence)],
    )
    .map(drop)
}

#[test]
#[ignore = "needs root, IPVS and the agent: cargo xtask test"]
fn a_server_with_long_lived_connections_alone_is_out_when_its_power_is_lost() -> Result<()> {
    for method in Method::ALL {
        let pattern = Pattern::LongLived { flows: 60, pause: Duration::from_millis(100) };
        expect_failovers(
            &Setup::new(method).pattern(pattern).distance(NEAR),
            &[(Fault::LinkDown, Limits::ms(1000, 1500))],
        )?;
    }
    Ok(())
}

#[test]
#[ignore = "needs root, IPVS and the agent: cargo xtask test"]
fn a_server_unplugged_behind_the_switch_is_out_within_a_second() -> Result<()> {
    for method in [Method::Masquerade, Method::DirectRoute] {
        expect_failovers(&Setup::new(method), &[(Fault::Unplugged, Limits::ms(1000, 1000))])?;
    }
    Ok(())
}

#[test]
#[ignore = "needs root, IPVS and the agent: cargo xtask test"]
fn the_heavier_of_two_servers_dies() -> Result<()> {
    for method in Method::ALL {
        let mut setup = Setup::of(lvs_tests::lab::layout::Layout::new(method).servers(2)).rate(RATE);
        setup.config.service[0].scheduler = "wrr".to_owned();
        setup.config.service[0].server[0].weight = 3;
        let seen = expect_failovers(&setup, &[(Fault::ProcessKilled, Limits::ms(100, 1000))])?;
        assert_eq!(edits(&seen[0]), [ChangeKind::Weight(3, 0), ChangeKind::Weight(0, 3)]);
    }
    Ok(())
}

#[test]
#[ignore = "needs root, IPVS and the agent: cargo xtask test"]
fn a_failed_server_is_removed_where_the_operator_wants_that() -> Result<()> {
    for (method, fault) in
        [(Method::Masquerade, Fault::ProcessKilled), (Method::DirectRoute, Fault::LinkDown)]
    {
        let setup = Setup::new(method).on_failure("remove");
        let seen = expect_failovers(&setup, &[(fault, Limits::ms(1000, 1000))])?;
        assert_eq!(edits(&seen[0]), [ChangeKind::Removed, ChangeKind::Added(1)]);
    }
    Ok(())
}

#[test]
#[ignore = "needs root, IPVS and the agent: cargo xtask test"]
fn a_server_that_answers_with_errors_is_found_by_its_http_check() -> Result<()> {
    expect_failovers(&Setup::new(Method::Masquerade), &[(Fault::ProcessFailing, Limits::BY_CHECK)]).map(drop)
}

#[test]
#[ignore = "needs root, IPVS and the agent: cargo xtask test"]
fn without_traffic_the_regular_check_finds_a_killed_server() -> Result<()> {
    let setup = Setup::new(Method::Masquerade).rate(2.0);
    let mut testbed = Testbed::start(&setup)?;
    testbed.load.stop()?;
    Fault::ProcessKilled.arm(&testbed.lab.network.switch, &testbed.lab.servers[0])?.inject()?;
    testbed.wait_until_out(0)
}
