//! What came of asking a server, as a type: an answer, a failure of the server, or a fault of our own.

use std::{
    fmt, io,
    ops::RangeInclusive,
    time::{Duration, Instant},
};

use thiserror::Error;

/// What came of one probe.
pub type Outcome = Result<Success, Failure>;

/// The server answered as it should.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Success {
    /// From the start of the probe to the answer.
    pub latency: Duration,
    /// From the start of the probe to the connection, where one was made.
    pub connect: Option<Duration>,
}

/// The server didn't answer as it should, or could not even be asked.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("{reason}, after {after:.1?}")]
pub struct Failure {
    /// Why.
    #[source]
    pub reason: FailureReason,
    /// From the start of the probe to its end.
    pub after: Duration,
}

/// Why a probe failed.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum FailureReason {
    /// A RST in answer to the SYN: the host is there, nothing listens.
    #[error("connection refused")]
    Refused,
    /// No answer in time.
    #[error("no {phase} in time")]
    TimedOut {
        /// What was waited for.
        phase: Phase,
    },
    /// A router, or the director itself, says that the server can't be reached.
    #[error("{0} unreachable")]
    Unreachable(Unreachable),
    /// A RST on an established connection.
    #[error("connection reset")]
    Reset,
    /// The connection was closed before the answer was complete.
    #[error("connection closed before the {phase} was complete")]
    Closed {
        /// What was waited for.
        phase: Phase,
    },
    /// Another HTTP status than those that are wanted.
    #[error("status {got}, wanted {} to {}", wanted.start(), wanted.end())]
    WrongStatus {
        /// The status that came.
        got: u16,
        /// Those that would do.
        wanted: RangeInclusive<u16>,
    },
    /// The text isn't in the body, or not in its first part.
    #[error("text not found in {searched} bytes{}", if *cut { ", the rest was not read" } else { "" })]
    TextNotFound {
        /// How many bytes of the body were searched.
        searched: usize,
        /// Whether there was more of it.
        cut: bool,
    },
    /// What came was not in the protocol that is spoken.
    #[error("protocol violated: {0}")]
    Protocol(String),
    /// The server was never asked: the fault is the director's, and says nothing about the server.
    #[error(transparent)]
    Local(#[from] LocalFault),
}

/// What a probe was waiting for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// The answer to a SYN.
    Connect,
    /// The echo reply, or the whole head of an HTTP response.
    Reply,
    /// The body of an HTTP response, as far as it is wanted.
    Body,
}

impl fmt::Display for Phase {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Connect => "connection",
            Self::Reply => "reply",
            Self::Body => "body",
        })
    }
}

/// What can't be reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unreachable {
    /// There is no way to the server's network. If all servers have this, the director lost its own.
    Network,
    /// Its network is there, the host isn't: no answer to ARP, or a router or firewall says so.
    Host,
}

impl fmt::Display for Unreachable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Network => "network",
            Self::Host => "host",
        })
    }
}

/// Something that the director itself could not do: no file descriptors, no ports, no permission, …
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("this director could not {doing}: {message}")]
pub struct LocalFault {
    /// What it could not do, as in "could not …".
    pub doing: &'static str,
    /// The kind of the error.
    pub kind: io::ErrorKind,
    /// The error as text.
    pub message: String,
}

impl LocalFault {
    /// The fault of `doing` what ended in `error`.
    #[must_use]
    pub fn new(doing: &'static str, error: &io::Error) -> Self {
        Self { doing, kind: error.kind(), message: error.to_string() }
    }
}

/// What an outcome says about the server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It answers.
    Alive,
    /// It doesn't.
    Dead,
    /// Nothing: it could not be asked.
    Unknown,
}

impl Verdict {
    /// What `outcome` says about the server.
    #[must_use]
    pub fn of(outcome: &Outcome) -> Self {
        match outcome {
            Ok(_) => Self::Alive,
            Err(Failure { reason: FailureReason::Local(_), .. }) => Self::Unknown,
            Err(_) => Self::Dead,
        }
    }
}

/// The outcome of a probe from its start, its end and its result: an answer, and how long the connection took.
pub(super) fn timed(
    started: Instant,
    ended: Instant,
    result: Result<Option<Duration>, FailureReason>,
) -> Outcome {
    let after = ended.saturating_duration_since(started);
    match result {
        Ok(connect) => Ok(Success { latency: after, connect }),
        Err(reason) => Err(Failure { reason, after }),
    }
}

impl FailureReason {
    /// What an error of a socket call means for the server.
    ///
    /// Only errors that a packet from outside, or the lack of one, has caused are the server's failures. `ENETUNREACH`
    /// and `ENETDOWN` are counted as such, too: where the director has no way to the server, neither have the clients'
    /// packets. Everything else (`EMFILE`, `EADDRNOTAVAIL`, `EPERM`, `ENOBUFS`, …) is the director's own fault; so is
    /// what isn't known here, as a wrong alarm is worse than a late one that the next probe corrects.
    pub(super) fn from_io(error: &io::Error, doing: &'static str, phase: Phase) -> Self {
        match error.kind() {
            io::ErrorKind::ConnectionRefused => Self::Refused,
            io::ErrorKind::ConnectionReset | io::ErrorKind::ConnectionAborted | io::ErrorKind::BrokenPipe => {
                Self::Reset
            }
            io::ErrorKind::UnexpectedEof => Self::Closed { phase },
            io::ErrorKind::TimedOut => Self::TimedOut { phase },
            io::ErrorKind::HostUnreachable => Self::Unreachable(Unreachable::Host),
            io::ErrorKind::NetworkUnreachable | io::ErrorKind::NetworkDown => {
                Self::Unreachable(Unreachable::Network)
            }
            _ => Self::Local(LocalFault::new(doing, error)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Numbers from Linux's `asm-generic/errno-base.h` and `errno.h`.
    #[test]
    fn errors_of_the_server_and_errors_of_our_own() {
        let cases = [
            (111, FailureReason::Refused),
            (104, FailureReason::Reset),
            (103, FailureReason::Reset),
            (32, FailureReason::Reset),
            (110, FailureReason::TimedOut { phase: Phase::Connect }),
            (113, FailureReason::Unreachable(Unreachable::Host)),
            (101, FailureReason::Unreachable(Unreachable::Network)),
            (100, FailureReason::Unreachable(Unreachable::Network)),
        ];
        for (number, reason) in cases {
            let error = io::Error::from_raw_os_error(number);
            assert_eq!(FailureReason::from_io(&error, "connect", Phase::Connect), reason, "{error}");
        }
        // EPERM, EAGAIN, ENOMEM, EACCES, EINVAL, ENFILE, EMFILE, EADDRINUSE, EADDRNOTAVAIL, ENOBUFS.
        for number in [1, 11, 12, 13, 22, 23, 24, 98, 99, 105] {
            let error = io::Error::from_raw_os_error(number);
            let reason = FailureReason::from_io(&error, "connect", Phase::Connect);
            let outcome = Err(Failure { reason, after: Duration::ZERO });
            assert_eq!(Verdict::of(&outcome), Verdict::Unknown, "{error}");
        }
    }

    #[test]
    fn verdicts() {
        let failed = |reason| Err(Failure { reason, after: Duration::ZERO });
        assert_eq!(Verdict::of(&Ok(Success { latency: Duration::ZERO, connect: None })), Verdict::Alive);
        assert_eq!(Verdict::of(&failed(FailureReason::Refused)), Verdict::Dead);
        assert_eq!(
            Verdict::of(&failed(FailureReason::TextNotFound { searched: 0, cut: false })),
            Verdict::Dead
        );
    }
}
