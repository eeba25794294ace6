//! What clients say of servers whose checks succeed, and whether one may be out because of that. Pure.

use super::{Member, Pool};
use crate::{health::State, model::Role};

/// What clients say of a server whose checks succeed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ClientState {
    /// Nothing against it.
    #[default]
    Served,
    /// They fail there: it is out, as if it had failed.
    Excluded,
    /// It was excluded, and gets clients again, as few as a weight of 1 brings.
    OnTrial,
}

/// The share of a service's servers that may be out by what clients say and by failures, for one more to be excluded.
const MOST_EXCLUDED: f64 = 0.5;
impl Pool {
    /// Sets what clients say of a server; backups have none. Weights change at the next [`Pool::decide`].
    pub fn set_client_state(&mut self, role: Role, client_state: ClientState) {
        if let Role::Server(index) = role
            && let Some(member) = self.members.get_mut(index)
        {
            member.client_state = client_state;
        }
    }

    /// Whether a server that is in by its health may be excluded: another one must take connections and be healthy, and
    /// no more than half be out.
    #[must_use]
    pub fn may_exclude(&self, role: Role, states: &[State]) -> bool {
        let Role::Server(index) = role else { return false };
        self.members.get(index).is_some_and(Member::is_in) && self.may_be_out(index, states, MOST_EXCLUDED)
    }
}
