//! What the detector says, in types and in words.

use std::{fmt, time::Duration};

use lvs_common::ServerId;

/// What one look at a server has found.
#[derive(Clone, Debug, PartialEq)]
pub enum Finding {
    /// The server may be dead: it should be probed.
    Suspicion(Suspicion),
    /// Something is odd, which is less than a suspicion.
    Hint(Hint),
    /// The server is silent, and so is most of its service: an alarm, and no verdict on one server. Either all is dead
    /// or what leads there; the baseline checks decide.
    Correlated {
        /// Which server.
        id: ServerId,
        /// What speaks against it.
        evidence: Evidence,
    },
    /// The server lives but takes no new connections. To be reported and counted; the baseline check decides.
    Overloaded {
        /// Which server.
        id: ServerId,
        /// Why.
        evidence: Evidence,
    },
}

/// The wish for a probe.
#[derive(Clone, Debug, PartialEq)]
pub struct Suspicion {
    /// Of which server.
    pub id: ServerId,
    /// One probe or the whole burst.
    pub strength: Strength,
    /// What should be probed.
    pub layer: Layer,
    /// Why.
    pub evidence: Evidence,
}

/// Something odd about a server: it brings the next check forward, and does no more by itself.
#[derive(Clone, Debug, PartialEq)]
pub struct Hint {
    /// Which server.
    pub id: ServerId,
    /// What should be probed.
    pub layer: Layer,
    /// Whose connections are the reason; `None`: it is no client's.
    pub source: Option<HintSource>,
    /// Why.
    pub evidence: Evidence,
}

/// Whose connections are the reason for a hint.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HintSource {
    /// One client network's, by its bit number in a [`Sketch`](lvs_common::Sketch).
    Network(u8),
    /// Those of several.
    Several,
}

/// How much a suspicion is worth.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Strength {
    /// Enough for one probe.
    Weak,
    /// Enough for the confirming burst.
    Strong,
}

impl fmt::Display for Strength {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Weak => "weak",
            Self::Strong => "strong",
        })
    }
}

/// What is suspected of having failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Layer {
    /// The host or its listening socket: a TCP connection tells.
    Host,
    /// What serves behind the socket: only the service's own application check can tell.
    Application,
}

impl fmt::Display for Layer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Host => "host",
            Self::Application => "application",
        })
    }
}

/// What speaks against a server.
#[derive(Clone, Debug, PartialEq)]
pub enum Evidence {
    /// It answers SYNs with RST.
    Refused {
        /// How many, with no SYN accepted between.
        refusals: u32,
        /// From the first of them to the newest.
        within: Duration,
    },
    /// ICMP calls it or its port unreachable.
    Unreachable {
        /// How many such messages there were since it last proved its life.
        messages: u32,
    },
    /// The director's neighbour table has given it up.
    NeighbourFailed,
    /// Clients wait for longer than this server lets them.
    Silent {
        /// What the clients wait for.
        layer: Layer,
        /// Since the first of those who wait began to, or since this silence is measured.
        silence: Duration,
        /// How many client networks wait.
        clients: u32,
        /// How many SYNs or requests they sent.
        attempts: u32,
        /// What this server's clients usually wait, if that is known.
        usual: Option<Usual>,
    },
    /// The same, where few networks wait, but siblings have answered them meanwhile: each connection counts.
    Witnessed {
        /// What the clients wait for.
        layer: Layer,
        /// Since the first of those who wait began to, or since this silence is measured.
        silence: Duration,
        /// How many connections wait.
        connections: u32,
        /// Of how many client networks.
        clients: u32,
        /// What this server's clients usually wait, if that is known.
        usual: Option<Usual>,
    },
    /// Connections wait for longer than is usual: a hint, whatever their networks.
    Waiting {
        /// What they wait for.
        layer: Layer,
        /// How long the first of them has waited.
        waited: Duration,
        /// How many wait.
        connections: u32,
        /// Of how many client networks.
        clients: u32,
        /// Nobody has waited for longer in the last minutes, if that is known.
        longest: Option<Duration>,
    },
    /// Data is sent again on established flows, and none of them moves.
    SentAgain {
        /// How many flows.
        flows: u32,
        /// Of how many client networks.
        clients: u32,
        /// From the first segment that was sent again to now.
        within: Duration,
    },
    /// Its siblings complete handshakes and it doesn't, though it is asked to.
    Outpaced {
        /// Since its own last one.
        silence: Duration,
        /// How many its siblings have completed since.
        siblings: u64,
        /// Its usual share of all, from 0 to 1.
        share: f64,
    },
    /// The idle connection to it, on which nothing is sent, has ended.
    IdleClosed {
        /// How.
        end: IdleEnd,
        /// How long it was established.
        after: Duration,
        /// How long it usually is, if that is known.
        usual: Option<Duration>,
    },
    /// New connections fail, but established ones are answered.
    Overloaded {
        /// Since the first of those who wait began to.
        silence: Duration,
        /// How many client networks wait.
        clients: u32,
        /// How many SYNs they sent.
        attempts: u32,
        /// How long ago an established flow was answered.
        answered: Duration,
    },
}

