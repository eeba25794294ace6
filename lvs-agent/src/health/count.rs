//! `fall` and `rise`: counts the results of one check of one destination. Pure.

use super::state::{Cause, Source, State, Thresholds};

/// The state machine of one check of one destination.
#[derive(Clone, Debug)]
pub(super) struct Count {
    thresholds: Thresholds,
    state: State,
}

impl Count {
    /// Nothing is known.
    pub(super) fn new(thresholds: Thresholds) -> Self {
        Self { thresholds, state: State::Unknown { failures: 0 } }
    }

    /// A check of a destination whose state is known already.
    pub(super) fn with_state(thresholds: Thresholds, state: State) -> Self {
        Self { thresholds, state }
    }

    /// Replaces the thresholds; the state is kept.
    pub(super) fn set_thresholds(&mut self, thresholds: Thresholds) {
        self.thresholds = thresholds;
    }

    /// The check's state.
    pub(super) fn state(&self) -> State {
        self.state
    }

    /// How many more failures in a row would take the server down, 0 where it is down.
    pub(super) fn failures_to_fall(&self) -> u32 {
        let fall = self.thresholds.fall.get();
        match self.state {
            State::Unknown { failures } => fall.saturating_sub(failures),
            State::Up => fall,
            State::Suspect { baseline, confirm } => fall.saturating_sub(baseline.saturating_add(confirm)),
            State::Down { .. } | State::Recovering { .. } | State::Damped { .. } => 0,
        }
    }

    /// Counts one result.
    pub(super) fn observe(&mut self, success: bool, source: Source) {
        if source == Source::Partial {
            // What it doesn't undo it leaves as it is; in all else it counts like the whole check.
            if !success || !self.state.is_provisional() {
                self.observe(success, Source::Baseline);
            }
            return;
        }
        self.state = if success { self.after_success(source) } else { self.after_failure(source) };
    }

    /// Counts a success after failures that said nothing of the server: it is up as before.
    pub(super) fn answer(&mut self) {
        self.state = State::Up;
    }

    fn after_success(&self, source: Source) -> State {
        match (self.state, source) {
            // Where only the fast path has taken it down and the baseline check doesn't agree, it was a stall.
            (
                State::Unknown { .. }
                | State::Up
                | State::Suspect { .. }
                | State::Down { cause: Cause::Fast, .. },
                Source::Baseline,
            )
            | (State::Up | State::Suspect { baseline: 0, .. }, Source::Confirm) => State::Up,
            (State::Suspect { baseline, .. }, Source::Confirm) => State::Suspect { baseline, confirm: 0 },
            (State::Down { .. }, Source::Baseline) => self.recovering(1),
            (State::Recovering { successes }, Source::Baseline) => self.recovering(successes + 1),
            // A confirming probe says too little to make a server known or to bring it back. Damping is not a check's
            // affair.
            (state, Source::Confirm | Source::Partial) | (state @ State::Damped { .. }, _) => state,
        }
    }

    fn recovering(&self, successes: u32) -> State {
        if successes >= self.thresholds.rise.get() { State::Up } else { State::Recovering { successes } }
    }

    fn after_failure(&self, source: Source) -> State {
        let fall = self.thresholds.fall.get();
        let (baseline, confirm) = match (self.state, source) {
            (State::Unknown { failures }, Source::Baseline | Source::Partial) if failures + 1 < fall => {
                return State::Unknown { failures: failures + 1 };
            }
            (State::Unknown { .. }, Source::Baseline | Source::Partial) => (fall, 0),
            (State::Up, Source::Baseline | Source::Partial) => (1, 0),
            (State::Up, Source::Confirm) => (0, 1),
            (State::Suspect { baseline, confirm }, Source::Baseline | Source::Partial) => {
                (baseline + 1, confirm)
            }
            (State::Suspect { baseline, confirm }, Source::Confirm) => (baseline, confirm + 1),
            (State::Down { cause, baseline }, Source::Baseline | Source::Partial) => {
                return self.still_down(cause, baseline + 1);
            }
            (State::Recovering { .. }, Source::Baseline | Source::Partial) => {
                return State::Down { cause: Cause::Baseline, baseline: fall };
            }
            (
                state @ (State::Unknown { .. } | State::Down { .. } | State::Recovering { .. }),
                Source::Confirm,
            )
            | (state @ State::Damped { .. }, _) => {
                return state;
            }
        };
        match baseline.saturating_add(confirm) >= fall {
            true if baseline >= fall => State::Down { cause: Cause::Baseline, baseline: fall },
            true => State::Down { cause: Cause::Fast, baseline },
            false => State::Suspect { baseline, confirm },
        }
    }

    fn still_down(&self, cause: Cause, baseline: u32) -> State {
        let fall = self.thresholds.fall.get();
        let cause = if baseline >= fall { Cause::Baseline } else { cause };
        State::Down { cause, baseline: baseline.min(fall) }
    }
}

#[cfg(test)]
mod tests {
    use std::num::NonZeroU32;

    use proptest::prelude::*;

    use super::*;

    fn health(fall: u32, rise: u32) -> Count {
        let number = |n| NonZeroU32::new(n).unwrap();
        Count::new(Thresholds { fall: number(fall), rise: number(rise) })
    }

