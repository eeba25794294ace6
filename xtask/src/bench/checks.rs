//! What many baseline checks cost: on loopback, client side; and in the VM beside keepalived.

use std::ffi::OsString;
use std::time::Duration;

use anyhow::Result;

use super::failover::keepalived;
use crate::build::{self, AGENT_VARIABLE, Profile};
use crate::cache::Cache;
use crate::process;
use crate::setup::{FOR_CHECKS, FOR_VM, TO_BUILD, ensure_all};
use crate::tools;
use crate::vm::{self, Clock, VmOptions};

/// Names the folder of the unpacked servers to the tests of checks.
pub(crate) const SERVERS_VARIABLE: &str = "LVS_CHECK_SERVERS";
/// Longer than the comparison takes.
const LIMIT: Duration = Duration::from_hours(1);

/// Builds and measures; returns the exit status, 0 if the checks take no more than they may.
pub(super) fn measure(cache: &Cache) -> Result<i32> {
    let on_loopback = on_loopback(cache)?;
    let beside_keepalived = beside_keepalived(cache)?;
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
    cargo.args(["--", "load", "--nocapture", "--test-threads=1"]).env(SERVERS_VARIABLE, servers.root());
    Ok(process::status(&mut cargo)?.code().unwrap_or(1))
}

fn beside_keepalived(cache: &Cache) -> Result<i32> {
    ensure_all(cache, &[TO_BUILD, FOR_VM].concat())?;
    let mut environment = keepalived(cache);
    let object = build::kernel_side(cache)?;
    let agent = build::agent_with(&object, Profile::Release)?;
    let bench = build::package("lvs-tests", "lvs-bench-checks", &object, Profile::Release)?;
    environment.push((AGENT_VARIABLE.into(), agent.into()));
    // The guest's time is the number of its instructions: what else this machine does meanwhile is not in it.
    let options =
        VmOptions { clock: Clock::Instructions, timeout: LIMIT, environment, ..VmOptions::default() };
    let command: Vec<OsString> = vec![bench.into()];
    vm::run_on_terminal(cache, &options, &command)
}
