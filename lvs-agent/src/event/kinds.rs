//! Fields of events that are types of their own.

use std::{
    fmt,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use crate::{
    config::{Reading, Warning},
    model::DestinationKey,
};

/// Whom an event is about: a real server in a service.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Subject {
    /// The name of the service.
    pub(crate) service: Arc<str>,
    /// The real server in it.
    pub(crate) destination: DestinationKey,
}

/// What a probe is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ProbeKind {
    /// A regular check. `is_news`: it failed, and its server is not down yet.
    Baseline { is_news: bool },
    /// One that is to confirm a suspicion: which one, from 1.
    Confirm { number: u32 },
    /// The ping beside such ones.
    Ping,
    /// An empty datagram to the port of a UDP server, in place of a regular ping that knows of no ports.
    Port,
}

/// Why the configuration is read again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ReloadCause {
    /// SIGHUP.
    Hangup,
    /// `lvs-agent reload`.
    Command,
    /// The file has changed (`autoreload`).
    FileChanged,
}

impl fmt::Display for ReloadCause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Hangup => "SIGHUP",
            Self::Command => "command",
            Self::FileChanged => "file changed",
        })
    }
}

/// What the author of the configuration should know.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum ConfigNotice {
    /// Something about the file, with its place: line and column, from 1.
    Warning { file: PathBuf, line: usize, column: usize, text: String },
    /// These settings have changed, which needs a restart.
    NeedsRestart { settings: Vec<&'static str> },
    /// Edits that a reload has brought are not all made yet; why.
    EditsPending { reason: &'static str },
    /// The log can't go where it should.
    NoLog { target: String, error: String },
}

impl ConfigNotice {
    /// The warnings about a file that was read.
    pub(crate) fn of_reading(file: &Path, reading: &Reading) -> impl Iterator<Item = Self> {
        reading.warnings.iter().map(|Warning { kind, place }| Self::Warning {
            file: file.to_owned(),
            line: place.line,
            column: place.column,
            text: kind.to_string(),
        })
    }
}

impl fmt::Display for ConfigNotice {
    /// The text for people; of a warning about the file without its place.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Warning { text, .. } => f.write_str(text),
            Self::NeedsRestart { settings } => write!(
                f,
                "a change of {} needs a restart; until then the old value stays in force",
                settings.join(", ")
            ),
            Self::EditsPending { reason } => f.write_str(reason),
            Self::NoLog { target, error } => {
                write!(f, "cannot log to {target}: {error}; logging to standard error instead")
            }
        }
    }
}

/// How many services and servers are new or gone.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct ListChange {
    pub(crate) services_added: usize,
    pub(crate) services_removed: usize,
    pub(crate) servers_added: usize,
    pub(crate) servers_removed: usize,
}

/// On what occasion a weight has changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum WeightOccasion {
    /// The first result of the server's checks.
    FirstCheck,
    /// Another result, an admin command, or time that has passed.
    Running,
    /// Another list of services.
    Reload,
}

/// What has become of the state file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum StateFileChange {
    /// Nothing can be saved for the next start.
    Unavailable { error: String },
    /// What it says is not used.
    Ignored { reason: String },
    /// It can't be written.
    Fails { error: String },
    /// It can be written again.
    Works,
    /// The task that writes it has lost a turn.
    NotWritten { error: String },
}

/// What has become of a mail.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum MailResult {
    /// The relay has taken it.
    Sent,
    /// It was not sent; `by` names the relay or the program.
    Failed { by: String, error: String },
}

/// What has become of a command.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum CommandRun {
    /// It has run.
    Done { took: Duration },
    /// It could not be started, failed, or took too long.
    Failed { error: String },
}

/// What has become of a file for lines.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum LineFile {
    /// Lines can't be added.
    Fails { error: String },
    /// They can again.
    Works,
}

/// What has become of an agent that was started for `execute`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum InstanceChange {
    /// It can't be started.
    NotStarted { error: String },
    /// It runs.
    Started,
    /// It has ended by itself.
    Ended { status: String },
    /// Nothing is known of it any more.
    Lost { error: String },
    /// It can't be told to stop.
    NotStopped { error: String },
    /// It was told to stop, and did not in time.
    StopsLate,
}
