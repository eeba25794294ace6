//! One idle connection: made, and watched until it ends.

use std::{io, sync::Arc, time::Duration};

use nix::errno::Errno;
use socket2::SockRef;
use tokio::{net::TcpStream, sync::mpsc, time};

use super::change::IdleEnd;
use crate::probe::{connect, target::ProbeTarget};

/// How long a server may take to answer: its SYN and one that is sent again after a second, with time for both.
const CONNECT: Duration = Duration::from_secs(3);
/// How much a server may send unasked, in bytes …
const MAX_BYTES: usize = 64 << 10;
/// … and in pieces, each of which wakes the agent.
const MAX_PIECES: usize = 64;
/// The size of a piece.
const PIECE: usize = 2048;

/// One connection, from its SYN to its end. Numbers are not used twice.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Attempt(pub(super) u64);

/// What an attempt has to tell, in this order.
#[derive(Debug)]
pub(super) enum Notice {
    /// It is established. The stream is for closing it.
    Connected(Arc<TcpStream>),
    /// The server has sent something, for the first time.
    Heard,
    /// The server never stops sending.
    Flooded,
    /// It has ended, or was never established.
    Ended(IdleEnd),
    /// The agent may open no more files.
    NoDescriptors,
    /// The director could not try it, for another reason.
    NotTried(io::Error),
}

/// Connects, and tells what becomes of it. Dropping the future closes the connection with a FIN.
pub(super) async fn run(attempt: Attempt, target: ProbeTarget, notices: mpsc::Sender<(Attempt, Notice)>) {
    let opened = time::timeout(CONNECT, connect::open_kept(target)).await;
    // Nobody listens any more only at the end.
    match opened.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into())) {
        Ok(stream) => {
            let stream = Arc::new(stream);
            notices.send((attempt, Notice::Connected(stream.clone()))).await.ok();
            let last = watch(&stream, attempt, &notices).await;
            notices.send((attempt, last)).await.ok();
        }
        Err(error) => drop(notices.send((attempt, refusal(error))).await),
    }
}

/// Waits for the end; what the server sends is thrown away.
async fn watch(stream: &TcpStream, attempt: Attempt, notices: &mpsc::Sender<(Attempt, Notice)>) -> Notice {
    let (mut bytes, mut pieces) = (0, 0);
    loop {
        // Not held while waiting: 10,000 connections need no buffers.
        let read = match stream.readable().await {
            Ok(()) => stream.try_read(&mut [0; PIECE]),
            Err(error) => Err(error),
        };
        match read {
            Ok(0) => return Notice::Ended(IdleEnd::Finished),
            Ok(more) => (bytes, pieces) = (bytes + more, pieces + 1),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => continue,
            Err(_) => return Notice::Ended(IdleEnd::Reset),
        }
        if pieces == 1 {
            notices.send((attempt, Notice::Heard)).await.ok();
        }
        if bytes > MAX_BYTES || pieces > MAX_PIECES {
            return Notice::Flooded;
        }
    }
}

/// Why there is no connection: the server's word, its silence, or the director's fault.
fn refusal(error: io::Error) -> Notice {
    let raw = error.raw_os_error().map(Errno::from_raw);
    match error.kind() {
        io::ErrorKind::ConnectionRefused | io::ErrorKind::ConnectionReset => Notice::Ended(IdleEnd::Refused),
        io::ErrorKind::TimedOut
        | io::ErrorKind::HostUnreachable
        | io::ErrorKind::NetworkUnreachable
        | io::ErrorKind::NetworkDown => Notice::Ended(IdleEnd::Unanswered),
        _ if matches!(raw, Some(Errno::EMFILE | Errno::ENFILE)) => Notice::NoDescriptors,
        _ => Notice::NotTried(error),
    }
}

/// Has the connection end with a RST when it is dropped: nobody is there to answer a FIN, which would be sent again and
/// again.
pub(super) fn reset_at_drop(stream: &TcpStream) {
    if let Err(error) = SockRef::from(stream).set_linger(Some(Duration::ZERO)) {
        tracing::debug!(%error, "an idle connection can't be reset");
    }
}
