//! The control socket: requests to a running agent on the same machine.
//!
//! A Unix stream socket that takes one JSON object a line and answers each with one line. Only root, the agent's own
//! user and a group of operators may ask. What people see of it is escaped: names and answers are other people's texts.

mod access;
mod checked;
mod client;
mod event_text;
mod events;
mod healthiness;
mod protocol;
mod render;
mod server;
mod server_name;
mod status;
mod terminal;

use std::{io, path::PathBuf, time::Duration};

pub use checked::{CHECKED_VERSION, CheckReport, CheckStep, Checked, CheckedServer};
pub use client::{ask, ask_within};
pub use event_text::event_text;
pub use events::{EventLine, Events, StepKind, Timeline, TimelineStep};
pub use healthiness::{AddressHealth, HealthVerdict, Healthiness};
pub use protocol::{
    AffectedServer, Connections, PROTOCOL_VERSION, Reloaded, Reply, ReplyLine, Request, RoleOrder, RoleReply,
};
pub use render::{Reason, forward, is_up, reasons, table};
pub(crate) use render::{
    age, agent as agent_text, bytes_per_s, check as check_text, is_news, servers_up, verdict, weight, why,
};
pub use server::{Answer, Answered, ControlServer, ControlService};
pub use server_name::{NoServerName, ServerName};
pub use status::{
    AgentStatus, CheckOutcome, CheckStatus, EvidenceStatus, Health, ObservedEdit, ObservedStatus, RoleStatus,
    STATUS_VERSION, ServerStatus, ServiceStatus, SignalStatus, Status, SyncDaemonStatus, Traffic, Visibility,
};
pub use terminal::{Style, escaped, escaped_json, shown_width};

/// The longest request, in bytes; a reply may be longer.
const MAX_REQUEST: usize = 4096;

/// What can go wrong between the two ends of the control socket.
#[derive(Debug, thiserror::Error)]
pub enum ControlError {
    /// An agent that runs already has the socket.
    #[error(
        "another running agent uses {path}; stop it, or set `control` in `[agent]` to another path, or to \"off\"",
        path = .0.display()
    )]
    InUse(PathBuf),
    /// Something that is no socket is in its place.
    #[error("{path} is not a socket; remove it, or set `control` in `[agent]` to another path", path = .0.display())]
    NotASocket(PathBuf),
    /// Another user's socket is in its place, and whether an agent listens there can't be asked.
    #[error(
        "{path} is another user's socket; remove it if no agent runs as that user any more, or set `control` in \
         `[agent]` to another path",
        path = .0.display()
    )]
    OtherUsers(PathBuf),
    /// The socket's folder can't be made.
    #[error(
        "can't make the folder {path} for the control socket: {error}; make it for the agent's user (systemd: \
         RuntimeDirectory=lvs-agent), or name another folder with --runtime-dir",
        path = .path.display()
    )]
    Folder {
        /// The folder's path.
        path: PathBuf,
        /// What the kernel said.
        error: io::Error,
    },
    /// The socket can't be made.
    #[error("can't listen at {path}: {error}; set `control` in `[agent]` to another path, or to \"off\"", path = .path.display())]
    Listen {
        /// The socket's path.
        path: PathBuf,
        /// What the kernel said.
        error: io::Error,
    },
    /// The caller isn't one of those who may ask.
    #[error("you may not use {path}: {who}", path = .path.display())]
    NotAllowed {
        /// The socket's path.
        path: PathBuf,
        /// Who may, and how to become one of them.
        who: String,
    },
    /// No agent answers.
    #[error("no agent answers at {path}: {error}; is it running, with this `control` in `[agent]`?", path = .path.display())]
    Connect {
        /// The socket's path.
        path: PathBuf,
        /// What the kernel said.
        error: io::Error,
    },
    /// The agent took too long.
    #[error(
        "the agent at {path} gave no answer within {patience:?}: it is stopped or stuck",
        path = .path.display()
    )]
    Late {
        /// The socket's path.
        path: PathBuf,
        /// How long it was waited for.
        patience: Duration,
    },
    /// The agent sent no reply, or an invalid one.
    #[error("invalid answer from the agent at {path}: {message}", path = .path.display())]
    Exchange {
        /// The socket's path.
        path: PathBuf,
        /// What is wrong with the reply, or why there is none.
        message: String,
    },
    /// The agent refused the request.
    #[error("the agent says: {0}")]
    Refused(String),
}
