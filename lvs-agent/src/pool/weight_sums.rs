//! How much of a pool is well, by weight. Pure.

use super::Pool;
use crate::health::State;

impl Pool {
    /// The weight of the members that are healthy and take connections, given the members' states in their order.
    #[must_use]
    pub fn healthy_weight(&self, states: &[State]) -> u64 {
        let healthy = self.members.iter().zip(states);
        let healthy = healthy.filter(|(member, state)| member.takes_connections() && state.is_up());
        healthy.map(|(member, _)| u64::from(member.full_weight().0)).sum()
    }

    /// The weight that the members have together when all of them are well.
    #[must_use]
    pub fn whole_weight(&self) -> u64 {
        self.members.iter().map(|member| u64::from(member.base.0)).sum()
    }
}
