//! A spell of failures: from the first one after a success to the next success. Pure.

use std::time::Instant;

use super::{damping::Damping, state::State};

/// The failures that a destination has in a row, now or the last time.
#[derive(Clone, Debug)]
pub(super) struct Spell {
    /// When it began.
    pub(super) since: Instant,
    /// Whether the server took part before: it was up, or nothing was known of it.
    pub(super) was_up: bool,
    /// What was known of its flapping before.
    pub(super) past: Damping,
    /// Most servers failed with it: that says nothing of this one.
    pub(super) excused: bool,
    /// Whether it goes on.
    pub(super) lasts: bool,
}

impl Spell {
    /// A spell that begins at `now` after `state`.
    pub(super) fn begin(state: State, past: Damping, now: Instant) -> Self {
        Self { since: now, was_up: !state.is_down(), past, excused: false, lasts: true }
    }

    /// Whether its end leads to where the server was before.
    pub(super) fn is_undone(&self) -> bool {
        self.excused && self.was_up
    }
}

impl State {
    /// Whether the last result that counted was a failure.
    pub(super) fn is_failing(self) -> bool {
        match self {
            Self::Suspect { .. } | Self::Down { .. } => true,
            Self::Unknown { failures } => failures > 0,
            Self::Up | Self::Recovering { .. } | Self::Damped { .. } => false,
        }
    }
}
