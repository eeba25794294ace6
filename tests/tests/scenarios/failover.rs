//! A server fails under load.

use std::time::Duration;

use anyhow::Result;
use lvs_tests::{
    director::Method,
    fault::Fault,
    observation::Observation,
    say,
    scene::{Scene, Setting},
    table::ChangeKind,
    timeline::Timeline,
    watch::changes,
};

/// Traffic before the fault.
const HEALTHY: Duration = Duration::from_secs(2);
/// Traffic after the edit.
const AFTER: Duration = Duration::from_secs(2);

/// The first server fails; it, and only it, is taken out `within` this time and comes back after its repair.
fn failover(setting: &Setting, fault: Fault, within: Duration) -> Result<Observation> {
    let mut scene = Scene::start(setting)?;
    scene.pass(HEALTHY)?;
    let (seen, _) = scene.failover(fault, 0, AFTER)?;
    say(&format!(
        "\n{}, {}:\n{}",
        setting.method,
        setting.on_failure,
        Timeline::of(&seen, &fault.to_string())
    ));
    assert_eq!(seen.objections(), [] as [&str; 0]);
    assert_order(&seen);
    let out = seen.milestones().table.unwrap_or(f64::INFINITY);
    assert!(out <= within.as_secs_f64() * 1e3, "out after {out:.0} ms, not within {within:?}");
    Ok(seen)
}

/// What the agent's log lacks is no number, which is neither before nor after anything.
fn or_nan(ms: Option<f64>) -> f64 {
    ms.unwrap_or(f64::NAN)
}

/// Nothing is done without a reason: first the fault, then the hard state, then the edit.
fn assert_order(seen: &Observation) {
    let times = seen.milestones();
    let (state, edit, table) = (or_nan(times.hard_state), or_nan(times.edit), or_nan(times.table));
    assert!(state >= 0.0 && state <= edit, "the hard state before the edit: {times:?}");
    // The agent tells after the kernel's answer, the observer looks whenever it looks: these two have no order.
    assert!(state <= table, "the hard state before the table's change: {times:?}");
}

/// The confirming probes began with a suspicion.
fn assert_suspected_first(seen: &Observation) {
    let times = seen.milestones();
    let (suspicion, state) = (or_nan(times.suspicion), or_nan(times.hard_state));
    assert!(suspicion <= state, "a suspicion before the hard state: {times:?}");
}

/// What the kernel's table had done to the faulty server: when it failed, and when it was back.
fn edits(seen: &Observation) -> Vec<ChangeKind> {
    let since = changes(&seen.table).into_iter().filter(|change| change.at >= seen.fault);
    since
        .filter(|change| change.change.server == seen.faulty.address)
        .map(|change| change.change.kind)
        .collect()
}

#[test]
#[ignore = "needs root, IPVS and the agent: cargo xtask test"]
fn a_killed_masqueraded_server_is_out_at_once() -> Result<()> {
    let setting = Setting::new(Method::Masquerade);
    let seen = failover(&setting, Fault::ProcessKilled, Duration::from_millis(300))?;
    assert_suspected_first(&seen);
    assert_eq!(edits(&seen), [ChangeKind::Weight(1, 0), ChangeKind::Weight(0, 1)]);
    Ok(())
}

#[test]
#[ignore = "needs root, IPVS and the agent: cargo xtask test"]
fn a_directly_routed_server_without_a_link_is_out_within_a_second() -> Result<()> {
    let seen = failover(&Setting::new(Method::DirectRoute), Fault::LinkDown, Duration::from_secs(1))?;
    assert_suspected_first(&seen);
    assert_eq!(edits(&seen), [ChangeKind::Weight(1, 0), ChangeKind::Weight(0, 1)]);
    Ok(())
}

#[test]
#[ignore = "needs root, IPVS and the agent: cargo xtask test"]
fn a_killed_directly_routed_server_is_out_within_a_second_though_no_refusal_is_seen() -> Result<()> {
    let seen = failover(&Setting::new(Method::DirectRoute), Fault::ProcessKilled, Duration::from_secs(1))?;
    assert_suspected_first(&seen);
    Ok(())
}

#[test]
#[ignore = "needs root, IPVS and the agent: cargo xtask test"]
fn a_masqueraded_server_without_a_link_is_out_within_a_second() -> Result<()> {
    assert_suspected_first(&failover(
        &Setting::new(Method::Masquerade),
        Fault::LinkDown,
        Duration::from_secs(1),
    )?);
    Ok(())
}

#[test]
#[ignore = "needs root, IPVS and the agent: cargo xtask test"]
fn a_server_unplugged_behind_the_switch_is_out_within_a_second() -> Result<()> {
    for method in [Method::Masquerade, Method::DirectRoute] {
        failover(&Setting::new(method), Fault::Unplugged, Duration::from_secs(1))?;
    }
    Ok(())
}

#[test]
#[ignore = "needs root, IPVS and the agent: cargo xtask test"]
fn a_filtered_port_is_a_failure_though_ping_works() -> Result<()> {
    for method in [Method::Masquerade, Method::DirectRoute] {
        failover(&Setting::new(method), Fault::PortFiltered, Duration::from_secs(1))?;
    }
    Ok(())
}

#[test]
#[ignore = "needs root, IPVS and the agent: cargo xtask test"]
fn a_failed_server_is_removed_where_the_operator_wants_that() -> Result<()> {
    for (method, fault) in
        [(Method::Masquerade, Fault::ProcessKilled), (Method::DirectRoute, Fault::LinkDown)]
    {
        let seen = failover(&Setting::new(method).on_failure("remove"), fault, Duration::from_secs(1))?;
        assert_eq!(edits(&seen), [ChangeKind::Removed, ChangeKind::Added(1)]);
    }
    Ok(())
}

/// The regular check finds it: three failures, a second apart, each of up to a second.
const BY_CHECK: Duration = Duration::from_secs(8);

#[test]
#[ignore = "needs root, IPVS and the agent: cargo xtask test"]
fn a_hung_server_is_found_by_its_http_check() -> Result<()> {
    for method in [Method::Masquerade, Method::DirectRoute] {
        failover(&Setting::new(method), Fault::ProcessHung, BY_CHECK)?;
    }
    Ok(())
}

#[test]
#[ignore = "needs root, IPVS and the agent: cargo xtask test"]
fn a_server_that_answers_with_errors_is_found_by_its_http_check() -> Result<()> {
    failover(&Setting::new(Method::Masquerade), Fault::ProcessSick, BY_CHECK)?;
    Ok(())
}

#[test]
#[ignore = "needs root, IPVS and the agent: cargo xtask test"]
fn without_traffic_the_regular_check_finds_a_killed_server() -> Result<()> {
    let setting = Setting::new(Method::Masquerade).rate(2.0);
    let mut scene = Scene::start(&setting)?;
    scene.load.stop()?;
    Fault::ProcessKilled.arm(&scene.lab.network.switch, &scene.lab.servers[0])?.strike()?;
    scene.wait_until_out(0)
}
