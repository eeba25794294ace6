//! Checks that can't be made, by a fault of this director's own: a file or program that isn't there, a source address
//! or device that doesn't exist, no file descriptor left. They say nothing about their servers. Pure.

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    sync::Arc,
    time::{Duration, Instant},
};

use super::Engine;
use crate::{
    event::Event,
    model::{DestinationKey, ServiceKey},
    probe::{Failure, FailureReason, Outcome},
};

/// A reason that comes and goes is reported once in so long.
const AGAIN: Duration = Duration::from_mins(1);

/// The checks that can't be made now, and why.
#[derive(Debug, Default)]
pub(super) struct BlockedChecks {
    reasons: BTreeMap<(DestinationKey, usize), Arc<str>>,
    /// What was reported of each service, and when.
    reported: HashMap<ServiceKey, HashMap<Arc<str>, Instant>>,
    /// The services of which the end is to be reported.
    open: HashSet<ServiceKey>,
}

/// What is to be reported.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Change {
    /// The first check of a service that can't be made for this reason.
    Blocked(Arc<str>),
    /// All checks of the service can be made again.
    Unblocked,
}

impl BlockedChecks {
    /// Takes in the outcome of a check of a destination; returns what is new of its service. A reason that many servers
    /// have is reported of the first one.
    pub(super) fn note(
        &mut self,
        destination: DestinationKey,
        check: usize,
        outcome: &Outcome,
        now: Instant,
    ) -> Option<Change> {
        let key = (destination, check);
        let Err(Failure { reason: FailureReason::Local(fault), .. }) = outcome else {
            self.reasons.remove(&key)?;
            return self.unblocked(&destination.service);
        };
        let reason: Arc<str> = fault.to_string().into();
        if self.reasons.get(&key) == Some(&reason) {
            return None;
        }
        let others = self.of_service(&destination.service).any(|other| *other == reason);
        self.reasons.insert(key, reason.clone());
        let reported = self.reported.entry(destination.service).or_default();
        let is_old = reported.get(&reason).is_none_or(|at| now.saturating_duration_since(*at) >= AGAIN);
        if others || !is_old {
            return None;
        }
        reported.retain(|_, at| now.saturating_duration_since(*at) < AGAIN);
        reported.insert(reason.clone(), now);
        self.open.insert(destination.service);
        Some(Change::Blocked(reason))
    }

    /// Why a check of a destination can't be made; `None`: all can.
    pub(super) fn reason(&self, destination: &DestinationKey) -> Option<&str> {
        let of_it = self.reasons.range((*destination, 0)..=(*destination, usize::MAX));
        of_it.map(|(_, reason)| &**reason).next()
    }

    /// Keeps only the checks that still exist.
    pub(super) fn retain(&mut self, exists: impl Fn(&DestinationKey, usize) -> bool) {
        self.reasons.retain(|(destination, check), _| exists(destination, *check));
        let still: HashSet<ServiceKey> =
            self.reasons.keys().map(|(destination, _)| destination.service).collect();
        self.reported.retain(|service, _| still.contains(service));
        self.open.retain(|service| still.contains(service));
    }

    fn of_service(&self, service: &ServiceKey) -> impl Iterator<Item = &Arc<str>> {
        let of_it = self.reasons.iter().filter(move |((destination, _), _)| destination.service == *service);
        of_it.map(|(_, reason)| reason)
    }

    fn unblocked(&mut self, service: &ServiceKey) -> Option<Change> {
        let is_last = self.of_service(service).next().is_none();
        (is_last && self.open.remove(service)).then_some(Change::Unblocked)
    }
}

impl Engine {
    /// Takes in the result of a check of a destination, and whether it could be made; the event, if that is new of its
    /// service.
    pub(crate) fn note_check(
        &mut self,
        destination: &DestinationKey,
        check: usize,
        outcome: &Outcome,
        now: Instant,
    ) -> Option<Event> {
        let kind = self.checks(destination).nth(check).map(|(_, check)| check.kind.name());
        if let Some(kind) = kind {
            self.state_ages.note_result(destination, (check, kind), outcome, now);
        }
        let change = self.blocked.note(*destination, check, outcome, now)?;
        Some(match change {
            Change::Blocked(reason) => Event::CheckBlocked {
                subject: self.subject(destination),
                state: self.state(destination),
                reason: reason.to_string(),
            },
            Change::Unblocked => Event::CheckUnblocked { service: self.service_name(destination) },
        })
    }

