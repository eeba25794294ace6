//! Whether a silence is one server's alone. A scheduler spreads a flood, a burst and bad clients over all siblings:
//! where they show the same onset of unanswered demand in the same time, it is no evidence against any one of them.

use super::{snapshot::Totals, wait_model::WaitModel};

/// Demand and answers of some servers during the silence of another one.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Exchanged {
    demands: f64,
    answers: f64,
    /// Expected: demands that never get an answer, by what was usual before.
    unanswered: f64,
    /// Expected: demands that wait at any time.
    under_way: f64,
}

impl Exchanged {
    /// Adds one server's share, with its totals as they are now.
    #[expect(clippy::cast_precision_loss, reason = "counts of a second are far below 2^52")]
    pub(super) fn add(&mut self, model: &WaitModel, totals: &Totals, first_ns: u64, now_ns: u64) {
        const STEPS: u32 = 8;
        let Some((time, demands, answers)) = model.recent().since(first_ns, totals, now_ns) else { return };
        let survival = |step: u32| model.survival(time * (2 * step + 1) / (2 * STEPS), &[]);
        let waiting = (0..STEPS).map(survival).sum::<f64>() / f64::from(STEPS);
        self.demands += demands as f64;
        self.answers += answers as f64;
        self.unanswered += demands as f64 * model.unanswered();
        self.under_way += demands as f64 * waiting;
    }

    /// The share of demands without an answer, if it is more than chance and what was usual before explain; else 0.
    pub(super) fn onset(&self) -> f64 {
        /// How many standard deviations chance is given.
        const CHANCE: f64 = 2.0;
        let excess = self.demands - self.answers;
        // Those under way at the beginning and at the end are as many on average, and scatter each by its own root; so
        // do those whose packets are lost.
        let scatter = (2.0 * self.under_way + self.unanswered).sqrt();
        if excess > self.unanswered + CHANCE * scatter + 1.0 { excess / self.demands } else { 0.0 }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_onset_is_more_unanswered_demand_than_chance_explains() {
        let exchanged =
            |demands, answers, under_way| Exchanged { demands, answers, unanswered: 0.0, under_way }.onset();
        let cases = [
            ("all answered", exchanged(30.0, 30.0, 0.1), 0.0),
            ("two answers under way", exchanged(30.0, 28.0, 1.0), 0.0),
            ("a flood as strong as the traffic", exchanged(30.0, 15.0, 0.5), 0.5),
            ("far clients, a burst", exchanged(40.0, 30.0, 20.0), 0.0),
            ("no demand", exchanged(0.0, 0.0, 0.0), 0.0),
            ("more answers than demands", exchanged(3.0, 9.0, 0.0), 0.0),
        ];
        for (name, onset, expected) in cases {
            assert!((onset - expected).abs() < 1e-9, "{name}: {onset}");
        }
    }
}
