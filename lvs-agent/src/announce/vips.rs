//! When a VIP is announced and withdrawn, from the health of the services on it. Pure: the time is an argument.
//!
//! It is withdrawn once its services have been unhealthy for `down-after`, and announced again once they have been
//! healthy for `up-after` and the hold-down is over, which doubles each time that the VIP is withdrawn soon after it
//! was announced. Before anything is known of its services it stays as it is found.

use std::time::{Duration, Instant};

use crate::{backoff::Backoff, control::HealthVerdict, model::VipAnnouncement};

/// The times of a VIP.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Pace {
    pub(crate) down_after: Duration,
    pub(crate) up_after: Duration,
    pub(crate) hold_down: Duration,
    pub(crate) hold_down_max: Duration,
}

impl From<&VipAnnouncement> for Pace {
    fn from(announcement: &VipAnnouncement) -> Self {
        let VipAnnouncement { down_after, up_after, hold_down, hold_down_max, .. } = announcement;
        Self {
            down_after: *down_after,
            up_after: *up_after,
            hold_down: *hold_down,
            hold_down_max: *hold_down_max,
        }
    }
}

/// One VIP.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Vip {
    /// Whether it is to be announced; `None`: as it is found.
    announced: Option<bool>,
    /// Since when its services are unhealthy while it is announced, or the other way round.
    against_since: Option<Instant>,
    /// When it was announced or withdrawn.
    changed: Option<Instant>,
    /// Withdrawals of which each came soon after an announcement.
    relapses: u32,
}

impl Vip {
    /// Whether it is to be announced now that the worst of its services is `health`; `None`: as it is found.
    pub(crate) fn step(&mut self, health: HealthVerdict, pace: Pace, now: Instant) -> Option<bool> {
        let is_well = match health {
            HealthVerdict::Healthy => Some(true),
            HealthVerdict::Unhealthy => Some(false),
            HealthVerdict::Unknown | HealthVerdict::Stuck => None,
        };
        let Some(is_well) = is_well else {
            // Only what is seen to last counts.
            if self.announced == Some(false) {
                self.against_since = None;
            }
            return self.announced;
        };
        if self.announced == Some(is_well) {
            self.against_since = None;
            return self.announced;
        }
        let since = *self.against_since.get_or_insert(now);
        let lasted = now.saturating_duration_since(since);
        let may = match (self.announced, is_well) {
            // The first word: nobody has been led anywhere yet.
            (None, true) => true,
            (_, false) => lasted >= pace.down_after,
            (_, true) => lasted >= pace.up_after && self.held_until(pace).is_none_or(|until| now >= until),
        };
        if may {
            if !is_well && self.announced == Some(true) {
                let is_soon =
                    self.changed.is_some_and(|at| now.saturating_duration_since(at) <= pace.hold_down_max);
                self.relapses = if is_soon { self.relapses.saturating_add(1) } else { 0 };
            }
            let is_change = self.announced.is_some() || is_well;
            self.changed = is_change.then_some(now);
            (self.announced, self.against_since) = (Some(is_well), None);
        }
        self.announced
    }

    /// Until when it stays withdrawn whatever its services are like.
    fn held_until(&self, pace: Pace) -> Option<Instant> {
        let held = Backoff::new(pace.hold_down, pace.hold_down_max).delay(self.relapses);
        self.changed.map(|at| at + held)
    }

