//! A connection, encrypted or not.

use std::{
    future::poll_fn,
    io,
    net::SocketAddr,
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};

use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::TcpStream,
    time,
};
use tokio_rustls::client::TlsStream;

use super::{
    FailureReason, Phase,
    connect::{self, Handshake},
    context::ProbeContext,
};
use crate::model::Tls;

/// How long a server has at least to refuse a client, if it has asked who that is: far above the time that it takes to
/// verify a certificate. On a slow path it is twice what the handshake took, as the refusal takes one more round trip.
const REFUSAL_LEAST: Duration = Duration::from_millis(100);

/// A connection, encrypted or not.
#[derive(Debug)]
pub(super) enum Stream {
    Plain(TcpStream),
    /// With the time in which the server may still refuse the client, if it has asked who that is.
    Tls(Box<TlsStream<TcpStream>>, Option<Duration>),
}

impl Stream {
    /// A connection to the server.
    pub(super) async fn open(context: &ProbeContext<'_>) -> Result<Self, FailureReason> {
        let opened =
            context.deadline.within(Phase::Connect, connect::open(context.target, Handshake::Full)).await?;
        Ok(Self::Plain(opened))
    }

    /// The local address of the connection.
    pub(super) fn own_address(&self) -> io::Result<SocketAddr> {
        match self {
            Self::Plain(stream) => stream.local_addr(),
            Self::Tls(stream, _) => stream.get_ref().0.local_addr(),
        }
    }

    /// The same connection after the TLS handshake. `host` is the name that the check itself has for the server.
    pub(super) async fn encrypted(
        self,
        context: &ProbeContext<'_>,
        tls: &Tls,
        host: Option<&str>,
    ) -> Result<Self, FailureReason> {
        let Self::Plain(stream) = self else { return Ok(self) };
        let begin = context.deadline.elapsed();
        let handshake = context.tls.handshake(stream, tls, host, context.target.address.ip());
        let (stream, asked) = context.deadline.within(Phase::Tls, handshake).await?;
        let took = context.deadline.elapsed().saturating_sub(begin);
        Ok(Self::Tls(Box::new(stream), asked.then(|| REFUSAL_LEAST.max(took * 2))))
    }

    /// Waits until a server that has asked who the client is has accepted or refused it, by a sign of its own: data, a
    /// session ticket, an alert or the end. Without one it is taken to have accepted the client when it has had time
    /// for a refusal. Data that comes is thrown away.
    ///
    /// Under TLS 1.3 the handshake is over for the client before the server has seen its certificate: the refusal comes
    /// after that (RFC 8446, 2 and 4.4.2.4). A ticket is only sent to a client that was accepted (4.6.1).
    pub(super) async fn accepted(&mut self) -> io::Result<()> {
        let Self::Tls(stream, Some(within)) = self else { return Ok(()) };
        let sign = poll_fn(|context| {
            let mut bytes = [0; 64];
            match Pin::new(&mut **stream).poll_read(context, &mut ReadBuf::new(&mut bytes)) {
                Poll::Pending if stream.get_ref().1.tls13_tickets_received() > 0 => Poll::Ready(Ok(())),
                sign => sign,
            }
        });
        match time::timeout(*within, sign).await {
            // The end alone refuses nobody.
            Ok(Err(error)) if error.kind() == io::ErrorKind::UnexpectedEof => Ok(()),
            Ok(sign) => sign,
            Err(_) => Ok(()),
        }
    }
}

impl AsyncRead for Stream {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_read(context, buffer),
            Self::Tls(stream, _) => Pin::new(stream).poll_read(context, buffer),
        }
    }
}

impl AsyncWrite for Stream {
    fn poll_write(self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_write(context, bytes),
            Self::Tls(stream, _) => Pin::new(stream).poll_write(context, bytes),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_flush(context),
            Self::Tls(stream, _) => Pin::new(stream).poll_flush(context),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_shutdown(context),
            Self::Tls(stream, _) => Pin::new(stream).poll_shutdown(context),
        }
    }
}
