//! When a failure says more about the director than about the server. Pure.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::{Duration, Instant},
};

use lvs_common::ServerId;

use crate::probe::{Failure, FailureReason, Outcome, Verdict};

/// Doubts that begin within this time of each other are together.
const TOGETHER: Duration = Duration::from_millis(300);

/// What a confirming probe says about the server, where it was to take no longer than `timeout`.
///
/// A timeout that is noticed a tenth too late was noticed by a director without time: the answer may have been there.
pub(crate) fn verdict(outcome: &Outcome, timeout: Duration) -> Verdict {
    match outcome {
        Err(Failure { reason: FailureReason::TimedOut { .. }, after }) if *after > timeout + timeout / 10 => {
            Verdict::Unknown
        }
        other => Verdict::of(other),
    }
}

/// Which servers are doubted, and since when. If it is most of a service, the director's own network comes first.
#[derive(Debug, Default)]
pub(crate) struct Correlation {
    since: BTreeMap<ServerId, Instant>,
}

impl Correlation {
    /// Takes note of a doubt.
    pub(crate) fn note(&mut self, server: ServerId, now: Instant) {
        self.since.insert(server, now);
    }

    /// The server has answered: it has no part in what befalls the others.
    pub(crate) fn answered(&mut self, server: ServerId) {
        self.since.remove(&server);
    }

    /// Whether more than half of `siblings`, two at least, came into doubt at about the same time as this one. An
    /// application's probes may take long; what counts is when the doubts began.
    pub(crate) fn is_correlated(&self, server: ServerId, siblings: &BTreeSet<ServerId>) -> bool {
        let Some(own) = self.since.get(&server) else { return false };
        let together = |server: &&ServerId| {
            let apart = |other: &Instant| {
                other.saturating_duration_since(*own).max(own.saturating_duration_since(*other))
            };
            self.since.get(server).is_some_and(|other| apart(other) <= TOGETHER)
        };
        let doubted = siblings.iter().filter(together).count();
        doubted >= 2 && doubted * 2 > siblings.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::probe::{Phase, Success};

    const TIMEOUT: Duration = Duration::from_millis(100);

    #[test]
    fn a_timeout_that_came_late_says_nothing() {
        let timed_out = |ms| {
            let reason = FailureReason::TimedOut { phase: Phase::Connect };
            Err(Failure { reason, after: Duration::from_millis(ms) })
        };
        let refused = Err(Failure { reason: FailureReason::Refused, after: Duration::from_millis(300) });
        let answered = Ok(Success { latency: Duration::from_millis(300), connect: None, weight: None });
        for (outcome, expected) in [
            (timed_out(100), Verdict::Dead),
            (timed_out(110), Verdict::Dead),
            (timed_out(111), Verdict::Unknown),
            (refused, Verdict::Dead),
            (answered, Verdict::Alive),
        ] {
            assert_eq!(verdict(&outcome, TIMEOUT), expected, "{outcome:?}");
        }
    }

    #[test]
    fn most_of_a_service_at_once_is_common() {
        let start = Instant::now();
        let at = |ms| start + Duration::from_millis(ms);
        let cases: [(&str, &[u64], u32, bool); 8] = [
            ("one of one", &[0], 1, false),
            ("one of two", &[0], 2, false),
            ("both of two", &[0, 200], 2, true),
            ("one of three", &[0], 3, false),
            ("two of three", &[0, 300], 3, true),
            ("two of three, one after the other", &[0, 301], 3, false),
            ("two of four", &[0, 0], 4, false),
            ("three of four around the first", &[300, 0, 600], 4, true),
        ];
        for (name, times, servers, expected) in cases {
            let mut doubted = Correlation::default();
            for (server, ms) in (0..).zip(times) {
                doubted.note(ServerId(server), at(*ms));
            }
            let siblings = (0..servers).map(ServerId).collect();
            assert_eq!(doubted.is_correlated(ServerId(0), &siblings), expected, "{name}");
            doubted.answered(ServerId(0));
            assert!(!doubted.is_correlated(ServerId(0), &siblings), "{name}, answered");
        }
    }
}
