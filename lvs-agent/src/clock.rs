//! The clock of the log and of the eBPF programs: `CLOCK_MONOTONIC`, in nanoseconds. `bpf_ktime_get_ns` reads the same
//! one, so that the agent's times and the programs' can be compared.

use nix::time::{ClockId, clock_gettime};

/// Nanoseconds of `CLOCK_MONOTONIC`: since about the boot, never going back.
#[must_use]
pub fn monotonic_ns() -> u64 {
    // Linux always has this clock (clock_gettime(2)); without it every age is 0, which suspects nobody.
    clock_gettime(ClockId::CLOCK_MONOTONIC).map_or(0, |now| {
        let seconds = u64::try_from(now.tv_sec()).unwrap_or(0);
        let nanos = u64::try_from(now.tv_nsec()).unwrap_or(0);
        seconds * 1_000_000_000 + nanos
    })
}
