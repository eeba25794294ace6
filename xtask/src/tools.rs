//! The tools that tests and the demo call: unpacked into the cache, not installed.

use anyhow::Result;

use crate::cache::{Cache, Unpacked};

/// Debian's packages with `ip` and `tc`, `ipvsadm`, `nft`, and `ping`.
const PACKAGES: &[&str] = &["iproute2", "ipvsadm", "nftables", "iputils-ping"];

/// The tools for tests, downloaded unless they are there already.
pub(crate) fn for_tests(cache: &Cache) -> Result<Unpacked> {
    cache.packages(PACKAGES)
}

/// Whether they are there already.
pub(crate) fn are_there(cache: &Cache) -> bool {
    cache.packages_if_there(PACKAGES).is_some()
}
