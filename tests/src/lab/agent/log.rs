//! The agent's log: a JSON object on each line, some of which are events with a time of the shared clock.

use std::{fmt, net::SocketAddr};

use serde::Deserialize;

use crate::lab::clock::Moment;

/// An event in the agent's log.
#[derive(Clone, Debug, PartialEq)]
pub struct AgentEvent {
    /// When it happened, by the agent's reading of the shared clock.
    pub at: Moment,
    /// The name of the virtual service, where it is about one.
    pub service: Option<String>,
    /// The real server, where it is about one.
    pub server: Option<SocketAddr>,
    /// What happened.
    pub kind: EventKind,
}

/// What happened.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(tag = "event", rename_all = "kebab-case")]
pub enum EventKind {
    /// The kernel-side programs are attached to a device.
    Attached {},
    /// All programs are attached and the table is built.
    Ready {},
    /// The passive signal suspects a server.
    Suspicion {
        /// `weak` or `strong`.
        strength: String,
        /// What was seen.
        evidence: String,
    },
    /// A probe has ended.
    Probe {
        /// `baseline`, `confirm` or `ping`.
        kind: String,
        /// Its place in a burst.
        index: Option<u32>,
        /// What came of it.
        outcome: String,
        /// How long it took.
        took_ms: Option<f64>,
    },
    /// A server's state has changed.
    State {
        /// From this one.
        from: String,
        /// To this one.
        to: String,
        /// Why.
        reason: Option<String>,
    },
    /// Most of a service is suspected at once.
    Common {},
    /// A server that looks dead is retained: too much of its service would be out.
    Retained {},
    /// Clients of a server fail while its checks succeed.
    Contradiction {
        /// What clients don't get.
        missing: String,
        /// How many there were.
        attempts: u64,
        /// `reported`, `removed` or `kept`.
        action: String,
    },
    /// A server is taken out because of that, after all or again.
    ContradictionOut {},
    /// It gets a few clients again.
    ContradictionTrial {},
    /// A contradiction is over.
    ContradictionOver {
        /// `served`, `down` or `gone`.
        reason: String,
    },
    /// A server that came and went is kept out for a while.
    Damped {},
    /// The kernel's table was edited.
    Edit {
        /// How.
        edit: String,
        /// How long the kernel took.
        took_us: Option<f64>,
    },
}

/// The raw form of a line with an event.
#[derive(Deserialize)]
struct Line {
    at_ns: u64,
    service: Option<String>,
    server: Option<SocketAddr>,
    #[serde(flatten)]
    kind: EventKind,
}

impl AgentEvent {
    /// Reads a line of the log; `None` if it is no event.
    #[must_use]
    pub fn parse(line: &str) -> Option<Self> {
        let Line { at_ns, service, server, kind } = serde_json::from_str(line).ok()?;
        Some(Self { at: Moment::from_ns(at_ns), service, server, kind })
    }

    /// Whether it is an edit of the kernel's table.
    #[must_use]
    pub fn is_edit(&self) -> bool {
        matches!(self.kind, EventKind::Edit { .. })
    }

    /// Whether it is a probe of the regular kind.
    #[must_use]
    pub fn is_baseline(&self) -> bool {
        matches!(&self.kind, EventKind::Probe { kind, .. } if kind == "baseline")
    }
}

impl fmt::Display for EventKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Attached {} => f.write_str("programs attached"),
            Self::Ready {} => f.write_str("ready"),
            Self::Common {} => f.write_str("most of the service is suspected at once"),
            Self::Retained {} => f.write_str("retained: too much of the service would be out"),
            Self::Contradiction { missing, attempts, action } => {
                write!(f, "clients miss {missing} in {attempts} attempts while checks succeed: {action}")
            }
            Self::ContradictionOut {} => f.write_str("taken out because its clients fail"),
            Self::ContradictionTrial {} => f.write_str("gets a few clients again"),
            Self::ContradictionOver { reason } => write!(f, "contradiction over: {reason}"),
            Self::Damped {} => f.write_str("kept out for having come and gone"),
            Self::Suspicion { strength, evidence } => write!(f, "{strength} suspicion: {evidence}"),
            Self::Probe { kind, index, outcome, took_ms } => {
                write!(f, "{kind} probe")?;
                index.map_or(Ok(()), |index| write!(f, " {index}"))?;
                write!(f, ": {outcome}")?;
                took_ms.map_or(Ok(()), |took| write!(f, " ({took:.1} ms)"))
            }
            Self::State { from, to, reason } => {
                write!(f, "state {from} -> {to}")?;
                reason.as_ref().map_or(Ok(()), |reason| write!(f, ": {reason}"))
            }
            Self::Edit { edit, took_us } => {
                write!(f, "edit: {edit}")?;
                took_us.map_or(Ok(()), |took| write!(f, " ({took:.0} µs)"))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_are_read_with_their_time_and_server() {
        let cases = [
            (
                r#"{"timestamp":"x","level":"INFO","message":"m","target":"t","event":"suspicion","at_ns":5,
                    "service":"web","server":"10.0.0.1:80","strength":"strong","evidence":"3 refused"}"#,
                "strong suspicion: 3 refused",
            ),
            (
                r#"{"event":"probe","at_ns":5,"service":"web","server":"10.0.0.1:80","kind":"confirm","index":2,
                    "outcome":"refused","took_ms":0.25}"#,
                "confirm probe 2: refused (0.2 ms)",
            ),
            (
                r#"{"event":"state","at_ns":5,"service":"web","server":"10.0.0.1:80","from":"up","to":"down",
                    "reason":"3 failures"}"#,
                "state up -> down: 3 failures",
            ),
            (
                r#"{"event":"edit","at_ns":5,"service":"web","server":"10.0.0.1:80","edit":"weight 1 -> 0",
                    "took_us":81}"#,
                "edit: weight 1 -> 0 (81 µs)",
            ),
        ];
        for (line, words) in cases {
            let event = AgentEvent::parse(line).expect(line);
            assert_eq!(event.at, Moment::from_ns(5));
            assert_eq!(event.server, Some("10.0.0.1:80".parse().unwrap()));
            assert_eq!(event.kind.to_string(), words);
        }
        let ready = AgentEvent::parse(r#"{"at_ns":7,"event":"ready","message":"ready"}"#).unwrap();
        assert_eq!((ready.kind, ready.server), (EventKind::Ready {}, None));
    }

    #[test]
    fn other_lines_are_no_events() {
        for line in ["", "plain words", r#"{"message":"m"}"#, r#"{"event":"else","at_ns":1}"#] {
            assert_eq!(AgentEvent::parse(line), None, "{line}");
        }
    }
}
