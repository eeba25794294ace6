//! Arguments that several commands have.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, anyhow};

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

/// The error of an answer that is to another question.
pub(super) fn unexpected() -> anyhow::Error {
    anyhow!("the agent sent an unexpected answer; is it of another version?")
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
