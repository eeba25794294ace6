//! Times of `CLOCK_MONOTONIC` in nanoseconds, as the eBPF programs write them.

use std::time::Duration;

/// A duration in nanoseconds.
pub(super) fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

/// Whether `time_ns` is no longer ago than `window`.
pub(super) fn is_within(time_ns: u64, window: Duration, now_ns: u64) -> bool {
    now_ns.saturating_sub(time_ns) <= nanos(window)
}
