//! How often a service that other programs keep changing is repaired. Pure: the time is an argument.
//!
//! A few repairs are made at once. If the changes go on, each repair waits longer than the one before, so that two
//! programs with different goals don't change a service many times a second for ever, and an event reports it.

use std::time::{Duration, Instant};

use crate::backoff::Backoff;

/// So many repairs in a row are made at once.
const AT_ONCE: u32 = 3;
/// The pauses after the last of them.
const PAUSES: Backoff = Backoff::new(Duration::from_secs(1), PAUSE_MAX);
/// The longest pause.
const PAUSE_MAX: Duration = Duration::from_mins(1);
/// Repairs are in a row unless nobody has interfered for this long, or for twice the last pause where that is longer.
const QUIET: Duration = Duration::from_secs(10);

/// The repairs of one service.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Contention {
    /// Repairs in a row.
    repairs: u32,
    repaired: Option<Instant>,
    /// When others were last found to have changed it.
    interfered: Option<Instant>,
}

impl Contention {
    /// Records that others have changed the service.
    pub(super) fn interfered(&mut self, now: Instant) {
        if self.is_over(now) {
            *self = Self::default();
        }
        self.interfered = Some(now);
    }

    /// When the next repair is due; `None`: at once.
    pub(super) fn due(&self, now: Instant) -> Option<Instant> {
        self.due_at().filter(|at| *at > now)
    }

    /// The end of the pause after the last repair, if there was one.
    pub(super) fn due_at(&self) -> Option<Instant> {
        self.repaired.map(|at| at + self.pause())
    }

    /// Records a repair.
    pub(super) fn repaired(&mut self, now: Instant) {
        self.repairs = self.repairs.saturating_add(1);
        self.repaired = Some(now);
    }

    /// Whether others keep changing the service: from then on repairs wait.
    pub(super) fn is_alarming(&self) -> bool {
        self.repairs >= AT_ONCE
    }

    /// Whether nobody has interfered since the last repair for so long that the contention is over.
    pub(super) fn is_over(&self, now: Instant) -> bool {
        let last = self.repaired.max(self.interfered);
        last.is_none_or(|last| now.saturating_duration_since(last) >= QUIET.max(2 * self.pause()))
    }

    /// The pause after the last repair.
    fn pause(&self) -> Duration {
        self.repairs.checked_sub(AT_ONCE).map_or(Duration::ZERO, |waited| PAUSES.delay(waited))
    }
}

#[cfg(test)]
mod tests {
    use proptest::{collection::vec, prelude::*};

    use super::*;

    /// The times of the repairs, in ms, where others interfere at these times, and the table is polled every 100 ms.
    fn repairs(interferences: &[u64], until: u64) -> Vec<u64> {
        let start = Instant::now();
        let (mut contention, mut made, mut differs) = (Contention::default(), Vec::new(), false);
        let mut pending = interferences.iter().peekable();
        for ms in (0..until).step_by(100) {
            let now = start + Duration::from_millis(ms);
            while pending.next_if(|at| **at <= ms).is_some() {
                contention.interfered(now);
                differs = true;
            }
            if differs && contention.due(now).is_none() {
                contention.repaired(now);
                made.push(ms);
                differs = false;
            }
        }
        made
    }

    #[test]
    fn endless_interference_is_repaired_at_growing_intervals() {
        let always: Vec<_> = (0..3000).map(|tenth| tenth * 100).collect();
        let made = repairs(&always, 300_000);
        assert_eq!(made[..3], [0, 100, 200]);
        let gaps: Vec<_> = made[2..].windows(2).map(|pair| pair[1] - pair[0]).collect();
        assert_eq!(gaps, [1000, 2000, 4000, 8000, 16_000, 32_000, 60_000, 60_000, 60_000]);
    }

    #[test]
    fn after_a_quiet_time_repairs_are_made_at_once_again() {
        let start = Instant::now();
        let at = |seconds| start + Duration::from_secs(seconds);
        let mut contention = Contention::default();
        for second in 0..3 {
            contention.interfered(at(second));
            assert_eq!(contention.due(at(second)), None);
            contention.repaired(at(second));
        }
        assert!(contention.is_alarming());
        assert_eq!(contention.due(at(2)), Some(at(3)));
        assert!(!contention.is_over(at(11)));
        assert!(contention.is_over(at(12)));
        contention.interfered(at(12));
        assert!(!contention.is_alarming());
        assert_eq!(contention.due(at(12)), None);
    }

    proptest! {
        #[test]
        fn repairs_are_bounded_and_never_given_up(mut times in vec(0_u64..400_000, 0..200)) {
            times.sort_unstable();
            let made = repairs(&times, 500_000);
            for window in made.windows(8) {
                prop_assert!(window[7] - window[0] >= 10_000, "{:?}", window);
            }
            let longest = u64::try_from(PAUSE_MAX.as_millis()).unwrap() + 100;
            for time in times {
                prop_assert!(made.iter().any(|at| (time..=time + longest).contains(at)), "{} in {:?}", time, made);
            }
        }
    }
}