    /// When time alone may change something.
    pub(crate) fn due(&self, pace: Pace) -> Option<Instant> {
        let since = self.against_since?;
        match self.announced {
            Some(false) => {
                let lasted = since + pace.up_after;
                Some(self.held_until(pace).map_or(lasted, |until| until.max(lasted)))
            }
            Some(true) | None => Some(since + pace.down_after),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const PACE: Pace = Pace {
        down_after: Duration::from_millis(200),
        up_after: Duration::from_secs(1),
        hold_down: Duration::from_secs(5),
        hold_down_max: Duration::from_mins(1),
    };

    /// Plays `(ms, health, announced)`.
    fn play(steps: &[(u64, HealthVerdict, Option<bool>)]) {
        let (begin, mut vip) = (Instant::now(), Vip::default());
        for (ms, health, expected) in steps {
            let now = begin + Duration::from_millis(*ms);
            assert_eq!(vip.step(*health, PACE, now), *expected, "{health:?} at {ms} ms");
        }
    }

    use HealthVerdict::{Healthy, Stuck, Unhealthy, Unknown};

    #[test]
    fn a_vip_is_announced_with_the_first_word_and_withdrawn_after_a_while() {
        play(&[
            (0, Unknown, None),
            (10, Healthy, Some(true)),
            (20, Unhealthy, Some(true)),
            (219, Unhealthy, Some(true)),
            (220, Unhealthy, Some(false)),
            (300, Healthy, Some(false)),
            (1300, Healthy, Some(false)),
            (5219, Healthy, Some(false)),
        ]);
        play(&[
            (0, Unhealthy, None),
            (200, Unhealthy, Some(false)),
            (300, Healthy, Some(false)),
            (1300, Healthy, Some(true)),
        ]);
    }

    #[test]
    fn what_is_not_known_changes_nothing() {
        play(&[
            (0, Unknown, None),
            (99_000, Stuck, None),
            (99_001, Healthy, Some(true)),
            (99_002, Stuck, Some(true)),
            (199_000, Unknown, Some(true)),
        ]);
    }

    #[test]
    fn each_relapse_is_held_down_for_longer() {
        let (mut now, mut vip, mut held) = (Instant::now(), Vip::default(), Vec::new());
        let ms = Duration::from_millis(1);
        vip.step(Healthy, PACE, now);
        for _ in 0..6 {
            while vip.step(Unhealthy, PACE, now) == Some(true) {
                now += ms;
            }
            let down = now;
            while vip.step(Healthy, PACE, now) == Some(false) {
                let due = vip.due(PACE).expect("it is due some time");
                assert!(due > now, "not before");
                now = due;
            }
            held.push((now - down).as_secs());
        }
        assert_eq!(held, [10, 20, 40, 60, 60, 60]);
        // It has been well for long.
        now += 2 * PACE.hold_down_max;
        vip.step(Unhealthy, PACE, now);
        now += PACE.down_after;
        assert_eq!(vip.step(Unhealthy, PACE, now), Some(false));
        now += PACE.hold_down;
        vip.step(Healthy, PACE, now);
        assert_eq!(vip.step(Healthy, PACE, now + PACE.up_after), Some(true));
    }

    fn health() -> impl Strategy<Value = HealthVerdict> {
        prop_oneof![Just(Healthy), Just(Unhealthy), Just(Unknown), Just(Stuck)]
    }

    proptest! {
        /// However services come and go: a VIP is never withdrawn before they were unhealthy for a while, never
        /// announced before its hold-down is over, and in the end it is what they are.
        #[test]
        fn a_vip_changes_seldom_and_ends_up_right(steps in prop::collection::vec((0_u64..3000, health()), 1..80)) {
            let (mut now, mut vip) = (Instant::now(), Vip::default());
            let (mut before, mut withdrawn_at, mut last_known) = (None, None, None);
            let mut unhealthy_since = None;
            for (ms, health) in steps {
                now += Duration::from_millis(ms);
                match health {
                    Unhealthy => { unhealthy_since.get_or_insert(now); }
                    Healthy => unhealthy_since = None,
                    Unknown | Stuck => {}
                }
                let announced = vip.step(health, PACE, now);
                if (before, announced) == (Some(true), Some(false)) {
                    prop_assert!(now - unhealthy_since.unwrap() >= PACE.down_after);
                    withdrawn_at = Some(now);
                }
                if (before, announced) == (Some(false), Some(true)) {
                    prop_assert!(withdrawn_at.is_none_or(|at| now - at >= PACE.hold_down));
                }
                if let Healthy | Unhealthy = health {
                    last_known = Some(health);
                }
                before = announced;
            }
            if let Some(health) = last_known {
                vip.step(health, PACE, now);
                while let Some(due) = vip.due(PACE) {
                    prop_assert!(due >= now);
                    now = due;
                    vip.step(health, PACE, now);
                }
                prop_assert_eq!(vip.step(health, PACE, now), Some(health == Healthy));
            }
        }
    }
}
