//! The socket of a daemon on this machine that takes a datagram a line: syslog's, or the journal's.

use std::{io, os::unix::net::UnixDatagram, path::PathBuf};

pub(super) struct DaemonSocket {
    socket: UnixDatagram,
    path: PathBuf,
}

impl DaemonSocket {
    pub(super) fn open(path: PathBuf) -> io::Result<Self> {
        let socket = UnixDatagram::unbound()?;
        // A daemon that hangs must not hang the log.
        socket.set_nonblocking(true)?;
        socket.connect(&path)?;
        Ok(Self { socket, path })
    }

    pub(super) fn send(&self, message: &[u8]) -> io::Result<()> {
        if self.socket.send(message).is_ok() {
            return Ok(());
        }
        // The daemon may have been started anew.
        self.socket.connect(&self.path)?;
        self.socket.send(message).map(drop)
    }
}
