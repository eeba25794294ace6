//! What the detector keeps of one layer between two evaluations: its last state and its totals over the last seconds.

use std::{collections::VecDeque, time::Duration};

use lvs_common::{Latencies, LayerState};

use super::time::is_within;

/// Totals since the programs were loaded.
#[derive(Clone, Copy, Debug)]
pub(super) struct Totals {
    /// SYNs, datagrams or requests.
    pub(super) demands: u64,
    /// The answered ones, by how long the client waited.
    pub(super) answers: Latencies,
}

/// How many points of a [`RecentTotals`] are remembered: four seconds of them, longer than any silence lasts before the
/// regular checks have decided.
const REMEMBERED: usize = 40;
/// Points are no closer, however often totals are noted, so that they always reach back as far.
const SPACING: Duration = Duration::from_millis(90);

/// How much demand a silence needs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Asked {
    /// So many client networks wait.
    ByNetworks(u32),
    /// So many demands, whosoever.
    Times(u32),
}

/// One layer of a server as it was when it was last evaluated.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct LayerSnapshot {
    progress_ns: u64,
    last_ns: u64,
    clients: u32,
    attempts: u32,
}

impl LayerSnapshot {
    pub(super) fn new(layer: &LayerState) -> Self {
        let LayerState { progress_ns, networks, last_ns, attempts, waiting, .. } = *layer;
        // Nobody waits: counting the bits of the sketch costs more than all else here.
        let clients = if waiting == 0 { 0 } else { networks.count() };
        Self { progress_ns, last_ns, clients, attempts }
    }

    /// Demands since the last proof of life.
    pub(super) fn attempts(&self) -> u64 {
        self.attempts.into()
    }

    /// Whether the layer is as silent as a sibling's that has been silent since `first_ns`: as much waits, there was no
    /// proof of life in the later half of that time, and there was demand in it.
    pub(super) fn is_silent_too(&self, asked: Asked, first_ns: u64, now_ns: u64) -> bool {
        let middle_ns = u64::midpoint(first_ns, now_ns);
        let is_asked = match asked {
            Asked::ByNetworks(networks) => self.clients >= networks,
            Asked::Times(attempts) => self.attempts >= attempts,
        };
        self.progress_ns != 0 && is_asked && self.progress_ns <= middle_ns && self.last_ns >= first_ns
    }
}

/// The totals of one layer over the last seconds.
#[derive(Clone, Debug, Default)]
pub(super) struct RecentTotals {
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

impl RecentTotals {
    /// Adds the totals at `now_ns`, unless the last ones are too new.
    pub(super) fn note(&mut self, totals: &Totals, now_ns: u64) {
        if self.points.back().is_some_and(|last| is_within(last.at_ns, SPACING, now_ns)) {
            return;
        }
        if self.points.len() == REMEMBERED {
            self.points.pop_front();
        }
        self.points.push_back(Point::new(totals, now_ns));
    }

    /// Answers from `first_ns` until `totals` were counted. Those before the first point after `first_ns` are left out:
    /// they may be older.
    pub(super) fn answers_within(&self, first_ns: u64, totals: &Totals) -> u64 {
        let after = self.points.iter().find(|point| point.at_ns >= first_ns);
        after.map_or(0, |point| totals.answers.total().wrapping_sub(point.answers))
    }

    /// The time, the demands and the answers from about `first_ns` until `totals` were counted.
    pub(super) fn since(&self, first_ns: u64, totals: &Totals, now_ns: u64) -> Option<(Duration, u64, u64)> {
        let before = self.points.iter().rfind(|point| point.at_ns <= first_ns).or(self.points.front())?;
        let now = Point::new(totals, now_ns);
        let time = Duration::from_nanos(now.at_ns.saturating_sub(before.at_ns));
        Some((time, now.demands.wrapping_sub(before.demands), now.answers.wrapping_sub(before.answers)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use bytemuck::Zeroable as _;

    const MS: u64 = 1_000_000;

    fn answered(answers: u32) -> Totals {
        let mut totals = Totals { demands: 0, answers: Latencies::zeroed() };
        totals.answers.buckets[0] = answers;
        totals
    }

    #[test]
    fn recent_totals_cover_the_same_time_however_often_they_are_noted() {
        for every in [10, 30, 100] {
            let mut recent = RecentTotals::default();
            // One answer a ms.
            for ms in (0..10_000).step_by(every) {
                recent.note(&answered(ms), u64::from(ms) * MS);
            }
            for silent in [0, 500, 3_400] {
                let within = recent.answers_within((10_000 - silent) * MS, &answered(10_000));
                assert!(
                    (silent.saturating_sub(200)..=silent).contains(&within),
                    "{every}, {silent}: {within}"
                );
            }
            assert_eq!(recent.answers_within(10_001 * MS, &answered(10_001)), 0);
        }
    }

    #[test]
    fn a_layer_is_silent_too_with_as_many_clients_waiting_since_the_same_onset() {
        let layer = |progress_ns, last_ns, clients| LayerSnapshot {
            progress_ns,
            last_ns,
            clients,
            attempts: clients,
        };
        let cases = [
            ("the same onset", layer(90, 190, 3), true),
            ("a recent proof of life", layer(160, 190, 3), false),
            ("no demand since", layer(90, 95, 3), false),
            ("too few clients wait", layer(90, 190, 2), false),
            ("it has never shown life", layer(0, 190, 9), false),
        ];
        for (name, snapshot, expected) in cases {
            assert_eq!(snapshot.is_silent_too(Asked::ByNetworks(3), 100, 200), expected, "{name}");
        }
        let one_network = LayerSnapshot { clients: 1, ..layer(90, 190, 3) };
        assert!(one_network.is_silent_too(Asked::Times(3), 100, 200));
        assert!(!one_network.is_silent_too(Asked::Times(4), 100, 200));
    }
}
