//! What becomes of idle connections, in types and in words.

use std::{fmt, time::Duration};

/// What has changed about the idle connection to a server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum IdleChange {
    /// It is established.
    Opened,
    /// It has ended, or could not be established.
    Ended {
        /// How.
        end: IdleEnd,
        /// How long it was established; zero if it never was.
        after: Duration,
        /// The age at which this server usually ends a silent connection, if that is known.
        usual: Option<Duration>,
        /// What that says about the server.
        sign: IdleSign,
    },
    /// It is given up: the server does not go together with idle connections.
    Off(IdleOff),
    /// It is kept again.
    On,
}

/// How an idle connection, or the attempt to make one, has ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum IdleEnd {
    /// The server has closed it (FIN).
    Finished,
    /// The server has reset it (RST).
    Reset,
    /// The server has refused it (RST in place of a SYN-ACK, or ICMP).
    Refused,
    /// The server has not answered in time.
    Unanswered,
    /// The agent has closed it: the server is down or no longer configured, or the connection was to be a new one.
    Closed,
}

impl IdleEnd {
    /// A word for programs.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Finished => "fin",
            Self::Reset => "rst",
            Self::Refused => "refused",
            Self::Unanswered => "unanswered",
            Self::Closed => "closed",
        }
    }
}

impl fmt::Display for IdleEnd {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Finished => "closed by the server",
            Self::Reset => "reset by the server",
            Self::Refused => "refused by the server",
            Self::Unanswered => "not answered by the server",
            Self::Closed => "closed by the agent",
        })
    }
}

/// What the end of an idle connection says about the server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum IdleSign {
    /// Nothing new: the server is known to do that.
    Nothing,
    /// Something is odd, and worth a probe.
    Hint,
    /// It refuses connections, right after it has ended one: that is a probe that has failed.
    Suspicion,
}

/// Why a server does not go together with idle connections.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum IdleOff {
    /// It ends them soon.
    Cut {
        /// The age of the last one.
        after: Duration,
    },
    /// It refuses them, while its checks are well.
    Refused,
    /// It leaves them unanswered, while its checks are well.
    Unanswered,
    /// Its checks get no answer while one is open.
    Harmed,
    /// It speaks first: its protocol may punish a silent client.
    Greets,
    /// It never stops sending.
    Talks,
}

impl fmt::Display for IdleOff {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Cut { after } => write!(f, "the server ends silent connections after {after:.1?}"),
            Self::Refused => f.write_str("the server refuses them, though its checks are well"),
            Self::Unanswered => f.write_str("the server does not answer them, though its checks are well"),
            Self::Harmed => f.write_str(
                "the server answers no check while one is open; it may serve one client at a time",
            ),
            Self::Greets => f.write_str("the server speaks first, so its protocol may punish silent clients"),
            Self::Talks => f.write_str("the server never stops sending"),
        }
    }
}
