//! What the scenarios of failing servers share: failures one after the other, and limits to their times.

use std::time::Duration;

use anyhow::{Result, ensure};
use lvs_tests::{
    lab::{
        director::{table::ChangeKind, table_watcher::changes},
        faults::Fault,
    },
    say,
    testbed::{Setup, Testbed, failover::Failover, timeline::Timeline},
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

/// In one testbed each server in turn fails, is taken out in time, and comes back; no other edit is made.
pub(crate) fn expect_failovers(setup: &Setup, failures: &[(Fault, Limits)]) -> Result<Vec<Failover>> {
    let mut testbed = Testbed::start(setup)?;
    let mut violations = Vec::new();
    let mut failovers = Vec::new();
    for (server, (fault, limits)) in (0..testbed.lab.servers.len()).cycle().zip(failures) {
        let failover = expect_failover(&mut testbed, *fault, server)?;
        let wrong = violations_of(&failover, *limits);
        if !wrong.is_empty() {
            say(&Timeline::of(&failover, &fault.to_string()).to_string());
        }
        violations.extend(wrong.into_iter().map(|words| format!("{}, {fault}: {words}", setup.layout)));
        failovers.push(failover);
    }
    ensure!(violations.is_empty(), "{violations:#?}\n{}", testbed.diagnosis());
    Ok(failovers)
}

/// A server fails, is taken out at last, and comes back; tells the times.
pub(crate) fn expect_failover(testbed: &mut Testbed, fault: Fault, server: usize) -> Result<Failover> {
    testbed.reset_healthy_since();
    testbed.run_for(HEALTHY)?;
    let (failover, _) = testbed.failover(fault, server, AFTER)?;
    print_times(testbed, fault, &failover);
    Ok(failover)
}

/// One line with what matters of a failure.
pub(crate) fn print_times(testbed: &Testbed, fault: Fault, failover: &Failover) {
    let times = failover.milestones();
    let ms = |time: Option<f64>| time.map_or_else(|| "never".to_owned(), |ms| format!("{ms:.0} ms"));
    say(&format!(
        "{}, {fault}: suspected after {}, down {}, out {}; {} requests harmed, the last one sent at {}",
        testbed.lab.network.layout,
        ms(times.suspicion),
        ms(times.hard_state),
        ms(times.table),
        failover.harmed().count(),
        ms(times.last_harmed_request)
    ));
}

/// What is not as it should be, times included.
pub(crate) fn violations_of(failover: &Failover, limits: Limits) -> Vec<String> {
    let mut violations = failover.violations();
    let times = failover.milestones();
    // What the agent's log lacks is no number, which is neither before nor after anything.
    let (suspicion, state) = (times.suspicion.unwrap_or(f64::NAN), times.hard_state.unwrap_or(f64::NAN));
    let table = times.table.unwrap_or(f64::NAN);
    let mut demand = |fulfilled: bool, words: String| {
        if !fulfilled {
            violations.push(words);
        }
    };
    // The agent tells after the kernel's answer, the observer looks whenever it looks: these two have no order.
    demand(state >= 0.0 && state <= table, format!("a hard state before the edit: {times:?}"));
    if let Some(limit) = limits.suspicion {
        demand(suspicion <= state, format!("a suspicion before the hard state: {times:?}"));
        demand(suspicion <= ms(limit), format!("suspected after {suspicion:.1} ms, not within {limit:?}"));
    }
    demand(table <= ms(limits.table), format!("out after {table:.1} ms, not within {:?}", limits.table));
    violations
}

/// Milliseconds.
pub(crate) fn ms(time: Duration) -> f64 {
    time.as_secs_f64() * 1e3
}

/// What the kernel's table had done to the faulty server: when it failed, and when it was back.
pub(crate) fn edits(failover: &Failover) -> Vec<ChangeKind> {
    let since = changes(&failover.table).into_iter().filter(|change| change.at >= failover.fault);
    since
        .filter(|change| change.change.server == failover.faulty.address)
        .map(|change| change.change.kind)
        .collect()
}
