//! The local syslog: one datagram a line (RFC 3164), without a time, which the daemon adds.

use std::{io, path::PathBuf, process};

use tracing::Level;

use super::{daemon::DaemonSocket, severity};
use crate::model::Facility;

/// Where the daemon listens.
const SOCKET: &str = "/dev/log";
/// The longest message; daemons take at least 1 KiB, and all that is in use take 8.
const MAX: usize = 8192;

pub(super) struct Syslog {
    socket: DaemonSocket,
    facility: Facility,
}

impl Syslog {
    pub(super) fn open(facility: Facility) -> io::Result<Self> {
        Self::open_at(SOCKET.into(), facility)
    }

    pub(super) fn open_at(path: PathBuf, facility: Facility) -> io::Result<Self> {
        Ok(Self { socket: DaemonSocket::open(path)?, facility })
    }

    pub(super) fn write(&mut self, level: Level, text: &[u8]) -> io::Result<()> {
        let priority = self.facility.code() * 8 + severity(level);
        let mut message = format!("<{priority}>lvs-agent[{}]: ", process::id()).into_bytes();
        message.extend(text.trim_ascii_end());
        message.truncate(MAX);
        self.socket.send(&message)
    }
}
