//! Whether a silence is a server's own. A scheduler spreads a flood, a burst and bad clients over all siblings: where they
//! show the same onset of unanswered demand in the same time, it says nothing of any one of them.

use std::{collections::VecDeque, time::Duration};

use lvs_common::Layer;

use super::{
    silence::is_within,
    waits::{Totals, Waits},
};

/// How many points of a [`Course`] are remembered: four seconds of them, longer than any silence lasts before the regular
/// checks have decided.
const REMEMBERED: usize = 40;
/// Points are no closer, however often totals are noted, so that they always reach back as far.
const SPACING: Duration = Duration::from_millis(90);

/// How a layer looked when it was last looked at.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Glance {
    progress_ns: u64,
    last_ns: u64,
    clients: u32,
    attempts: u32,
}

impl Glance {
    pub(super) fn of(layer: &Layer) -> Self {
        let Layer { progress_ns, networks, last_ns, attempts, .. } = *layer;
        Self { progress_ns, last_ns, clients: networks.count(), attempts }
    }

    /// How many have asked since the last proof of life.
    pub(super) fn attempts(&self) -> u64 {
        self.attempts.into()
    }

    /// Whether it is as silent as a sibling that has been since `first_ns`: `clients` networks wait, no proof of life was
    /// given in at least the later half of that time, and somebody asked in it.
    pub(super) fn is_silent_too(&self, clients: u32, first_ns: u64, now_ns: u64) -> bool {
        let middle_ns = u64::midpoint(first_ns, now_ns);
        self.progress_ns != 0
            && self.clients >= clients
            && self.progress_ns <= middle_ns
            && self.last_ns >= first_ns
    }
}

/// The latest totals of one layer.
#[derive(Clone, Debug, Default)]
pub(super) struct Course {
    points: VecDeque<Point>,
}

#[derive(Clone, Copy, Debug)]
struct Point {
    at_ns: u64,
    demands: u64,
    answers: u64,
}

impl Point {
    fn new(totals: &Totals, at_ns: u64) -> Self {
        Self { at_ns, demands: totals.demands, answers: totals.answers.total() }
    }
}

impl Course {
    /// Takes note of the totals at `now_ns`, if the last ones are not too new.
    pub(super) fn note(&mut self, totals: &Totals, now_ns: u64) {
        if self.points.back().is_some_and(|last| is_within(last.at_ns, SPACING, now_ns)) {
            return;
        }
        if self.points.len() == REMEMBERED {
            self.points.pop_front();
        }
        self.points.push_back(Point::new(totals, now_ns));
    }

    /// How many were answered from `first_ns` until `totals` were counted. Not those of the time before the first point
    /// since then: that may have begun too early.
    pub(super) fn answers_within(&self, first_ns: u64, totals: &Totals) -> u64 {
        let after = self.points.iter().find(|point| point.at_ns >= first_ns);
        after.map_or(0, |point| totals.answers.total().wrapping_sub(point.answers))
    }

    /// What was asked and answered from about `first_ns` until `totals` were counted.
    fn since(&self, first_ns: u64, totals: &Totals, now_ns: u64) -> Option<(Duration, u64, u64)> {
        let before = self.points.iter().rfind(|point| point.at_ns <= first_ns).or(self.points.front())?;
        let now = Point::new(totals, now_ns);
        let time = Duration::from_nanos(now.at_ns.saturating_sub(before.at_ns));
        Some((time, now.demands.wrapping_sub(before.demands), now.answers.wrapping_sub(before.answers)))
    }
}

/// What some servers were asked and have answered in the time of another one's silence.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Exchanged {
    demands: f64,
    answers: f64,
    /// How many of the demands never get an answer, as far as was known before.
    unanswered: f64,
    /// How many of them wait at any time, if nothing is unusual.
    under_way: f64,
}

impl Exchanged {
    /// Adds one server's share, with its totals as they are now.
    #[expect(clippy::cast_precision_loss, reason = "counts of a second are far below 2^52")]
    pub(super) fn add(&mut self, waits: &Waits, totals: &Totals, first_ns: u64, now_ns: u64) {
        const STEPS: u32 = 8;
        let Some((time, demands, answers)) = waits.course().since(first_ns, totals, now_ns) else { return };
        let survival = |step: u32| waits.survival(time * (2 * step + 1) / (2 * STEPS), &[]);
        let waiting = (0..STEPS).map(survival).sum::<f64>() / f64::from(STEPS);
        self.demands += demands as f64;
        self.answers += answers as f64;
        self.unanswered += demands as f64 * waits.unanswered();
        self.under_way += demands as f64 * waiting;
    }

    /// The share of demands that were not answered, if it is more than chance and what was known before explain; else 0.
    pub(super) fn onset(&self) -> f64 {
        /// How many standard deviations chance is given.
        const CHANCE: f64 = 2.0;
        let excess = self.demands - self.answers;
        // Those under way at the beginning and at the end are as many on average, and scatter each by its own root; so do
        // those whose packets are lost.
        let scatter = (2.0 * self.under_way + self.unanswered).sqrt();
        if excess > self.unanswered + CHANCE * scatter + 1.0 { excess / self.demands } else { 0.0 }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use bytemuck::Zeroable as _;
    use lvs_common::Latencies;

    const MS: u64 = 1_000_000;

    fn answered(answers: u32) -> Totals {
        let mut totals = Totals { demands: 0, answers: Latencies::zeroed() };
        totals.answers.buckets[0] = answers;
        totals
    }

    #[test]
    fn a_course_reaches_back_however_often_totals_are_noted() {
        for every in [10, 30, 100] {
            let mut course = Course::default();
            // One answer a ms.
            for ms in (0..10_000).step_by(every) {
                course.note(&answered(ms), u64::from(ms) * MS);
            }
            for silent in [0, 500, 3_400] {
                let within = course.answers_within((10_000 - silent) * MS, &answered(10_000));
                assert!(
                    (silent.saturating_sub(200)..=silent).contains(&within),
                    "{every}, {silent}: {within}"
                );
            }
            assert_eq!(course.answers_within(10_001 * MS, &answered(10_001)), 0);
        }
    }

    #[test]
    fn an_onset_is_more_than_chance() {
        let exchanged =
            |demands, answers, under_way| Exchanged { demands, answers, unanswered: 0.0, under_way }.onset();
        let cases = [
            ("all answered", exchanged(30.0, 30.0, 0.1), 0.0),
            ("two on their way", exchanged(30.0, 28.0, 1.0), 0.0),
            ("a flood as strong as the traffic", exchanged(30.0, 15.0, 0.5), 0.5),
            ("far clients, a burst", exchanged(40.0, 30.0, 20.0), 0.0),
            ("nobody asks", exchanged(0.0, 0.0, 0.0), 0.0),
            ("more answers than demands", exchanged(3.0, 9.0, 0.0), 0.0),
        ];
        for (name, found, expected) in cases {
            assert!((found - expected).abs() < 1e-9, "{name}: {found}");
        }
    }

    #[test]
    fn silent_too() {
        let glance =
            |progress_ns, last_ns, clients| Glance { progress_ns, last_ns, clients, attempts: clients };
        let cases = [
            ("the same onset", glance(90, 190, 3), true),
            ("a proof of life lately", glance(160, 190, 3), false),
            ("nobody asks it", glance(90, 95, 3), false),
            ("few wait", glance(90, 190, 2), false),
            ("never heard of", glance(0, 190, 9), false),
        ];
        for (name, glance, expected) in cases {
            assert_eq!(glance.is_silent_too(3, 100, 200), expected, "{name}");
        }
    }
}
