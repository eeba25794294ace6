//! What the eBPF programs cost a director in throughput, in the VM.

use std::ffi::OsString;
use std::time::Duration;

use anyhow::Result;

use crate::build::{self, Profile, REFERENCE_VARIABLE};
use crate::cache::Cache;
use crate::setup::{FOR_VM, TO_BUILD, ensure_all};
use crate::vm::{self, Clock, VmOptions};

/// Longer than many rounds take.
const LIMIT: Duration = Duration::from_hours(1);

/// Sets up, builds, and measures; returns the exit status, 0 if enough is left.
pub(super) fn measure(cache: &Cache, arguments: &[OsString]) -> Result<i32> {
    ensure_all(cache, &[TO_BUILD, FOR_VM].concat())?;
    let object = build::kernel_side(cache)?;
    let bench = build::package("lvs-tests", "lvs-bench-director", &object, Profile::Release)?;
    // The guest's time is the number of its instructions: what else this machine does meanwhile is not in it.
    let environment = vec![(REFERENCE_VARIABLE.into(), build::reference(&object).into())];
    let options =
        VmOptions { clock: Clock::Instructions, timeout: LIMIT, environment, ..VmOptions::default() };
    let command: Vec<OsString> = std::iter::once(bench.into()).chain(arguments.iter().cloned()).collect();
    vm::run_on_terminal(cache, &options, &command)
}
