//! keepalived, as a peer to compare with: its checkers, and its BFD sessions where its configuration has some.

use std::{
    env, fs,
    path::Path,
    process::{Command, Stdio},
    time::Duration,
};

use anyhow::{Context as _, Result};
use nix::{sys::signal::Signal, unistd::Pid};
use tempfile::TempDir;

use crate::lab::{namespace::Namespace, process::Process};

/// The variable that names the program.
const PROGRAM: &str = "LVS_KEEPALIVED";
/// The one with the folders of the libraries that it needs.
const LIBRARIES: &str = "LVS_KEEPALIVED_LIBRARIES";
/// How long it may take to stop.
const STOP_LIMIT: Duration = Duration::from_mins(1);

/// Whether there is one to compare with.
#[must_use]
pub fn is_there() -> bool {
    env::var_os(PROGRAM).is_some()
}

/// Starts its VRRP alone, with a configuration as its users have it, of which the lines for `name` hold. What it writes
/// is in `folder`.
pub fn start_vrrp(director: &Namespace, config: &Path, name: &str, folder: &Path) -> Result<Process> {
    let program =
        env::var_os(PROGRAM).with_context(|| format!("there is no keepalived: {PROGRAM} names it"))?;
    let mut command = Command::new(program);
    command.args(["--dont-fork", "--log-console", "--vrrp", "--config-id", name]);
    command.arg("--use-file").arg(config);
    command.arg("--pid").arg(folder.join("keepalived.pid"));
    command.arg("--vrrp_pid").arg(folder.join("vrrp.pid"));
    if let Some(libraries) = env::var_os(LIBRARIES) {
        command.env("LD_LIBRARY_PATH", libraries);
    }
    let log = fs::File::create(folder.join("keepalived.log"))?;
    command.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log);
    Process::start(director, "keepalived", &mut command)
}

/// A running keepalived. Dropping it kills it.
#[derive(Debug)]
pub struct Keepalived {
    process: Process,
    /// Holds its configuration.
    _folder: TempDir,
}

impl Keepalived {
    /// Starts it on `director` with the text of a configuration.
    pub fn start(director: &Namespace, config: &str) -> Result<Self> {
        let program = env::var_os(PROGRAM).context("no keepalived")?;
        let folder = tempfile::Builder::new().prefix("lvs-lab-").tempdir()?;
        let at = |name: &str| folder.path().join(name);
        fs::write(at("keepalived.conf"), config)?;
        let mut command = Command::new(program);
        command.args(["--dont-fork", "--log-console", "--check"]);
        command.arg("--use-file").arg(at("keepalived.conf"));
        command.arg("--pid").arg(at("pid")).arg("--checkers_pid").arg(at("checkers_pid"));
        command.arg("--bfd_pid").arg(at("bfd_pid"));
        if let Some(libraries) = env::var_os(LIBRARIES) {
            command.env("LD_LIBRARY_PATH", libraries);
        }
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        Ok(Self { process: Process::start(director, "keepalived", &mut command)?, _folder: folder })
    }

    /// Its process id; the checkers are a child of it.
    #[must_use]
    pub fn pid(&self) -> Pid {
        self.process.pid()
    }

    /// Stops it as its users do, so that it takes its services along.
    pub fn stop(mut self) -> Result<()> {
        self.process.signal(Signal::SIGTERM)?;
        self.process.wait(STOP_LIMIT).map(drop)
    }
}
