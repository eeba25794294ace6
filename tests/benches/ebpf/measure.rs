//! Times of one case.

/// How many times each case is measured.
pub(crate) const ROUNDS: usize = 11;
/// How many runs are in one measurement.
pub(crate) const RUNS: u32 = 1_000_000;

/// The measurements of one case, in ns a run.
#[derive(Clone, Debug, Default)]
pub(crate) struct Times(Vec<f64>);

impl Times {
    pub(crate) fn add(&mut self, ns: f64) {
        self.0.push(ns);
        self.0.sort_by(f64::total_cmp);
    }

    pub(crate) fn median(&self) -> f64 {
        self.0[self.0.len() / 2]
    }

    pub(crate) fn lowest(&self) -> f64 {
        self.0[0]
    }

    pub(crate) fn highest(&self) -> f64 {
        self.0[self.0.len() - 1]
    }
}
