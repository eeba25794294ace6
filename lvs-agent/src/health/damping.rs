//! Flap damping: a server that goes down again and again must stay healthy for longer before it is up. Pure.

use std::time::{Duration, Instant};

use super::state::State;
use crate::{backoff::Backoff, model::FlapDamping};

/// A server's recent relapses, and how long it must be healthy because of them.
#[derive(Clone, Copy, Debug)]
pub(super) struct Damping {
    rules: FlapDamping,
    /// Since when it is up, or when it last came up.
    up_since: Option<Instant>,
    /// Whether it has gone down since it was first up, within [`FlapDamping::memory`].
    has_fallen: bool,
    /// How often it went down again within that memory.
    relapses: u32,
    /// Since when it has had no failure that counts; only while it is down.
    healthy_since: Option<Instant>,
}

impl Damping {
    /// A server without a past.
    pub(super) fn new(rules: FlapDamping) -> Self {
        Self { rules, up_since: None, has_fallen: false, relapses: 0, healthy_since: None }
    }

    /// Replaces the rules; the past is kept.
    pub(super) fn set_rules(&mut self, rules: FlapDamping) {
        self.rules = rules;
    }

    /// How often the server went down again soon after it had come up.
    pub(super) fn relapses(&self) -> u32 {
        self.relapses
    }

    /// The past of `before`, with the rules of `self`: what happened since is not counted.
    pub(super) fn forget_since(&mut self, before: Self) {
        *self = Self { rules: self.rules, ..before };
    }

    /// The destination's state after `before`, where its checks say `checked`, without a fall or a recovery that
    /// counts: its failures said nothing of it. One that was to be healthy for longer before them still is.
    pub(super) fn excused(&mut self, before: State, checked: State, was_up: bool, now: Instant) -> State {
        match checked {
            State::Down { .. } => checked,
            State::Up | State::Suspect { .. } if was_up => {
                self.up_since.get_or_insert(now);
                checked
            }
            State::Suspect { .. } => {
                let since = *self.healthy_since.get_or_insert(now);
                State::Damped { until: since + self.penalty() }
            }
            _ => self.damped(before, checked, now),
        }
    }

    /// The destination's state after `before`, where its checks say `checked`.
    pub(super) fn damped(&mut self, before: State, checked: State, now: Instant) -> State {
        match checked {
            State::Up | State::Suspect { .. } if before.is_down() => return self.recovered(checked, now),
            State::Up | State::Suspect { .. } => {
                self.up_since.get_or_insert(now);
            }
            State::Recovering { .. } => {
                self.healthy_since.get_or_insert(now);
            }
            State::Down { .. } => {
                if before.is_up() {
                    self.fall(now);
                }
                self.healthy_since = None;
            }
            State::Unknown { .. } | State::Damped { .. } => {}
        }
        checked
    }

    /// Its checks have brought it back: up, or damped for the rest of its penalty.
    fn recovered(&mut self, checked: State, now: Instant) -> State {
        // `Suspect` is not healthy: the penalty starts anew.
        let known = self.healthy_since.filter(|_| matches!(checked, State::Up));
        let since = *self.healthy_since.insert(known.unwrap_or(now));
        let until = since + self.penalty();
        if now < until {
            return State::Damped { until };
        }
        (self.up_since, self.healthy_since) = (Some(now), None);
        checked
    }

    /// It was up and has gone down.
    fn fall(&mut self, now: Instant) {
        let up_for = self.up_since.map_or(Duration::ZERO, |since| now.saturating_duration_since(since));
        let is_relapse = self.has_fallen && up_for < self.rules.memory;
        self.relapses = if is_relapse { self.relapses.saturating_add(1) } else { 0 };
        self.has_fallen = true;
    }

    /// How long it must be healthy before it is up.
    fn penalty(&self) -> Duration {
        let penalties = Backoff::new(self.rules.penalty, self.rules.penalty_max);
        self.relapses.checked_sub(1).map_or(Duration::ZERO, |repeats| penalties.delay(repeats))
    }
}
