//! A conversation: text or messages, one after the other, with bounds on what is read and for how long.

use std::{net::SocketAddr, time::Duration};

use bytes::{Bytes, BytesMut};
use memchr::memchr;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    time,
};

use super::{FailureReason, Phase, context::ProbeContext, stream::Stream};
use crate::model::{Tls, TlsStart};

/// The longest line; the protocols here allow 512 to 1024 bytes, and servers are known to send more.
const MAX_LINE: usize = 8 << 10;
/// How much a server may send in the whole conversation.
const MAX_SESSION: usize = 256 << 10;
/// How long a server may take to close the connection after the goodbye.
const QUIT_TIMEOUT: Duration = Duration::from_millis(100);

/// A conversation with the server.
#[derive(Debug)]
pub(super) struct Session<'a> {
    context: &'a ProbeContext<'a>,
    stream: Stream,
    read: BytesMut,
    left: usize,
    connect: Duration,
}

impl<'a> Session<'a> {
    /// Connects, and encrypts the connection if that is to be done at once.
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

    /// How long the connection took.
    pub(super) fn connect_time(&self) -> Duration {
        self.connect
    }

    /// The address that the server sees.
    pub(super) fn own_address(&self) -> Result<SocketAddr, FailureReason> {
        self.stream.own_address().map_err(|error| failed(&error, Phase::Connect))
    }

    /// Encrypts the connection. What came before that is not to be taken for encrypted.
    pub(super) async fn encrypted(self, tls: &Tls) -> Result<Self, FailureReason> {
        if !self.read.is_empty() {
            return Err(FailureReason::Protocol("data before the TLS handshake".to_owned()));
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

    /// Says goodbye, and lets the server close the connection. The answer is known by then, so what comes of this makes
    /// no difference; a server that is left without a goodbye may complain in its log.
    pub(super) async fn quit(mut self, bytes: impl AsRef<[u8]>) {
        let leaving = async {
            self.send(bytes, Phase::Reply).await?;
            while self.more(Phase::Reply).await? {
                self.read.clear();
            }
            Ok::<(), FailureReason>(())
        };
        if let Ok(Err(error)) = time::timeout(QUIT_TIMEOUT, leaving).await {
            tracing::trace!(address = %self.context.target.address, %error, "a server went before the goodbye");
        }
    }

    /// Waits for more, and adds it to what wasn't taken yet. `false` at the end of the stream.
    async fn more(&mut self, phase: Phase) -> Result<bool, FailureReason> {
        let Self { context, stream, read, left, .. } = self;
        if *left == 0 {
            return Err(FailureReason::Protocol(format!("more than {MAX_SESSION} bytes")));
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

    /// All that came and wasn't taken yet, after one more wait if there is nothing. Empty at the end.
    pub(super) async fn some(&mut self, phase: Phase) -> Result<BytesMut, FailureReason> {
        if self.read.is_empty() {
            self.more(phase).await?;
        }
        Ok(self.read.split())
    }

    /// The next line, without its end.
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
                return Err(FailureReason::Protocol(format!("a line of more than {MAX_LINE} bytes")));
            }
            if !self.more(phase).await? {
                return Err(FailureReason::Closed { phase });
            }
        }
    }

    /// The next `count` bytes.
    pub(super) async fn exactly(&mut self, count: usize, phase: Phase) -> Result<Bytes, FailureReason> {
        if count > self.read.len() + self.left {
            return Err(FailureReason::Protocol(format!("a message of {count} bytes")));
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
    FailureReason::from_io(error, "use the connection", phase)
}
