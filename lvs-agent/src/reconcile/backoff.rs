//! When an edit or a reading of the table that failed is tried again. Pure.

use std::time::{Duration, Instant};

use crate::{backoff::Backoff, ipvs::IpvsError};

/// The delay after the first failure; the next ones double.
const RETRY: Duration = Duration::from_millis(500);
/// The longest delay where the whole table is out of reach: short enough for when the cause is gone.
pub(super) const WHOLE: Duration = Duration::from_secs(5);
/// The longest delay where one service can't be as wanted.
pub(super) const SERVICE: Duration = Duration::from_mins(1);

/// Failures in a row.
#[derive(Clone, Copy, Debug)]
pub(super) struct Failing {
    failures: u32,
    /// The time of the next try.
    pub(super) until: Instant,
}

impl Failing {
    /// One more failure than `before`.
    pub(super) fn after(before: Option<Self>, longest: Duration, now: Instant) -> Self {
        let failures = before.map_or(1, |failing| failing.failures.saturating_add(1));
        Self { failures, until: now + Backoff::new(RETRY, longest).delay(failures - 1) }
    }
}

/// Whether the error concerns the whole table: then no other edit would succeed either.
pub(super) fn is_of_all(error: &IpvsError) -> bool {
    matches!(
        error,
        IpvsError::NoIpvs
            | IpvsError::NotPermitted(_)
            | IpvsError::Timeout { .. }
            | IpvsError::Socket { .. }
            | IpvsError::Refused { errno: nix::errno::Errno::ENOPROTOOPT, .. }
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ipvs::Operation;

    #[test]
    fn what_fails_for_all_is_told_from_what_fails_for_one_service() {
        let operation = || Operation::ReadServices;
        let refused = |errno| IpvsError::Refused { operation: operation(), errno };
        let all = [
            IpvsError::NoIpvs,
            IpvsError::NotPermitted(operation()),
            IpvsError::Timeout { operation: operation(), after: RETRY },
            IpvsError::Socket { operation: operation(), reason: "closed".to_owned() },
            refused(nix::errno::Errno::ENOPROTOOPT),
        ];
        for error in all {
            assert!(is_of_all(&error), "{error}");
        }
        for error in [refused(nix::errno::Errno::EINVAL), IpvsError::NoSuchFamily(operation())] {
            assert!(!is_of_all(&error), "{error}");
        }
    }

    #[test]
    fn pauses_grow_to_a_limit() {
        let now = Instant::now();
        let mut failing = None;
        let mut pauses = Vec::new();
        for _ in 0..6 {
            let next = Failing::after(failing, WHOLE, now);
            pauses.push((next.until - now).as_millis());
            failing = Some(next);
        }
        assert_eq!(pauses, [500, 1000, 2000, 4000, 5000, 5000]);
    }
}
