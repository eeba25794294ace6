//! What clients of one server don't get, in types and in words.

use std::{fmt, time::Duration};

use lvs_common::ServerId;

use crate::model::ForwardingMethod;

/// What the clients of one server say.
#[derive(Clone, Debug, PartialEq)]
pub struct ClientReport {
    /// Which server.
    pub id: ServerId,
    /// What they say.
    pub say: ClientsSay,
}

/// What the clients of a server say, as far as their packets show it.
#[derive(Clone, Debug, PartialEq)]
pub enum ClientsSay {
    /// They fail, and have done so for long enough to be more than chance.
    Failing(Complaint),
    /// They are served again. Said only after [`ClientsSay::Failing`].
    Served,
}

/// Clients of one server fail.
#[derive(Clone, Debug, PartialEq)]
pub struct Complaint {
    /// What they don't get.
    pub missing: Missing,
    /// How many SYNs (first ones), datagrams or sampled requests there were.
    pub attempts: u64,
    /// How many of them were answered.
    pub answered: u64,
    /// How many client networks (/24, /64) have failed, as far as a sketch of 256 bits tells them apart.
    pub networks: u32,
    /// Since the first of these attempts.
    pub lasted: Duration,
    /// What the other servers of the service show in the same time.
    pub siblings: Comparison,
}

/// What clients don't get.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Missing {
    /// An answer to their SYNs. Only where the servers' packets are seen.
    SynAck,
    /// A connection: their SYNs are answered by RST. Only where the servers' packets are seen.
    Acceptance,
    /// A handshake: SYNs come, and no ACK that completes one.
    Handshake,
    /// An answer to their datagrams.
    Datagram,
    /// A response on an established connection.
    Response,
}

impl Missing {
    /// Its name for programs.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::SynAck => "syn-ack",
            Self::Acceptance => "acceptance",
            Self::Handshake => "handshake",
            Self::Datagram => "datagram",
            Self::Response => "response",
        }
    }
}

/// The siblings of a server whose clients fail.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Comparison {
    /// There are none, or none that had clients.
    Alone,
    /// Their clients fail as well.
    Alike,
    /// They answer this share of what they are asked, from 0 to 1.
    Answer(f64),
}

impl fmt::Display for Complaint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { missing, attempts, answered, networks, lasted, siblings } = self;
        let (what, done) = match missing {
            Missing::SynAck => ("SYNs", "answered"),
            Missing::Acceptance => ("SYNs", "accepted"),
            Missing::Handshake => ("SYNs", "followed by a completed handshake"),
            Missing::Datagram => ("datagrams", "answered"),
            Missing::Response => ("sampled requests", "answered"),
        };
        match answered {
            0 => f.write_str("none")?,
            some => write!(f, "only {some}")?,
        }
        let plural = if *networks == 1 { "" } else { "s" };
        let verb = if *answered > 1 { "were" } else { "was" };
        write!(
            f,
            " of {attempts} {what} of {networks} client network{plural} {verb} {done} in {} s; ",
            lasted.as_secs()
        )?;
        match siblings {
            Comparison::Alone => f.write_str("there is no sibling to compare with"),
            Comparison::Alike => f.write_str("its siblings fare no better"),
            Comparison::Answer(share) => write!(f, "its siblings: {:.0} %", share * 100.0),
        }
    }
}

impl Complaint {
    /// The likely causes, in words, for a server that packets reach this way and whose probes are well.
    #[must_use]
    pub fn likely_causes(&self, method: ForwardingMethod) -> &'static str {
        match (self.siblings, self.missing) {
            (Comparison::Alike, Missing::Handshake) => {
                "answers do not reach the clients (the servers' way back, a packet filter, a missing VIP on all of \
                 them), or no client is real"
            }
            _ => causes(method, self.missing),
        }
    }
}

/// The same where it is this server's own fault.
fn causes(method: ForwardingMethod, missing: Missing) -> &'static str {
    let is_masqueraded = method == ForwardingMethod::Masquerade;
    match missing {
        Missing::SynAck => {
            "the server's default route leads past this director, or its packet filter drops what is not from the \
             director itself"
        }
        Missing::Acceptance => {
            "a packet filter or access list of the server refuses clients and lets the director through"
        }
        Missing::Handshake if is_masqueraded => {
            "the server's answers are lost between this director and the clients, or are not what clients accept"
        }
        Missing::Handshake if method == ForwardingMethod::DirectRoute => {
            "the VIP is not on the server's loopback, nothing listens at the VIP there, or the server's answers do \
             not reach the clients (route, reverse path filter, packet filter)"
        }
        Missing::Handshake => {
            "the VIP is not on the server's tunnel device or loopback, nothing listens at the VIP there, its reverse \
             path filter drops what comes out of the tunnel, or its answers do not reach the clients"
        }
        Missing::Datagram => {
            "the server's default route leads past this director, its packet filter drops what is not from the \
             director itself, or it answers only some clients"
        }
        Missing::Response if method == ForwardingMethod::Tunnel => {
            "large packets are dropped on the way (the tunnel's overhead: lower the MTU or clamp the MSS; let ICMP \
             \"fragmentation needed\" pass), or the application hangs in a way that its check does not see"
        }
        Missing::Response => {
            "large packets are dropped on the way (MTU, ICMP \"fragmentation needed\" that is filtered), or the \
             application hangs in a way that its check does not see"
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn complaint(missing: Missing, answered: u64, networks: u32, siblings: Comparison) -> Complaint {
        Complaint {
            missing,
            attempts: 375,
            answered,
            networks,
            lasted: Duration::from_millis(40_900),
            siblings,
        }
    }

    #[test]
    fn complaints_in_words() {
        let cases = [
            (
                complaint(Missing::Handshake, 0, 12, Comparison::Answer(0.987)),
                "none of 375 SYNs of 12 client networks was followed by a completed handshake in 40 s; its siblings: 99 %",
            ),
            (
                complaint(Missing::SynAck, 0, 1, Comparison::Alone),
                "none of 375 SYNs of 1 client network was answered in 40 s; there is no sibling to compare with",
            ),
            (
                complaint(Missing::Response, 90, 4, Comparison::Alike),
                "only 90 of 375 sampled requests of 4 client networks were answered in 40 s; its siblings fare no better",
            ),
        ];
        for (complaint, words) in cases {
            assert_eq!(complaint.to_string(), words);
        }
    }

    #[test]
    fn causes_follow_from_the_forwarding_method_and_from_what_is_missing() {
        use ForwardingMethod::{DirectRoute, Masquerade, Tunnel};
        let cases = [
            (Missing::SynAck, Masquerade, "default route leads past this director"),
            (Missing::Acceptance, Masquerade, "refuses clients"),
            (Missing::Handshake, Masquerade, "lost between this director and the clients"),
            (Missing::Handshake, DirectRoute, "not on the server's loopback"),
            (Missing::Handshake, Tunnel, "tunnel device"),
            (Missing::Datagram, Masquerade, "default route"),
            (Missing::Response, Masquerade, "large packets"),
            (Missing::Response, Tunnel, "clamp the MSS"),
        ];
        for (missing, method, words) in cases {
            let likely = complaint(missing, 0, 3, Comparison::Answer(1.0)).likely_causes(method);
            assert!(likely.contains(words), "{missing:?} {method:?}: {likely}");
        }
        let alike = complaint(Missing::Handshake, 0, 3, Comparison::Alike).likely_causes(DirectRoute);
        assert!(alike.contains("all of them"), "{alike}");
    }
}
