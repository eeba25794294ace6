//! When a failure says more about the director than about the server. Pure.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::{Duration, Instant},
};

use lvs_common::ServerId;

use crate::probe::{Failure, FailureReason, Outcome, Verdict};

/// Suspicions within this time of each other are together.
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

/// Which servers were suspected lately. If it is most of a service, the director's own network comes first.
#[derive(Debug, Default)]
pub(crate) struct Correlation {
    at: BTreeMap<ServerId, Instant>,
}

impl Correlation {
    /// Takes note of a suspicion.
    pub(crate) fn note(&mut self, server: ServerId, now: Instant) {
        self.at.insert(server, now);
    }

    /// Whether more than half of `siblings`, two at least, were suspected at about this time.
    pub(crate) fn is_correlated(&self, siblings: &BTreeSet<ServerId>, now: Instant) -> bool {
        let lately = |server: &&ServerId| {
            self.at.get(server).is_some_and(|at| now.saturating_duration_since(*at) <= TOGETHER)
        };
        let suspected = siblings.iter().filter(lately).count();
        suspected >= 2 && suspected * 2 > siblings.len()
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
        let cases: [(&str, &[u64], u32, bool); 7] = [
            ("one of one", &[0], 1, false),
            ("one of two", &[0], 2, false),
            ("both of two", &[0, 200], 2, true),
            ("one of three", &[0], 3, false),
            ("two of three", &[0, 300], 3, true),
            ("two of three, one after the other", &[0, 301], 3, false),
            ("two of four", &[0, 0], 4, false),
        ];
        for (name, times, servers, expected) in cases {
            let mut suspected = Correlation::default();
            for (server, ms) in (0..).zip(times) {
                suspected.note(ServerId(server), at(*ms));
            }
            let siblings = (0..servers).map(ServerId).collect();
            let last = times.iter().max().copied().unwrap_or(0);
            assert_eq!(suspected.is_correlated(&siblings, at(last)), expected, "{name}");
        }
    }
}
