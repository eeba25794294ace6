//! A server that comes and goes is held back. Pure.

use std::time::{Duration, Instant};

use super::State;
use crate::model::FlapDamping;

/// What a server has done lately, and how long it must be well for it.
#[derive(Clone, Debug)]
pub(super) struct Damping {
    rules: FlapDamping,
    /// Since when it is up, or when it last came up.
    let_in: Option<Instant>,
    /// Whether it has gone down since it was first let in, within memory.
    fell: bool,
    /// How often it went down again within memory.
    relapses: u32,
    /// Since when it has had no failure that matters; only while it is down.
    well_since: Option<Instant>,
}

impl Damping {
    pub(super) fn new(rules: FlapDamping) -> Self {
        Self { rules, let_in: None, fell: false, relapses: 0, well_since: None }
    }

    pub(super) fn follow(&mut self, rules: FlapDamping) {
        self.rules = rules;
    }

    pub(super) fn relapses(&self) -> u32 {
        self.relapses
    }

    /// The destination's state after `before`, where its checks say `found`.
    pub(super) fn damped(&mut self, before: State, found: State, now: Instant) -> State {
        match found {
            State::Up | State::Suspect { .. } if before.is_down() => return self.well(found, now),
            State::Up | State::Suspect { .. } => {
                self.let_in.get_or_insert(now);
            }
            State::Recovering { .. } => {
                self.well_since.get_or_insert(now);
            }
            State::Down { .. } => {
                if before.is_up() {
                    self.fall(now);
                }
                self.well_since = None;
            }
            State::Unknown { .. } | State::Damped { .. } => {}
        }
        found
    }

    /// It is well again: is it let in?
    fn well(&mut self, found: State, now: Instant) -> State {
        // In doubt again is not well: it begins anew.
        let begun = self.well_since.filter(|_| matches!(found, State::Up));
        let since = *self.well_since.insert(begun.unwrap_or(now));
        let until = since + self.hold();
        if now < until {
            return State::Damped { until };
        }
        (self.let_in, self.well_since) = (Some(now), None);
        found
    }

    /// It was up and has gone down.
    fn fall(&mut self, now: Instant) {
        let up_for = self.let_in.map_or(Duration::ZERO, |since| now.saturating_duration_since(since));
        let is_relapse = self.fell && up_for < self.rules.memory;
        self.relapses = if is_relapse { self.relapses.saturating_add(1) } else { 0 };
        self.fell = true;
    }

    /// How long it must be well.
    fn hold(&self) -> Duration {
        let doublings = match self.relapses {
            0 => return Duration::ZERO,
            relapses => relapses - 1,
        };
        let factor = 1_u32.checked_shl(doublings).unwrap_or(u32::MAX);
        self.rules.penalty.saturating_mul(factor).min(self.rules.penalty_max)
    }
}
