//! When the probes of a burst start, and until when their answers count. Pure.

use std::{num::NonZeroU32, time::Duration};

/// How patient a burst is with one server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Patience {
    /// Within this time its probes are usually answered: who is silent for longer is asked again.
    pub usual: Duration,
    /// How long the answer to each probe counts, from the probe's start.
    pub probe: Duration,
    /// How long the answer to any of them counts at least, from the start of the first.
    pub burst: Duration,
}

impl Patience {
    /// The longer times of both.
    #[must_use]
    pub fn max(self, other: Self) -> Self {
        Self {
            usual: self.usual.max(other.usual),
            probe: self.probe.max(other.probe),
            burst: self.burst.max(other.burst),
        }
    }
}

/// The times of one burst.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rhythm {
    /// How many probes, as long as none succeeds.
    pub count: NonZeroU32,
    /// From the start of the first to that of the second.
    pub first_gap: Duration,
    /// From the start of each further one to that of the next.
    pub gap: Duration,
    /// From the start of the first until no answer to any of them counts any more.
    pub lasts: Duration,
}

impl Rhythm {
    /// A burst whose last probe has its time, and the first ones until then: a late answer is one.
    #[must_use]
    pub fn new(count: NonZeroU32, first_gap: Duration, gap: Duration, patience: Patience) -> Self {
        let times = Self { count, first_gap, gap, lasts: Duration::ZERO };
        let last = times.start_of(count.get() - 1);
        Self { lasts: (last + patience.probe).max(patience.burst), ..times }
    }

    /// A single probe.
    #[must_use]
    pub fn once(lasts: Duration) -> Self {
        Self { count: NonZeroU32::MIN, first_gap: lasts, gap: lasts, lasts }
    }

    /// When the probe with this index, from 0, starts after the first, unless an answer calls for it sooner.
    #[must_use]
    pub fn start_of(&self, index: u32) -> Duration {
        match index.checked_sub(1) {
            None => Duration::ZERO,
            Some(further) => self.first_gap + self.gap * further,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ms(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    #[test]
    fn the_last_probe_has_its_time_and_the_burst_at_least_its_own() {
        let lasts = |count, first_gap, probe, burst| {
            let patience = Patience { usual: ms(0), probe: ms(probe), burst: ms(burst) };
            let count = NonZeroU32::new(count).expect("it is not 0");
            Rhythm::new(count, ms(first_gap), ms(20), patience).lasts.as_millis()
        };
        assert_eq!(lasts(3, 10, 50, 120), 120, "the last one starts after 30 ms");
        assert_eq!(lasts(3, 10, 100, 120), 130);
        assert_eq!(lasts(1, 10, 50, 120), 120);
        assert_eq!(lasts(1, 10, 1000, 0), 1000);
        assert_eq!(lasts(10, 10, 50, 120), 220);
    }

    #[test]
    fn the_first_gap_is_one_of_its_own() {
        let patience = Patience { usual: ms(0), probe: ms(50), burst: ms(0) };
        let rhythm = Rhythm::new(NonZeroU32::MIN.saturating_add(3), ms(7), ms(20), patience);
        let starts: Vec<_> = (0..4).map(|index| rhythm.start_of(index).as_millis()).collect();
        assert_eq!(starts, [0, 7, 27, 47]);
    }
}
