//! `cargo xtask demo`: shows the agent taking a failed server out of the table.

use std::ffi::OsString;

use anyhow::{Context, Result, ensure};

use crate::build::{self, AGENT_VARIABLE, Profile};
use crate::cache::Cache;
use crate::peers::KEEPALIVED;
use crate::setup::{FOR_VM, Piece, TO_BUILD, ensure_all};
use crate::vm::{self, VmOptions};
use crate::{apt, process, tools};

/// The demonstration's option that shows two directors, for which it needs keepalived.
pub(crate) const DIRECTORS: &str = "--directors";

/// Where the demonstration runs.
pub(crate) enum Place {
    /// On this machine's own kernel.
    Native,
    /// In a VM.
    Vm(Box<VmOptions>),
}

/// Sets up, builds, and shows; returns the demonstration's exit status.
pub(crate) fn demo(cache: &Cache, place: Place, arguments: &[OsString]) -> Result<i32> {
    let pieces = match &place {
        Place::Native => [TO_BUILD, &[Piece::Tools]].concat(),
        Place::Vm(_) => [TO_BUILD, FOR_VM].concat(),
    };
    ensure_all(cache, &pieces)?;
    let object = build::kernel_side(cache)?;
    let agent = build::agent_with(&object, Profile::Release)?;
    let demo = build::package("lvs-tests", "lvs-demo", &object, Profile::Release)?;
    let peers = if arguments.iter().any(|argument| argument == DIRECTORS) {
        KEEPALIVED.environment(cache)?
    } else {
        Vec::new()
    };
    match place {
        Place::Native => {
            ensure!(
                apt::is_root(),
                "the demonstration edits the kernel's IPVS table: run it as root, or without --native"
            );
            let mut command = process::command(demo);
            command
                .envs(tools::for_tests(cache)?.environment()?)
                .envs(peers)
                .env(AGENT_VARIABLE, agent)
                .args(arguments);
            let status = process::status(&mut command)?;
            status.code().context("the demonstration was ended by a signal")
        }
        Place::Vm(mut options) => {
            options.environment.push((AGENT_VARIABLE.into(), agent.into()));
            options.environment.extend(peers);
            let command: Vec<OsString> =
                std::iter::once(demo.into()).chain(arguments.iter().cloned()).collect();
            vm::run_on_terminal(cache, &options, &command)
        }
    }
}
