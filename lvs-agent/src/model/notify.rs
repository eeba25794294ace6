//! Notifications, and where the log goes.

use std::{path::PathBuf, time::Duration};

use super::{CommandLine, Facility, TlsVerify};

/// Who is notified of changes of a service's servers. None of them can delay a check or an edit.
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
    /// The mail server that takes them, by SMTP; `None`: the local `sendmail`.
    pub relay: Option<MailRelay>,
    /// How often a mail about a server that stays down is sent again; `None`: once.
    pub repeat: Option<Duration>,
    /// The changes that mails are sent about.
    pub about: MailAbout,
}

/// The mail server that takes the mails.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MailRelay {
    /// Its name or address, with or without a port.
    pub address: String,
    /// The encryption; `None`: none.
    pub tls: Option<RelayTls>,
    /// Who logs in; `None`: nobody.
    pub login: Option<RelayLogin>,
}

impl MailRelay {
    /// One that is spoken to without encryption and login.
    #[must_use]
    pub fn plain(address: impl Into<String>) -> Self {
        Self { address: address.into(), tls: None, login: None }
    }
}

/// How the connection to a relay is encrypted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RelayTls {
    /// When encryption begins.
    pub start: RelayTlsStart,
    /// The name that is sent (SNI) and verified; `None`: the relay's.
    pub name: Option<String>,
    /// What the certificate must be like.
    pub verify: TlsVerify,
}

/// When the connection to a relay is encrypted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RelayTlsStart {
    /// After STARTTLS where the relay offers it, and never where it doesn't.
    Opportunistic,
    /// After STARTTLS; no mail is sent where the relay doesn't offer it.
    Required,
    /// Right after the connection is made.
    Direct,
}

/// Who logs in at a relay. The password is read from its file for each mail, so that nothing else ever has it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RelayLogin {
    /// The user's name.
    pub user: String,
    /// The file whose first line is the password.
    pub password_file: PathBuf,
    /// Whether the password may be sent over a connection that isn't encrypted.
    pub allow_unencrypted: bool,
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
    Syslog(Facility),
    /// To the systemd journal, with all fields.
    Journal,
}
