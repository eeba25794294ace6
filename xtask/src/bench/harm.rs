//! Which clients notice that a server has died, in the VM.

use std::ffi::OsString;
use std::time::Duration;

use anyhow::Result;

use super::keepalived::Comparison;
use crate::cache::Cache;
use crate::vm::kernel::Line;

/// Longer than a whole run takes on a slow machine.
const LIMIT: Duration = Duration::from_hours(6);

/// Sets up, builds, and counts; returns the exit status, 0 if with second chance nobody notices.
pub(super) fn compare(cache: &Cache, kernel: Line, arguments: &[OsString]) -> Result<i32> {
    Comparison::prepare(cache, "lvs-bench-harm")?.on(kernel).run(cache, arguments, LIMIT, None, &[])
}
