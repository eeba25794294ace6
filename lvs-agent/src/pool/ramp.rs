//! Slow start: the weight of a server that has come back rises step by step. Pure.

use std::time::{Duration, Instant};

use crate::model::Weight;

/// In how many steps: each is an edit of the kernel's table, and a tenth more of a server's share is no shock to it.
const STEPS: u32 = 10;

/// A weight on its way up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Ramp {
    pub(super) since: Instant,
    /// How long the way takes.
    pub(super) time: Duration,
}

impl Ramp {
    /// Whether the way is over.
    pub(super) fn is_over(self, now: Instant) -> bool {
        self.step(now) == STEPS
    }

    /// What has been reached of `own`: at least 1 where there is anything to reach.
    pub(super) fn weight(self, own: Weight, now: Instant) -> Weight {
        at_step(own, self.step(now))
    }

    /// When that changes next.
    pub(super) fn next_change(self, own: Weight, now: Instant) -> Option<Instant> {
        let reached = self.weight(own, now);
        let ahead = self.step(now) + 1..=STEPS;
        // The last step is one in any case: then it is over.
        ahead
            .into_iter()
            .find(|step| *step == STEPS || at_step(own, *step) != reached)
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

fn at_step(own: Weight, step: u32) -> Weight {
    let reached = u32::from(own.0) * step / STEPS;
    Weight(u16::try_from(reached).unwrap_or(own.0).max(1).min(own.0))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const TIME: Duration = Duration::from_secs(10);

    #[test]
    fn a_weight_rises_in_equal_steps() {
        let since = Instant::now();
        let ramp = Ramp { since, time: TIME };
        let weights = |own| {
            (0..=11)
                .map(move |second| ramp.weight(Weight(own), since + Duration::from_secs(second)).0)
                .collect::<Vec<_>>()
        };
        assert_eq!(weights(100), [1, 10, 20, 30, 40, 50, 60, 70, 80, 90, 100, 100]);
        assert_eq!(weights(5), [1, 1, 1, 1, 2, 2, 3, 3, 4, 4, 5, 5]);
        assert_eq!(weights(1), [1; 12]);
        assert_eq!(weights(0), [0; 12]);
    }

    proptest! {
        /// The weight rises, never above its own, and changes only when it is told to.
        #[test]
        fn it_changes_when_it_is_told_to(own: u16, ms in 1_u64..100_000) {
            let since = Instant::now();
            let ramp = Ramp { since, time: Duration::from_millis(ms) };
            let own = Weight(own);
            let (mut now, mut steps, mut last) = (since, 0, ramp.weight(own, since));
            while let Some(next) = ramp.next_change(own, now) {
                prop_assert!(next > now);
                let before = next.checked_sub(Duration::from_nanos(1)).unwrap();
                prop_assert_eq!(ramp.weight(own, before), last);
                let reached = ramp.weight(own, next);
                prop_assert!(reached >= last && reached <= own);
                (now, last) = (next, reached);
                steps += 1;
            }
            prop_assert!(steps <= STEPS);
            prop_assert_eq!(last, own);
            prop_assert!(ramp.is_over(now) && now == since + ramp.time);
        }
    }
}
