//! The states of a destination or of one check, and what leads from one to another.

use std::{fmt, num::NonZeroU32, time::Instant};

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
    /// A connection in place of the configured check ([`Check::connects_between`]). It counts like that, but doesn't
    /// undo what the fast path has found, which may be more than a connection tells.
    ///
    /// [`Check::connects_between`]: crate::model::Check::connects_between
    Partial,
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

    /// Whether the server is out by the fast path alone. A host that stalls looks like one that lost its power, so that
    /// this is undone by the first success of the baseline check, and costs the server nothing else.
    #[must_use]
    pub fn is_provisional(self) -> bool {
        matches!(self, Self::Down { cause: Cause::Fast, .. })
    }

    /// Whether the server should get no traffic.
    #[must_use]
    pub fn is_down(self) -> bool {
        matches!(self, Self::Down { .. } | Self::Recovering { .. } | Self::Damped { .. })
    }

    /// How bad the state is: the worse, the larger.
    pub(super) fn severity(self) -> u8 {
        match self {
            Self::Up => 0,
            Self::Suspect { .. } => 1,
            Self::Unknown { .. } => 2,
            Self::Damped { .. } => 3,
            Self::Recovering { .. } => 4,
            Self::Down { cause: Cause::Fast, .. } => 5,
            Self::Down { cause: Cause::Baseline, .. } => 6,
        }
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

impl Transition {
    /// The transition between two states, if it is one.
    pub(super) fn between(from: State, to: State) -> Option<Self> {
        let differs = match (from, to) {
            (State::Down { cause: before, .. }, State::Down { cause: after, .. }) => before != after,
            _ => std::mem::discriminant(&from) != std::mem::discriminant(&to),
        };
        differs.then_some(Self { from, to })
    }
}
