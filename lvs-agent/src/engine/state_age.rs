//! Since when a destination is in its state, and why. Pure.

mod last_results;

use std::{
    mem::discriminant,
    time::{Duration, Instant},
};

pub(crate) use self::last_results::CheckAge;
use self::last_results::LastResults;
use super::{Effects, Engine};
use crate::{
    event::{Event, Subject},
    health::{Sample, State},
    keyed::KeyMap,
    model::DestinationKey,
    probe::{self, Failure, FailureReason, Outcome},
};

/// Since when all destinations are in their states, and why.
#[derive(Debug, Default)]
pub(super) struct StateAges {
    by_destination: KeyMap<DestinationKey, StateAge>,
    last_results: LastResults,
}

/// The same of one destination.
#[derive(Debug, Default)]
struct StateAge {
    /// Since when it is in its state; `None`: since the agent's start.
    since: Option<Instant>,
    /// The last failure of its checks, as long as they haven't brought it back.
    failure: Option<(FailureReason, Instant)>,
    /// While it is down: the check that has taken it down, and the reason that was told of last.
    told: Option<(Option<usize>, FailureReason)>,
    /// Whether the last failure of that check had another reason.
    differs: bool,
}

/// What a result is about.
#[derive(Clone, Copy, Debug)]
struct Observed<'a> {
    /// The index of the check.
    check: Option<usize>,
    outcome: &'a Outcome,
    /// The state before the result.
    from: Option<State>,
    /// The state after it.
    to: Option<State>,
}

/// Since when a destination is in its state, and its last failure, each as an age.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Age {
    /// `None`: since the agent's start.
    pub(crate) of_state: Option<Duration>,
    /// The last failure in words, as long as the checks haven't brought the server back.
    pub(crate) of_failure: Option<(String, Duration)>,
}

impl Engine {
    /// Counts one result of one destination, with the outcome that it comes from.
    pub(crate) fn observe_outcome(
        &mut self,
        destination: &DestinationKey,
        sample: Sample,
        outcome: &Outcome,
        now: Instant,
    ) -> Effects {
        let from = self.state(destination);
        let mut effects = self.observe(destination, sample, probe::reported(outcome), now);
        let (to, subject) = (self.state(destination), self.subject(destination));
        let observed = Observed { check: sample.check, outcome, from, to };
        effects.events.extend(self.state_ages.observed(destination, observed, || subject, now));
        effects
    }

    /// Whether a failure of a check that began then says nothing any more: the server has answered since. What it was
    /// asked while it was out of reach may go without an answer for ever.
    #[must_use]
    pub(crate) fn is_outdated(&self, destination: &DestinationKey, began: Instant) -> bool {
        let known = self.state_ages.by_destination.get(destination);
        let since = known.and_then(|state_age| state_age.since);
        self.state(destination) == Some(State::Up) && since.is_some_and(|since| began < since)
    }

    /// For how long a destination has been in its state, and its last failure.
    #[must_use]
    pub(crate) fn age(&self, destination: &DestinationKey, now: Instant) -> Age {
        self.state_ages.age(destination, now)
    }

    /// The last result of each check of a destination.
    #[must_use]
    pub(crate) fn check_ages(&self, destination: &DestinationKey, now: Instant) -> Vec<CheckAge> {
        let kinds = self.checks(destination).map(|(_, check)| check.kind.name());
        self.state_ages.last_results.ages(destination, kinds, now)
    }
}

impl StateAges {
    /// Takes note of a result. Returns an event if the destination stays down, and its check has failed for another
    /// reason than before, twice in a row: an answer that changes from check to check is not told each time.
    fn observed(
        &mut self,
        destination: &DestinationKey,
        observed: Observed<'_>,
        subject: impl FnOnce() -> Subject,
        now: Instant,
    ) -> Option<Event> {
        let Observed { check, outcome, from, to } = observed;
        let (from, to) = (from?, to?);
        let state_age = self.by_destination.entry(*destination).or_default();
        if discriminant(&from) != discriminant(&to) {
            state_age.since = Some(now);
        }
        match outcome {
            Ok(_) => {
                state_age.differs = false;
                if to == State::Up {
                    *state_age = StateAge { since: state_age.since, ..StateAge::default() };
                }
                None
            }
            Err(failure) => {
                state_age.failure = Some((failure.reason.clone(), now));
                let was = state_age.told(check, failure, from.is_hard_down() && to.is_hard_down())?;
                Some(Event::Reason { subject: subject(), was: was.to_string(), outcome: outcome.clone() })
            }
        }
    }

    /// How long a destination has been in its state, and when it failed last.
    fn age(&self, destination: &DestinationKey, now: Instant) -> Age {
        let Some(StateAge { since, failure, .. }) = self.by_destination.get(destination) else {
            return Age::default();
        };
        let age = |at: Instant| now.saturating_duration_since(at);
        Age {
            of_state: since.map(age),
            of_failure: failure.as_ref().map(|(reason, at)| (reason.to_string(), age(*at))),
        }
    }

