//! Child processes: each has a process group of its own, so that it can be killed together with all that it has
//! started.

use std::{
    ffi::OsStr,
    io,
    process::{ExitStatus, Stdio},
    thread,
};

use nix::{
    sys::signal::{Signal, killpg},
    unistd::Pid,
};
use tokio::{
    process::{Child, ChildStdin, Command},
    runtime::Handle,
};

use crate::privileges::{self, RunAs};

/// A child process and its process group. Dropping it kills the group with SIGKILL, unless the child has ended.
#[derive(Debug)]
pub(crate) struct ProcessGroup(Child);

impl ProcessGroup {
    /// Starts a program with stdin, stdout and stderr on `/dev/null`.
    pub(crate) fn start(
        program: impl AsRef<OsStr>,
        arguments: impl IntoIterator<Item = impl AsRef<OsStr>>,
    ) -> io::Result<Self> {
        Self::start_with(program, arguments, Stdio::null(), Stdio::null())
    }

    /// Starts a program with this stdin and stderr; stdout is `/dev/null`.
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

    /// Starts a program as somebody, with nothing but the environment that goes with it and everything on `/dev/null`.
    pub(crate) fn start_as(
        run_as: &RunAs,
        program: impl AsRef<OsStr>,
        arguments: impl IntoIterator<Item = impl AsRef<OsStr>>,
    ) -> io::Result<Self> {
        let mut command = Command::new(program);
        command.args(arguments).env_clear().envs(run_as.environment());
        if let Some((user, group)) = run_as.ids() {
            // The library leaves all other groups before that.
            command.uid(user).gid(group);
        }
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).process_group(0);
        command.spawn().map(Self)
    }

    /// Starts another agent, with this one's privileges, environment and stderr.
    pub(crate) fn start_agent(
        program: impl AsRef<OsStr> + Send,
        arguments: impl IntoIterator<Item = impl AsRef<OsStr>> + Send,
    ) -> io::Result<Self> {
        let runtime = Handle::current();
        // Privileges are handed on by a thread of their own, so that this one's other programs get none.
        thread::scope(|scope| {
            let starting = scope.spawn(|| {
                privileges::hand_on()?;
                let _entered = runtime.enter();
                Self::start_with(program, arguments, Stdio::null(), Stdio::inherit())
            });
            starting.join().unwrap_or_else(|_panic| Err(io::Error::other("starting it panicked")))
        })
    }

    /// Takes the write end of its stdin; `None` if that is no pipe, or was taken before.
    pub(crate) fn stdin(&mut self) -> Option<ChildStdin> {
        self.0.stdin.take()
    }

    /// Waits for the child's end; processes that it has started may go on.
    pub(crate) async fn wait(&mut self) -> io::Result<ExitStatus> {
        self.0.wait().await
    }

    /// Sends a signal to the group. Once the child was waited for, its id may be another process's: then nothing is
    /// sent.
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
