//! Servers that nothing is known of though their first check should have had a result: they can't be asked. That speaks
//! for them as little as against them. They hold up the quorum's decision no longer, and are used where nobody else
//! can be. Pure.

use super::{
    Member, Pool,
    backup::Backup,
    first_check::{FirstCheck, is_unasked},
};
use crate::{health::State, model::Role};

impl Pool {
    /// Sets whether a server has still time for its first result. If not, it holds up the quorum's decision no longer.
    pub fn set_first_check(&mut self, role: Role, first_check: FirstCheck) {
        match role {
            Role::Server(index) => self.members.get_mut(index).map(|member| &mut member.first_check),
            Role::Backup(index) => self.backups.get_mut(index).map(|backup| &mut backup.first_check),
        }
        .into_iter()
        .for_each(|known| *known = first_check);
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
        matches!(state, State::Damped { .. }) || is_unasked(state, self.first_check)
    }
}

impl Backup {
    /// Whether it can be tried where nobody is known to be healthy.
    pub(super) fn is_last_resort(&self, state: Option<State>) -> bool {
        self.admin_state.is_enabled()
            && !self.full_weight().is_quiescent()
            && state.is_some_and(|state| is_unasked(state, self.first_check))
    }
}
