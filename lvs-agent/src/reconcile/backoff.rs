//! How long to wait after failures before the next try. Pure.

use std::time::{Duration, Instant};

use crate::{backoff::Backoff, ipvs::IpvsError};

/// The delay after the first failure; the next ones double.
const RETRY: Duration = Duration::from_millis(500);
/// The longest pause where the whole table can't be read or edited: short, as failed servers stay in it.
pub(super) const MAX_PAUSE_TABLE: Duration = Duration::from_secs(5);
/// The longest pause where the edits of one service fail.
pub(super) const MAX_PAUSE_SERVICE: Duration = Duration::from_mins(1);

/// Failures in a row.
#[derive(Clone, Copy, Debug)]
pub(super) struct Failures {
    count: u32,
    /// When the next try is due.
    pub(super) until: Instant,
}

impl Failures {
    /// One more failure than `before`.
    pub(super) fn after(before: Option<Self>, longest: Duration, now: Instant) -> Self {
        let count = before.map_or(1, |before| before.count.saturating_add(1));
        Self { count, until: now + Backoff::new(RETRY, longest).delay(count - 1) }
    }
}

/// Whether the error concerns the whole table: then no other edit would succeed either.
pub(super) fn affects_whole_table(error: &IpvsError) -> bool {
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
    fn errors_of_the_whole_table_differ_from_those_of_one_service() {
        let operation = || Operation::ReadServices;
        let refused = |errno| IpvsError::Refused { operation: operation(), errno };
        let whole_table = [
            IpvsError::NoIpvs,
            IpvsError::NotPermitted(operation()),
            IpvsError::Timeout { operation: operation(), after: RETRY },
            IpvsError::Socket { operation: operation(), reason: "closed".to_owned() },
            refused(nix::errno::Errno::ENOPROTOOPT),
        ];
        for error in whole_table {
            assert!(affects_whole_table(&error), "{error}");
        }
        for error in [refused(nix::errno::Errno::EINVAL), IpvsError::NoSuchFamily(operation())] {
            assert!(!affects_whole_table(&error), "{error}");
        }
    }

    #[test]
    fn pauses_grow_to_a_limit() {
        let now = Instant::now();
        let mut failures = None;
        let mut pauses = Vec::new();
        for _ in 0..6 {
            let next = Failures::after(failures, MAX_PAUSE_TABLE, now);
            pauses.push((next.until - now).as_millis());
            failures = Some(next);
        }
        assert_eq!(pauses, [500, 1000, 2000, 4000, 5000, 5000]);
    }
}
