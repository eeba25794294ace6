//! The one clock that the lab, the agent and the kernel side share: `CLOCK_MONOTONIC` of the one kernel they run on.

use std::time::Duration;

use nix::time::ClockId;

/// A moment, as nanoseconds of `CLOCK_MONOTONIC`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Moment(u64);

impl Moment {
    /// The present.
    #[must_use]
    #[expect(clippy::missing_panics_doc, clippy::expect_used, reason = "Linux always has this clock")]
    pub fn now() -> Self {
        let time = ClockId::CLOCK_MONOTONIC.now().expect("CLOCK_MONOTONIC can be read");
        let ns = Duration::from(time).as_nanos();
        Self(u64::try_from(ns).expect("uptime fits into 584 years"))
    }

    /// The moment `ns` nanoseconds after the clock's start.
    #[must_use]
    pub const fn from_ns(ns: u64) -> Self {
        Self(ns)
    }

    /// Time since `earlier`; zero if `earlier` is the later one.
    #[must_use]
    pub fn since(self, earlier: Self) -> Duration {
        Duration::from_nanos(self.0.saturating_sub(earlier.0))
    }

    /// This moment and `time` more.
    #[must_use]
    pub fn plus(self, time: Duration) -> Self {
        Self(self.0.saturating_add(u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)))
    }

    /// Milliseconds from `origin` to this moment, negative before it.
    #[must_use]
    #[expect(clippy::cast_precision_loss, reason = "differences are minutes at most, far below 2^53 ns")]
    pub fn ms_after(self, origin: Self) -> f64 {
        if self >= origin { (self.0 - origin.0) as f64 / 1e6 } else { -((origin.0 - self.0) as f64 / 1e6) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn differences_have_a_sign_in_milliseconds_and_none_as_durations() {
        let (early, late) = (Moment::from_ns(1_000_000), Moment::from_ns(3_500_000));
        assert!((late.ms_after(early) - 2.5).abs() < 1e-9);
        assert!((early.ms_after(late) + 2.5).abs() < 1e-9);
        assert_eq!(late.since(early), Duration::from_micros(2500));
        assert_eq!(early.since(late), Duration::ZERO);
        assert_eq!(early.plus(Duration::from_micros(2500)), late);
    }

    #[test]
    fn the_clock_runs() {
        let first = Moment::now();
        assert!(Moment::now() >= first);
        assert!(first > Moment::from_ns(0));
    }
}
