//! The agent beside keepalived, in the VM.

use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result};
use tempfile::TempDir;

use crate::build::{self, AGENT_VARIABLE, Profile};
use crate::cache::Cache;
use crate::paths;
use crate::peers::{BIRD, KEEPALIVED};
use crate::setup::{FOR_VM, TO_BUILD, ensure_all};
use crate::vm::kernel::{DEFAULT, Line};
use crate::vm::{self, Clock, VmOptions};

/// All that a comparison needs, built, and out of the way of later builds.
pub(super) struct Comparison {
    /// Holds copies of the programs, as long as it is there.
    _folder: TempDir,
    program: PathBuf,
    environment: Vec<(OsString, OsString)>,
    kernel: Line,
}

/// The programs of the lab that those of the tests start, beside themselves.
const OF_LAB: [&str; 2] = ["lvs-lab-server", "lvs-lab-ipvsadm"];

impl Comparison {
    /// Sets up and builds the agent and `program`, one of the tests'.
    pub(super) fn prepare(cache: &Cache, program: &str) -> Result<Self> {
        ensure_all(cache, &[TO_BUILD, FOR_VM].concat())?;
        let mut environment: Vec<_> =
            [KEEPALIVED, BIRD].iter().flat_map(|peer| peer.environment_if_there(cache)).collect();
        let object = build::kernel_side(cache)?;
        let agent = build::agent_with(&object, Profile::Release)?;
        let program = build::package("lvs-tests", program, &object, Profile::Release)?;
        let folder = tempfile::Builder::new().prefix("comparison-").tempdir_in(paths::target())?;
        let copy = |from: &Path| -> Result<PathBuf> {
            let to = folder.path().join(from.file_name().unwrap_or_default());
            fs::copy(from, &to).with_context(|| format!("cannot copy {}", from.display()))?;
            Ok(to)
        };
        for beside in OF_LAB {
            copy(&program.with_file_name(beside))?;
        }
        environment.push((AGENT_VARIABLE.into(), copy(&agent)?.into()));
        let program = copy(&program)?;
        Ok(Self { _folder: folder, program, environment, kernel: DEFAULT })
    }

    /// The same on another kernel.
    pub(super) fn on(self, kernel: Line) -> Self {
        Self { kernel, ..self }
    }

    /// The program, to be run on this machine.
    pub(super) fn program(&self) -> &Path {
        &self.program
    }

    /// Has the program compare in the VM; returns its exit status. It can write to `out`.
    pub(super) fn run(
        &self,
        cache: &Cache,
        arguments: &[OsString],
        timeout: Duration,
        out: Option<PathBuf>,
        variables: &[(OsString, OsString)],
    ) -> Result<i32> {
        let environment = [&self.environment, variables].concat();
        // What is shown are times: they must be the guest's, whatever else this machine does meanwhile.
        let options = VmOptions {
            kernel: self.kernel,
            clock: Clock::Instructions,
            timeout,
            environment,
            out,
            ..VmOptions::default()
        };
        let program = self.program.clone().into();
        let command: Vec<OsString> = std::iter::once(program).chain(arguments.iter().cloned()).collect();
        vm::run_on_terminal(cache, &options, &command)
    }
}
