//! Flap damping: a server that goes down again and again must stay healthy for longer before it is up. Pure.

use std::{
    collections::VecDeque,
    time::{Duration, Instant},
};

use super::state::{Cause, State};
use crate::{backoff::Backoff, model::FlapDamping};

/// So often within a [`MINUTE`] a server may go down without a penalty, as long as only the fast path takes it down: a
/// host that stalls that often stays out for a while, all the same.
const MOST_SPARED: usize = 5;
/// See [`MOST_SPARED`].
const MINUTE: Duration = Duration::from_mins(1);

/// A server's recent relapses, and how long it must be healthy because of them.
#[derive(Clone, Debug)]
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
    /// How long it had been up when the fast path took it down, as long as the baseline check doesn't agree.
    provisional: Option<Duration>,
    /// When it went down within the last minute.
    falls: VecDeque<Fall>,
}

/// A time when a server went down.
#[derive(Clone, Copy, Debug)]
struct Fall {
    at: Instant,
    /// It was the fast path's doing alone, and has cost nothing.
    spared: bool,
}

impl Damping {
    /// A server without a past.
    pub(super) fn new(rules: FlapDamping) -> Self {
        Self {
            rules,
            up_since: None,
            has_fallen: false,
            relapses: 0,
            healthy_since: None,
            provisional: None,
            falls: VecDeque::new(),
        }
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
            State::Down { cause, .. } => {
                if before.is_up() {
                    self.go_down(cause, now);
                } else if cause == Cause::Baseline {
                    self.agree();
                }
                self.healthy_since = None;
            }
            State::Unknown { .. } | State::Damped { .. } => {}
        }
        checked
    }

    /// Its checks have brought it back: up, or damped for the rest of its penalty.
    fn recovered(&mut self, checked: State, now: Instant) -> State {
        if self.provisional.take().is_some() {
            // It never was down, as far as its baseline check knows.
            self.healthy_since = None;
            return checked;
        }
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
    fn go_down(&mut self, cause: Cause, now: Instant) {
        let is_old = |fall: &Fall| now.saturating_duration_since(fall.at) >= MINUTE;
        while self.falls.front().is_some_and(is_old) {
            self.falls.pop_front();
        }
        let up_for = self.up_since.map_or(Duration::ZERO, |since| now.saturating_duration_since(since));
        let spared = cause == Cause::Fast && self.falls.len() < MOST_SPARED;
        self.provisional = spared.then_some(up_for);
        if !spared {
            self.count_fall(up_for);
            if self.falls.iter().any(|fall| fall.spared) && self.falls.len() >= MOST_SPARED {
                // Those that were spared count after all.
                let falls = u32::try_from(self.falls.len()).unwrap_or(u32::MAX);
                self.relapses = self.relapses.max(falls.saturating_add(1));
            }
        }
        self.falls.push_back(Fall { at: now, spared });
    }

    /// The baseline check agrees that it is down.
    fn agree(&mut self) {
        if let Some(up_for) = self.provisional.take() {
            self.count_fall(up_for);
            if let Some(last) = self.falls.back_mut() {
                last.spared = false;
            }
        }
    }

    fn count_fall(&mut self, up_for: Duration) {
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
