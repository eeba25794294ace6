//! Events as the control socket tells them: what `lvs-agent events` shows, and prints as JSON.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

/// Some of the events that the agent remembers, in their order.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Events {
    /// Another number, another agent: events are numbered from 1 again.
    pub instance: u64,
    /// The number of the last event that was looked at: the next request asks for those after it.
    pub next: u64,
    /// Whether there are more after it already.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub more: bool,
    /// How many of those that were asked for are forgotten already.
    #[serde(default)]
    pub lost: u64,
    /// The events; one that is about several servers has a line for each.
    pub lines: Vec<EventLine>,
}

/// An event about one server, one service or the agent.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct EventLine {
    /// Its number.
    pub number: u64,
    /// When it was published: RFC 3339, UTC.
    pub timestamp: String,
    /// `error`, `warn`, `info` or `debug`.
    pub level: String,
    /// The fields that `docs/events.md` lists: `event`, `at_ns`, `service`, `server` and its own.
    #[serde(flatten)]
    pub fields: Map<String, Value>,
    /// The text for people.
    pub message: String,
    /// Of an edit that takes out a server that has failed: how it came to that.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timeline: Option<Timeline>,
}

impl EventLine {
    /// A field that is a text.
    #[must_use]
    pub fn text(&self, field: &str) -> Option<&str> {
        self.fields.get(field).and_then(Value::as_str)
    }
}

/// From the first evidence against a server to the edit that took it out.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Timeline {
    /// The name of its service.
    pub service: String,
    /// Its address and port.
    pub server: String,
    /// From the first step to the edit, in ms.
    pub total_ms: f64,
    /// What happened, in the order of time.
    pub steps: Vec<TimelineStep>,
}

/// One step of a failover.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct TimelineStep {
    /// Since the first step, in ms.
    pub at_ms: f64,
    /// What it is.
    pub step: StepKind,
    /// In words.
    pub text: String,
}

/// The kinds of steps of a failover.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum StepKind {
    /// The traffic began to speak against the server.
    Evidence,
    /// The detector found something odd, less than a suspicion.
    Hint,
    /// The detector suspected it.
    Suspicion,
    /// A probe has failed; the time is that of its end.
    Probe,
    /// Its state has changed.
    State,
    /// The kernel has made the edit; in `observe`, it would have.
    Edit,
}

impl std::fmt::Display for StepKind {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Evidence => "evidence",
            Self::Hint => "hint",
            Self::Suspicion => "suspicion",
            Self::Probe => "probe",
            Self::State => "state",
            Self::Edit => "edit",
        })
    }
}
