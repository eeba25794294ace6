//! The agent beside keepalived, in the VM.

use std::ffi::OsString;
use std::time::Duration;

use anyhow::Result;

use crate::build::{self, AGENT_VARIABLE, Profile};
use crate::cache::Cache;
use crate::setup::{FOR_VM, TO_BUILD, ensure_all};
use crate::vm::{self, Clock, VmOptions};

/// Sets up, builds, and has `program`, one of the tests', compare the two; returns its exit status.
pub(super) fn compare(
    cache: &Cache,
    program: &str,
    arguments: &[OsString],
    timeout: Duration,
) -> Result<i32> {
    ensure_all(cache, &[TO_BUILD, FOR_VM].concat())?;
    let keepalived = keepalived(cache);
    let object = build::kernel_side(cache)?;
    let agent = build::agent_with(&object, Profile::Release)?;
    let program = build::package("lvs-tests", program, &object, Profile::Release)?;
    let mut environment: Vec<(OsString, OsString)> = vec![(AGENT_VARIABLE.into(), agent.into())];
    environment.extend(keepalived);
    // What is shown are times: they must be the guest's, whatever else this machine does meanwhile.
    let options = VmOptions { clock: Clock::Instructions, timeout, environment, ..VmOptions::default() };
    let command: Vec<OsString> = std::iter::once(program.into()).chain(arguments.iter().cloned()).collect();
    vm::run_on_terminal(cache, &options, &command)
}

/// What a comparison must know to start keepalived. Without the package it goes on without it.
fn keepalived(cache: &Cache) -> Vec<(OsString, OsString)> {
    let found = cache.packages(&["keepalived"]).and_then(|unpacked| {
        let libraries = unpacked.environment()?.into_iter().find(|(name, _)| *name == "LD_LIBRARY_PATH");
        let program = unpacked.root().join("usr/sbin/keepalived");
        let libraries = libraries.map(|(_, value)| ("LVS_KEEPALIVED_LIBRARIES".into(), value));
        Ok([("LVS_KEEPALIVED".into(), program.into())].into_iter().chain(libraries).collect())
    });
    found.unwrap_or_else(|error| {
        println!("without keepalived: {error:#}");
        Vec::new()
    })
}
