//! The role of this director: active or standby.

use std::{
    collections::{BTreeSet, HashSet},
    net::IpAddr,
};

use super::Controller;
use crate::{
    engine::{confirmation::DetectorFeedback, role::RoleKeeper},
    event::{Event, RoleState, Takeover},
    messages::{RoleAnswer, RoleRequest, ServedNow},
    model::RoleSetting,
    state_file::{SavedRole, StateWriter},
};

/// The role and where it is kept.
pub(crate) struct Role {
    pub(crate) keeper: RoleKeeper,
    /// Saves what people order.
    pub(crate) writer: Option<StateWriter<SavedRole>>,
}

impl Controller {
    /// Tells of the role at the start, where there is more to say than that there is but one director.
    pub(super) fn announce_role(&self) {
        if !self.role.keeper.is_usual() {
            let RoleState { role, reason } = self.role.keeper.state();
            self.events.publish(Event::Role { role, reason, takeover: None });
        }
    }

    /// People ask for the role, or order one; whoever asks may have gone.
    pub(super) fn role_requested(&mut self, request: RoleRequest) {
        let RoleRequest { order, reply } = request;
        if let Some(order) = order {
            let change = self.role.keeper.set_order(order.role());
            self.role_changed(change);
        }
        let saved = self.role.writer.as_ref().map(|writer| match order {
            Some(_) => writer.save(&SavedRole(self.role.keeper.order())),
            None => writer.latest(),
        });
        let is_ordered = self.role.keeper.order().is_some();
        reply.send(RoleAnswer { state: self.role.keeper.state(), is_ordered, saved }).ok();
    }

    /// This host has other addresses.
    pub(super) fn addresses_changed(&mut self, own: Option<BTreeSet<IpAddr>>) {
        let change = self.role.keeper.set_own(own);
        self.role_changed(change);
    }

    /// The configuration in force says something, perhaps something else.
    pub(super) fn role_configured(&mut self, setting: RoleSetting) {
        let change = self.role.keeper.set_setting(setting);
        self.role_changed(change);
    }

    /// How well services are served, and what the role lets others be told of it.
    pub(super) fn served_now(&self) -> ServedNow {
        ServedNow { services: self.engine.served(), may_announce: self.role.keeper.state().may_announce() }
    }

    /// Acts on another role.
    pub(super) fn role_changed(&mut self, change: Option<RoleState>) {
        let Some(RoleState { role, reason }) = change else { return };
        let takeover = role.is_active().then(|| self.take_over());
        self.events.publish(Event::Role { role, reason, takeover });
    }

    /// Asks the servers at once whose state is in doubt, and has the passive signal measured from now on: connections
    /// arrive whose beginning was not seen here.
    fn take_over(&mut self) -> Takeover {
        self.feed_back(DetectorFeedback::Afresh);
        let (takeover, doubtful) = self.engine.takeover();
        let checks: HashSet<_> =
            doubtful.iter().flat_map(|destination| self.checks.of(destination)).copied().collect();
        self.scheduler.check_now(checks.into_iter().collect());
        takeover
    }
}
