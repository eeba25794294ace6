//! Other programs: each has a process group of its own, so that it and all that it has started can be killed whole.

use std::{
    ffi::OsStr,
    io,
    process::{ExitStatus, Stdio},
};

use nix::{
    sys::signal::{Signal, killpg},
    unistd::Pid,
};
use tokio::process::{Child, ChildStdin, Command};

/// A program that was started, and its process group. Dropping it kills the group, unless the program has ended.
#[derive(Debug)]
pub(crate) struct ProcessGroup(Child);

impl ProcessGroup {
    /// Starts a program that reads nothing and whose output nobody reads.
    pub(crate) fn start(
        program: impl AsRef<OsStr>,
        arguments: impl IntoIterator<Item = impl AsRef<OsStr>>,
    ) -> io::Result<Self> {
        Self::start_with(program, arguments, Stdio::null(), Stdio::null())
    }

    /// The same with a standard input and a standard error.
    pub(crate) fn start_with(
        program: impl AsRef<OsStr>,
        arguments: impl IntoIterator<Item = impl AsRef<OsStr>>,
        stdin: Stdio,
        stderr: Stdio,
    ) -> io::Result<Self> {
        let mut command = Command::new(program);
        command.args(arguments).stdin(stdin).stdout(Stdio::null()).stderr(stderr).process_group(0);
        command.spawn().map(Self)
    }

    /// Its standard input, the first time that it is asked for, if that is a pipe.
    pub(crate) fn stdin(&mut self) -> Option<ChildStdin> {
        self.0.stdin.take()
    }

    /// Waits for the program's end; what it has started may go on.
    pub(crate) async fn wait(&mut self) -> io::Result<ExitStatus> {
        self.0.wait().await
    }

    /// Sends a signal to the group. As long as the program wasn't waited for, its number is no one else's; afterwards
    /// nothing is sent.
    pub(crate) fn signal(&self, signal: Signal) -> nix::Result<()> {
        match self.0.id().and_then(|id| i32::try_from(id).ok()) {
            Some(id) => killpg(Pid::from_raw(id), signal),
            None => Ok(()),
        }
    }
}

impl Drop for ProcessGroup {
    fn drop(&mut self) {
        if let Err(error) = self.signal(Signal::SIGKILL) {
            tracing::warn!(%error, "can't kill a program that took too long");
        }
    }
}
