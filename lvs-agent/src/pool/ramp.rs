//! Slow start: the weight of a server that has come back rises in steps. Pure.

use std::time::{Duration, Instant};

use crate::model::Weight;

/// How many steps. Each is an edit of the kernel's table, and a tenth more of its share doesn't overload a server.
const STEPS: u32 = 10;

/// The slow start of one server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Ramp {
    /// When it began.
    pub(super) since: Instant,
    /// How long it takes to the full weight.
    pub(super) time: Duration,
}

impl Ramp {
    /// Whether the full weight is reached.
    pub(super) fn is_over(self, now: Instant) -> bool {
        self.step(now) == STEPS
    }

    /// The weight at `now` of a server with the full weight `full`: at least 1, unless `full` is 0.
    pub(super) fn weight(self, full: Weight, now: Instant) -> Weight {
        at_step(full, self.step(now))
    }

    /// When [`Self::weight`] changes next; the end of the slow start counts as a change.
    pub(super) fn next_change(self, full: Weight, now: Instant) -> Option<Instant> {
        let reached = self.weight(full, now);
        let ahead = self.step(now) + 1..=STEPS;
        ahead
            .into_iter()
            .find(|step| *step == STEPS || at_step(full, *step) != reached)
            .map(|step| self.since + self.after(step))
    }

    fn step(self, now: Instant) -> u32 {
        let passed = now.saturating_duration_since(self.since);
        (1..=STEPS).take_while(|step| self.after(*step) <= passed).last().unwrap_or(0)
    }

    fn after(self, step: u32) -> Duration {
        self.time * step / STEPS
    }
}

fn at_step(full: Weight, step: u32) -> Weight {
    let reached = u32::from(full.0) * step / STEPS;
    Weight(u16::try_from(reached).unwrap_or(full.0).max(1).min(full.0))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const TIME: Duration = Duration::from_secs(10);

    #[test]
    fn a_weight_rises_in_ten_steps() {
        let since = Instant::now();
        let ramp = Ramp { since, time: TIME };
        let weights = |full| {
            (0..=11)
                .map(move |second| ramp.weight(Weight(full), since + Duration::from_secs(second)).0)
                .collect::<Vec<_>>()
        };
        assert_eq!(weights(100), [1, 10, 20, 30, 40, 50, 60, 70, 80, 90, 100, 100]);
        assert_eq!(weights(5), [1, 1, 1, 1, 2, 2, 3, 3, 4, 4, 5, 5]);
        assert_eq!(weights(1), [1; 12]);
        assert_eq!(weights(0), [0; 12]);
    }

    proptest! {
        /// The weight rises to the full weight, never above it, and changes only at the times announced.
        #[test]
        fn a_weight_changes_only_at_the_announced_times(full: u16, ms in 1_u64..100_000) {
            let since = Instant::now();
            let ramp = Ramp { since, time: Duration::from_millis(ms) };
            let full = Weight(full);
            let (mut now, mut steps, mut last) = (since, 0, ramp.weight(full, since));
            while let Some(next) = ramp.next_change(full, now) {
                prop_assert!(next > now);
                let before = next.checked_sub(Duration::from_nanos(1)).unwrap();
                prop_assert_eq!(ramp.weight(full, before), last);
                let reached = ramp.weight(full, next);
                prop_assert!(reached >= last && reached <= full);
                (now, last) = (next, reached);
                steps += 1;
            }
            prop_assert!(steps <= STEPS);
            prop_assert_eq!(last, full);
            prop_assert!(ramp.is_over(now) && now == since + ramp.time);
        }
    }
}