/// What evidence is made of. Whoever can forge the one kind can't forge another, so that what was wrong about one says
/// nothing about another.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum EvidenceKind {
    /// RSTs in answer to SYNs.
    Refusals,
    /// ICMP messages.
    Unreachable,
    /// The director's own neighbour table.
    Neighbour,
    /// Clients that wait.
    Silence,
    /// Data that is sent again.
    SentAgain,
    /// The agent's own idle connection.
    IdleConnection,
}

impl EvidenceKind {
    /// How many there are.
    pub(super) const COUNT: usize = 6;
}

impl Evidence {
    /// What it is made of.
    #[must_use]
    pub fn kind(&self) -> EvidenceKind {
        match self {
            Self::Refused { .. } => EvidenceKind::Refusals,
            Self::Unreachable { .. } => EvidenceKind::Unreachable,
            Self::NeighbourFailed => EvidenceKind::Neighbour,
            Self::Silent { .. }
            | Self::Witnessed { .. }
            | Self::Waiting { .. }
            | Self::Outpaced { .. }
            | Self::Overloaded { .. } => EvidenceKind::Silence,
            Self::SentAgain { .. } => EvidenceKind::SentAgain,
            Self::IdleClosed { .. } => EvidenceKind::IdleConnection,
        }
    }
}

/// How an idle connection has ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum IdleEnd {
    /// By a FIN of the server.
    Finished,
    /// By a RST of the server.
    Reset,
    /// The next one was refused.
    Refused,
}

/// What clients of a server usually wait.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Usual {
    /// Half of them wait no longer.
    pub half: Duration,
    /// 99 of 100 wait no longer; `None`: longer than is measured.
    pub nearly_all: Option<Duration>,
}

impl fmt::Display for Evidence {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Refused { refusals, within } => {
                write!(f, "{refusals} SYNs refused within {} ms, none accepted", within.as_millis())
            }
            Self::Unreachable { messages } => {
                let times = if *messages == 1 { "once".to_owned() } else { format!("{messages} times") };
                write!(f, "ICMP reported it as unreachable {times}, no sign of life since")
            }
            Self::NeighbourFailed => f.write_str("the director's neighbour entry for it has failed"),
            Self::Silent { layer, silence, clients, attempts, usual } => {
                let (sign, demand) = match layer {
                    Layer::Host => ("progress", "SYN"),
                    Layer::Application => ("response", "request"),
                };
                write!(
                    f,
                    "no {sign} for {} ms while {} sent {}; usual wait ",
                    silence.as_millis(),
                    counted(*clients, "client network"),
                    counted(*attempts, demand),
                )?;
                match usual {
                    Some(usual) => usual.fmt(f),
                    None => f.write_str("not known yet"),
                }
            }
            Self::Witnessed { layer, silence, connections, clients, usual } => {
                let sign = if *layer == Layer::Host { "progress" } else { "response" };
                write!(
                    f,
                    "no {sign} for {} ms while {} of {} waited, which siblings answered meanwhile; usual wait ",
                    silence.as_millis(),
                    counted(*connections, "connection"),
                    counted(*clients, "client network"),
                )?;
                match usual {
                    Some(usual) => usual.fmt(f),
                    None => f.write_str("not known yet"),
                }
            }
            Self::Waiting { layer, waited, connections, clients, longest } => {
                let answer = if *layer == Layer::Host { "SYN-ACK" } else { "response" };
                write!(
                    f,
                    "{} of {} waited for a {answer}, the first for {} ms; longest wait lately ",
                    counted(*connections, "connection"),
                    counted(*clients, "client network"),
                    waited.as_millis(),
                )?;
                match longest {
                    Some(longest) => write!(f, "{}", milliseconds(*longest)),
                    None => f.write_str("not known"),
                }
            }
            Self::SentAgain { flows, clients, within } => write!(
                f,
                "{} of {} retransmitted data within {} ms, none made progress",
                counted(*flows, "flow"),
                counted(*clients, "client network"),
                within.as_millis(),
            ),
            Self::Outpaced { silence, siblings, share } => write!(
                f,
                "no progress for {} ms while its siblings completed {siblings} handshakes; usual share {:.0} %",
                silence.as_millis(),
                share * 100.0,
            ),
            Self::IdleClosed { end: IdleEnd::Refused, .. } => f.write_str("it refused a new idle connection"),
            Self::IdleClosed { end, after, usual } => {
                let by = if *end == IdleEnd::Reset { "reset" } else { "closed" };
                write!(f, "it {by} the idle connection after {after:.1?}")?;
                usual.map_or(Ok(()), |usual| write!(f, ", usually after {usual:.1?}"))
            }
            Self::Overloaded { silence, clients, attempts, answered } => write!(
                f,
                "no new connection for {} ms while {} sent {}, but established flows were answered {} ms ago",
                silence.as_millis(),
                counted(*clients, "client network"),
                counted(*attempts, "SYN"),
                answered.as_millis(),
            ),
        }
    }
}

