//! Notifications: mails, commands, lines in files. One task, `notify`, has a queue for each of the three, so that a
//! mail server that hangs delays no command. Notifying must never block: what doesn't fit into a queue is counted and
//! dropped.

pub(crate) mod alerts;
mod commands;
mod lines;
pub mod mail;

use std::{
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use tokio::{
    sync::mpsc::{self, error::TrySendError},
    time::timeout,
};
use tokio_util::sync::CancellationToken;

use crate::{
    event::{Event, Publisher},
    model::CommandLine,
    supervision::Restartable,
};

pub(crate) use self::commands::at_shutdown;
pub use self::{
    commands::{COMMAND_LIMIT, CommandJob},
    lines::Line,
    mail::{Mail, MailCommand},
};

/// Mails that may wait: nobody reads more at once, even if a large director loses all servers.
const MAILS: usize = 256;
/// Commands that may wait: every service of a large director may lose its quorum and regain it.
const COMMANDS: usize = 512;
/// Lines that may wait: a second of checks of 4,000 servers, while the disk hangs for a second.
const LINES: usize = 4096;
/// How long notifications that still wait at shutdown may take.
const SHUTDOWN_TIMEOUT: Duration = Duration::from_secs(3);

/// Queues notifications. The task ends once all clones are dropped.
#[derive(Clone, Debug)]
pub struct Notifier {
    mails: mpsc::Sender<MailCommand>,
    commands: mpsc::Sender<CommandJob>,
    lines: mpsc::Sender<Line>,
    lost: Arc<Lost>,
}

/// The task that sends the notifications.
pub struct Notify {
    events: Publisher,
    mails: mpsc::Receiver<MailCommand>,
    commands: mpsc::Receiver<CommandJob>,
    lines: mpsc::Receiver<Line>,
    lost: Arc<Lost>,
}

impl Notifier {
    /// The queues and the task that empties them.
    #[must_use]
    pub(crate) fn new(events: Publisher) -> (Self, Notify) {
        let (mails, mails_rx) = mpsc::channel(MAILS);
        let (commands, commands_rx) = mpsc::channel(COMMANDS);
        let (lines, lines_rx) = mpsc::channel(LINES);
        let lost = Arc::new(Lost::default());
        let notify =
            Notify { events, mails: mails_rx, commands: commands_rx, lines: lines_rx, lost: lost.clone() };
        (Self { mails, commands, lines, lost }, notify)
    }

    /// Has a mail sent, or a reminder started or ended.
    pub fn mail(&self, command: MailCommand) {
        Lost::count(&self.lost.mails, &self.mails.try_send(command));
    }

    /// Has a command run, after the commands before it.
    pub fn run(&self, job: CommandJob) {
        Lost::count(&self.lost.commands, &self.commands.try_send(job));
    }

    /// Runs the callback after a changed configuration file was reloaded.
    pub fn callback(&self, line: CommandLine, file: &Path) {
        let about = file.display().to_string();
        self.run(CommandJob { what: "the callback", extra: vec![about.clone()], about, line });
    }

    /// Has a line added to the end of a file.
    pub fn line(&self, file: PathBuf, text: String) {
        Lost::count(&self.lost.lines, &self.lines.try_send(Line { file, text }));
    }
}

/// Numbers of notifications that were dropped because their queue was full. The task that empties it publishes them, so
/// that notifying never waits for that.
#[derive(Debug, Default)]
struct Lost {
    mails: AtomicU64,
    commands: AtomicU64,
    lines: AtomicU64,
}

impl Lost {
    fn count<T>(counter: &AtomicU64, sent: &Result<(), TrySendError<T>>) {
        // A closed queue: the task has ended, and the agent is about to.
        if matches!(sent, Err(TrySendError::Full(_))) {
            counter.fetch_add(1, Ordering::Relaxed);
        }
    }

    fn publish(kind: &'static str, counter: &AtomicU64, events: &Publisher) {
        let count = counter.swap(0, Ordering::Relaxed);
        if count > 0 {
            events.publish(Event::NotificationsLost { kind, count });
        }
    }
}

impl Restartable for Notify {
    /// Sends notifications until `shutdown`, and then those that wait, within a time limit.
    async fn run(&mut self, shutdown: &CancellationToken) {
        let Self { events, mails, commands, lines, lost } = self;
        let stop = async {
            shutdown.cancelled().await;
            // The last notifications are queued when the controller ends.
            tokio::time::sleep(SHUTDOWN_TIMEOUT).await;
        };
        let work = async {
            tokio::join!(
                mail::send_all(mails, events, &lost.mails),
                commands::run_all(commands, events, &lost.commands),
                lines::write_all(lines, events, &lost.lines)
            );
        };
        tokio::select! {
            () = work => {}
            () = stop => {
                let left = mails.len() + commands.len() + lines.len();
                if left > 0 {
                    events.publish(Event::NotificationsLeft { left });
                }
            }
        }
    }
}

#[cfg(test)]
impl Notify {
    /// Takes what is queued, as texts: mails, then commands, then lines.
    pub(crate) fn take_queued(&mut self) -> Vec<String> {
        let mut texts = Vec::new();
        while let Ok(command) = self.mails.try_recv() {
            texts.push(match command {
                MailCommand::Send(mail, _) => format!("mail {}\n{}", mail.subject, mail.body),
                MailCommand::StartReminder(key, mail, _) => format!("remind {} {}", key.server, mail.subject),
                MailCommand::StopReminder(key) => format!("over {}", key.server),
            });
        }
        while let Ok(CommandJob { line, extra, .. }) = self.commands.try_recv() {
            let words = line.arguments.iter().chain(&extra).map(String::as_str);
            let program = line.program.display().to_string();
            texts.push(std::iter::once(program.as_str()).chain(words).collect::<Vec<_>>().join(" "));
        }
        while let Ok(Line { file, text }) = self.lines.try_recv() {
            texts.push(format!("{}: {text}", file.display()));
        }
        texts
    }
}

/// Does work outside the program within a time limit; the error says that `what` took too long.
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
