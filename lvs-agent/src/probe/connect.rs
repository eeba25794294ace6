//! TCP connect: does something accept connections?
//!
//! The probe takes three packets: SYN, SYN-ACK, RST. Without quick acknowledgements the kernel holds back the ACK that
//! would complete the handshake (`tcp_rcv_synsent_state_process` in `net/ipv4/tcp_input.c`), and a linger time of zero
//! makes the close send a RST in its stead. So
//! - the server's application is never woken and logs nothing: the handshake never reaches its accept queue;
//! - neither side keeps the connection in TIME-WAIT, of which 10,000 servers checked each second would leave 600,000;
//! - nothing is lost: a listener whose accept queue is full doesn't answer the SYN, and what an application does with
//!   an accepted connection is for other checks to find out.

use std::{io, net::SocketAddr, time::Duration};

use nix::sys::socket::{setsockopt, sockopt::IpBindAddressNoPort};
use socket2::{Domain, Protocol, Socket, Type};
use tokio::net::{TcpSocket, TcpStream};

use super::{
    FailureReason, LocalFault, Phase, ProbeTarget,
    context::ProbeContext,
    errno::{self, Call},
    lane::{self, named},
    outcome::Answer,
};

/// What is done when a socket call fails here.
const DOING: &str = "open a connection";

/// What becomes of the ACK that completes the handshake.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Handshake {
    /// It is sent, as data will follow.
    Full,
    /// It is never sent.
    HalfOpen,
    /// It is sent, and nothing will follow; the end of the connection is a FIN.
    Kept,
}

/// Whether the target accepts connections.
pub(super) async fn probe(context: &ProbeContext<'_>) -> Result<Answer, FailureReason> {
    let stream = context.deadline.within(Phase::Connect, open(context.target, Handshake::HalfOpen)).await?;
    let answer = Answer::connected(context.deadline.elapsed());
    drop(stream);
    Ok(answer)
}

/// A connection to `target` that a RST ends when it is dropped.
pub(super) async fn open(target: ProbeTarget, handshake: Handshake) -> Result<TcpStream, FailureReason> {
    let socket = socket(&target, handshake).map_err(|error| LocalFault::new(DOING, &error))?;
    connect(socket, target.address).await
}

/// A connection to `target` on which nothing will be sent. A FIN ends it when it is dropped. No keepalive and no
/// `TCP_USER_TIMEOUT`: an idle connection costs no packets.
pub(super) async fn open_kept(target: ProbeTarget) -> io::Result<TcpStream> {
    let stream = socket(&target, Handshake::Kept)?.connect(target.address).await?;
    if stream.local_addr()? == target.address {
        return Err(io::ErrorKind::ConnectionRefused.into());
    }
    Ok(stream)
}

/// Connects `socket` to `address`.
async fn connect(socket: TcpSocket, address: SocketAddr) -> Result<TcpStream, FailureReason> {
    let connected = socket.connect(address).await;
    let stream =
        connected.map_err(|error| errno::of_call(&error, (Call::Connect, DOING), Phase::Connect, address))?;
    // A socket that connects to a closed port of its own host may be given that very port, and connects to itself.
    let local = stream.local_addr().map_err(|error| LocalFault::new(DOING, &error))?;
    if local == address { Err(FailureReason::Refused) } else { Ok(stream) }
}

/// A socket for a connection to `target`.
fn socket(target: &ProbeTarget, handshake: Handshake) -> io::Result<TcpSocket> {
    let kind = Type::STREAM.nonblocking().cloexec();
    let socket = Socket::new(Domain::for_address(target.address), kind, Some(Protocol::TCP))?;
    if handshake == Handshake::Kept {
        // With a source address of its own, a port would be taken from all destinations for as long as it lives.
        setsockopt(&socket, IpBindAddressNoPort, &true)?;
    } else {
        socket.set_linger(Some(Duration::ZERO))?;
    }
    prepare(&socket, target)?;
    match handshake {
        Handshake::HalfOpen => socket.set_tcp_quickack(false)?,
        Handshake::Full => socket.set_tcp_nodelay(true)?,
        Handshake::Kept => {}
    }
    Ok(TcpSocket::from_std_stream(socket.into()))
}

/// Sets the mark, device and source address that the target asks for; without a mark, the agent's own.
pub(super) fn prepare(socket: &Socket, target: &ProbeTarget) -> io::Result<()> {
    let via = &target.via;
    if let Some(lane) = &via.lane {
        return lane::prepare(socket, lane, via.source);
    }
    match via.mark {
        Some(mark) => socket.set_mark(mark).map_err(|error| named(&format!("mark {mark}"), &error))?,
        None => set_own_mark(socket, target.own_mark)?,
    }
    if let Some(device) = &via.device {
        let name = || format!("device {}", String::from_utf8_lossy(device.as_bytes()));
        socket.bind_device(Some(device.as_bytes())).map_err(|error| named(&name(), &error))?;
    }
    if let Some(source) = via.source {
        let bound = socket.bind(&SocketAddr::new(source, 0).into());
        bound.map_err(|error| named(&format!("source {source}"), &error))?;
    }
    Ok(())
}

/// Marks the packets, so that the eBPF programs don't take them for a client's. Without the privilege for it
/// (`CAP_NET_ADMIN`) there are no programs either.
fn set_own_mark(socket: &Socket, mark: u32) -> io::Result<()> {
    match socket.set_mark(mark) {
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => Ok(()),
        marked => marked,
    }
}

#[cfg(test)]
mod tests {
    use std::net::{Ipv4Addr, Ipv6Addr};

    use tokio::net::TcpListener;

    use super::*;
    use crate::{
        model::CheckKind,
        probe::testing::{self, LONG, SHORT, closed_port, silent_port},
    };

    async fn probe(address: SocketAddr, timeout: Duration) -> Result<(), FailureReason> {
        testing::probe(address, CheckKind::Connect, timeout).await
    }

    #[tokio::test]
    async fn an_open_port_answers_and_its_application_is_not_woken() {
        for ip in [Ipv4Addr::LOCALHOST.into(), Ipv6Addr::LOCALHOST.into()] {
            let listener = TcpListener::bind(SocketAddr::new(ip, 0)).await.unwrap();
            let address = listener.local_addr().unwrap();
            for _ in 0..3 {
                probe(address, LONG).await.unwrap();
            }
            // The first connection that reaches the application is a real one.
            let client = TcpStream::connect(address).await.unwrap();
            let (_, accepted) = listener.accept().await.unwrap();
            assert_eq!(accepted, client.local_addr().unwrap());
        }
    }

    #[tokio::test]
    async fn a_closed_port_refuses() {
        assert_eq!(probe(closed_port(), LONG).await, Err(FailureReason::Refused));
    }

    #[tokio::test]
    async fn a_full_accept_queue_times_out() {
        let silent = silent_port().await;
        let result = probe(silent.address, SHORT).await;
        assert_eq!(result, Err(FailureReason::TimedOut { phase: Phase::Connect }));
    }

    #[tokio::test]
    async fn a_connection_of_a_socket_to_itself_is_a_refusal() {
        let address = std::net::TcpListener::bind(testing::any_port()).unwrap().local_addr().unwrap();
        let socket = socket(&ProbeTarget::at(address), Handshake::HalfOpen).unwrap();
        socket.bind(address).unwrap();
        assert_eq!(connect(socket, address).await.map(drop), Err(FailureReason::Refused));
    }
}