    /// Why a check of a destination can't be made; `None`: all can.
    #[must_use]
    pub(crate) fn blocked(&self, destination: &DestinationKey) -> Option<&str> {
        self.blocked.reason(destination)
    }

    /// Forgets blocked checks that are gone.
    pub(super) fn forget_blocked(&mut self) {
        let mut blocked = std::mem::take(&mut self.blocked);
        blocked.retain(|destination, check| {
            self.at(destination).is_some_and(|(service, role)| service.checks(role).nth(check).is_some())
        });
        self.blocked = blocked;
    }
}

#[cfg(test)]
mod tests {
    use std::io;

    use super::*;
    use crate::probe::{LocalFault, Success};

    fn destination(service: u8, server: u8) -> DestinationKey {
        let address = ([192, 0, 2, service], 80).into();
        let service = ServiceKey::Address { protocol: crate::model::Protocol::Tcp, address };
        DestinationKey { service, server: ([10, 0, 0, server], 80).into() }
    }

    fn local(number: i32) -> Outcome {
        let fault = LocalFault::new("connect", &io::Error::from_raw_os_error(number));
        Err(Failure { reason: fault.into(), after: Duration::ZERO })
    }

    fn refused() -> Outcome {
        Err(Failure { reason: FailureReason::Refused, after: Duration::ZERO })
    }

    const ANSWERED: Outcome = Ok(Success { latency: Duration::ZERO, connect: None, weight: None });

    #[test]
    fn a_reason_is_reported_once_in_each_service_and_so_is_its_end() {
        let (mut blocked, now) = (BlockedChecks::default(), Instant::now());
        let is_blocked = |change: Option<Change>| matches!(change, Some(Change::Blocked(_)));
        assert!(is_blocked(blocked.note(destination(1, 1), 0, &local(24), now)));
        for _ in 0..3 {
            assert_eq!(blocked.note(destination(1, 1), 0, &local(24), now), None, "again");
            assert_eq!(blocked.note(destination(1, 2), 0, &local(24), now), None, "another server");
        }
        assert!(is_blocked(blocked.note(destination(2, 1), 0, &local(24), now)), "another service");
        assert!(is_blocked(blocked.note(destination(1, 1), 1, &local(2), now)), "another reason");
        assert!(blocked.reason(&destination(1, 1)).is_some_and(|reason| reason.contains("os error 24")));
        assert_eq!(blocked.reason(&destination(1, 3)), None);

        assert_eq!(blocked.note(destination(1, 1), 0, &ANSWERED, now), None, "others are blocked");
        assert_eq!(blocked.note(destination(1, 2), 0, &refused(), now), None);
        assert_eq!(blocked.note(destination(1, 1), 1, &refused(), now), Some(Change::Unblocked));
        assert_eq!(blocked.note(destination(1, 1), 1, &refused(), now), None);
    }

    #[test]
    fn a_reason_that_comes_and_goes_is_reported_once_a_minute() {
        let (mut blocked, start) = (BlockedChecks::default(), Instant::now());
        let (mut reports, mut ends) = (0, 0);
        for second in 0..180 {
            let now = start + Duration::from_secs(second);
            let outcome = if second % 2 == 0 { local(24) } else { ANSWERED };
            let change = blocked.note(destination(1, 1), 0, &outcome, now);
            reports += usize::from(matches!(change, Some(Change::Blocked(_))));
            ends += usize::from(change == Some(Change::Unblocked));
        }
        assert_eq!((reports, ends), (3, 3));
    }

    #[test]
    fn checks_that_are_gone_are_forgotten() {
        let (mut blocked, now) = (BlockedChecks::default(), Instant::now());
        blocked.note(destination(1, 1), 0, &local(24), now);
        blocked.note(destination(1, 1), 1, &local(2), now);
        blocked.retain(|_, check| check == 0);
        assert!(blocked.reason(&destination(1, 1)).is_some_and(|reason| reason.contains("os error 24")));
        blocked.retain(|_, _| false);
        assert_eq!(blocked.reason(&destination(1, 1)), None);
        assert_eq!(blocked.note(destination(1, 1), 0, &ANSWERED, now), None);
    }
}
