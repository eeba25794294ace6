//! Soft and hard state of one destination. Pure: results and the time go in, transitions come out.
//!
//! ```text
//! Unknown ─success─▶ Up ─failure─▶ Suspect ─fall failures in a row─▶ Down ─success─▶ Recovering ─rise in a row─▶ Up
//! ```
//! Any success in `Suspect` leads back to `Up`, any failure in `Recovering` back to `Down`. As long as only confirming
//! probes have found it `Down`, one success of the baseline check leads back to `Up`, and is no return. A server of
//! which nothing is known yet needs one success, or `fall` failures, to be known. One that flaps is `Damped` between
//! `Recovering` and `Up`: the time that it has to be healthy for doubles with each relapse.
//!
//! Where a destination has several checks, each counts its own results; the destination's state is the worst of theirs,
//! or the best where one healthy check is enough.

mod count;
mod damping;
mod state;
#[cfg(test)]
mod tests;

use std::time::Instant;

pub use self::state::{Cause, Source, State, Thresholds, Transition};
use self::{count::Count, damping::Damping};
use crate::model::{Combine, FlapDamping};

/// How results become states.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rules {
    /// `fall` and `rise` of each check.
    pub thresholds: Thresholds,
    /// How several checks are combined.
    pub combine: Combine,
    /// How flapping is damped.
    pub damping: FlapDamping,
}

/// One result of a check or a probe.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sample {
    /// The index of the check, from 0; `None`: it is about the host, and counts for all checks of it.
    pub check: Option<usize>,
    /// Whether it succeeded.
    pub success: bool,
    /// What produced it.
    pub source: Source,
}

/// The state machine of one destination.
#[derive(Clone, Debug)]
pub struct Health {
    combine: Combine,
    /// One for each check, at least one.
    counts: Vec<Count>,
    damping: Damping,
    state: State,
}

impl Health {
    /// A destination in [`State::Unknown`] with this number of checks, at least one.
    #[must_use]
    pub fn new(rules: &Rules, checks: usize) -> Self {
        Self {
            combine: rules.combine,
            counts: vec![Count::new(rules.thresholds); checks.max(1)],
            damping: Damping::new(rules.damping),
            state: State::Unknown { failures: 0 },
        }
    }

    /// Replaces the rules. The state is kept; if the number of checks changes, each starts from the destination's
    /// state.
    pub fn set_rules(&mut self, rules: &Rules, checks: usize) {
        self.combine = rules.combine;
        self.damping.set_rules(rules.damping);
        if self.counts.len() == checks.max(1) {
            self.counts.iter_mut().for_each(|count| count.set_thresholds(rules.thresholds));
        } else {
            let known = self.combined();
            self.counts = vec![Count::with_state(rules.thresholds, known); checks.max(1)];
        }
    }

    /// The destination's state.
    #[must_use]
    pub fn state(&self) -> State {
        self.state
    }

    /// The state by one check alone; `None` if there is no such check.
    #[must_use]
    pub fn state_of(&self, check: usize) -> Option<State> {
        self.counts.get(check).map(Count::state)
    }

    /// How often it went down again soon after it had come up.
    #[must_use]
    pub fn relapses(&self) -> u32 {
        self.damping.relapses()
    }

    /// How many more failures in a row, each of all checks, would take the server down; 0 where it is down.
    #[must_use]
    pub fn failures_to_fall(&self) -> u32 {
        if self.state.is_down() {
            return 0;
        }
        let needed = self.counts.iter().map(Count::failures_to_fall);
        match self.combine {
            Combine::All => needed.min(),
            Combine::Any => needed.max(),
        }
        .unwrap_or(0)
    }

    /// Counts one result. `None`: no transition, or there is no such check.
    pub fn observe(&mut self, sample: Sample, now: Instant) -> Option<Transition> {
        match sample.check {
            None => self.counts.iter_mut().for_each(|count| count.observe(sample.success, sample.source)),
            Some(check) => self.counts.get_mut(check)?.observe(sample.success, sample.source),
        }
        let from = self.state;
        let to = self.damping.damped(from, self.combined(), now);
        self.state = to;
        Transition::between(from, to)
    }

    /// The state by all checks together, without damping.
    fn combined(&self) -> State {
        let states = self.counts.iter().map(Count::state);
        match self.combine {
            Combine::All => states.max_by_key(|state| state.severity()),
            Combine::Any => states.min_by_key(|state| state.severity()),
        }
        .unwrap_or(State::Unknown { failures: 0 })
    }
}
