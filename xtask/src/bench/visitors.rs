//! What those cost who look at the agent, in the VM.

use std::ffi::OsString;
use std::time::Duration;

use anyhow::Result;

use crate::build::{self, AGENT_VARIABLE, Profile};
use crate::cache::Cache;
use crate::setup::{FOR_VM, TO_BUILD, ensure_all};
use crate::vm::{self, Clock, VmOptions};

/// Longer than many rounds take.
const LIMIT: Duration = Duration::from_hours(1);

/// Sets up, builds, and measures; returns the exit status, 0 if all is within its limits.
pub(super) fn measure(cache: &Cache, arguments: &[OsString]) -> Result<i32> {
    ensure_all(cache, &[TO_BUILD, FOR_VM].concat())?;
    let object = build::kernel_side(cache)?;
    let agent = build::agent_with(&object, Profile::Release)?;
    let bench = build::package("lvs-tests", "lvs-bench-visitors", &object, Profile::Release)?;
    // Both sides' times are the guest's: what else this machine does meanwhile is not in them.
    let options = VmOptions {
        clock: Clock::Instructions,
        timeout: LIMIT,
        environment: vec![(AGENT_VARIABLE.into(), agent.into())],
        ..VmOptions::default()
    };
    let command: Vec<OsString> = std::iter::once(bench.into()).chain(arguments.iter().cloned()).collect();
    vm::run_on_terminal(cache, &options, &command)
}
