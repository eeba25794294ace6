//! Soft and hard state of one destination. Pure: results go in, transitions come out.
//!
//! ```text
//! Unknown ─success─▶ Up ─failure─▶ Suspect ─fall failures in a row─▶ Down ─success─▶ Recovering ─rise in a row─▶ Up
//! ```
//! Any success in `Suspect` leads back to `Up`, any failure in `Recovering` back to `Down`. A server of which nothing is
//! known yet needs one success, or `fall` failures, to be known.

use std::{fmt, num::NonZeroU32};

/// How many results in a row make a soft state hard.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Thresholds {
    /// Failures that take a server down.
    pub fall: NonZeroU32,
    /// Successes that bring it back.
    pub rise: NonZeroU32,
}

/// Where a result comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Source {
    /// The check that always runs, with the question that the operator chose.
    Baseline,
    /// A probe that a passive suspicion asked for. It may ask less than the baseline does (a TCP connect where the
    /// baseline wants a page), so its success clears only what its own kind has found.
    Confirm,
}

/// What made a server go down, as far as it matters for what may be done about it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cause {
    /// Confirming probes had a part in it: the fast path, which must not take out too much.
    Fast,
    /// The baseline checks alone have counted to `fall`.
    Baseline,
}

/// What is known of a destination.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// Nothing yet, or too few failures.
    Unknown {
        /// In a row so far.
        failures: u32,
    },
    /// Healthy.
    Up,
    /// Healthy so far, with failures: soft.
    Suspect {
        /// Of the baseline check, in a row.
        baseline: u32,
        /// Of confirming probes, in a row.
        confirm: u32,
    },
    /// Dead: hard.
    Down {
        /// What took it down.
        cause: Cause,
        /// Failures of the baseline check in a row, up to `fall`.
        baseline: u32,
    },
    /// Dead so far, with successes: soft.
    Recovering {
        /// In a row.
        successes: u32,
    },
}

impl State {
    /// Whether the server should get its share of traffic: hard states decide, soft ones change nothing.
    #[must_use]
    pub fn is_up(self) -> bool {
        matches!(self, Self::Up | Self::Suspect { .. })
    }

    /// Whether the last word was a failure that made the server's state hard.
    #[must_use]
    pub fn is_hard_down(self) -> bool {
        matches!(self, Self::Down { .. })
    }

    /// Whether the server should get no traffic.
    #[must_use]
    pub fn is_down(self) -> bool {
        matches!(self, Self::Down { .. } | Self::Recovering { .. })
    }
}

impl fmt::Display for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Unknown { .. } => "unknown",
            Self::Up => "up",
            Self::Suspect { .. } => "suspect",
            Self::Down { .. } => "down",
            Self::Recovering { .. } => "recovering",
        })
    }
}

/// A change from one named state to another, or of the cause of being down.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Transition {
    /// Before.
    pub from: State,
    /// After.
    pub to: State,
}

/// The state machine of one destination.
#[derive(Clone, Debug)]
pub struct Health {
    thresholds: Thresholds,
    state: State,
}

impl Health {
    /// A destination of which nothing is known.
    #[must_use]
    pub fn new(thresholds: Thresholds) -> Self {
        Self { thresholds, state: State::Unknown { failures: 0 } }
    }

    /// What is known.
    #[must_use]
    pub fn state(&self) -> State {
        self.state
    }

    /// How many more failures in a row would take the server down, 0 where it is down.
    #[must_use]
    pub fn failures_to_fall(&self) -> u32 {
        let fall = self.thresholds.fall.get();
        match self.state {
            State::Unknown { failures } => fall.saturating_sub(failures),
            State::Up => fall,
            State::Suspect { baseline, confirm } => fall.saturating_sub(baseline.saturating_add(confirm)),
            State::Down { .. } | State::Recovering { .. } => 0,
        }
    }

    /// Takes in one result; says what changed, if a state of another name or cause was entered.
    pub fn observe(&mut self, success: bool, source: Source) -> Option<Transition> {
        let from = self.state;
        let to = if success { self.after_success(source) } else { self.after_failure(source) };
        self.state = to;
        (is_news(from, to)).then_some(Transition { from, to })
    }

    fn after_success(&self, source: Source) -> State {
        match (self.state, source) {
            (State::Unknown { .. } | State::Up | State::Suspect { .. }, Source::Baseline)
            | (State::Up | State::Suspect { baseline: 0, .. }, Source::Confirm) => State::Up,
            (State::Suspect { baseline, .. }, Source::Confirm) => State::Suspect { baseline, confirm: 0 },
            (State::Down { .. }, Source::Baseline) => self.recovering(1),
            (State::Recovering { successes }, Source::Baseline) => self.recovering(successes + 1),
            // A confirming probe says too little to make a server known, or to bring it back.
            (state, Source::Confirm) => state,
        }
    }

    fn recovering(&self, successes: u32) -> State {
        if successes >= self.thresholds.rise.get() { State::Up } else { State::Recovering { successes } }
    }

