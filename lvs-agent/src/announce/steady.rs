//! What is told of something that comes and goes: worse at once, better once it has been better for a while. Pure.

use std::time::{Duration, Instant};

/// How long something may be unknown before the worst is told.
pub(super) const UNKNOWN_FOR: Duration = Duration::from_secs(10);

/// What is told. The greater, the better.
#[derive(Clone, Copy, Debug)]
pub(super) struct Steady<T> {
    /// `None`: nothing yet; what an earlier agent has told stays.
    told: Option<T>,
    /// Since when it has been better than what is told.
    better_since: Option<Instant>,
    /// Since when it has been unknown.
    unknown_since: Option<Instant>,
}

impl<T> Default for Steady<T> {
    fn default() -> Self {
        Self { told: None, better_since: None, unknown_since: None }
    }
}

impl<T: Ord + Copy> Steady<T> {
    /// What is to be told now that it is `is`; `None`: not known. `worst`: what is told of what isn't known for long.
    pub(super) fn tell(&mut self, is: Option<T>, worst: T, up_after: Duration, now: Instant) -> Option<T> {
        let Some(is) = is else {
            self.better_since = None;
            let since = *self.unknown_since.get_or_insert(now);
            if now.saturating_duration_since(since) >= UNKNOWN_FOR {
                self.told = Some(worst);
            }
            return self.told;
        };
        self.unknown_since = None;
        match self.told {
            Some(told) if is > told => {
                let since = *self.better_since.get_or_insert(now);
                if now.saturating_duration_since(since) >= up_after {
                    self.told = Some(is);
                    self.better_since = None;
                }
            }
            // The first thing that is known is told at once.
            None | Some(_) => {
                self.told = Some(is);
                self.better_since = None;
            }
        }
        self.told
    }

    /// When time alone changes what is told.
    pub(super) fn due(&self, up_after: Duration) -> Option<Instant> {
        let better = self.better_since.map(|since| since + up_after);
        better.into_iter().chain(self.unknown_since.map(|since| since + UNKNOWN_FOR)).min()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const UP_AFTER: Duration = Duration::from_secs(1);

    #[test]
    fn worse_is_told_at_once_and_better_after_a_while() {
        let (begin, mut steady) = (Instant::now(), Steady::default());
        let steps = [
            (0, None, None),
            (100, Some(0), Some(0)),
            (200, Some(-5), Some(-5)),
            (300, Some(0), Some(-5)),
            (1200, Some(-2), Some(-5)),
            (1300, Some(0), Some(0)),
            (1400, None, Some(0)),
            (11_399, None, Some(0)),
            (11_400, None, Some(-9)),
        ];
        for (ms, is, told) in steps {
            let now = begin + Duration::from_millis(ms);
            assert_eq!(steady.tell(is, -9, UP_AFTER, now), told, "at {ms} ms");
        }
    }

    proptest! {
        /// What is told is never better than what was within the last moments, and in the end it is what is.
        #[test]
        fn nothing_better_is_told_than_what_has_lasted(steps in prop::collection::vec((0_u64..900, -3_i8..=0), 1..60)) {
            let (mut now, mut steady) = (Instant::now(), Steady::default());
            let mut seen: Vec<(Instant, i8)> = Vec::new();
            for (ms, is) in steps {
                now += Duration::from_millis(ms);
                seen.push((now, is));
                let told = steady.tell(Some(is), -9, UP_AFTER, now).unwrap();
                prop_assert!(told <= is);
                prop_assert!(seen.iter().any(|(_, one)| *one == told), "it was so once");
            }
            let last = seen.last().unwrap().1;
            steady.tell(Some(last), -9, UP_AFTER, now);
            prop_assert_eq!(steady.tell(Some(last), -9, UP_AFTER, now + UP_AFTER), Some(last));
            prop_assert_eq!(steady.due(UP_AFTER), None);
        }
    }
}
