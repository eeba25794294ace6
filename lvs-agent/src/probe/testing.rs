//! Servers that fail on purpose, for tests. All on loopback, on ports that the kernel chooses.

use std::{
    net::{Ipv4Addr, SocketAddr},
    time::Duration,
};

use socket2::{Domain, Socket, Type};
use tokio::net::{TcpListener, TcpStream};

/// A timeout that is never meant to be reached.
pub(super) const LONG: Duration = Duration::from_secs(20);
/// A timeout that is meant to be reached.
pub(super) const SHORT: Duration = Duration::from_millis(100);

/// Loopback, on any port.
pub(super) fn any_port() -> SocketAddr {
    (Ipv4Addr::LOCALHOST, 0).into()
}

/// An address on which nothing listens.
pub(super) fn closed_port() -> SocketAddr {
    std::net::TcpListener::bind(any_port()).unwrap().local_addr().unwrap()
}

/// A port that doesn't answer SYNs while this value lives.
pub(super) struct SilentPort {
    pub(super) address: SocketAddr,
    _listener: Socket,
    _queued: Vec<TcpStream>,
}

/// A listener with a full accept queue: Linux leaves further SYNs unanswered.
pub(super) async fn silent_port() -> SilentPort {
    let listener = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    listener.bind(&any_port().into()).unwrap();
    // A backlog of 0 has room for one.
    listener.listen(0).unwrap();
    let address = listener.local_addr().unwrap().as_socket().unwrap();
    let mut queued = Vec::new();
    while let Ok(connected) = tokio::time::timeout(SHORT, TcpStream::connect(address)).await {
        queued.push(connected.unwrap());
        assert!(queued.len() < 10, "the accept queue never fills");
    }
    SilentPort { address, _listener: listener, _queued: queued }
}

/// A server that does `serve` with each connection, until the test's runtime ends.
pub(super) async fn server<F>(serve: impl Fn(TcpStream) -> F + Send + 'static) -> SocketAddr
where
    F: Future<Output = ()> + Send + 'static,
{
    let listener = TcpListener::bind(any_port()).await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            tokio::spawn(serve(stream));
        }
    });
    address
}
