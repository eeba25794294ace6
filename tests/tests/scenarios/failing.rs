//! What the scenarios of failing servers share: failures one after the other, and limits to their times.

use std::time::Duration;

use anyhow::{Result, ensure};
use lvs_tests::{
    lab::{
        director::{table::ChangeKind, table_watcher::changes},
        faults::Fault,
    },
    say,
    testbed::{Scene, Setting, failover::Observation, timeline::Timeline},
};

/// Traffic before a fault.
pub(crate) const HEALTHY: Duration = Duration::from_millis(1500);
/// Traffic after the edit.
pub(crate) const AFTER: Duration = Duration::from_millis(1200);
/// What the regular check takes: three failures, a second apart, each of up to a second.
pub(crate) const BY_CHECK: Duration = Duration::from_secs(8);

/// How long it may take from the fault …
#[derive(Clone, Copy, Debug)]
pub(crate) struct Limits {
    /// … to the suspicion; `None`: none need be.
    pub(crate) suspicion: Option<Duration>,
    /// … to the kernel's table.
    pub(crate) table: Duration,
}

impl Limits {
    /// Both in milliseconds.
    pub(crate) const fn ms(suspicion: u64, table: u64) -> Self {
        Self { suspicion: Some(Duration::from_millis(suspicion)), table: Duration::from_millis(table) }
    }

    /// The regular check may find it, with or without a suspicion.
    pub(crate) const BY_CHECK: Self = Self { suspicion: None, table: BY_CHECK };
}

/// In one scene each server in turn fails, is taken out in time, and comes back; no other edit is made.
pub(crate) fn each_fails(setting: &Setting, failures: &[(Fault, Limits)]) -> Result<Vec<Observation>> {
    let mut scene = Scene::start(setting)?;
    let mut objections = Vec::new();
    let mut observations = Vec::new();
    for (server, (fault, limits)) in (0..scene.lab.servers.len()).cycle().zip(failures) {
        let seen = fails(&mut scene, *fault, server)?;
        let wrong = objections_to(&seen, *limits);
        if !wrong.is_empty() {
            say(&Timeline::of(&seen, &fault.to_string()).to_string());
        }
        objections.extend(wrong.into_iter().map(|words| format!("{}, {fault}: {words}", setting.layout)));
        observations.push(seen);
    }
    ensure!(objections.is_empty(), "{objections:#?}\n{}", scene.diagnosis());
    Ok(observations)
}

/// A server fails, is taken out at last, and comes back; tells the times.
pub(crate) fn fails(scene: &mut Scene, fault: Fault, server: usize) -> Result<Observation> {
    scene.forget();
    scene.pass(HEALTHY)?;
    let (seen, _) = scene.failover(fault, server, AFTER)?;
    tell(scene, fault, &seen);
    Ok(seen)
}

/// One line with what matters of a failure.
pub(crate) fn tell(scene: &Scene, fault: Fault, seen: &Observation) {
    let times = seen.milestones();
    let ms = |time: Option<f64>| time.map_or_else(|| "never".to_owned(), |ms| format!("{ms:.0} ms"));
    say(&format!(
        "{}, {fault}: suspected after {}, down {}, out {}; {} requests harmed, the last one sent at {}",
        scene.lab.network.layout,
        ms(times.suspicion),
        ms(times.hard_state),
        ms(times.table),
        seen.harmed().count(),
        ms(times.last_harmed_request)
    ));
}

/// What is not as it should be, times included.
pub(crate) fn objections_to(seen: &Observation, limits: Limits) -> Vec<String> {
    let mut objections = seen.objections();
    let times = seen.milestones();
    // What the agent's log lacks is no number, which is neither before nor after anything.
    let (suspicion, state) = (times.suspicion.unwrap_or(f64::NAN), times.hard_state.unwrap_or(f64::NAN));
    let table = times.table.unwrap_or(f64::NAN);
    let mut demand = |fulfilled: bool, words: String| {
        if !fulfilled {
            objections.push(words);
        }
    };
    // The agent tells after the kernel's answer, the observer looks whenever it looks: these two have no order.
    demand(state >= 0.0 && state <= table, format!("a hard state before the edit: {times:?}"));
    if let Some(limit) = limits.suspicion {
        demand(suspicion <= state, format!("a suspicion before the hard state: {times:?}"));
        demand(suspicion <= ms(limit), format!("suspected after {suspicion:.1} ms, not within {limit:?}"));
    }
    demand(table <= ms(limits.table), format!("out after {table:.1} ms, not within {:?}", limits.table));
    objections
}

/// Milliseconds.
pub(crate) fn ms(time: Duration) -> f64 {
    time.as_secs_f64() * 1e3
}

/// What the kernel's table had done to the faulty server: when it failed, and when it was back.
pub(crate) fn edits(seen: &Observation) -> Vec<ChangeKind> {
    let since = changes(&seen.table).into_iter().filter(|change| change.at >= seen.fault);
    since
        .filter(|change| change.change.server == seen.faulty.address)
        .map(|change| change.change.kind)
        .collect()
}
