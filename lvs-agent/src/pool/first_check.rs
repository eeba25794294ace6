//! Whether a server's first result is overdue. Pure.

use crate::health::State;

/// Whether a server that nothing is known of has still time for its first result.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum FirstCheck {
    /// It has, or there was one.
    #[default]
    InTime,
    /// There should have been one by now.
    Overdue,
}

/// Whether a server can't be asked.
pub(super) fn is_unasked(state: State, first_check: FirstCheck) -> bool {
    first_check == FirstCheck::Overdue && matches!(state, State::Unknown { failures: 0 })
}
