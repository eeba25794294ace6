//! Exponential back-off: each delay is twice the one before, up to a longest. Pure, and without a counter of its own:
//! who waits counts what repeats (failures, repairs, relapses, false alarms), and decides when that starts again at 0.
//!
//! There is no jitter: what waits here is one agent and one kernel, so there is no crowd of clients to spread.

use std::time::Duration;

/// A sequence of delays: `first`, 2 × `first`, 4 × `first`, …, and no longer than `max`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Backoff {
    first: Duration,
    max: Duration,
}

impl Backoff {
    /// Delays from `first` on, none of them longer than `max`. If `first` is, they are all `max`.
    pub(crate) const fn new(first: Duration, max: Duration) -> Self {
        Self { first, max }
    }

    /// The delay after `repeats` delays before it: 0 gives the first one.
    pub(crate) fn delay(self, repeats: u32) -> Duration {
        self.first.saturating_mul(2_u32.saturating_pow(repeats)).min(self.max)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn delays_double_up_to_the_longest() {
        let backoff = Backoff::new(SECOND / 2, 5 * SECOND);
        let delays: Vec<_> = (0..6).map(|repeats| backoff.delay(repeats).as_millis()).collect();
        assert_eq!(delays, [500, 1000, 2000, 4000, 5000, 5000]);
    }

    #[test]
    fn a_first_delay_of_zero_never_waits_and_one_above_the_longest_is_cut() {
        assert_eq!(Backoff::new(Duration::ZERO, SECOND).delay(40), Duration::ZERO);
        assert_eq!(Backoff::new(2 * SECOND, SECOND).delay(0), SECOND);
    }

    proptest! {
        #[test]
        fn delays_never_shrink_and_never_exceed_the_longest(first: u32, max: u32, repeats: u32) {
            let (first, max) = (Duration::from_millis(first.into()), Duration::from_millis(max.into()));
            let backoff = Backoff::new(first, max);
            let (delay, next) = (backoff.delay(repeats), backoff.delay(repeats.saturating_add(1)));
            prop_assert!(delay <= next && next <= max, "{delay:?}, {next:?}");
            prop_assert!(delay >= first.min(max));
        }
    }
}
