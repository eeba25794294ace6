//! The detector in simulated traffic.

use std::ffi::OsString;

use anyhow::Result;

use crate::process;

/// Builds and runs the simulation; returns its exit status, 0 unless it found what must not be.
pub(super) fn simulate(arguments: &[OsString]) -> Result<i32> {
    let mut cargo = process::cargo();
    cargo.args([
        "run",
        "--release",
        "--quiet",
        "--package",
        "lvs-tests",
        "--bin",
        "lvs-bench-detector",
        "--",
    ]);
    let status = process::status(cargo.args(arguments))?;
    Ok(status.code().unwrap_or(1))
}
