//! The administrative state of a server: what an operator has ordered, whatever its health.

use crate::model::AgentOrder;

/// What an operator has ordered about one server; by default nothing, and its health decides. Its checks go on in any
/// case, so that its health is known when the order ends.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct AdminState {
    /// Ordered by command; it lasts until another command.
    pub commands: AdminCommands,
    /// In maintenance because of a file in the maintenance directory: out as if it had failed.
    pub maintenance_file: bool,
    /// An administrator has set its weight in the kernel's table to 0: it is never raised, and never reported as
    /// failed.
    pub administrator: bool,
    /// Ordered by the server's own agent, which alone takes it back.
    pub agent: Option<AgentOrder>,
}

/// What was ordered by command.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct AdminCommands {
    /// A drain, if it is being drained.
    pub drain: Option<Drain>,
    /// In maintenance: out as if it had failed.
    pub maintenance: bool,
}

/// What people change about a server by command.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AdminAction {
    /// It is drained.
    Drain(Drain),
    /// It is no longer drained.
    Undrain,
    /// It is in maintenance, or no longer.
    Maintenance(bool),
}

/// How far a planned drain goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Drain {
    /// Weight 0: no new connections, existing ones go on.
    Quiesce,
    /// Removed from the table: existing connections end, too.
    Remove,
}

impl AdminCommands {
    /// A drain alone.
    #[must_use]
    pub fn drain(drain: Drain) -> Self {
        Self { drain: Some(drain), ..Self::default() }
    }
}

impl From<AdminCommands> for AdminState {
    fn from(commands: AdminCommands) -> Self {
        Self { commands, ..Self::default() }
    }
}

impl AdminState {
    /// Whether nothing is ordered, and the server's health decides.
    #[must_use]
    pub fn is_enabled(self) -> bool {
        self == Self::default()
    }

    /// Why the server is not enabled, in words for people: of several orders the one that counts.
    #[must_use]
    pub fn reason(self) -> Option<&'static str> {
        let Self { commands: AdminCommands { drain, maintenance }, maintenance_file, administrator, agent } =
            self;
        match drain {
            _ if administrator => Some("an administrator holds it at weight 0"),
            Some(Drain::Quiesce) => Some("it is being drained"),
            Some(Drain::Remove) => Some("it is drained and removed from the table"),
            None if maintenance => Some("it is in maintenance"),
            None if maintenance_file => Some("it is in maintenance, by a file in the maintenance directory"),
            None => match agent? {
                AgentOrder::Drain => Some("its agent drains it"),
                AgentOrder::Maintenance => Some("its agent has put it into maintenance"),
                AgentOrder::Ready => None,
            },
        }
    }
}
