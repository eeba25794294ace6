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
//!
//! Failures that most servers share are excused ([`Health::excuse`]): a server that was up before is up again at its
//! first success, and nothing of it counts as flapping.

mod count;
mod damping;
mod spell;
mod state;
#[cfg(test)]
mod tests;

use std::time::Instant;

pub use self::state::{Cause, Source, State, Thresholds, Transition};
use self::{count::Count, damping::Damping, spell::Spell};
use crate::model::{Combine, FlapDamping};

/// How results become states.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HealthRules {
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
    /// Its failures in a row, now or the last time.
    spell: Option<Spell>,
}

impl Health {
    /// A destination in [`State::Unknown`] with this number of checks, at least one.
    #[must_use]
    pub fn new(rules: &HealthRules, checks: usize) -> Self {
        Self {
            combine: rules.combine,
            counts: vec![Count::new(rules.thresholds); checks.max(1)],
            damping: Damping::new(rules.damping),
            state: State::Unknown { failures: 0 },
            spell: None,
        }
    }

    /// Replaces the rules. The state is kept; if the number of checks changes, each starts from the destination's
    /// state.
    pub fn set_rules(&mut self, rules: &HealthRules, checks: usize) {
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
        let spell = self.spell.as_ref().filter(|spell| spell.lasts);
        let (goes_on, excused) = (spell.is_some(), spell.filter(|spell| spell.excused));
        let was_up = excused.map(|spell| spell.was_up);
        let undone =
            sample.success && sample.source == Source::Baseline && spell.is_some_and(Spell::is_undone);
        let observe = |count: &mut Count| {
            if undone { count.answer() } else { count.observe(sample.success, sample.source) }
        };
        match sample.check {
            None => self.counts.iter_mut().for_each(observe),
            Some(check) => observe(self.counts.get_mut(check)?),
        }
        let (from, checked) = (self.state, self.combined());
        if !goes_on && checked.is_failing() {
            self.spell = Some(Spell::begin(from, self.damping.clone(), now));
        }
        let to = match was_up {
            Some(was_up) => self.damping.excused(from, checked, was_up, now),
            None => self.damping.damped(from, checked, now),
        };
        if let Some(spell) = &mut self.spell {
            spell.lasts &= checked.is_failing();
        }
        self.state = to;
        Transition::between(from, to)
    }

    /// Since when it has had failures that count, with no success in between; `None`: the last result was a success, or
    /// there is none.
    #[must_use]
    pub fn failing_since(&self) -> Option<Instant> {
        self.spell.as_ref().filter(|spell| spell.lasts).map(|spell| spell.since)
    }

    /// Whether the failures that it has now are excused.
    #[must_use]
    pub fn is_excused(&self) -> bool {
        self.spell.as_ref().is_some_and(|spell| spell.lasts && spell.excused)
    }

    /// Whether it comes back, or has come back, as if it had never been away: its last failures were excused, and it
    /// was up before.
    #[must_use]
    pub fn comes_back_warm(&self) -> bool {
        self.spell.as_ref().is_some_and(Spell::is_undone)
    }

    /// Most servers fail together: its failures say nothing of this one, if they began at `from` or later. They are
    /// undone with its next success.
    pub fn excuse(&mut self, from: Instant) {
        if let Some(spell) =
            self.spell.as_mut().filter(|spell| spell.lasts && !spell.excused && spell.since >= from)
        {
            spell.excused = true;
            self.damping.forget_since(spell.past.clone());
        }
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
