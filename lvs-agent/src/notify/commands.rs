//! Commands, one after another.

use std::{
    io,
    os::unix::process::ExitStatusExt as _,
    time::{Duration, Instant},
};

use tokio::sync::mpsc::Receiver;
use tracing::{info, warn};

use super::within;
use crate::{model::CommandLine, process::ProcessGroup};

/// How long a command may take before its whole process group is killed.
pub const COMMAND_LIMIT: Duration = Duration::from_mins(1);

/// A command to be run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CommandOrder {
    /// What it is, for the log.
    pub what: &'static str,
    /// Whom it is about, for the log.
    pub about: String,
    /// The program and its arguments.
    pub line: CommandLine,
    /// Arguments that follow.
    pub added: Vec<String>,
}

/// Runs commands in the order in which they come, until nobody has any more.
pub(super) async fn carry_out(orders: &mut Receiver<CommandOrder>) {
    while let Some(order) = orders.recv().await {
        carry_out_one(&order, COMMAND_LIMIT).await;
    }
}

async fn carry_out_one(order: &CommandOrder, limit: Duration) {
    let CommandOrder { what, about, line, added } = order;
    let (program, start) = (line.program.display(), Instant::now());
    let words = added.join(" ");
    match run(line, added, limit).await {
        Ok(()) => info!(
            event = "command",
            service = about,
            took_ms = start.elapsed().as_secs_f64() * 1000.0,
            "{about}: {what} {program} {words} has run"
        ),
        Err(error) => {
            warn!(event = "command", service = about, "{about}: {what} {program} {words} failed: {error}");
        }
    }
}

/// The process group is killed when the time is up.
async fn run(line: &CommandLine, added: &[String], limit: Duration) -> io::Result<()> {
    let mut group = ProcessGroup::start(&line.program, line.arguments.iter().chain(added))?;
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

    fn order(line: CommandLine, added: &[&str]) -> CommandOrder {
        let added = added.iter().map(|&word| word.to_owned()).collect();
        CommandOrder { what: "the fallback command", about: "web".to_owned(), line, added }
    }

    #[tokio::test]
    async fn commands_run_one_after_another_with_what_is_added() {
        let folder = tempfile::tempdir().unwrap();
        let told = folder.path().join("told");
        let text = format!("echo begin $* >> {0}; sleep 0.05; echo end $* >> {0}", told.display());
        let (notifier, mut notify) = Notifier::new();
        notifier.run(order(shell(&text), &["start", "192.0.2.1:80", "tcp"]));
        notifier.run(order(CommandLine { program: "/nowhere/at/all".into(), arguments: Vec::new() }, &[]));
        notifier.run(order(shell("exit 3"), &[]));
        notifier.run(order(shell(&text), &["stop", "192.0.2.1:80", "tcp"]));
        drop(notifier);
        carry_out(&mut notify.commands).await;
        let expected = ["begin start", "end start", "begin stop", "end stop"]
            .map(|words| format!("{words} 192.0.2.1:80 tcp\n"))
            .concat();
        assert_eq!(fs::read_to_string(told).unwrap(), expected);
    }

    #[tokio::test]
    async fn failures_have_a_reason() {
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
