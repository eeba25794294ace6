//! Arguments that several commands have.

use std::path::{Path, PathBuf};

use anyhow::Context as _;

use crate::{
    control::{self, Reply, Request},
    model::defaults::CONTROL,
};

/// How a running agent is reached.
#[derive(Clone, Debug, clap::Args)]
pub(super) struct ControlArguments {
    /// Path of the agent's control socket (`control` in its configuration).
    #[arg(long, value_name = "PATH", default_value = CONTROL)]
    control: PathBuf,
}

/// A runtime of one thread, for a command that asks and ends.
pub(super) fn small_runtime() -> anyhow::Result<tokio::runtime::Runtime> {
    tokio::runtime::Builder::new_current_thread().enable_all().build().context("starting")
}

impl ControlArguments {
    /// Where the control socket is.
    #[must_use]
    pub(super) fn path(&self) -> &Path {
        &self.control
    }

    /// Asks the running agent.
    pub(super) fn ask(&self, request: &Request) -> anyhow::Result<Reply> {
        Ok(small_runtime()?.block_on(control::ask(&self.control, request))?)
    }
}
