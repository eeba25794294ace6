//! The types of events' fields.

use std::{
    fmt,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use crate::{
    config::{Reading, Warning},
    model::{DestinationKey, PeerText},
    passive::Complaint,
};

/// The subject of an event: a real server in a service.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Subject {
    /// The name of the service.
    pub(crate) service: Arc<str>,
    /// The real server in it.
    pub(crate) destination: DestinationKey,
}

/// The purpose of a probe.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ProbeKind {
    /// A regular check. `is_new_failure`: it failed, and its server is not down yet.
    Baseline { is_new_failure: bool },
    /// A probe that is to confirm a suspicion; its number, from 1.
    Confirm { number: u32 },
    /// The probe that a hint asked for.
    Hint,
    /// A question to a server that only the fast path has taken out: whether it is back.
    Return,
    /// The ping alongside confirming probes.
    Ping,
    /// An empty datagram to the port of a UDP server, in place of a regular ping, which tests no port.
    Port,
}

/// What becomes of a hint.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum HintFate {
    /// It is probed.
    Asked,
    /// What it is about is being probed already.
    InProgress,
    /// The server is down, or no check of it could tell.
    NothingToAsk,
    /// There is no probe left for it.
    Withheld { reason: String },
}

impl fmt::Display for HintFate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Asked => "asked",
            Self::InProgress => "in-progress",
            Self::NothingToAsk => "nothing-to-ask",
            Self::Withheld { .. } => "withheld",
        })
    }
}

/// A change of the contradiction between a server's clients and its probes.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum ContradictionChange {
    /// Clients fail while probes succeed, for long enough.
    Begun { complaint: Complaint, consequence: Consequence },
    /// The server is excluded after all, or again: it is tried in `retry_in`.
    Out { retry_in: Duration },
    /// The server is let in to see whether its clients are served.
    Trial,
    /// It is over after `lasted`.
    Over { end: ContradictionEnd, lasted: Duration },
}

/// What follows from a contradiction for the server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Consequence {
    /// Nothing: the service wants to be told.
    Reported,
    /// It is excluded, and tried in `retry_in`.
    Excluded { retry_in: Duration },
    /// Nothing, though the service wants it out: too much of it would be out, or its siblings fare no better.
    Kept,
}

impl Consequence {
    /// Its name for programs.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Reported => "reported",
            Self::Excluded { .. } => "removed",
            Self::Kept => "kept",
        }
    }
}

/// How a contradiction has ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ContradictionEnd {
    /// Clients are served.
    Served,
    /// The probes fail as well.
    Down,
    /// The server is gone from the configuration, or is reached in another way.
    Gone,
}

impl ContradictionEnd {
    /// Its name for programs.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Served => "served",
            Self::Down => "down",
            Self::Gone => "gone",
        }
    }
}

/// The cause of a reload.
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

/// A notice for the author of the configuration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum ConfigNotice {
    /// A warning about the file, with its place: line and column, from 1.
    Warning { file: PathBuf, line: usize, column: usize, text: String },
    /// These settings have changed, and need a restart.
    NeedsRestart { settings: Vec<&'static str> },
    /// Not all edits of a reload are made yet, for this reason.
    EditsPending { reason: &'static str },
    /// The file may be half of what it is to be: it lacks so many services and servers, and is believed once it has
    /// stayed as it is for so long.
    Doubt { missing: usize, patience: Duration },
    /// The log can't be written to the configured target.
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
    /// The text for people; a warning about the file comes without its place.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Warning { text, .. } => f.write_str(text),
            Self::NeedsRestart { settings } => write!(
                f,
                "a change of {} needs a restart; until then the old value stays in force",
                settings.join(", ")
            ),
            Self::EditsPending { reason } => f.write_str(reason),
            Self::Doubt { missing: 0, patience } => write!(
                f,
                "the configuration file ends sooner than the one in force; it is taken over once it has stayed as it is \
                 for {} s",
                patience.as_secs()
            ),
            Self::Doubt { missing, patience } => write!(
                f,
                "the configuration file lacks {missing} services and servers that are in force, and may not be whole yet; \
                 it is taken over once it has stayed as it is for {} s, or by `lvs-agent reload`",
                patience.as_secs()
            ),
            Self::NoLog { target, error } => {
                write!(f, "cannot log to {target}: {error}; logging to standard error instead")
            }
        }
    }
}

/// Numbers of services and servers that are new or gone.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct ListChange {
    pub(crate) services_added: usize,
    pub(crate) services_removed: usize,
    pub(crate) servers_added: usize,
    pub(crate) servers_removed: usize,
}

/// The occasion of a change of weight.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum WeightOccasion {
    /// The first result of the server's checks.
    FirstCheck,
    /// Another result, an admin command, or time that has passed.
    Running,
    /// Another list of services.
    Reload,
}

