//! The local syslog: one datagram a line (RFC 3164), without a time, which the daemon adds.

use std::{io, os::unix::net::UnixDatagram, path::PathBuf, process};

use tracing::Level;

use super::severity;
use crate::model::Facility;

/// Where the daemon listens.
const SOCKET: &str = "/dev/log";
/// The longest message; daemons take at least 1 KiB, and all that is in use take 8.
const MAX: usize = 8192;

pub(super) struct Syslog {
    socket: UnixDatagram,
    path: PathBuf,
    facility: Facility,
}

impl Syslog {
    pub(super) fn open(facility: Facility) -> io::Result<Self> {
        Self::open_at(SOCKET.into(), facility)
    }

    pub(super) fn open_at(path: PathBuf, facility: Facility) -> io::Result<Self> {
        let socket = UnixDatagram::unbound()?;
        // A daemon that hangs must not hang the log.
        socket.set_nonblocking(true)?;
        socket.connect(&path)?;
        Ok(Self { socket, path, facility })
    }

    pub(super) fn write(&mut self, level: Level, text: &[u8]) -> io::Result<()> {
        let priority = self.facility.code() * 8 + severity(level);
        let mut message = format!("<{priority}>lvs-agent[{}]: ", process::id()).into_bytes();
        message.extend(text.trim_ascii_end());
        message.truncate(MAX);
        if self.socket.send(&message).is_ok() {
            return Ok(());
        }
        // The daemon may have been started anew.
        self.socket.connect(&self.path)?;
        self.socket.send(&message).map(drop)
    }
}
