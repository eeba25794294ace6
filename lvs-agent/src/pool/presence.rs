//! Whether a server is in the kernel's table, and how. Pure.

use crate::model::{OnFailure, Weight};

/// Whether a destination is in the table, and whether it takes new connections there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Presence {
    /// In the table with its configured weight.
    In,
    /// In the table with weight 0.
    Quiesced,
    /// In the table with a lower weight than its own, as a server that is down.
    Lowered(Weight),
    /// Not in the table.
    Absent,
    /// Not in the table, because an earlier agent has taken it out.
    Removed,
}

impl Presence {
    /// The presence of a destination in the kernel's table, where it takes connections or not; `None`: it isn't there.
    #[must_use]
    pub fn in_table(takes_connections: Option<bool>) -> Self {
        match takes_connections {
            Some(true) => Self::In,
            Some(false) => Self::Quiesced,
            None => Self::Absent,
        }
    }
}

impl From<OnFailure> for Presence {
    fn from(on_failure: OnFailure) -> Self {
        match on_failure {
            OnFailure::Lower(weight) => Self::Lowered(weight),
            OnFailure::Quiesce | OnFailure::Remove => Self::out(on_failure),
        }
    }
}

impl Presence {
    /// The presence of a server that is to get no new connections: one that nobody has asked yet, or one in
    /// maintenance.
    pub(super) fn out(on_failure: OnFailure) -> Self {
        match on_failure {
            OnFailure::Quiesce | OnFailure::Lower(_) => Self::Quiesced,
            OnFailure::Remove => Self::Absent,
        }
    }
}

/// The weight in the table of a server with this presence.
pub(super) fn weight_in(presence: Presence, full_weight: Weight) -> Option<Weight> {
    match presence {
        Presence::In => Some(full_weight),
        Presence::Quiesced => Some(Weight::QUIESCENT),
        Presence::Lowered(weight) => Some(weight.min(full_weight)),
        Presence::Absent | Presence::Removed => None,
    }
}
