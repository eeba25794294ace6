//! UDP: a datagram is sent, and a reply awaited. A closed port answers by ICMP, which a connected socket reports as
//! "connection refused".

use std::{io, net::SocketAddr};

use nix::sys::socket::{setsockopt, sockopt};
use socket2::{Domain, Protocol, Socket, Type};
use tokio::net::UdpSocket;

use super::{
    FailureReason, LocalFault, Phase,
    connect::prepare,
    context::ProbeContext,
    errno::{self, Call},
    outcome::Answer,
};
use crate::model::UdpCheck;

/// What is done when a socket call fails here.
const DOING: &str = "use a socket for datagrams";

/// How much of a reply is read, in bytes.
pub(super) const MAX_REPLY: usize = 4096;

/// A UDP socket connected to the server: it receives from nobody else.
#[derive(Debug)]
pub(super) struct Datagrams<'a> {
    context: &'a ProbeContext<'a>,
    socket: UdpSocket,
}

impl<'a> Datagrams<'a> {
    pub(super) fn open(context: &'a ProbeContext<'a>) -> Result<Self, FailureReason> {
        let socket = socket(context).map_err(|error| LocalFault::new(DOING, &error))?;
        let server = context.target.address;
        let connected = socket.connect(&server.into());
        connected.map_err(|error| errno::of_call(&error, (Call::Connect, DOING), Phase::Reply, server))?;
        let socket = UdpSocket::from_std(socket.into()).map_err(|error| LocalFault::new(DOING, &error))?;
        Ok(Self { context, socket })
    }

    /// The local address of the socket.
    pub(super) fn own_address(&self) -> Result<SocketAddr, FailureReason> {
        self.socket.local_addr().map_err(|error| LocalFault::new(DOING, &error).into())
    }

    pub(super) async fn send(&self, payload: &[u8]) -> Result<(), FailureReason> {
        self.socket.send(payload).await.map(drop).map_err(|error| self.failed(&error))
    }

    /// What `accept` makes of the first datagram that it doesn't refuse. Others may be late or forged and are ignored;
    /// if no better one comes in time, the last refusal is the reason of the failure.
    pub(super) async fn receive<T>(
        &self,
        mut accept: impl FnMut(&[u8]) -> Result<T, &'static str>,
    ) -> Result<T, FailureReason> {
        let mut buffer = [0; MAX_REPLY];
        let mut wrong = None;
        let receiving = async {
            loop {
                let length = self.socket.recv(&mut buffer).await.map_err(|error| self.failed(&error))?;
                match accept(&buffer[..length]) {
                    Ok(accepted) => return Ok(accepted),
                    Err(problem) => wrong = Some(problem),
                }
            }
        };
        match (self.context.deadline.within(Phase::Reply, receiving).await, wrong) {
            (Err(FailureReason::TimedOut { .. }), Some(problem)) => {
                Err(FailureReason::Protocol(problem.into()))
            }
            (result, _) => result,
        }
    }

    /// What an error of a send or a receive means.
    fn failed(&self, error: &io::Error) -> FailureReason {
        errno::of_call(error, (Call::Transfer, DOING), Phase::Reply, self.context.target.address)
    }
}

/// A socket that reports every ICMP error. Without `IP_RECVERR` the kernel keeps those that may pass to itself, "host
/// unreachable" among them (`__udp4_lib_err` in `net/ipv4/udp.c`), and a check that takes silence for an answer would
/// pass.
fn socket(context: &ProbeContext<'_>) -> io::Result<Socket> {
    let address = context.target.address;
    let kind = Type::DGRAM.nonblocking().cloexec();
    let socket = Socket::new(Domain::for_address(address), kind, Some(Protocol::UDP))?;
    prepare(&socket, &context.target)?;
    match address {
        SocketAddr::V4(_) => setsockopt(&socket, sockopt::Ipv4RecvErr, &true)?,
        SocketAddr::V6(_) => setsockopt(&socket, sockopt::Ipv6RecvErr, &true)?,
    }
    Ok(socket)
}

/// Sends the datagram, and waits for the reply. Where none is required, a timeout is a success.
pub(super) async fn probe(context: &ProbeContext<'_>, check: &UdpCheck) -> Result<Answer, FailureReason> {
    let socket = Datagrams::open(context)?;
    socket.send(&check.send).await?;
    let evaluated = socket.receive(|reply| {
        let fits = check.expect.as_ref().is_none_or(|expect| expect.is_in(reply));
        Ok((fits, reply.len()))
    });
    match evaluated.await {
        Ok((true, _)) => Ok(Answer::default()),
        Ok((false, searched)) => Err(FailureReason::TextNotFound { searched, cut: searched == MAX_REPLY }),
        Err(FailureReason::TimedOut { .. }) if !check.reply => Ok(Answer::default()),
        Err(reason) => Err(reason),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        model::{CheckKind, Pattern},
        probe::testing::{self, LONG, SHORT, closed_udp_port, udp_server},
    };

    fn check(expect: Option<&str>, reply: bool) -> CheckKind {
        let expect = expect.map(|expect| Pattern::new(expect).unwrap());
        CheckKind::Udp(UdpCheck { send: b"ping".to_vec(), expect, reply })
    }

    #[tokio::test]
    async fn replies_pass_or_fail_the_check() {
        let echo = udp_server(|payload| Some(payload.to_vec())).await;
        let mute = udp_server(|_| None).await;
        let timed_out = Err(FailureReason::TimedOut { phase: Phase::Reply });
        let cases = [
            (echo, check(Some("^ping$"), true), Ok(())),
            (echo, check(None, true), Ok(())),
            (echo, check(None, false), Ok(())),
            (echo, check(Some("pong"), true), Err(FailureReason::TextNotFound { searched: 4, cut: false })),
            (mute, check(None, true), timed_out),
            (mute, check(None, false), Ok(())),
            (closed_udp_port(), check(None, true), Err(FailureReason::Refused)),
            (closed_udp_port(), check(None, false), Err(FailureReason::Refused)),
        ];
        for (number, (address, check, expected)) in cases.into_iter().enumerate() {
            let timeout = if address == mute { SHORT } else { LONG };
            assert_eq!(testing::probe(address, check, timeout).await, expected, "case {number}");
        }
    }

    #[tokio::test]
    async fn datagrams_from_other_addresses_are_ignored() {
        let mute = udp_server(|_| None).await;
        let target = crate::probe::ProbeTarget::at(mute);
        let tls = crate::probe::tls::TlsClients::default();
        let context = ProbeContext {
            target,
            deadline: crate::probe::context::Deadline::new(LONG, &target.via),
            tls: &tls,
            rests: &crate::probe::http::Rests::default(),
            run_as: &crate::privileges::RunAs::default(),
        };
        let socket = Datagrams::open(&context).unwrap();
        let stranger = UdpSocket::bind(testing::any_port()).await.unwrap();
        stranger.send_to(b"pong", socket.own_address().unwrap()).await.unwrap();
        let received = tokio::time::timeout(SHORT, socket.receive(|reply| Ok(reply.to_vec()))).await;
        assert!(received.is_err(), "{received:?}");
    }
}