    fn after_failure(&self, source: Source) -> State {
        let fall = self.thresholds.fall.get();
        let (baseline, confirm) = match (self.state, source) {
            (State::Unknown { failures }, Source::Baseline) if failures + 1 < fall => {
                return State::Unknown { failures: failures + 1 };
            }
            (State::Unknown { .. }, Source::Baseline) => (fall, 0),
            (State::Up, Source::Baseline) => (1, 0),
            (State::Up, Source::Confirm) => (0, 1),
            (State::Suspect { baseline, confirm }, Source::Baseline) => (baseline + 1, confirm),
            (State::Suspect { baseline, confirm }, Source::Confirm) => (baseline, confirm + 1),
            (State::Down { cause, baseline }, Source::Baseline) => {
                return self.still_down(cause, baseline + 1);
            }
            (State::Recovering { .. }, Source::Baseline) => {
                return State::Down { cause: Cause::Baseline, baseline: fall };
            }
            (
                state @ (State::Unknown { .. } | State::Down { .. } | State::Recovering { .. }),
                Source::Confirm,
            ) => {
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

fn is_news(from: State, to: State) -> bool {
    match (from, to) {
        (State::Down { cause: before, .. }, State::Down { cause: after, .. }) => before != after,
        _ => std::mem::discriminant(&from) != std::mem::discriminant(&to),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn health(fall: u32, rise: u32) -> Health {
        let number = |n| NonZeroU32::new(n).unwrap();
        Health::new(Thresholds { fall: number(fall), rise: number(rise) })
    }

    /// `+`/`-`: success or failure of the baseline check, `c`/`x`: of a confirming probe. Returns the states' names.
    fn course(health: &mut Health, results: &str) -> Vec<String> {
        results
            .chars()
            .map(|result| {
                let (success, source) = match result {
                    '+' => (true, Source::Baseline),
                    '-' => (false, Source::Baseline),
                    'c' => (true, Source::Confirm),
                    _ => (false, Source::Confirm),
                };
                health.observe(success, source);
                health.state().to_string()
            })
            .collect()
    }

    #[test]
    fn courses() {
        let cases: [(&str, &str, &[&str]); 9] = [
            ("one success makes it known", "+", &["up"]),
            ("fall failures make it known as well", "---", &["unknown", "unknown", "down"]),
            ("fall failures take it down", "+---", &["up", "suspect", "suspect", "down"]),
            (
                "a success between starts again",
                "+--+--",
                &["up", "suspect", "suspect", "up", "suspect", "suspect"],
            ),
            ("a burst takes it down", "+xxx", &["up", "suspect", "suspect", "down"]),
            ("a burst adds to what the baseline found", "+-xx", &["up", "suspect", "suspect", "down"]),
            ("a confirming success vetoes a burst", "+xxcx", &["up", "suspect", "suspect", "up", "suspect"]),
            (
                "but not what the baseline found",
                "+-xc-x",
                &["up", "suspect", "suspect", "suspect", "suspect", "down"],
            ),
            (
                "rise successes bring it back, a failure between starts again",
                "+---+-++",
                &["up", "suspect", "suspect", "down", "recovering", "down", "recovering", "up"],
            ),
        ];
        for (name, results, expected) in cases {
            assert_eq!(course(&mut health(3, 2), results), expected, "{name}");
        }
    }

    #[test]
    fn a_confirming_probe_alone_never_makes_known_nor_brings_back() {
        assert_eq!(course(&mut health(1, 1), "cx"), ["unknown", "unknown"]);
        assert_eq!(course(&mut health(1, 1), "+-cc"), ["up", "down", "down", "down"]);
    }

    #[test]
    fn the_fast_path_becomes_the_baselines_finding_when_that_agrees() {
        let mut health = health(2, 1);
        course(&mut health, "+xx");
        assert_eq!(health.state(), State::Down { cause: Cause::Fast, baseline: 0 });
        assert_eq!(health.observe(false, Source::Baseline), None);
        let news = health.observe(false, Source::Baseline).expect("the cause has changed");
        assert_eq!(news.to, State::Down { cause: Cause::Baseline, baseline: 2 });
        assert_eq!(health.observe(false, Source::Baseline), None);
    }

    proptest! {
        /// From up to down takes exactly `fall` failures in a row, from down to up exactly `rise` successes; and
        /// `failures_to_fall` tells how many are missing.
        #[test]
        fn hard_states_need_their_number(
            fall in 1_u32..6,
            rise in 1_u32..6,
            results in proptest::collection::vec(any::<(bool, bool)>(), 0..200),
        ) {
            let mut health = health(fall, rise);
            let (mut failures, mut successes) = (0, 0);
            for (success, confirming) in results {
                let source = if confirming { Source::Confirm } else { Source::Baseline };
                let missing = health.failures_to_fall();
                let news = health.observe(success, source);
                if !success { failures += 1 } else if !confirming { failures = 0 }
                if !confirming { successes = if success { successes + 1 } else { 0 } }
                let Some(Transition { from, to }) = news else { continue };
                if to.is_down() && !from.is_down() {
                    prop_assert!(!success);
                    prop_assert!(failures >= fall);
                    prop_assert_eq!(missing, 1);
                }
                if to.is_up() && from.is_down() {
                    prop_assert!(!confirming);
                    prop_assert!(successes >= rise);
                }
            }
        }
    }
}
