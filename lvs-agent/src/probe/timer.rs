//! The time and its passing, by tokio's clock, which tests can stop.

use std::time::Instant;

use tokio::time;

/// Now.
pub(super) fn now() -> Instant {
    time::Instant::now().into_std()
}

/// Waits until `at`, or for ever.
pub(crate) async fn sleep_until(at: Option<Instant>) {
    match at {
        Some(at) => time::sleep_until(at.into()).await,
        None => std::future::pending().await,
    }
}
