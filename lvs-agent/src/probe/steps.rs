//! The steps of one probe, for whoever wants to see where its time goes. Baseline checks and bursts note none.

use std::{
    sync::{Mutex, PoisonError},
    time::Duration,
};

use super::{Outcome, Phase};

/// The most steps that are noted: a page behind a dozen redirects has fewer.
const MOST: usize = 64;

/// One step of a probe: sending, and waiting for the server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Step {
    /// What was waited for.
    pub phase: Phase,
    /// From the start of the probe to the start of the step.
    pub from: Duration,
    /// From the start of the step to its end.
    pub took: Duration,
}

/// A probe that was made to be looked at.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Inspection {
    /// Its steps, in their order. One that failed is the last one.
    pub steps: Vec<Step>,
    /// How it ended.
    pub outcome: Outcome,
}

/// Where the steps of one probe are noted.
#[derive(Debug, Default)]
pub(super) struct StepLog(Mutex<Vec<Step>>);

impl StepLog {
    /// Notes a step. One that waits for the same as the step before continues it: a reply comes in several pieces.
    pub(super) fn add(&self, phase: Phase, from: Duration, end: Duration) {
        let mut steps = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let is_full = steps.len() == MOST;
        match steps.last_mut() {
            Some(last) if last.phase == phase => last.took = end.saturating_sub(last.from),
            _ if is_full => {}
            _ => steps.push(Step { phase, from, took: end.saturating_sub(from) }),
        }
    }

    /// All steps.
    pub(super) fn into_steps(self) -> Vec<Step> {
        self.0.into_inner().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ms(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    #[test]
    fn pieces_of_one_reply_are_one_step() {
        let log = StepLog::default();
        log.add(Phase::Connect, ms(0), ms(2));
        log.add(Phase::Reply, ms(2), ms(3));
        log.add(Phase::Reply, ms(4), ms(9));
        log.add(Phase::Connect, ms(9), ms(10));
        let steps: Vec<_> = log.into_steps().iter().map(|step| (step.phase, step.from, step.took)).collect();
        let expected =
            [(Phase::Connect, ms(0), ms(2)), (Phase::Reply, ms(2), ms(7)), (Phase::Connect, ms(9), ms(1))];
        assert_eq!(steps, expected);
    }

    #[test]
    fn a_server_that_redirects_for_ever_fills_no_memory() {
        let log = StepLog::default();
        for step in 0..10_000 {
            let phase = if step % 2 == 0 { Phase::Connect } else { Phase::Reply };
            log.add(phase, ms(step), ms(step + 1));
        }
        assert_eq!(log.into_steps().len(), MOST);
    }
}
