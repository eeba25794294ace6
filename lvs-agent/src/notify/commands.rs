//! Runs commands, one after another.

use std::{
    io,
    os::unix::process::ExitStatusExt as _,
    sync::atomic::AtomicU64,
    time::{Duration, Instant},
};

use tokio::sync::mpsc::Receiver;

use super::{Lost, within};
use crate::{
    event::{CommandRun, Event, Publisher},
    model::CommandLine,
    process::ProcessGroup,
};

/// How long a command may take before its whole process group is killed.
pub const COMMAND_LIMIT: Duration = Duration::from_mins(1);

/// How long the command of a clean stop may take: service managers give a service some 90 s to stop, and restarts wait
/// for it.
const SHUTDOWN_LIMIT: Duration = Duration::from_secs(10);

/// A command to be run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CommandJob {
    /// The kind of command, for the log.
    pub what: &'static str,
    /// The service or file that it is about, for the log.
    pub about: String,
    /// The program and its arguments.
    pub line: CommandLine,
    /// Arguments after those of the line.
    pub extra: Vec<String>,
}

/// Runs commands in their order, until all senders are dropped. `lost` counts those that found the queue full.
pub(super) async fn run_all(jobs: &mut Receiver<CommandJob>, events: &Publisher, lost: &AtomicU64) {
    while let Some(job) = jobs.recv().await {
        Lost::publish("command", lost, events);
        events.publish(run_one(&job, COMMAND_LIMIT).await);
    }
}

/// Runs the command of a clean stop.
pub(crate) async fn at_shutdown(line: Option<CommandLine>, events: &Publisher) {
    let Some(line) = line else { return };
    let (what, about) = ("the command of on-shutdown", "shutdown".to_owned());
    let job = CommandJob { what, about, line, extra: Vec::new() };
    events.publish(run_one(&job, SHUTDOWN_LIMIT).await);
}

async fn run_one(job: &CommandJob, limit: Duration) -> Event {
    let CommandJob { what, about, line, extra } = job;
    let start = Instant::now();
    let result = match run(line, extra, limit).await {
        Ok(()) => CommandRun::Done { took: start.elapsed() },
        Err(error) => CommandRun::Failed { error: error.to_string() },
    };
    let command = format!("{} {}", line.program.display(), extra.join(" "));
    Event::Command { about: about.clone(), what, command, result }
}

/// Runs a command. Its process group is killed after `limit`.
async fn run(line: &CommandLine, extra: &[String], limit: Duration) -> io::Result<()> {
    let mut group = ProcessGroup::start(&line.program, line.arguments.iter().chain(extra))?;
    let status = within(limit, "it", group.wait()).await?;
    match (status.code(), status.signal()) {
        (Some(0), _) => Ok(()),
        (Some(code), _) => Err(io::Error::other(format!("exit status {code}"))),
        (None, signal) => Err(io::Error::other(format!("killed by signal {}", signal.unwrap_or_default()))),
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;
    use crate::notify::Notifier;

    fn shell(text: &str) -> CommandLine {
        CommandLine { program: "/bin/sh".into(), arguments: ["-c", text, "name"].map(str::to_owned).to_vec() }
    }

    fn job(line: CommandLine, extra: &[&str]) -> CommandJob {
        let extra = extra.iter().map(|&word| word.to_owned()).collect();
        CommandJob { what: "the fallback command", about: "web".to_owned(), line, extra }
    }

    #[tokio::test]
    async fn commands_run_one_after_another_with_extra_arguments() {
        let directory = tempfile::tempdir().unwrap();
        let output = directory.path().join("output");
        let text = format!("echo begin $* >> {0}; sleep 0.05; echo end $* >> {0}", output.display());
        let (notifier, mut notify) = Notifier::new(Publisher::default());
        notifier.run(job(shell(&text), &["start", "192.0.2.1:80", "tcp"]));
        notifier.run(job(CommandLine { program: "/nowhere/at/all".into(), arguments: Vec::new() }, &[]));
        notifier.run(job(shell("exit 3"), &[]));
        notifier.run(job(shell(&text), &["stop", "192.0.2.1:80", "tcp"]));
        drop(notifier);
        run_all(&mut notify.commands, &Publisher::default(), &AtomicU64::new(0)).await;
        let expected = ["begin start", "end start", "begin stop", "end stop"]
            .map(|words| format!("{words} 192.0.2.1:80 tcp\n"))
            .concat();
        assert_eq!(fs::read_to_string(output).unwrap(), expected);
    }

    #[tokio::test]
    async fn a_command_runs_at_a_clean_stop_and_is_waited_for() {
        let directory = tempfile::tempdir().unwrap();
        let output = directory.path().join("output");
        let line = shell(&format!("sleep 0.05; echo stopped > {}", output.display()));
        at_shutdown(Some(line), &Publisher::default()).await;
        assert_eq!(fs::read_to_string(output).unwrap(), "stopped\n");
        at_shutdown(None, &Publisher::default()).await;
    }

    #[tokio::test]
    async fn a_failed_command_has_a_reason() {
        let cases = [
            ("exit 3", "exit status 3"),
            ("kill -9 $$", "killed by signal 9"),
            ("sleep 1000", "it took longer"),
        ];
        for (text, reason) in cases {
            let error = run(&shell(text), &[], Duration::from_secs(1)).await.unwrap_err();
            assert!(error.to_string().contains(reason), "{text}: {error}");
        }
    }
}
