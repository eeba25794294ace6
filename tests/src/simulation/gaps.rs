//! How often chance alone leaves a gap between proofs of life that a suspicion of silence could be made of.

use std::time::Duration;

/// The expected number of gaps of at least `floor` an hour in a Poisson process of `rate` events a second: each event
/// begins one with the probability `exp(-rate * floor)`.
///
/// Proofs of life of independent clients are such a process even though each comes later than its SYN by a random time
/// (displacement of a Poisson process), and stay one without those that are lost (thinning).
#[must_use]
pub fn gaps_an_hour(rate: f64, floor: Duration) -> f64 {
    const HOUR: f64 = 3600.0;
    rate * HOUR * (-rate * floor.as_secs_f64()).exp()
}