impl fmt::Display for Usual {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}, ", milliseconds(self.half))?;
        match self.nearly_all {
            Some(bound) => write!(f, "99 % below {}", milliseconds(bound)),
            None => f.write_str("1 % beyond the measured range"),
        }
    }
}

fn counted(number: u32, thing: &str) -> String {
    format!("{number} {thing}{}", if number == 1 { "" } else { "s" })
}

fn milliseconds(duration: Duration) -> String {
    let ms = duration.as_secs_f64() * 1000.0;
    if ms < 10.0 { format!("{ms:.1} ms") } else { format!("{ms:.0} ms") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn evidence_in_words() {
        let ms = Duration::from_millis;
        let usual = Usual { half: Duration::from_micros(1200), nearly_all: Some(ms(6)) };
        let silent = |layer, clients, attempts, usual| Evidence::Silent {
            layer,
            silence: ms(212),
            clients,
            attempts,
            usual,
        };
        let cases = [
            (
                silent(Layer::Host, 7, 9, Some(usual)),
                "no progress for 212 ms while 7 client networks sent 9 SYNs; usual wait 1.2 ms, 99 % below 6.0 ms",
            ),
            (
                silent(Layer::Application, 1, 1, None),
                "no response for 212 ms while 1 client network sent 1 request; usual wait not known yet",
            ),
            (
                silent(Layer::Application, 2, 3, Some(Usual { half: ms(25), nearly_all: None })),
                "no response for 212 ms while 2 client networks sent 3 requests; usual wait 25 ms, 1 % beyond the \
                 measured range",
            ),
            (
                Evidence::Witnessed {
                    layer: Layer::Host,
                    silence: ms(64),
                    connections: 4,
                    clients: 1,
                    usual: Some(usual),
                },
                "no progress for 64 ms while 4 connections of 1 client network waited, which siblings answered \
                 meanwhile; usual wait 1.2 ms, 99 % below 6.0 ms",
            ),
            (
                Evidence::Waiting {
                    layer: Layer::Application,
                    waited: ms(84),
                    connections: 1,
                    clients: 1,
                    longest: Some(ms(31)),
                },
                "1 connection of 1 client network waited for a response, the first for 84 ms; longest wait lately \
                 31 ms",
            ),
            (Evidence::Refused { refusals: 3, within: ms(9) }, "3 SYNs refused within 9 ms, none accepted"),
            (
                Evidence::Unreachable { messages: 2 },
                "ICMP reported it as unreachable 2 times, no sign of life since",
            ),
            (
                Evidence::SentAgain { flows: 9, clients: 8, within: ms(640) },
                "9 flows of 8 client networks retransmitted data within 640 ms, none made progress",
            ),
            (
                Evidence::Outpaced { silence: ms(700), siblings: 105, share: 0.25 },
                "no progress for 700 ms while its siblings completed 105 handshakes; usual share 25 %",
            ),
            (
                Evidence::IdleClosed { end: IdleEnd::Reset, after: ms(12_340), usual: None },
                "it reset the idle connection after 12.3s",
            ),
            (
                Evidence::IdleClosed { end: IdleEnd::Finished, after: ms(12_340), usual: Some(ms(60_000)) },
                "it closed the idle connection after 12.3s, usually after 60.0s",
            ),
            (
                Evidence::IdleClosed { end: IdleEnd::Refused, after: ms(0), usual: None },
                "it refused a new idle connection",
            ),
            (
                Evidence::Overloaded { silence: ms(300), clients: 5, attempts: 6, answered: ms(4) },
                "no new connection for 300 ms while 5 client networks sent 6 SYNs, but established flows were \
                 answered 4 ms ago",
            ),
        ];
        for (evidence, words) in cases {
            assert_eq!(evidence.to_string(), words);
        }
    }
}
