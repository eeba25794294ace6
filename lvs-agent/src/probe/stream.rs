//! A connection, encrypted or not.

use std::{
    io,
    net::SocketAddr,
    pin::Pin,
    task::{Context, Poll},
};

use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::TcpStream,
};
use tokio_rustls::client::TlsStream;

use super::{
    FailureReason, Phase,
    connect::{self, Handshake},
    context::ProbeContext,
};
use crate::model::Tls;

/// A connection, encrypted or not.
#[derive(Debug)]
pub(super) enum Stream {
    Plain(TcpStream),
    Tls(Box<TlsStream<TcpStream>>),
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
            Self::Tls(stream) => stream.get_ref().0.local_addr(),
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
        let handshake = context.tls.handshake(stream, tls, host, context.target.address.ip());
        Ok(Self::Tls(Box::new(context.deadline.within(Phase::Tls, handshake).await?)))
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
            Self::Tls(stream) => Pin::new(stream).poll_read(context, buffer),
        }
    }
}

impl AsyncWrite for Stream {
    fn poll_write(self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_write(context, bytes),
            Self::Tls(stream) => Pin::new(stream).poll_write(context, bytes),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_flush(context),
            Self::Tls(stream) => Pin::new(stream).poll_flush(context),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_shutdown(context),
            Self::Tls(stream) => Pin::new(stream).poll_shutdown(context),
        }
    }
}
