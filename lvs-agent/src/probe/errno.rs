//! What an error of a socket call says, and of whom: one table for connect, send and receive.
//!
//! The rule: whatever keeps the clients' packets from the server counts against the server, whoever has done it, since
//! the clients fail as well. What keeps only this agent from asking says nothing about it.
//!
//! Sources: routes `fib_props` in `net/ipv4/fib_semantics.c` and `fib6_prop` in `net/ipv6/route.c`; rules
//! `fib4_rule_action` and `fib6_rule_action`; ICMP `icmp_err_convert` in `net/ipv4/icmp.c` and `icmpv6_err_convert` in
//! `net/ipv6/icmp.c`; packet filters `nf_hook_slow` in `net/netfilter/core.c`.

use std::{io, net::SocketAddr};

use nix::errno::Errno;
use socket2::{Domain, Protocol, Socket, Type};

use super::{FailureReason, LocalFault, Phase, Unreachable, tls_failure};

/// Where an error comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Call {
    /// A connect: the route is looked up, and for TCP the peer answers.
    Connect,
    /// A send or a receive.
    Transfer,
}

/// What an error of a call about `server` means, in `phase`. `doing` names the call where it is the director's fault.
///
/// `EINVAL` and `EACCES` have several causes, so that the kernel is asked for the clients' route as well: a lookup, by
/// which no packet is sent.
pub(super) fn of_call(
    error: &io::Error,
    (call, doing): (Call, &'static str),
    phase: Phase,
    server: SocketAddr,
) -> FailureReason {
    let ambiguous = error.raw_os_error().map(Errno::from_raw);
    let ambiguous = ambiguous.filter(|errno| matches!(errno, Errno::EINVAL | Errno::EACCES));
    let Some(errno) = ambiguous else { return of(error, (call, doing), phase) };
    match (errno, route(server)) {
        (Errno::EINVAL, Err(Errno::EINVAL)) => FailureReason::Unreachable(Unreachable::BlackholeRoute),
        (Errno::EACCES, Err(Errno::EACCES)) => FailureReason::Unreachable(Unreachable::ProhibitRoute),
        // ICMPv6 "administratively prohibited", "failed policy", "reject route". There is no such errno for IPv4.
        (Errno::EACCES, Ok(())) if server.is_ipv6() => FailureReason::Unreachable(Unreachable::Prohibited),
        _ => of(error, (call, doing), phase),
    }
}

/// The route that the clients' packets take to `server`, whatever mark, source and device the check has: the kernel
/// looks it up when a UDP socket is connected.
fn route(server: SocketAddr) -> Result<(), Errno> {
    let looked_up = Socket::new(Domain::for_address(server), Type::DGRAM.cloexec(), Some(Protocol::UDP))
        .and_then(|socket| socket.connect(&server.into()));
    looked_up.map_err(|error| Errno::from_raw(error.raw_os_error().unwrap_or_default()))
}

/// What an error means in `phase`, by its number alone.
pub(super) fn of(error: &io::Error, (call, doing): (Call, &'static str), phase: Phase) -> FailureReason {
    if let Some(error) = error.get_ref().and_then(|error| error.downcast_ref::<rustls::Error>()) {
        return tls_failure::of(error);
    }
    if error.kind() == io::ErrorKind::UnexpectedEof {
        return FailureReason::Closed { phase };
    }
    let errno = error.raw_os_error().map(Errno::from_raw);
    if let Some(reason) = errno.and_then(|errno| of_server(errno, call, phase)) {
        return reason;
    }
    let advice = errno.and_then(advice);
    let message = advice.map_or_else(|| error.to_string(), |advice| format!("{error}; {advice}"));
    LocalFault { doing, kind: error.kind(), message: message.into() }.into()
}

/// The failure of the server that an errno stands for; `None`: it is the director's own fault, or isn't known here. A
/// wrong alarm is worse than a late one.
fn of_server(errno: Errno, call: Call, phase: Phase) -> Option<FailureReason> {
    let unreachable = |what| Some(FailureReason::Unreachable(what));
    match errno {
        // A RST in answer to the SYN, or ICMP "port unreachable".
        Errno::ECONNREFUSED => Some(FailureReason::Refused),
        // A RST on an established connection, and what follows it.
        Errno::ECONNRESET
        | Errno::ECONNABORTED
        | Errno::EPIPE
        | Errno::ENETRESET
        | Errno::ENOTCONN
        | Errno::ESHUTDOWN => Some(FailureReason::Reset),
        Errno::ETIMEDOUT => Some(FailureReason::TimedOut { phase }),
        // An unreachable route; nobody answers ARP; ICMP "host unreachable", "unknown", "isolated", "prohibited",
        // "source route failed", and "time exceeded".
        Errno::EHOSTUNREACH | Errno::EHOSTDOWN | Errno::ENONET | Errno::EOPNOTSUPP => {
            unreachable(Unreachable::Host)
        }
        // No route, or a device that is down: neither have the clients' packets one. ICMP "network unreachable".
        Errno::ENETUNREACH | Errno::ENETDOWN => unreachable(Unreachable::Network),
        // ICMP "protocol unreachable"; ICMPv6 "unknown next header".
        Errno::ENOPROTOOPT | Errno::EPROTO => unreachable(Unreachable::Protocol),
        // A packet filter has dropped or rejected it on its way out, where IPVS sends the clients' packets, too
        // (`NF_INET_LOCAL_OUT` in `net/netfilter/ipvs/ip_vs_xmit.c`). At connect it is a ban on this program.
        Errno::EPERM if call == Call::Transfer => unreachable(Unreachable::Filtered),
        _ => None,
    }
}

/// What helps against a fault of the director's own.
fn advice(errno: Errno) -> Option<&'static str> {
    match errno {
        Errno::EMFILE => Some("raise LimitNOFILE in the agent's unit"),
        Errno::ENFILE => Some("raise fs.file-max"),
        Errno::EADDRNOTAVAIL => {
            Some("all local ports are in use (net.ipv4.ip_local_port_range), or there is no source address")
        }
        Errno::EACCES | Errno::EPERM => Some("a security policy forbids it to the agent"),
        Errno::EINVAL => Some("the route by the check's own mark, source or device is closed"),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::probe::{Failure, Verdict};

    const DOING: (Call, &str) = (Call::Transfer, "use a connection");

    fn by_number(number: i32, call: Call) -> FailureReason {
        of(&io::Error::from_raw_os_error(number), (call, "use a connection"), Phase::Connect)
    }

    /// Numbers from Linux's `asm-generic/errno-base.h` and `errno.h`.
    #[test]
    fn socket_errors_are_the_servers_or_the_directors() {
        let unreachable = FailureReason::Unreachable;
        let cases = [
            (111, FailureReason::Refused),
            (104, FailureReason::Reset),
            (103, FailureReason::Reset),
            (32, FailureReason::Reset),
            (102, FailureReason::Reset),
            (107, FailureReason::Reset),
            (108, FailureReason::Reset),
            (110, FailureReason::TimedOut { phase: Phase::Connect }),
            (113, unreachable(Unreachable::Host)),
            (112, unreachable(Unreachable::Host)),
            (64, unreachable(Unreachable::Host)),
            (95, unreachable(Unreachable::Host)),
            (101, unreachable(Unreachable::Network)),
            (100, unreachable(Unreachable::Network)),
            (92, unreachable(Unreachable::Protocol)),
            (71, unreachable(Unreachable::Protocol)),
        ];
        for (number, reason) in cases {
            for call in [Call::Connect, Call::Transfer] {
                assert_eq!(by_number(number, call), reason, "{number}");
            }
        }
        assert_eq!(by_number(1, Call::Transfer), unreachable(Unreachable::Filtered));
        // EPERM, EAGAIN, ENOMEM, EACCES, ENODEV, EINVAL, ENFILE, EMFILE, EMSGSIZE, EADDRINUSE, EADDRNOTAVAIL, ENOBUFS.
        for number in [1, 11, 12, 13, 19, 22, 23, 24, 90, 98, 99, 105] {
            let reason = by_number(number, Call::Connect);
            let outcome = Err(Failure { reason, after: std::time::Duration::ZERO });
            assert_eq!(Verdict::of(&outcome), Verdict::Unknown, "{number}");
        }
    }

    #[test]
    fn a_fault_of_the_director_says_what_helps() {
        let said = by_number(24, Call::Connect).to_string();
        assert_eq!(
            said,
            "this director could not use a connection: Too many open files (os error 24); raise LimitNOFILE in the \
             agent's unit"
        );
        let end = io::Error::from(io::ErrorKind::UnexpectedEof);
        assert_eq!(of(&end, DOING, Phase::Body), FailureReason::Closed { phase: Phase::Body });
    }
}
