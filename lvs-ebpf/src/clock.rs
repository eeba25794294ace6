//! Time, both kinds in nanoseconds of `CLOCK_MONOTONIC`.

use aya_ebpf::helpers::{bpf_ktime_get_coarse_ns, bpf_ktime_get_ns};

use crate::maps::COARSE_CLOCK;

/// The exact time; reads the machine's counter.
#[inline(always)]
pub(crate) fn exact() -> u64 {
    // SAFETY: a helper without arguments.
    unsafe { bpf_ktime_get_ns() }
}

/// The last timer tick's time where the kernel tells it, which costs a memory access; else the exact one.
#[inline(always)]
pub(crate) fn coarse() -> u64 {
    if COARSE_CLOCK.load() == 0 {
        return exact();
    }
    // SAFETY: a helper without arguments. Where the kernel lacks it the constant above is 0, and the verifier never
    // comes here.
    unsafe { bpf_ktime_get_coarse_ns() }
}
