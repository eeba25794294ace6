//! What many baseline checks cost: on loopback, client side; and in the VM beside keepalived.

use std::time::Duration;

use anyhow::Result;

use super::keepalived::Comparison;
use crate::cache::Cache;
use crate::process;
use crate::setup::{FOR_CHECKS, ensure_all};
use crate::tools;

/// Longer than the comparison takes.
const LIMIT: Duration = Duration::from_hours(1);

/// Builds and measures; returns the exit status, 0 if the checks take no more than they may.
pub(super) fn measure(cache: &Cache) -> Result<i32> {
    let on_loopback = on_loopback(cache)?;
    let beside_keepalived =
        Comparison::prepare(cache, "lvs-bench-checks")?.run(cache, &[], LIMIT, None, &[])?;
    Ok(if on_loopback == 0 { beside_keepalived } else { on_loopback })
}

fn on_loopback(cache: &Cache) -> Result<i32> {
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
    cargo
        .args(["--", "load", "--nocapture", "--test-threads=1"])
        .env(tools::SERVERS_VARIABLE, servers.root());
    Ok(process::status(&mut cargo)?.code().unwrap_or(1))
}
