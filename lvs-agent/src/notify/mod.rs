//! Telling others: mails, commands, lines in files. One task, `notify`, with a queue for each of the three, so that a mail
//! server that hangs holds up no command. What doesn't fit into a queue is counted and left: whoever has something to tell
//! never waits.

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
};

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
    lost: Arc<Lost>,
}

/// The other end of it.
#[derive(Debug)]
pub struct Notify {
    mails: mpsc::Receiver<MailCommand>,
    commands: mpsc::Receiver<CommandOrder>,
    lines: mpsc::Receiver<Line>,
    lost: Arc<Lost>,
}

impl Notifier {
    /// Both ends.
    #[must_use]
    pub fn new() -> (Self, Notify) {
        let (mails, mails_rx) = mpsc::channel(MAILS);
        let (commands, commands_rx) = mpsc::channel(COMMANDS);
        let (lines, lines_rx) = mpsc::channel(LINES);
        let lost = Arc::new(Lost::default());
        let notify = Notify { mails: mails_rx, commands: commands_rx, lines: lines_rx, lost: lost.clone() };
        (Self { mails, commands, lines, lost }, notify)
    }

    /// Has a mail sent, or a reminder started or ended.
    pub fn mail(&self, command: MailCommand) {
        Lost::count(&self.lost.mails, &self.mails.try_send(command));
    }

    /// Has a command run, after those before it.
    pub fn run(&self, order: CommandOrder) {
        Lost::count(&self.lost.commands, &self.commands.try_send(order));
    }

    /// Has it told that the changed configuration file was read again.
    pub fn callback(&self, line: CommandLine, file: &Path) {
        let about = file.display().to_string();
        self.run(CommandOrder { what: "the callback", added: vec![about.clone()], about, line });
    }

    /// Has a line added to the end of a file.
    pub fn line(&self, file: PathBuf, text: String) {
        Lost::count(&self.lost.lines, &self.lines.try_send(Line { file, text }));
    }
}

/// Notifications that found their queue full. They are told of by the task that empties it, so that nobody who notifies
/// waits for that.
#[derive(Debug, Default)]
struct Lost {
    mails: AtomicU64,
    commands: AtomicU64,
    lines: AtomicU64,
}

impl Lost {
    fn count<T>(of: &AtomicU64, sent: &Result<(), TrySendError<T>>) {
        // A closed queue: the task has ended, and the agent is about to.
        if matches!(sent, Err(TrySendError::Full(_))) {
            of.fetch_add(1, Ordering::Relaxed);
        }
    }

    fn publish(kind: &'static str, of: &AtomicU64, events: &Publisher) {
        let count = of.swap(0, Ordering::Relaxed);
        if count > 0 {
            events.publish(Event::NotificationsLost { kind, count });
        }
    }
}

impl Notify {
    /// Carries out what is ordered until `shutdown`, and what waits then for as long as it may take.
    pub(crate) async fn run(self, events: Publisher, shutdown: CancellationToken) {
        let Self { mut mails, mut commands, mut lines, lost } = self;
        let stop = async {
            shutdown.cancelled().await;
            // Whoever decides has a last word, which it says before it ends.
            tokio::time::sleep(LAST).await;
        };
        let work = async {
            tokio::join!(
                mail::send_all(&mut mails, &events, &lost.mails),
                commands::run_all(&mut commands, &events, &lost.commands),
                lines::write_all(&mut lines, &events, &lost.lines)
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
