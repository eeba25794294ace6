//! The local syslog: one datagram a line (RFC 3164), without a time, which the daemon adds.

use std::{io, os::unix::net::UnixDatagram, path::PathBuf, process};

use tracing::Level;

/// Where the daemon listens.
const SOCKET: &str = "/dev/log";
/// The longest message; daemons take at least 1 KiB, and all that is in use take 8.
const MAX: usize = 8192;

pub(super) struct Syslog {
    socket: UnixDatagram,
    path: PathBuf,
    facility: u8,
}

impl Syslog {
    pub(super) fn open(facility: &str) -> io::Result<Self> {
        Self::open_at(SOCKET.into(), facility)
    }

    pub(super) fn open_at(path: PathBuf, facility: &str) -> io::Result<Self> {
        let facility = code(facility).ok_or_else(|| {
            io::Error::new(io::ErrorKind::InvalidInput, format!("syslog has no facility {facility:?}"))
        })?;
        let socket = UnixDatagram::unbound()?;
        // A daemon that hangs must not hang the log.
        socket.set_nonblocking(true)?;
        socket.connect(&path)?;
        Ok(Self { socket, path, facility })
    }

    pub(super) fn write(&mut self, level: Level, text: &[u8]) -> io::Result<()> {
        let severity = match level {
            Level::ERROR => 3,
            Level::WARN => 4,
            Level::INFO => 6,
            _ => 7,
        };
        let priority = self.facility * 8 + severity;
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

/// The number of a facility (RFC 3164, 4.1.1; `authpriv` and `ftp` as in syslog(3)).
fn code(facility: &str) -> Option<u8> {
    const NAMES: [&str; 12] = [
        "kern", "user", "mail", "daemon", "auth", "syslog", "lpr", "news", "uucp", "cron", "authpriv", "ftp",
    ];
    if let Some(number) = facility.strip_prefix("local") {
        return number.parse::<u8>().ok().filter(|number| *number < 8).map(|number| 16 + number);
    }
    NAMES.iter().zip(0..).find(|(name, _)| **name == facility).map(|(_, code)| code)
}
