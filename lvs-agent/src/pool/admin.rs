//! What people have ordered about a server, whatever its health.

/// Orders about one server; none of them by default. Its health is followed on, so that it is known at the end.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct AdminState {
    /// By command: this lasts until another command.
    pub commands: AdminCommands,
    /// It is out as if it had failed, by a file in the maintenance folder.
    pub folder: bool,
    /// Its weight 0 in the kernel's table is an administrator's: it is never raised, and never called failed.
    pub administrator: bool,
}

/// What was ordered by command.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct AdminCommands {
    /// It is drained.
    pub drain: Option<Drain>,
    /// It is out as if it had failed.
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
    /// It is out of the table.
    Remove,
}

impl AdminCommands {
    /// To take no new connections.
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
    /// Whether the server's health decides.
    #[must_use]
    pub fn is_enabled(self) -> bool {
        self == Self::default()
    }

    /// The order that counts, in words.
    #[must_use]
    pub fn reason(self) -> Option<&'static str> {
        let Self { commands: AdminCommands { drain, maintenance }, folder, administrator } = self;
        match drain {
            _ if administrator => Some("an administrator holds it at weight 0"),
            Some(Drain::Quiesce) => Some("it is being drained"),
            Some(Drain::Remove) => Some("it is drained and removed from the table"),
            None if maintenance => Some("it is in maintenance"),
            None if folder => Some("it is in maintenance, by a file in the maintenance directory"),
            None => None,
        }
    }
}
