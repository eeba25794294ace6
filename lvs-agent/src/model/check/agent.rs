//! What an agent on a server says about it, in the words that `HAProxy` knows.

use std::fmt;

use crate::model::Weight;

/// A port on the server tells its state and weight in one line.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct AgentCheck {
    /// What is sent first; may be empty.
    pub send: Vec<u8>,
}

/// What an agent says. What it doesn't say stays as it was.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct AgentReport {
    /// The share of the server's own weight that it is to have, in percent; may be above 100.
    pub percent: Option<u16>,
    /// What it orders about new connections.
    pub order: Option<AgentOrder>,
    /// Whether the server is up.
    pub is_up: Option<bool>,
}

/// What an agent orders about new connections, whatever the server's health. Only the agent takes it back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AgentOrder {
    /// `ready`: nothing is ordered any more.
    Ready,
    /// `drain`: no new ones.
    Drain,
    /// `maint`: out as if it had failed.
    Maintenance,
}

impl AgentReport {
    /// This report, and where it says nothing, what the one `before` said.
    #[must_use]
    pub fn after(self, before: Self) -> Self {
        Self {
            percent: self.percent.or(before.percent),
            order: self.order.or(before.order),
            is_up: self.is_up.or(before.is_up),
        }
    }
}

/// What a check reports about a server besides its health.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reported {
    /// The weight that it is to have.
    Weight(Weight),
    /// What its agent says.
    Agent(AgentReport),
}

/// In the words of the protocol, as `weight 3` or `75%, drain, up`.
impl fmt::Display for Reported {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let AgentReport { percent, order, is_up } = match self {
            Self::Weight(weight) => return write!(f, "weight {}", weight.0),
            Self::Agent(report) => report,
        };
        let order = order.map(|order| match order {
            AgentOrder::Ready => "ready",
            AgentOrder::Drain => "drain",
            AgentOrder::Maintenance => "maint",
        });
        let state = is_up.map(|is_up| if is_up { "up" } else { "down" });
        let words = percent.map(|percent| format!("{percent}%")).into_iter();
        let words = words.chain(order.into_iter().chain(state).map(str::to_owned));
        f.write_str(&words.collect::<Vec<_>>().join(", "))
    }
}
