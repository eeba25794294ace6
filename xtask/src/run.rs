//! `cargo xtask run`: builds the agent and becomes it.

use std::ffi::OsString;
use std::os::unix::process::CommandExt;

use anyhow::{Context, Result};

use crate::cache::Cache;
use crate::{build, process};

/// Builds, then runs `lvs-agent run` with these arguments in this process's place; returns only if that fails.
pub(crate) fn run(cache: &Cache, arguments: &[OsString]) -> Result<()> {
    let agent = build::agent(cache)?;
    let error = process::command(&agent).arg("run").args(arguments).exec();
    Err(error).with_context(|| format!("cannot start {}", agent.display()))
}
