//! A session over TCP: lines or messages, one after the other, with limits on how much is read and for how long.

use std::{net::SocketAddr, time::Duration};

use bytes::{Bytes, BytesMut};
use memchr::memchr;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    time,
};

use super::{
    FailureReason, Phase,
    context::ProbeContext,
    errno::{self, Call},
    stream::Stream,
};
use crate::model::{Tls, TlsStart};

/// The longest line in bytes; the protocols here allow 512 to 1024 bytes, and servers are known to send more.
const MAX_LINE: usize = 8 << 10;
/// How much a server may send in a session, in bytes.
const MAX_SESSION: usize = 256 << 10;
/// How long a server may take to close the connection after QUIT.
const QUIT_TIMEOUT: Duration = Duration::from_millis(100);

/// A session with the server.
#[derive(Debug)]
pub(super) struct Session<'a> {
    context: &'a ProbeContext<'a>,
    stream: Stream,
    read: BytesMut,
    /// How many more bytes the server may send.
    left: usize,
    connect: Duration,
}

impl<'a> Session<'a> {
    /// Connects; with [`TlsStart::Direct`] the TLS handshake follows at once.
    pub(super) async fn open(
        context: &'a ProbeContext<'a>,
        tls: Option<&Tls>,
    ) -> Result<Self, FailureReason> {
        let stream = Stream::open(context).await?;
        let connect = context.deadline.elapsed();
        let session = Self { context, stream, read: BytesMut::new(), left: MAX_SESSION, connect };
        match tls {
            Some(tls) if tls.start == TlsStart::Direct => session.encrypted(tls).await,
            _ => Ok(session),
        }
    }

    /// From the start of the probe to the connection.
    pub(super) fn connect_time(&self) -> Duration {
        self.connect
    }

    /// The local address of the connection.
    pub(super) fn own_address(&self) -> Result<SocketAddr, FailureReason> {
        self.stream.own_address().map_err(|error| failed(&error, Phase::Connect))
    }

    /// Makes the TLS handshake. Data that came before it is an error: it would pass for encrypted.
    pub(super) async fn encrypted(self, tls: &Tls) -> Result<Self, FailureReason> {
        if !self.read.is_empty() {
            return Err(FailureReason::Protocol("data before the TLS handshake".into()));
        }
        let stream = self.stream.encrypted(self.context, tls, None).await?;
        Ok(Self { stream, ..self })
    }

    /// Sends `bytes`.
    pub(super) async fn send(&mut self, bytes: impl AsRef<[u8]>, phase: Phase) -> Result<(), FailureReason> {
        let Self { context, stream, .. } = self;
        let sending = async {
            let sent = async {
                stream.write_all(bytes.as_ref()).await?;
                stream.flush().await
            };
            sent.await.map_err(|error| failed(&error, phase))
        };
        context.deadline.within(phase, sending).await
    }

    /// Waits until a server that has asked who the client is has accepted or refused it; see [`Stream::accepted`].
    pub(super) async fn accepted(&mut self) -> Result<(), FailureReason> {
        let Self { context, stream, .. } = self;
        let waiting = async { stream.accepted().await.map_err(|error| failed(&error, Phase::Tls)) };
        match context.deadline.within(Phase::Tls, waiting).await {
            // The handshake is over, and nothing speaks against it.
            Err(FailureReason::TimedOut { .. }) => Ok(()),
            accepted => accepted,
        }
    }

    /// Sends `bytes`, the protocol's QUIT, and lets the server close the connection. The result of the check is known
    /// by then, so failures are ignored; a server whose client just leaves may complain in its log.
    pub(super) async fn quit(mut self, bytes: impl AsRef<[u8]>) {
        let quitting = async {
            self.send(bytes, Phase::Reply).await?;
            while self.more(Phase::Reply).await? {
                self.read.clear();
            }
            Ok::<(), FailureReason>(())
        };
        if let Ok(Err(error)) = time::timeout(QUIT_TIMEOUT, quitting).await {
            tracing::trace!(address = %self.context.target.address, %error, "a server closed the connection before QUIT");
        }
    }

    /// Reads more into the buffer. `false` at the end of the stream.
    async fn more(&mut self, phase: Phase) -> Result<bool, FailureReason> {
        let Self { context, stream, read, left, .. } = self;
        if *left == 0 {
            return Err(FailureReason::Protocol(format!("more than {MAX_SESSION} bytes").into()));
        }
        read.reserve((*left).min(2048));
        let reading = async {
            let mut limited = stream.take(*left as u64);
            limited.read_buf(read).await.map_err(|error| failed(&error, phase))
        };
        let length = context.deadline.within(phase, reading).await?;
        *left -= length;
        Ok(length > 0)
    }

    /// The whole buffer, after one read if it is empty. Empty at the end of the stream.
    pub(super) async fn some(&mut self, phase: Phase) -> Result<BytesMut, FailureReason> {
        if self.read.is_empty() {
            self.more(phase).await?;
        }
        Ok(self.read.split())
    }

    /// The next line, without its LF or CRLF.
    pub(super) async fn line(&mut self, phase: Phase) -> Result<Bytes, FailureReason> {
        let mut searched = 0;
        loop {
            if let Some(end) = memchr(b'\n', &self.read[searched..]) {
                let mut line = self.read.split_to(searched + end + 1);
                line.truncate(searched + end);
                if line.last() == Some(&b'\r') {
                    line.truncate(line.len() - 1);
                }
                return Ok(line.freeze());
            }
            searched = self.read.len();
            if searched > MAX_LINE {
                return Err(FailureReason::Protocol(format!("a line of more than {MAX_LINE} bytes").into()));
            }
            if !self.more(phase).await? {
                return Err(FailureReason::Closed { phase });
            }
        }
    }

    /// The next `count` bytes.
    pub(super) async fn exactly(&mut self, count: usize, phase: Phase) -> Result<Bytes, FailureReason> {
        if count > self.read.len() + self.left {
            return Err(FailureReason::Protocol(format!("a message of {count} bytes").into()));
        }
        while self.read.len() < count {
            if !self.more(phase).await? {
                return Err(FailureReason::Closed { phase });
            }
        }
        Ok(self.read.split_to(count).freeze())
    }
}

/// What an error on the connection means.
fn failed(error: &std::io::Error, phase: Phase) -> FailureReason {
    errno::of(error, (Call::Transfer, "use the connection"), phase)
}
