//! Telling others: mails, commands, lines in files. One task, `notify`, with a queue for each of the three, so that a mail
//! server that hangs holds up no command. What doesn't fit into a queue is counted and left: whoever has something to tell
//! never waits.

pub(crate) mod alerts;
mod commands;
mod lines;
pub mod mail;

use std::{
    path::{Path, PathBuf},
    time::Duration,
};

use metrics::counter;
use tokio::{
    sync::mpsc::{self, error::TrySendError},
    time::timeout,
};
use tokio_util::sync::CancellationToken;
use tracing::warn;

use crate::model::CommandLine;

pub use self::{
    commands::{COMMAND_LIMIT, CommandOrder},
    lines::Line,
    mail::{Mail, MailCommand},
};

/// Mails that may wait: one for each server of a large director that loses all of them at once is more than anybody reads.
const MAILS: usize = 256;
/// Commands that may wait: a coming and going of every service of a large director.
const COMMANDS: usize = 512;
/// Lines that may wait: a second of checks of 4,000 servers, while the disk hangs for a second.
const LINES: usize = 4096;
/// How long what waits at the end may take.
const LAST: Duration = Duration::from_secs(3);

/// Where orders go. Whoever has none left ends the task.
#[derive(Clone, Debug)]
pub struct Notifier {
    mails: mpsc::Sender<MailCommand>,
    commands: mpsc::Sender<CommandOrder>,
    lines: mpsc::Sender<Line>,
}

/// The other end of it.
#[derive(Debug)]
pub struct Notify {
    mails: mpsc::Receiver<MailCommand>,
    commands: mpsc::Receiver<CommandOrder>,
    lines: mpsc::Receiver<Line>,
}

impl Notifier {
    /// Both ends.
    #[must_use]
    pub fn new() -> (Self, Notify) {
        let (mails, mails_rx) = mpsc::channel(MAILS);
        let (commands, commands_rx) = mpsc::channel(COMMANDS);
        let (lines, lines_rx) = mpsc::channel(LINES);
        (Self { mails, commands, lines }, Notify { mails: mails_rx, commands: commands_rx, lines: lines_rx })
    }

    /// Has a mail sent, or a reminder started or ended.
    pub fn mail(&self, command: MailCommand) {
        ordered("mail", self.mails.try_send(command));
    }

    /// Has a command run, after those before it.
    pub fn run(&self, order: CommandOrder) {
        ordered("command", self.commands.try_send(order));
    }

    /// Has it told that the changed configuration file was read again.
    pub fn callback(&self, line: CommandLine, file: &Path) {
        let about = file.display().to_string();
        self.run(CommandOrder { what: "the callback", added: vec![about.clone()], about, line });
    }

    /// Has a line added to the end of a file.
    pub fn line(&self, file: PathBuf, text: String) {
        ordered("line", self.lines.try_send(Line { file, text }));
    }
}

fn ordered<T>(kind: &'static str, sent: Result<(), TrySendError<T>>) {
    if let Err(error) = sent {
        counter!("lvs_notifications_lost_total", "kind" => kind).increment(1);
        if matches!(error, TrySendError::Full(_)) {
            warn!(event = "notify", kind, "too much waits to be told already: a {kind} is left out");
        }
    }
}

impl Notify {
    /// Carries out what is ordered until `shutdown`, and what waits then for as long as it may take.
    pub async fn run(self, shutdown: CancellationToken) {
        let Self { mut mails, mut commands, mut lines } = self;
        let stop = async {
            shutdown.cancelled().await;
            // Whoever decides has a last word, which it says before it ends.
            tokio::time::sleep(LAST).await;
        };
        let work = async {
            tokio::join!(
                mail::carry_out(&mut mails),
                commands::carry_out(&mut commands),
                lines::carry_out(&mut lines)
            );
        };
        tokio::select! {
            () = work => {}
            () = stop => {
                let left = mails.len() + commands.len() + lines.len();
                if left > 0 {
                    warn!(event = "notify", left, "stopping: {left} mails, commands and lines are left out");
                }
            }
        }
    }
}

#[cfg(test)]
impl Notify {
    /// What was ordered so far, in words: mails, then commands, then lines.
    pub(crate) fn ordered(&mut self) -> Vec<String> {
        let mut told = Vec::new();
        while let Ok(order) = self.mails.try_recv() {
            told.push(match order {
                MailCommand::Send(mail, _) => format!("mail {}\n{}", mail.subject, mail.body),
                MailCommand::StartReminder(key, mail, _) => format!("remind {} {}", key.server, mail.subject),
                MailCommand::StopReminder(key) => format!("over {}", key.server),
            });
        }
        while let Ok(CommandOrder { line, added, .. }) = self.commands.try_recv() {
            let words = line.arguments.iter().chain(&added).map(String::as_str);
            let program = line.program.display().to_string();
            told.push(std::iter::once(program.as_str()).chain(words).collect::<Vec<_>>().join(" "));
        }
        while let Ok(Line { file, text }) = self.lines.try_recv() {
            told.push(format!("{}: {text}", file.display()));
        }
        told
    }
}

/// Does what is outside, within a time; `what` takes too long otherwise.
async fn within<T>(
    limit: Duration,
    what: &str,
    work: impl Future<Output = std::io::Result<T>>,
) -> std::io::Result<T> {
    timeout(limit, work).await.unwrap_or_else(|_late| {
        let problem = format!("{what} took longer than {} s", limit.as_secs());
        Err(std::io::Error::new(std::io::ErrorKind::TimedOut, problem))
    })
}
