//! One round of edits, in which a failure holds back only what depends on it. Pure.

use std::{collections::BTreeSet, time::Duration};

use crate::{
    ipvs::{Edit, IpvsError},
    service::ServiceKey,
};

/// How long after the first failure the table is read again and the rest tried again.
const RETRY: Duration = Duration::from_millis(500);
/// The longest such pause: short enough for whatever else the table needs by then.
const RETRY_MAX: Duration = Duration::from_secs(5);

/// The edits of a round that are still to be made.
///
/// After a failure the rest of that service's edits are left out: they come in an order that keeps the service served,
/// which holds only as long as none is missing.
pub(super) struct Round {
    edits: std::vec::IntoIter<Edit>,
    failed: BTreeSet<ServiceKey>,
}

impl Round {
    /// All of `edits`, in their order.
    pub(super) fn new(edits: Vec<Edit>) -> Self {
        Self { edits: edits.into_iter(), failed: BTreeSet::new() }
    }

    /// The next edit that is worth trying.
    pub(super) fn next(&mut self) -> Option<Edit> {
        self.edits.by_ref().find(|edit| !self.failed.contains(&edit.service()))
    }

    /// `edit` has failed: whether the others may still succeed.
    pub(super) fn goes_on_after(&mut self, edit: &Edit, error: &IpvsError) -> bool {
        self.failed.insert(edit.service());
        !matches!(
            error,
            IpvsError::NoIpvs
                | IpvsError::NotPermitted(_)
                | IpvsError::Timeout { .. }
                | IpvsError::Socket { .. }
        )
    }

    /// Whether no edit has failed.
    pub(super) fn is_clean(&self) -> bool {
        self.failed.is_empty()
    }
}

/// How long after the last of `failures` rounds in a row it is tried again; `None` if there is nothing to try.
pub(super) fn pause(failures: u32) -> Option<Duration> {
    let doublings = failures.checked_sub(1)?;
    Some(RETRY_MAX.min(RETRY.saturating_mul(2_u32.saturating_pow(doublings))))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{ipvs::Operation, service::Protocol};

    fn service(host: u8) -> ServiceKey {
        ServiceKey::Address { protocol: Protocol::Tcp, address: ([192, 0, 2, host], 80).into() }
    }

    fn delete(host: u8) -> Edit {
        Edit::DeleteService(service(host))
    }

    fn refused() -> IpvsError {
        IpvsError::Refused {
            operation: Operation::Edit(Box::new(delete(1))),
            errno: nix::errno::Errno::EINVAL,
        }
    }

    #[test]
    fn a_failure_holds_back_its_own_service_only() {
        let mut round = Round::new(vec![delete(1), delete(1), delete(2), delete(1), delete(3)]);
        let first = round.next().unwrap();
        assert!(round.is_clean());
        assert!(round.goes_on_after(&first, &refused()));
        assert_eq!((round.next(), round.next(), round.next()), (Some(delete(2)), Some(delete(3)), None));
        assert!(!round.is_clean());
    }

    #[test]
    fn what_fails_for_all_ends_the_round() {
        let operation = || Operation::Edit(Box::new(delete(1)));
        let all = [
            IpvsError::NoIpvs,
            IpvsError::NotPermitted(operation()),
            IpvsError::Timeout { operation: operation(), after: RETRY },
            IpvsError::Socket { operation: operation(), reason: "closed".to_owned() },
        ];
        for error in all {
            assert!(!Round::new(vec![]).goes_on_after(&delete(1), &error), "{error}");
        }
    }

    #[test]
    fn pauses_grow_to_a_limit() {
        let pauses: Vec<_> =
            [1, 2, 3, 4, 5, 40].into_iter().filter_map(pause).map(|one| one.as_millis()).collect();
        assert_eq!(pauses, [500, 1000, 2000, 4000, 5000, 5000]);
        assert_eq!(pause(0), None);
    }
}
