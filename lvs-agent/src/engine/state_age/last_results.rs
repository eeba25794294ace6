//! The last result of each check of a destination. Pure.

use std::time::{Duration, Instant};

use crate::{
    keyed::KeyMap,
    model::DestinationKey,
    probe::{FailureReason, Outcome, Verdict},
};

/// The last results of all destinations' checks.
#[derive(Debug, Default)]
pub(super) struct LastResults {
    /// By the index of the check.
    by_destination: KeyMap<DestinationKey, Vec<Option<LastResult>>>,
}

/// The last result of one check.
#[derive(Clone, Debug)]
struct LastResult {
    /// The kind of the check.
    kind: &'static str,
    /// `None`: it answered as it should.
    failure: Option<FailureReason>,
    verdict: Verdict,
    took: Duration,
    at: Instant,
}

/// The last result of one check, as an age.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct CheckAge {
    /// The kind of the check.
    pub(crate) kind: &'static str,
    pub(crate) verdict: Verdict,
    /// `answered`, or why it failed.
    pub(crate) text: String,
    pub(crate) took: Duration,
    /// How long ago it ended.
    pub(crate) age: Duration,
}

impl LastResults {
    /// Takes note of a result of a check: its index and its kind.
    pub(super) fn note(
        &mut self,
        destination: &DestinationKey,
        (check, kind): (usize, &'static str),
        outcome: &Outcome,
        now: Instant,
    ) {
        let results = self.by_destination.entry(*destination).or_default();
        if results.len() <= check {
            results.resize_with(check + 1, || None);
        }
        let (failure, took) = match outcome {
            Ok(success) => (None, success.latency),
            Err(failure) => (Some(failure.reason.clone()), failure.after),
        };
        if let Some(last) = results.get_mut(check) {
            *last = Some(LastResult { kind, failure, verdict: Verdict::of(outcome), took, at: now });
        }
    }

    /// The last results of a destination's checks, which are of these kinds now, as far as there are any.
    pub(super) fn ages(
        &self,
        destination: &DestinationKey,
        kinds: impl Iterator<Item = &'static str>,
        now: Instant,
    ) -> Vec<CheckAge> {
        let results = self.by_destination.get(destination).map(Vec::as_slice).unwrap_or_default();
        // A reload may have put another check in the place of one.
        let known = results.iter().zip(kinds).filter_map(|(last, kind)| {
            let LastResult { failure, verdict, took, at, .. } =
                last.as_ref().filter(|last| last.kind == kind)?;
            let text = failure.as_ref().map_or_else(|| "answered".to_owned(), ToString::to_string);
            let age = now.saturating_duration_since(*at);
            Some(CheckAge { kind, verdict: *verdict, text, took: *took, age })
        });
        known.collect()
    }

    /// Forgets all but these destinations.
    pub(super) fn retain(&mut self, kept: impl Fn(&DestinationKey) -> bool) {
        self.by_destination.retain(|destination, _| kept(destination));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        model::{Protocol, ServiceKey},
        probe::{Failure, Success},
    };

    #[test]
    fn the_last_result_of_each_check_is_kept_until_its_server_goes() {
        let address = ([192, 0, 2, 80], 80).into();
        let service = ServiceKey::Address { protocol: Protocol::Tcp, address };
        let destination = DestinationKey { service, server: ([10, 0, 0, 1], 80).into() };
        let (start, ms) = (Instant::now(), Duration::from_millis);
        let answered = Ok(Success { latency: ms(2), connect: None, weight: None });
        let refused = Err(Failure { reason: FailureReason::Refused, after: ms(1) });
        let mut results = LastResults::default();
        results.note(&destination, (1, "http"), &refused, start);
        results.note(&destination, (1, "http"), &answered, start + ms(10));
        results.note(&destination, (0, "ping"), &refused, start + ms(20));
        let expected = [
            CheckAge {
                kind: "ping",
                verdict: Verdict::Dead,
                text: "connection refused".to_owned(),
                took: ms(1),
                age: ms(10),
            },
            CheckAge {
                kind: "http",
                verdict: Verdict::Alive,
                text: "answered".to_owned(),
                took: ms(2),
                age: ms(20),
            },
        ];
        let ages = |results: &LastResults, kinds: &[&'static str]| {
            results.ages(&destination, kinds.iter().copied(), start + ms(30))
        };
        assert_eq!(ages(&results, &["ping", "http"]), expected);
        // A check that the configuration has no more is not shown, nor under another one's name.
        assert_eq!(ages(&results, &["ping"]), expected[..1]);
        assert_eq!(ages(&results, &["connect", "http"]), expected[1..]);
        results.retain(|_| false);
        assert_eq!(ages(&results, &["ping", "http"]), []);
    }
}
