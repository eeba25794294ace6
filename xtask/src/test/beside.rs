//! A step that another process of this program performs while the steps before it go on: each VM keeps one core busy,
//! and the steps before the scenarios have one VM at a time.

use std::env;
use std::ffi::OsStr;
use std::io::{self, Read as _, Seek as _, Write as _};
use std::process::Child;

use anyhow::{Context, Result};

use super::summary::Counts;
use crate::process;

/// The process, and what it prints. Dropping it ends it.
pub(super) struct Beside {
    child: Child,
    printed: std::fs::File,
}

impl Beside {
    /// Starts `cargo xtask test --only STEP`.
    pub(super) fn start(step: &str) -> Result<Self> {
        let printed = tempfile::tempfile().context("cannot make a temporary file")?;
        let program = env::current_exe().context("cannot find this program")?;
        let mut command = process::command(program);
        command.args(["test", "--only", step].map(OsStr::new));
        command.stdout(printed.try_clone()?).stderr(printed.try_clone()?);
        let child = command.spawn().with_context(|| format!("cannot start step {step}"))?;
        Ok(Self { child, printed })
    }

    /// Waits until it has ended, and shows what it has printed.
    pub(super) fn end(mut self) -> Result<Counts> {
        let status = self.child.wait()?;
        let mut printed = Vec::new();
        self.printed.rewind()?;
        self.printed.read_to_end(&mut printed)?;
        io::stdout().write_all(&printed)?;
        Ok(Counts::one(status.success()))
    }
}

impl Drop for Beside {
    fn drop(&mut self) {
        // It has ended already unless this program is about to end with an error.
        if matches!(self.child.try_wait(), Ok(None))
            && let Err(error) = self.child.kill()
        {
            println!("cannot end a step that runs beside: {error}");
        }
    }
}