    /// `+`/`-`: success or failure of the baseline check, `c`/`x`: of a confirming probe, `p`/`q`: of a connection in
    /// place of the check. Returns the states' names.
    fn states(health: &mut Count, results: &str) -> Vec<String> {
        results
            .chars()
            .map(|result| {
                let (success, source) = match result {
                    '+' => (true, Source::Baseline),
                    '-' => (false, Source::Baseline),
                    'c' => (true, Source::Confirm),
                    'p' => (true, Source::Partial),
                    'q' => (false, Source::Partial),
                    _ => (false, Source::Confirm),
                };
                health.observe(success, source);
                health.state().to_string()
            })
            .collect()
    }

    #[test]
    fn results_lead_to_states() {
        let cases: [(&str, &str, &[&str]); 15] = [
            ("one success makes it known", "+", &["up"]),
            ("fall failures make it known as well", "---", &["unknown", "unknown", "down"]),
            ("fall failures take it down", "+---", &["up", "suspect", "suspect", "down"]),
            (
                "a success between starts again",
                "+--+--",
                &["up", "suspect", "suspect", "up", "suspect", "suspect"],
            ),
            ("a burst takes it down", "+xxx", &["up", "suspect", "suspect", "down"]),
            ("a burst adds to the baseline's failures", "+-xx", &["up", "suspect", "suspect", "down"]),
            ("a confirming success vetoes a burst", "+xxcx", &["up", "suspect", "suspect", "up", "suspect"]),
            (
                "but not the baseline's failures",
                "+-xc-x",
                &["up", "suspect", "suspect", "suspect", "suspect", "down"],
            ),
            (
                "rise successes bring it back, a failure between starts again",
                "+---+-++",
                &["up", "suspect", "suspect", "down", "recovering", "down", "recovering", "up"],
            ),
            (
                "one success undoes what only a burst has found",
                "+xxx+",
                &["up", "suspect", "suspect", "down", "up"],
            ),
            (
                "and what the baseline doesn't agree to yet",
                "+xxx--+",
                &["up", "suspect", "suspect", "down", "down", "down", "up"],
            ),
            (
                "but not what it has agreed to",
                "+xxx---++",
                &["up", "suspect", "suspect", "down", "down", "down", "down", "recovering", "up"],
            ),
            ("a mere connection doesn't undo it", "+xxxp", &["up", "suspect", "suspect", "down", "down"]),
            (
                "but it agrees to it",
                "+xxxqqqpp",
                &["up", "suspect", "suspect", "down", "down", "down", "down", "recovering", "up"],
            ),
            (
                "a mere connection counts as the check",
                "p-pqqqpp",
                &["up", "suspect", "up", "suspect", "suspect", "down", "recovering", "up"],
            ),
        ];
        for (name, results, expected) in cases {
            assert_eq!(states(&mut health(3, 2), results), expected, "{name}");
        }
    }

    #[test]
    fn a_confirming_probe_neither_makes_a_server_known_nor_brings_it_back() {
        assert_eq!(states(&mut health(1, 1), "cx"), ["unknown", "unknown"]);
        assert_eq!(states(&mut health(1, 1), "+-cc"), ["up", "down", "down", "down"]);
    }

    #[test]
    fn the_cause_becomes_the_baseline_when_its_own_failures_reach_fall() {
        let mut health = health(2, 1);
        states(&mut health, "+xx");
        assert_eq!(health.state(), State::Down { cause: Cause::Fast, baseline: 0 });
        health.observe(false, Source::Baseline);
        assert_eq!(health.state(), State::Down { cause: Cause::Fast, baseline: 1 });
        for _ in 0..2 {
            health.observe(false, Source::Baseline);
            assert_eq!(health.state(), State::Down { cause: Cause::Baseline, baseline: 2 });
        }
    }

    proptest! {
        /// From up to down takes exactly `fall` failures in a row, from down to up exactly `rise` successes, or one
        /// where only the fast path has taken it down; and `failures_to_fall` is how many are missing.
        #[test]
        fn a_hard_state_takes_fall_failures_or_rise_successes(
            fall in 1_u32..6,
            rise in 1_u32..6,
            results in proptest::collection::vec(any::<(bool, bool)>(), 0..200),
        ) {
            let mut health = health(fall, rise);
            let (mut failures, mut successes) = (0, 0);
            for (success, confirming) in results {
                let source = if confirming { Source::Confirm } else { Source::Baseline };
                let missing = health.failures_to_fall();
                let from = health.state();
                health.observe(success, source);
                let to = health.state();
                if !success { failures += 1 } else if !confirming { failures = 0 }
                if !confirming { successes = if success { successes + 1 } else { 0 } }
                if to.is_down() && !from.is_down() {
                    prop_assert!(!success);
                    prop_assert!(failures >= fall);
                    prop_assert_eq!(missing, 1);
                }
                if to.is_up() && from.is_down() {
                    prop_assert!(!confirming);
                    let needed = if from.is_provisional() { 1 } else { rise };
                    prop_assert!(successes >= needed);
                }
            }
        }
    }
}
