//! The outcome of a probe: a success, a failure of the server, or a fault of this director.

use std::{
    fmt, io,
    net::SocketAddr,
    time::{Duration, Instant},
};

use thiserror::Error;

use crate::model::{AgentReport, PeerText, Reported, StatusCodes};

/// The outcome of one probe.
pub type Outcome = Result<Success, Failure>;

/// The probe succeeded: the server answered as it should.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Success {
    /// From the start of the probe to the answer.
    pub latency: Duration,
    /// From the start of the probe to the connection, where one was made.
    pub connect: Option<Duration>,
    /// The weight or more that the check reports for the server; only checks by command, file and agent do.
    pub weight: Option<Reported>,
}

/// A success as the protocols report it, without the latency.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Answer {
    /// From the start of the probe to the connection, where one was made.
    pub(super) connect: Option<Duration>,
    /// The weight or more that the check reports.
    pub(super) weight: Option<Reported>,
}

impl Answer {
    /// A success over a connection that was made after this time.
    pub(super) fn connected(after: Duration) -> Self {
        Self { connect: Some(after), weight: None }
    }
}

/// The probe failed: the server didn't answer as it should, or the probe could not even be made.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("{reason}, after {after:.1?}")]
pub struct Failure {
    /// Why.
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
    /// No answer before the timeout.
    #[error("no {phase} in time")]
    TimedOut {
        /// What was waited for.
        phase: Phase,
    },
    /// A router, or the director itself, says that the server can't be reached.
    #[error(transparent)]
    Unreachable(#[from] Unreachable),
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
    #[error("status {got}, wanted {wanted}")]
    WrongStatus {
        /// The status that came.
        got: u16,
        /// Those that would do.
        wanted: StatusCodes,
    },
    /// A redirect to another server, or one too many.
    #[error("status {status} leads to {location:?}, {problem}")]
    Redirect {
        /// The status that came.
        status: u16,
        /// Where it leads.
        location: PeerText,
        /// Why it is not followed.
        problem: &'static str,
    },
    /// The text isn't in the body, or not in its first part.
    #[error("text not found in {searched} bytes{}", if *cut { ", the rest was not read" } else { "" })]
    TextNotFound {
        /// How many bytes of the body were searched.
        searched: usize,
        /// Whether there was more of it.
        cut: bool,
    },
    /// Text is there that must not be.
    #[error("unwanted text found in {searched} bytes")]
    UnwantedText {
        /// How many bytes were searched.
        searched: usize,
    },
    /// Another digest than the one that is wanted.
    #[error("digest {got}, wanted {wanted}")]
    WrongDigest {
        /// That of what came, in hexadecimal.
        got: String,
        /// The one that is wanted.
        wanted: String,
    },
    /// An answer in the protocol that is spoken, and not the one that is wanted.
    #[error("answered {got:?}, wanted {wanted}")]
    WrongAnswer {
        /// The answer, or its beginning.
        got: PeerText,
        /// What would do.
        wanted: &'static str,
    },
    /// The server's certificate is not as it should be.
    #[error("certificate: {0}")]
    Certificate(PeerText),
    /// A command ended with another exit status than one that is wanted.
    #[error("the command ended with {0}")]
    Command(CommandEnd),
    /// The server's agent says that it is down.
    #[error("the agent says {word:?}{}", if description.is_empty() { String::new() } else { format!(": {description}") })]
    Agent {
        /// All that it says.
        report: AgentReport,
        /// Its word for it.
        word: PeerText,
        /// Its description, if there is one.
        description: PeerText,
    },
    /// No connection at the VIP, where the check goes as clients do.
    #[error("{failure}", failure = failure.words(*vip))]
    AtVip {
        /// The VIP and the service's port.
        vip: SocketAddr,
        /// What became of the connection.
        failure: VipFailure,
    },
    /// The check is `off`: the server counts as down without a probe.
    #[error("the check is \"off\"")]
    Off,
    /// What came was not in the protocol that is spoken.
    #[error("protocol violated: {0}")]
    Protocol(PeerText),
    /// The director's own fault: the probe was never made, and says nothing about the server.
    #[error(transparent)]
    Local(#[from] LocalFault),
}

/// Why there is no connection at a VIP.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum VipFailure {
    /// A RST, or an ICMP message that says as much.
    Refused,
    /// No answer, at the server's own address neither.
    Silent,
    /// No answer, while the server answers at its own address.
    OnlyVipSilent,
}

impl VipFailure {
    fn words(self, vip: SocketAddr) -> String {
        match self {
            Self::Refused => format!("connection refused at the VIP {vip}"),
            Self::Silent => {
                format!(
                    "no connection in time at the VIP {vip}, nor does the server answer at its own address"
                )
            }
            Self::OnlyVipSilent => format!(
                "no connection in time at the VIP {vip}, while the server answers at its own address: see whether it has \
                 the VIP, its tunnel device, and settings of ARP and rp_filter"
            ),
        }
    }
}

/// What a probe was waiting for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// The answer to a SYN.
    Connect,
    /// The TLS handshake.
    Tls,
    /// The server's greeting, before any request.
    Greeting,
    /// The answer to a login.
    Login,
    /// The end of a command.
    Exit,
    /// The echo reply, or the whole head of an HTTP response.
    Reply,
    /// The body of an HTTP response, as far as it is wanted.
    Body,
}

