//! Processes inside namespaces: started there, signalled by process id, never outliving their owner.

pub mod privileges;
pub mod programs;
pub mod terminal;
pub mod unprivileged;

use std::{
    fs,
    io::Write as _,
    process::{Child, ChildStderr, ChildStdin, Command, ExitStatus, Output, Stdio},
    time::Duration,
};

use anyhow::{Context as _, Result, bail};
use nix::{
    sys::signal::{Signal, kill},
    unistd::{Pid, SysconfVar, sysconf},
};

use crate::lab::{clock::Moment, namespace::Namespace, wait};

/// A process that runs on its own. Dropping it kills it.
#[derive(Debug)]
pub struct Process {
    what: String,
    child: Child,
}

impl Process {
    /// Starts `command` inside `namespace`; `what` names it in errors.
    pub fn start(namespace: &Namespace, what: &str, command: &mut Command) -> Result<Self> {
        let child = namespace
            .run(|| Ok(command.spawn()?))
            .with_context(|| format!("cannot start {what} ({})", command.get_program().display()))?;
        Ok(Self { what: what.to_owned(), child })
    }

    /// Its process id.
    #[must_use]
    pub fn pid(&self) -> Pid {
        Pid::from_raw(self.child.id().cast_signed())
    }

    /// Sends it a signal. Has no effect on a process that has ended.
    pub fn signal(&mut self, signal: Signal) -> Result<()> {
        // Not waited for yet, so that the id can't belong to another process.
        if self.child.try_wait()?.is_some() {
            return Ok(());
        }
        kill(self.pid(), signal).with_context(|| format!("cannot send {signal} to {}", self.what))
    }

    /// Its exit status, if it has ended.
    pub fn status(&mut self) -> Result<Option<ExitStatus>> {
        Ok(self.child.try_wait()?)
    }

    /// Waits for its end.
    pub fn wait(&mut self, limit: Duration) -> Result<ExitStatus> {
        let what = format!("the end of {}", self.what);
        wait::until(&what, limit, || self.status())
    }

    /// Its standard error, once, if it was asked for as a pipe.
    pub(crate) fn take_stderr(&mut self) -> Option<ChildStderr> {
        self.child.stderr.take()
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let ended = self.child.kill().and_then(|()| self.child.wait());
        if let Err(error) = ended {
            crate::warn(&format!("cannot end {}: {error}", self.what));
        }
    }
}

/// A command that is loaded and waits for its input, so that its start costs no time when it matters.
#[derive(Debug)]
pub struct ArmedScript {
    what: String,
    child: Child,
    input: ChildStdin,
    script: String,
}

impl ArmedScript {
    /// Starts `command`, which must read its standard input to the end, inside `namespace`.
    pub fn arm(namespace: &Namespace, command: &[&str], script: impl Into<String>) -> Result<Self> {
        let what = command.join(" ");
        let (program, arguments) = command.split_first().context("an empty command")?;
        let mut command = Command::new(program);
        command.args(arguments).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child =
            namespace.run(|| Ok(command.spawn()?)).with_context(|| format!("cannot start \"{what}\""))?;
        let input = child.stdin.take().context("a piped standard input")?;
        Ok(Self { what, child, input, script: script.into() })
    }

    /// Lets it run. Gives the moment just before, and what it printed.
    pub fn fire(mut self) -> Result<(Moment, String)> {
        let at = Moment::now();
        let written = self.input.write_all(self.script.as_bytes());
        drop(self.input);
        // A broken pipe is the lesser news: what the command printed says why it stopped reading.
        let printed = check(&self.what, &self.child.wait_with_output()?)
            .with_context(|| format!("its input was:\n{}", self.script))?;
        written.with_context(|| format!("\"{}\" did not read its input", self.what))?;
        Ok((at, printed))
    }
}

/// Runs `command` inside `namespace` to its end, with `script` as its input, and gives what it printed.
pub fn run(namespace: &Namespace, command: &[&str], script: &str) -> Result<String> {
    ArmedScript::arm(namespace, command, script)?.fire().map(|(_, printed)| printed)
}

/// Has the kernel load a module, unless it is there.
pub fn load_module(name: &str) -> Result<()> {
    let loaded = Command::new("modprobe").arg(name).stderr(Stdio::inherit()).status();
    if !loaded.is_ok_and(|status| status.success()) {
        bail!("modprobe {name} failed; in a VM of the project (cargo xtask vm) it is there");
    }
    Ok(())
}

fn check(what: &str, output: &Output) -> Result<String> {
    if !output.status.success() {
        bail!("\"{what}\" failed ({}): {}", output.status, String::from_utf8_lossy(&output.stderr).trim());
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// Processor time of a process and its children, user's and kernel's (`proc_pid_stat(5)`: fields 14 and 15).
pub fn processor_time(process: Pid) -> Result<Duration> {
    let children = fs::read_to_string(format!("/proc/{process}/task/{process}/children"))?;
    let all = children.split_whitespace().map(str::to_owned).chain([process.to_string()]);
    let ticks_a_second = sysconf(SysconfVar::CLK_TCK)?.context("a clock")?;
    let mut ticks: u64 = 0;
    for one in all {
        let line = fs::read_to_string(format!("/proc/{one}/stat"))?;
        let (_, fields) = line.rsplit_once(')').context("a name in brackets")?;
        let times = fields.split_whitespace().skip(11).take(2).map(str::parse::<u64>);
        ticks += times.sum::<Result<u64, _>>()?;
    }
    Ok(Duration::from_millis(1000 * ticks / u64::try_from(ticks_a_second)?))
}