    /// Takes note of the result of a check, its index and its kind, whatever it says.
    pub(super) fn note_result(
        &mut self,
        destination: &DestinationKey,
        check: (usize, &'static str),
        outcome: &Outcome,
        now: Instant,
    ) {
        self.last_results.note(destination, check, outcome, now);
    }

    /// Forgets all but these destinations.
    pub(super) fn retain(&mut self, kept: impl Fn(&DestinationKey) -> bool) {
        self.last_results.retain(&kept);
        self.by_destination.retain(|destination, _| kept(destination));
    }
}

impl StateAge {
    /// A failure while it `stays_down`, or not; the reason before, if this one is to be told.
    fn told(&mut self, check: Option<usize>, failure: &Failure, stays_down: bool) -> Option<FailureReason> {
        let new = &failure.reason;
        match &mut self.told {
            Some((known, told)) if stays_down => {
                let is_other = *known == check && !is_same(told, new);
                if *known != check {
                    return None;
                }
                let again = std::mem::replace(&mut self.differs, is_other);
                (is_other && again).then(|| {
                    self.differs = false;
                    std::mem::replace(told, new.clone())
                })
            }
            _ => {
                (self.told, self.differs) = (Some((check, new.clone())), false);
                None
            }
        }
    }
}

/// Whether two failures have the same reason; details of an answer, such as its length, make no other one.
fn is_same(one: &FailureReason, other: &FailureReason) -> bool {
    match (one, other) {
        (FailureReason::WrongStatus { got: one, .. }, FailureReason::WrongStatus { got: other, .. }) => {
            one == other
        }
        (FailureReason::TimedOut { phase: one }, FailureReason::TimedOut { phase: other })
        | (FailureReason::Closed { phase: one }, FailureReason::Closed { phase: other }) => one == other,
        (FailureReason::Unreachable(one), FailureReason::Unreachable(other)) => one == other,
        (FailureReason::AtVip { failure: one, .. }, FailureReason::AtVip { failure: other, .. }) => {
            one == other
        }
        (FailureReason::Command(one), FailureReason::Command(other)) => one == other,
        (one, other) => discriminant(one) == discriminant(other),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        health::Cause,
        model::{Protocol, ServiceKey, StatusCodes},
        probe::Success,
    };

    fn status(got: u16) -> FailureReason {
        FailureReason::WrongStatus { got, wanted: StatusCodes::from(200..=399) }
    }

    /// `.`: answered; `r`: refused; a digit: status 500 and that; `x`: another check is refused.
    fn told(results: &str) -> Vec<String> {
        let address = ([192, 0, 2, 80], 80).into();
        let service = ServiceKey::Address { protocol: Protocol::Tcp, address };
        let destination = DestinationKey { service, server: ([10, 0, 0, 1], 80).into() };
        let (mut state_ages, mut state) = (StateAges::default(), State::Up);
        let mut events = Vec::new();
        for (index, result) in results.chars().enumerate() {
            let reason = match result {
                'r' | 'x' => Some(FailureReason::Refused),
                _ => result.to_digit(10).map(|digit| status(500 + u16::try_from(digit).unwrap())),
            };
            let after = Duration::ZERO;
            let outcome: Outcome = match reason {
                Some(reason) => Err(Failure { reason, after }),
                None => Ok(Success { latency: after, connect: None, weight: None }),
            };
            let to =
                if outcome.is_ok() { State::Up } else { State::Down { cause: Cause::Baseline, baseline: 1 } };
            let check = Some(usize::from(result == 'x'));
            let observed = Observed { check, outcome: &outcome, from: Some(state), to: Some(to) };
            let subject = || Subject { service: "web".into(), destination };
            if let Some(Event::Reason { was, outcome, .. }) =
                state_ages.observed(&destination, observed, subject, Instant::now())
            {
                events.push(format!("{index}: {was} -> {}", outcome.unwrap_err().reason));
            }
            state = to;
        }
        events
    }

    #[test]
    fn another_reason_is_told_once_and_only_if_it_lasts() {
        let refused = "connection refused";
        let (s503, s502) = (status(503).to_string(), status(502).to_string());
        let cases = [
            ("rrrr", vec![]),
            ("rr3", vec![]),
            ("rr33333", vec![format!("3: {refused} -> {s503}")]),
            ("r33rr", vec![format!("2: {refused} -> {s503}"), format!("4: {s503} -> {refused}")]),
            // It changes with each check.
            ("r3r3r3r3", vec![]),
            ("3322", vec![format!("3: {s503} -> {s502}")]),
            // It was up in between: that it is down now was told with its reason.
            ("r.333", vec![]),
            ("3x3x3x", vec![]),
        ];
        for (results, expected) in cases {
            assert_eq!(told(results), expected, "{results}");
        }
    }
}
