//! How many idle connections there may be, so that files are left for probes.

use nix::sys::resource::{Resource, getrlimit};

/// Kept for everything else: probes ([`crate::probe::Scheduler::DEFAULT_LIMIT`]), confirming probes, the eBPF maps,
/// netlink, the control socket and its clients, metrics, logs.
const RESERVED: u64 = 1024 + 512;

/// How many idle connections may be open at once, by the limit of the process.
pub(super) fn capacity() -> usize {
    getrlimit(Resource::RLIMIT_NOFILE).map_or(0, |(soft, _)| share(soft))
}

/// The share of a limit: what is left after the reserve, at least half of it.
fn share(limit: u64) -> usize {
    let left = limit - RESERVED.min(limit / 2);
    usize::try_from(left).unwrap_or(usize::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn probes_keep_their_descriptors() {
        let cases = [(0, 0), (1, 1), (256, 128), (1024, 512), (4096, 2560), (524_288, 522_752)];
        for (limit, expected) in cases {
            assert_eq!(share(limit), expected, "{limit}");
        }
    }
}
