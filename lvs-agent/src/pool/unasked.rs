//! Servers that nothing is known of though their first check should have had a result: they can't be asked. That speaks
//! for them as little as against them. They hold up the quorum's decision no longer, and are used where nobody else
//! can be. Pure.

use super::{Backup, Member, Pool};
use crate::{health::State, model::Role};

impl Pool {
    /// Sets whether a server's first check should have had a result by now. It holds up the quorum's decision no longer
    /// then.
    pub fn set_overdue(&mut self, role: Role, overdue: bool) {
        match role {
            Role::Server(index) => self.members.get_mut(index).map(|member| &mut member.overdue),
            Role::Backup(index) => self.backups.get_mut(index).map(|backup| &mut backup.overdue),
        }
        .into_iter()
        .for_each(|known| *known = overdue);
    }

    /// Whether only a backup that can't be asked is left: no other one is usable, and no member takes connections or is
    /// used anyway.
    pub(super) fn needs_last_resort(&self, members: &[State], backups: &[Option<State>]) -> bool {
        let is_usable = |(backup, state): (&Backup, &Option<State>)| backup.is_usable(*state);
        let serves = |(member, state): (&Member, &State)| {
            member.takes_connections() || (member.admin_state.is_enabled() && member.is_used_anyway(*state))
        };
        !self.backups.iter().zip(backups.iter().chain(std::iter::repeat(&None))).any(is_usable)
            && !self.members.iter().zip(members).any(serves)
    }
}

impl Member {
    /// Whether it is used where nobody else is.
    pub(super) fn is_used_anyway(&self, state: State) -> bool {
        matches!(state, State::Damped { .. }) || is_unasked(state, self.overdue)
    }
}

impl Backup {
    /// Whether it can be tried where nobody is known to be healthy.
    pub(super) fn is_last_resort(&self, state: Option<State>) -> bool {
        self.admin_state.is_enabled()
            && !self.full_weight().is_quiescent()
            && state.is_some_and(|state| is_unasked(state, self.overdue))
    }
}

/// Whether a server can't be asked.
fn is_unasked(state: State, overdue: bool) -> bool {
    overdue && matches!(state, State::Unknown { failures: 0 })
}