impl fmt::Display for Phase {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Connect => "connection",
            Self::Tls => "TLS handshake",
            Self::Greeting => "greeting",
            Self::Login => "answer to the login",
            Self::Exit => "end of the command",
            Self::Reply => "reply",
            Self::Body => "body",
        })
    }
}

/// How a command ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CommandEnd {
    /// It exited with this status.
    Exit(i32),
    /// A signal ended it.
    Signal(i32),
}

impl fmt::Display for CommandEnd {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Exit(status) => write!(f, "exit status {status}"),
            Self::Signal(number) => write!(f, "signal {number}"),
        }
    }
}

/// Why a server can't be reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum Unreachable {
    /// There is no route to the server's network. If all servers have this, the director lost its own.
    #[error("network unreachable")]
    Network,
    /// Its network is there, the host isn't: no answer to ARP, or a router or firewall says so.
    #[error("host unreachable")]
    Host,
    /// The host is there and takes nothing of this protocol.
    #[error("protocol unreachable")]
    Protocol,
    /// A router or firewall forbids it (ICMPv6; over IPv4 the kernel calls that an unreachable host).
    #[error("administratively prohibited on the way to the server")]
    Prohibited,
    /// A route or a rule of this director's drops what goes there, the clients' packets as well.
    #[error("a blackhole route of this director leads there (EINVAL)")]
    BlackholeRoute,
    /// A route or a rule of this director's forbids what goes there, the clients' packets as well.
    #[error("a prohibit route of this director leads there (EACCES)")]
    ProhibitRoute,
    /// A packet filter of this director's drops what goes there.
    #[error("a packet filter of this director drops what goes there (EPERM)")]
    Filtered,
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
    pub message: PeerText,
}

impl LocalFault {
    /// The fault of `doing` what ended in `error`.
    #[must_use]
    pub fn new(doing: &'static str, error: &io::Error) -> Self {
        Self { doing, kind: error.kind(), message: error.to_string().into() }
    }
}

/// What an outcome says about the server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// The server is alive: it answered as it should.
    Alive,
    /// The server is dead: it didn't.
    Dead,
    /// Nothing: it could not be probed.
    Unknown,
}

/// What a check has reported about the server besides its health.
#[must_use]
pub fn reported(outcome: &Outcome) -> Option<Reported> {
    match outcome {
        Ok(success) => success.weight,
        Err(Failure { reason: FailureReason::Agent { report, .. }, .. }) => Some(Reported::Agent(*report)),
        Err(_) => None,
    }
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

/// The outcome of a probe from its start, its end and its result.
pub(super) fn timed(started: Instant, ended: Instant, result: Result<Answer, FailureReason>) -> Outcome {
    let after = ended.saturating_duration_since(started);
    match result {
        Ok(Answer { connect, weight }) => Ok(Success { latency: after, connect, weight }),
        Err(reason) => Err(Failure { reason, after }),
    }
}

impl FailureReason {
    /// An answer that isn't the one that is wanted.
    pub(super) fn wrong_answer(got: impl AsRef<[u8]>, wanted: &'static str) -> Self {
        /// Of an answer, in bytes.
        const MOST: usize = 120;
        Self::WrongAnswer { got: PeerText::beginning(got, MOST), wanted }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_outcome_gives_a_verdict() {
        let failed = |reason| Err(Failure { reason, after: Duration::ZERO });
        assert_eq!(
            Verdict::of(&Ok(Success { latency: Duration::ZERO, connect: None, weight: None })),
            Verdict::Alive
        );
        assert_eq!(Verdict::of(&failed(FailureReason::Refused)), Verdict::Dead);
        assert_eq!(
            Verdict::of(&failed(FailureReason::TextNotFound { searched: 0, cut: false })),
            Verdict::Dead
        );
    }

    #[test]
    fn no_reason_makes_lines_of_its_own() {
        let text = "no\nforged: line\u{1b}[2J\u{202e}";
        let reasons = [
            FailureReason::wrong_answer(text, "yes"),
            FailureReason::Protocol(text.into()),
            FailureReason::Certificate(text.into()),
            FailureReason::Redirect { status: 302, location: text.into(), problem: "no" },
            LocalFault::new("do", &io::Error::other(text)).into(),
        ];
        for reason in reasons {
            let (shown, debug) = (reason.to_string(), format!("{reason:?}"));
            assert!(shown.contains("forged: line"), "{shown}");
            for text in [shown, debug] {
                assert!(!text.contains(['\n', '\u{1b}', '\u{202e}']), "{text:?}");
            }
        }
    }
}
