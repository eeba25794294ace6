//! Who is told of what happens, and where the log goes.

use std::{path::PathBuf, time::Duration};

use super::CommandLine;

/// Whom a service tells of its servers' changes. None of them can delay a check or an edit.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Notifications {
    /// Mails.
    pub mail: Option<MailSettings>,
    /// A file to which a line is added for each regular check of a server.
    pub monitor_file: Option<PathBuf>,
    /// Run with `start` or `stop`, the service's address and its protocol when the quorum is lost or back.
    pub fallback_command: Option<CommandLine>,
    /// Text for mails and logs.
    pub comment: Option<String>,
}

/// Mails about changes of servers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MailSettings {
    /// Whom they go to, at least one.
    pub to: Vec<String>,
    /// Whom they come from; `None`: the local user.
    pub from: Option<String>,
    /// The host that takes them, by SMTP on port 25 or as `HOST:PORT`; `None`: the local `sendmail`.
    pub smtp: Option<String>,
    /// How often a mail about a server that stays down is sent again; `None`: once.
    pub repeat: Option<Duration>,
    /// What is told.
    pub about: MailAbout,
}

/// Changes that mails are sent about: ldirectord's `emailalertstatus`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(clippy::struct_excessive_bools, reason = "each is one word of the directive, and any may be named")]
pub struct MailAbout {
    /// Servers at their first result after a start.
    pub starting: bool,
    /// Servers while the agent runs.
    pub running: bool,
    /// Servers that a stop takes out.
    pub stopping: bool,
    /// Servers that a reload adds or takes out.
    pub reloading: bool,
}

impl MailAbout {
    /// Every change.
    pub const ALL: Self = Self { starting: true, running: true, stopping: true, reloading: true };
    /// No change.
    pub const NONE: Self = Self { starting: false, running: false, stopping: false, reloading: false };
}

/// Where the log goes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum LogTarget {
    /// To standard error.
    #[default]
    Standard,
    /// To the end of a file.
    File(PathBuf),
    /// To the local syslog, with this facility.
    Syslog(String),
}
