//! What people have ordered about a server, whatever its health.

/// Orders about one server; none of them by default. Its health is followed on, so that it is known at the end.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Holds {
    /// It is drained.
    pub drain: Option<Drain>,
    /// It is out as if it had failed, by command.
    pub maintenance: bool,
    /// The same, by a file in the maintenance folder.
    pub folder: bool,
    /// Its weight 0 in the kernel's table is an administrator's: it is never raised, and never called failed.
    pub administrator: bool,
}

/// How far a planned drain goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Drain {
    /// Weight 0: no new connections, existing ones go on.
    Quiesce,
    /// It is out of the table.
    Remove,
}

impl Holds {
    /// Whether the server's health decides.
    #[must_use]
    pub fn is_free(self) -> bool {
        self == Self::default()
    }

    /// The order that counts, in words.
    #[must_use]
    pub fn reason(self) -> Option<&'static str> {
        match self {
            Self { administrator: true, .. } => Some("an administrator holds it at weight 0"),
            Self { drain: Some(Drain::Quiesce), .. } => Some("it is being drained"),
            Self { drain: Some(Drain::Remove), .. } => Some("it has been drained"),
            Self { maintenance: true, .. } => Some("it is in maintenance"),
            Self { folder: true, .. } => Some("it is in maintenance, by a file in that folder"),
            _ => None,
        }
    }
}
