//! Soft and hard state of one destination. Pure: results and the time go in, transitions come out.
//!
//! ```text
//! Unknown ─success─▶ Up ─failure─▶ Suspect ─fall failures in a row─▶ Down ─success─▶ Recovering ─rise in a row─▶ Up
//! ```
//! Any success in `Suspect` leads back to `Up`, any failure in `Recovering` back to `Down`. A server of which nothing is
//! known yet needs one success, or `fall` failures, to be known. One that flaps is `Damped` between `Recovering` and
//! `Up`: the time that it has to be healthy for doubles with each relapse.
//!
//! Where a destination has several checks, each counts its own results; the destination's state is the worst of theirs,
//! or the best where one healthy check is enough.

mod count;
mod damping;

use std::{fmt, num::NonZeroU32, time::Instant};

use self::{count::Count, damping::Damping};
use crate::model::{Combine, FlapDamping};

/// How many results in a row make a soft state hard.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Thresholds {
    /// Failures that take a server down.
    pub fall: NonZeroU32,
    /// Successes that bring it back.
    pub rise: NonZeroU32,
}

/// What produced a result.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Source {
    /// The configured check, which always runs.
    Baseline,
    /// A probe that follows a passive suspicion. It may test less than the baseline (a TCP connect where the baseline
    /// fetches a page), so its success clears only failures of its own kind.
    Confirm,
}

/// What took a server down. It decides what the pool may do about it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cause {
    /// Confirming probes counted towards `fall`: the fast path, whose share of the servers is limited.
    Fast,
    /// The baseline checks' failures alone reached `fall`.
    Baseline,
}

/// The health of a destination, or of one of its checks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// Nothing is known: no result yet, or fewer failures than `fall`.
    Unknown {
        /// Failures in a row so far.
        failures: u32,
    },
    /// Healthy.
    Up,
    /// Healthy so far, with failures: soft.
    Suspect {
        /// Failures of the baseline check, in a row.
        baseline: u32,
        /// Failures of confirming probes, in a row.
        confirm: u32,
    },
    /// Dead: hard.
    Down {
        /// What took it down.
        cause: Cause,
        /// Failures of the baseline check in a row, up to `fall`.
        baseline: u32,
    },
    /// Dead so far, with successes: soft.
    Recovering {
        /// Successes in a row.
        successes: u32,
    },
    /// Healthy again, and kept out because it flaps.
    Damped {
        /// It is up at its first success from then on, if there is no failure before.
        until: Instant,
    },
}

impl State {
    /// Whether the server should get its share of traffic: hard states decide, soft ones change nothing.
    #[must_use]
    pub fn is_up(self) -> bool {
        matches!(self, Self::Up | Self::Suspect { .. })
    }

    /// Whether the last result counted was a failure, and the state is hard.
    #[must_use]
    pub fn is_hard_down(self) -> bool {
        matches!(self, Self::Down { .. })
    }

    /// Whether the server should get no traffic.
    #[must_use]
    pub fn is_down(self) -> bool {
        matches!(self, Self::Down { .. } | Self::Recovering { .. } | Self::Damped { .. })
    }

    /// Whether the next results decide: then the check is worth running more often.
    #[must_use]
    pub fn is_soft(self) -> bool {
        match self {
            Self::Suspect { .. } | Self::Recovering { .. } => true,
            Self::Unknown { failures } => failures > 0,
            Self::Up | Self::Down { .. } | Self::Damped { .. } => false,
        }
    }
}

impl fmt::Display for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Unknown { .. } => "unknown",
            Self::Up => "up",
            Self::Suspect { .. } => "suspect",
            Self::Down { .. } => "down",
            Self::Recovering { .. } => "recovering",
            Self::Damped { .. } => "damped",
        })
    }
}

/// A change to another variant of [`State`], or of the cause of [`State::Down`]; counters alone are none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Transition {
    /// The state before.
    pub from: State,
    /// The state after.
    pub to: State,
}

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

    /// Replaces the rules. The state is kept; if the number of checks changes, each starts from the destination's state.
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
        is_transition(from, to).then_some(Transition { from, to })
    }

    /// The state by all checks together, without damping.
    fn combined(&self) -> State {
        let states = self.counts.iter().map(Count::state);
        match self.combine {
            Combine::All => states.max_by_key(|state| severity(*state)),
            Combine::Any => states.min_by_key(|state| severity(*state)),
        }
        .unwrap_or(State::Unknown { failures: 0 })
    }
}

/// The worse, the larger.
fn severity(state: State) -> u8 {
    match state {
        State::Up => 0,
        State::Suspect { .. } => 1,
        State::Unknown { .. } => 2,
        State::Damped { .. } => 3,
        State::Recovering { .. } => 4,
        State::Down { cause: Cause::Fast, .. } => 5,
        State::Down { cause: Cause::Baseline, .. } => 6,
    }
}

fn is_transition(from: State, to: State) -> bool {
    match (from, to) {
        (State::Down { cause: before, .. }, State::Down { cause: after, .. }) => before != after,
        _ => std::mem::discriminant(&from) != std::mem::discriminant(&to),
    }
}

#[cfg(test)]
mod tests;
