//! Soft and hard state of one destination. Pure: results and the time go in, transitions come out.
//!
//! ```text
//! Unknown ─success─▶ Up ─failure─▶ Suspect ─fall failures in a row─▶ Down ─success─▶ Recovering ─rise in a row─▶ Up
//! ```
//! Any success in `Suspect` leads back to `Up`, any failure in `Recovering` back to `Down`. A server of which nothing is
//! known yet needs one success, or `fall` failures, to be known. One that comes and goes is `Damped` between
//! `Recovering` and `Up`: the time that it has to be well for grows with each relapse.
//!
//! Where a destination has several checks, each counts for itself; the destination's state is the worst of theirs, or the
//! best where one healthy check is enough.

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

/// Where a result comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Source {
    /// The check that always runs, with the question that the operator chose.
    Baseline,
    /// A probe that a passive suspicion asked for. It may ask less than the baseline does (a TCP connect where the
    /// baseline wants a page), so its success clears only what its own kind has found.
    Confirm,
}

/// What made a server go down, as far as it matters for what may be done about it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cause {
    /// Confirming probes had a part in it: the fast path, which must not take out too much.
    Fast,
    /// The baseline checks alone have counted to `fall`.
    Baseline,
}

/// What is known of a destination.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// Nothing yet, or too few failures.
    Unknown {
        /// In a row so far.
        failures: u32,
    },
    /// Healthy.
    Up,
    /// Healthy so far, with failures: soft.
    Suspect {
        /// Of the baseline check, in a row.
        baseline: u32,
        /// Of confirming probes, in a row.
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
        /// In a row.
        successes: u32,
    },
    /// Well again, and kept out for what it has done before: it has to be well for longer.
    Damped {
        /// It is let in at its first success from then on, if there is no failure before.
        until: Instant,
    },
}

impl State {
    /// Whether the server should get its share of traffic: hard states decide, soft ones change nothing.
    #[must_use]
    pub fn is_up(self) -> bool {
        matches!(self, Self::Up | Self::Suspect { .. })
    }

    /// Whether the last word was a failure that made the server's state hard.
    #[must_use]
    pub fn is_hard_down(self) -> bool {
        matches!(self, Self::Down { .. })
    }

    /// Whether the server should get no traffic.
    #[must_use]
    pub fn is_down(self) -> bool {
        matches!(self, Self::Down { .. } | Self::Recovering { .. } | Self::Damped { .. })
    }

    /// Whether the next results decide: a server in doubt is worth asking more often.
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

/// A change from one named state to another, or of the cause of being down.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Transition {
    /// Before.
    pub from: State,
    /// After.
    pub to: State,
}

/// How results become states.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rules {
    /// How many results in a row make a soft state hard, of each check.
    pub thresholds: Thresholds,
    /// What several checks mean together.
    pub combine: Combine,
    /// How a server that comes and goes is held back.
    pub damping: FlapDamping,
}

/// One result.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sample {
    /// The check that it answers, from 0; `None`: it is about the host, and so about all checks of it.
    pub check: Option<usize>,
    /// Whether the server answered as it should.
    pub success: bool,
    /// Where it comes from.
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
    /// A destination with so many checks, of which nothing is known.
    #[must_use]
    pub fn new(rules: &Rules, checks: usize) -> Self {
        Self {
            combine: rules.combine,
            counts: vec![Count::new(rules.thresholds); checks.max(1)],
            damping: Damping::new(rules.damping),
            state: State::Unknown { failures: 0 },
        }
    }

    /// From now on these rules hold. What is known stays known; if the number of checks is another one, each starts from it.
    pub fn follow(&mut self, rules: &Rules, checks: usize) {
        self.combine = rules.combine;
        self.damping.follow(rules.damping);
        if self.counts.len() == checks.max(1) {
            self.counts.iter_mut().for_each(|count| count.follow(rules.thresholds));
        } else {
            let known = self.combined();
            self.counts = vec![Count::at(rules.thresholds, known); checks.max(1)];
        }
    }

    /// What is known.
    #[must_use]
    pub fn state(&self) -> State {
        self.state
    }

    /// What is known by one of the checks.
    #[must_use]
    pub fn state_of(&self, check: usize) -> Option<State> {
        self.counts.get(check).map(Count::state)
    }

    /// How often it went down soon after it had come back.
    #[must_use]
    pub fn relapses(&self) -> u32 {
        self.damping.relapses()
    }

    /// How many more failures in a row, of all checks, would take the server down, 0 where it is down.
    #[must_use]
    pub fn failures_to_fall(&self) -> u32 {
        if self.state.is_down() {
            return 0;
        }
        let each = self.counts.iter().map(Count::failures_to_fall);
        match self.combine {
            Combine::All => each.min(),
            Combine::Any => each.max(),
        }
        .unwrap_or(0)
    }

    /// Takes in one result; says what changed, if a state of another name or cause was entered.
    pub fn observe(&mut self, sample: Sample, now: Instant) -> Option<Transition> {
        match sample.check {
            None => self.counts.iter_mut().for_each(|count| count.observe(sample.success, sample.source)),
            Some(check) => self.counts.get_mut(check)?.observe(sample.success, sample.source),
        }
        let from = self.state;
        let to = self.damping.damped(from, self.combined(), now);
        self.state = to;
        is_news(from, to).then_some(Transition { from, to })
    }

    /// What the checks say together.
    fn combined(&self) -> State {
        let states = self.counts.iter().map(Count::state);
        match self.combine {
            Combine::All => states.max_by_key(|state| gravity(*state)),
            Combine::Any => states.min_by_key(|state| gravity(*state)),
        }
        .unwrap_or(State::Unknown { failures: 0 })
    }
}

/// The graver, the larger.
fn gravity(state: State) -> u8 {
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

fn is_news(from: State, to: State) -> bool {
    match (from, to) {
        (State::Down { cause: before, .. }, State::Down { cause: after, .. }) => before != after,
        _ => std::mem::discriminant(&from) != std::mem::discriminant(&to),
    }
}

#[cfg(test)]
mod tests;
