//! What many baseline checks cost, client side, on loopback.

use anyhow::Result;

use crate::cache::Cache;
use crate::process;
use crate::setup::{FOR_CHECKS, ensure_all};
use crate::tools;

/// Names the folder of the unpacked servers to the tests of checks.
pub(crate) const SERVERS_VARIABLE: &str = "LVS_CHECK_SERVERS";

/// Builds and measures; returns the exit status, 0 if the checks take no more than they may.
pub(super) fn measure(cache: &Cache) -> Result<i32> {
    ensure_all(cache, FOR_CHECKS)?;
    let servers = tools::servers(cache)?;
    let mut cargo = process::cargo();
    cargo.args([
        "test",
        "--release",
        "--quiet",
        "--package",
        "lvs-tests",
        "--features",
        "measure",
        "--test",
        "checks",
    ]);
    // One after the other, each with the machine to itself.
    cargo.args(["--", "load", "--nocapture", "--test-threads=1"]).env(SERVERS_VARIABLE, servers.root());
    Ok(process::status(&mut cargo)?.code().unwrap_or(1))
}
