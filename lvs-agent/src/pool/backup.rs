//! A backup: in the table while the quorum is lost. Pure.

use super::{
    AdminState, Drain, QuorumState,
    first_check::FirstCheck,
    presence::{Presence, weight_in},
};
use crate::{health::State, model::Weight};

/// A server that is only in the table while the quorum is lost.
#[derive(Clone, Copy, Debug)]
pub(super) struct Backup {
    pub(super) base: Weight,
    pub(super) reported: Option<Weight>,
    pub(super) admin_state: AdminState,
    pub(super) first_check: FirstCheck,
    /// It was in the kernel's table when it came to this pool, and has been there ever since.
    pub(super) inherited: bool,
    /// Its weight in the table; `None`: it isn't there.
    pub(super) weight: Option<Weight>,
}

impl Backup {
    /// A backup with this presence in the kernel's table. One that serves there was put in because the quorum was lost,
    /// and goes on serving until it is known who should.
    pub(super) fn new(base: Weight, current: Presence) -> Self {
        let weight = weight_in(current, base);
        let inherited = weight.is_some();
        let (admin_state, first_check) = (AdminState::default(), FirstCheck::default());
        Self { base, reported: None, admin_state, first_check, inherited, weight }
    }

    pub(super) fn full_weight(&self) -> Weight {
        self.reported.unwrap_or(self.base)
    }

    /// Whether it gets new connections.
    pub(super) fn serves(&self) -> bool {
        self.weight.is_some_and(|weight| !weight.is_quiescent())
    }

    /// Whether it can take connections; `state` is `None` where it isn't checked.
    pub(super) fn is_usable(&self, state: Option<State>) -> bool {
        self.admin_state.is_enabled() && !self.full_weight().is_quiescent() && state.is_none_or(State::is_up)
    }

    /// Sets its weight by the quorum and its own state (`None`: it isn't checked); whether that changes anything.
    /// `last_resort`: backups that can't be asked are all that is left.
    pub(super) fn decide(&mut self, quorum: QuorumState, state: Option<State>, last_resort: bool) -> bool {
        let is_last_resort = last_resort && self.is_last_resort(state);
        let weight = if is_last_resort { Some(self.full_weight()) } else { self.weight_by(quorum, state) };
        let before = std::mem::replace(&mut self.weight, weight);
        self.inherited &= weight.is_some();
        before != weight
    }

    /// One that came to the pool from the table stays as it was as long as the quorum isn't known, or its own health.
    fn weight_by(&self, quorum: QuorumState, state: Option<State>) -> Option<Weight> {
        let needed = match quorum {
            QuorumState::Lost => true,
            QuorumState::Unknown => self.inherited,
            QuorumState::Has => false,
        };
        if !needed {
            return None;
        }
        if !self.admin_state.is_enabled() {
            // Drained, it keeps its connections. One that isn't in needs no drain.
            let drained = self.admin_state.commands.drain == Some(Drain::Quiesce);
            return self.weight.filter(|_| drained).map(|_| Weight::QUIESCENT);
        }
        let (full, unknown) = (self.full_weight(), matches!(state, Some(State::Unknown { .. })));
        let healthy = state.is_none_or(State::is_up);
        let stays = self.inherited && (healthy || unknown);
        let weight = match quorum {
            QuorumState::Lost if healthy => Some(full),
            _ if stays && self.serves() => Some(full),
            _ => self.weight.filter(|_| stays),
        };
        weight.filter(|_| !full.is_quiescent())
    }
}