/// A change of the state file's condition.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum StateFileChange {
    /// Nothing can be saved for the next start.
    Unavailable { error: String },
    /// Its content is not used.
    Ignored { reason: String },
    /// It can't be written.
    Fails { error: String },
    /// It can be written again.
    Works,
    /// The task that writes it has failed once.
    NotWritten { error: String },
}

/// A change of a synchronisation daemon.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum SyncChange {
    /// It was started. `instead_of`: what another one that ran had otherwise; empty if none ran.
    Started { device: String, id: u32, instead_of: String },
    /// It ran as configured before this agent has looked.
    Found,
    /// It was stopped.
    Stopped,
    /// Others have stopped, started or changed it. `repair_in`: how long until that is undone, if not at once.
    Changed { differences: Vec<String>, repair_in: Option<Duration> },
    /// It can't be started or stopped. `again`: how long until the next try; 0: once that can work.
    Failed { error: String, again: Duration },
}

/// The result of a mail.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum MailResult {
    /// The relay or the program has accepted it.
    Sent,
    /// It was not sent; `by` names the relay or the program.
    Failed { by: String, error: PeerText },
}

/// The result of a command.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum CommandRun {
    /// It has run.
    Done { took: Duration },
    /// It could not be started, has failed, or took too long.
    Failed { error: String },
}

/// A change of the condition of a file that lines are added to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum LineFile {
    /// Lines can't be added.
    Fails { error: String },
    /// Lines can be added again.
    Works,
}

/// A way in which others are told of services.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum AnnounceWay {
    /// Files for keepalived's `track_file`.
    TrackFiles,
    /// Files that are there while services are healthy.
    ReadyFiles,
    /// A FIFO with keepalived's lines.
    Fifo,
    /// Addresses on a device.
    Device,
}

impl AnnounceWay {
    /// Its name for programs.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::TrackFiles => "track-files",
            Self::ReadyFiles => "ready-files",
            Self::Fifo => "notify-fifo",
            Self::Device => "device",
        }
    }
}

/// A change of a VIP that is announced by being on a device.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum VipChange {
    /// It was put there.
    Announced,
    /// It was taken away.
    Withdrawn(Withdrawal),
    /// Others have put it there, and it is theirs to take away.
    Foreign,
}

/// Why a VIP was taken away.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Withdrawal {
    /// A service on it is not healthy.
    Unhealthy,
    /// The configuration announces it no longer.
    NotConfigured,
    /// An agent before this one has left it.
    Leftover,
    /// The agent stops.
    Stop,
}

impl Withdrawal {
    /// Its name for programs.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Unhealthy => "unhealthy",
            Self::NotConfigured => "not-configured",
            Self::Leftover => "leftover",
            Self::Stop => "stop",
        }
    }
}

/// Why the SYNs of a server were sent again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ChanceCause {
    /// It is dead, and out of the kernel's table.
    Out,
    /// It lives, and had answered with RSTs that were held back.
    Cleared,
}

impl ChanceCause {
    /// Its name for programs.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Out => "out",
            Self::Cleared => "cleared",
        }
    }
}

/// Why a handshake got no second chance, or why it was of no use.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum GivenUp {
    /// Too many within a second.
    Cap,
    /// Most handshakes are forged.
    Flood,
    /// The client is the director itself.
    Local,
    /// The client began it long ago.
    Old,
    /// It had its second chance already.
    Repeated,
    /// The packet could not be sent.
    NotSent,
    /// It isn't known which address the client had sent it to.
    NoEntry,
    /// A younger handshake has taken its place before its end was seen.
    Overwritten,
    /// Another server has refused it.
    Refused,
    /// The client has given up.
    Reset,
    /// The client has not completed it.
    Unanswered,
}

impl GivenUp {
    /// Its name for programs.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Cap => "cap",
            Self::Flood => "flood",
            Self::Local => "local",
            Self::Old => "old",
            Self::Repeated => "repeated",
            Self::NotSent => "not-sent",
            Self::NoEntry => "no-entry",
            Self::Overwritten => "overwritten",
            Self::Refused => "refused",
            Self::Reset => "reset",
            Self::Unanswered => "unanswered",
        }
    }
}

/// What became of the handshakes that were open with a server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ChanceResult {
    pub(crate) cause: ChanceCause,
    /// SYNs that were sent again.
    pub(crate) retried: usize,
    /// Of these, those whose clients have completed the handshake, …
    pub(crate) completed: usize,
    /// … and how long after their first SYN: the median, and the last one.
    pub(crate) median: Option<Duration>,
    pub(crate) longest: Option<Duration>,
    /// The others, and those that weren't sent again, by reason.
    pub(crate) given_up: Vec<(GivenUp, usize)>,
}

/// A change of an agent that was started for `execute`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum InstanceChange {
    /// It can't be started.
    NotStarted { error: String },
    /// It runs.
    Started,
    /// It has ended by itself.
    Ended { status: String },
    /// Its state can't be read.
    Lost { error: String },
    /// It can't be signalled to stop.
    NotStopped { error: String },
    /// It did not stop in time.
    StopsLate,
}
