//! How fast the agent takes a failed server out, against keepalived.

use std::ffi::OsString;
use std::time::Duration;

use anyhow::Result;

use super::keepalived;
use crate::cache::Cache;

/// Longer than it takes with a few runs of each fault.
const LIMIT: Duration = Duration::from_hours(2);

/// Sets up, builds, and compares; returns the comparison's exit status.
pub(super) fn compare(cache: &Cache, arguments: &[OsString]) -> Result<i32> {
    keepalived::compare(cache, "lvs-bench-failover", arguments, LIMIT)
}
