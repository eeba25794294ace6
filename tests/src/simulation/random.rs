//! Random numbers of the distributions that traffic has.

use std::time::Duration;

use fastrand::Rng;

/// A time from an exponential distribution, in ns; `per_second` events a second are expected.
pub(super) fn exponential(rng: &mut Rng, per_second: f64) -> u64 {
    seconds(-(1.0 - rng.f64()).ln() / per_second)
}

/// A time from a log-normal distribution, in ns.
pub(super) fn log_normal(rng: &mut Rng, median: Duration, sigma: f64) -> u64 {
    if sigma == 0.0 {
        return u64::try_from(median.as_nanos()).unwrap_or(u64::MAX);
    }
    // Box and Muller, 1958.
    let radius = (-2.0 * (1.0 - rng.f64()).ln()).sqrt();
    let normal = radius * (std::f64::consts::TAU * rng.f64()).cos();
    seconds(median.as_secs_f64() * (sigma * normal).exp())
}

#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "positive, and saturates")]
fn seconds(seconds: f64) -> u64 {
    (seconds * 1e9) as u64
}
