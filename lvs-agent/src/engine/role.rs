//! Whether this director is active or standby. Pure: orders, the configuration and this host's addresses are arguments.

use std::{collections::BTreeSet, net::IpAddr};

use crate::{
    event::{RoleReason, RoleState},
    model::{DirectorRole, RoleSetting, ServiceKey, VirtualService},
};

/// Decides about the role. What people order comes first, then what the configuration says, and where that is the VIPs,
/// whether one of them is here.
#[derive(Clone, Debug)]
pub(crate) struct RoleKeeper {
    setting: RoleSetting,
    order: Option<DirectorRole>,
    /// The addresses of the services.
    vips: BTreeSet<IpAddr>,
    /// This host's addresses; `None`: not known yet.
    own: Option<BTreeSet<IpAddr>>,
    state: RoleState,
}

impl RoleKeeper {
    /// What holds at the start.
    pub(crate) fn new(
        setting: RoleSetting,
        order: Option<DirectorRole>,
        services: &[VirtualService],
        own: Option<BTreeSet<IpAddr>>,
    ) -> Self {
        let state = RoleState { role: DirectorRole::Active, reason: RoleReason::Unknown };
        let mut keeper = Self { setting, order, vips: vips(services), own, state };
        keeper.state = keeper.decide();
        keeper
    }

    /// The role now, and why.
    pub(crate) fn state(&self) -> RoleState {
        self.state
    }

    /// What people have ordered, if anything.
    pub(crate) fn order(&self) -> Option<DirectorRole> {
        self.order
    }

    /// Whether anybody has said anything about the role: else there is but one director.
    pub(crate) fn is_usual(&self) -> bool {
        self.order.is_none() && self.setting == RoleSetting::default()
    }

    /// The configuration says something else. Returns the role if it is another one.
    pub(crate) fn set_setting(&mut self, setting: RoleSetting) -> Option<RoleState> {
        self.setting = setting;
        self.update()
    }

    /// People order a role; `None`: as the configuration says.
    pub(crate) fn set_order(&mut self, order: Option<DirectorRole>) -> Option<RoleState> {
        self.order = order;
        self.update()
    }

    /// The services are others.
    pub(crate) fn set_services(&mut self, services: &[VirtualService]) -> Option<RoleState> {
        self.vips = vips(services);
        self.update()
    }

    /// This host has other addresses. Once they are known the last ones hold until there are newer ones.
    pub(crate) fn set_own(&mut self, own: Option<BTreeSet<IpAddr>>) -> Option<RoleState> {
        self.own = own.or(self.own.take());
        self.update()
    }

    fn update(&mut self) -> Option<RoleState> {
        let decided = self.decide();
        let before = std::mem::replace(&mut self.state, decided);
        (before.role != self.state.role).then_some(self.state)
    }

    /// In doubt it is active: mails come twice rather than never.
    fn decide(&self) -> RoleState {
        let state = |role, reason| RoleState { role, reason };
        if let Some(role) = self.order {
            return state(role, RoleReason::Ordered);
        }
        match (self.setting, &self.own) {
            (RoleSetting::Fixed(role), _) => state(role, RoleReason::Configured),
            (RoleSetting::ByVip, _) if self.vips.is_empty() => {
                state(DirectorRole::Active, RoleReason::NoAddresses)
            }
            (RoleSetting::ByVip, None) => state(DirectorRole::Active, RoleReason::Unknown),
            (RoleSetting::ByVip, Some(own)) => match self.vips.intersection(own).count() {
                0 => state(DirectorRole::Standby, RoleReason::NoAddressHere),
                count => state(DirectorRole::Active, RoleReason::AddressesHere(count)),
            },
        }
    }
}

/// The addresses of services; one by firewall mark has none.
fn vips(services: &[VirtualService]) -> BTreeSet<IpAddr> {
    let address = |service: &VirtualService| match service.key {
        ServiceKey::Address { address, .. } => Some(address.ip()),
        ServiceKey::Mark { .. } => None,
    };
    services.iter().filter_map(address).collect()
}

#[cfg(test)]
mod tests {
    use proptest::{option, prelude::*, sample::select};

    use super::*;
    use crate::config::native;

    fn services(vips: &[u8]) -> Vec<VirtualService> {
        let service = |vip: &u8| {
            format!(
                "[[service]]\naddress = \"192.0.2.{vip}:80\"\nforward = \"masquerade\"\n\
                 [[service.server]]\naddress = \"10.0.0.1\"\n"
            )
        };
        let marked = "[[service]]\nmark = 7\nforward = \"masquerade\"\ncheck = { type = \"ping\" }\n\
                      [[service.server]]\naddress = \"10.0.0.1\"\n";
        let text = vips.iter().map(service).collect::<String>() + marked;
        native::read(&text, "test.toml".as_ref()).expect("it is a configuration").services
    }

    fn own(addresses: &[u8]) -> BTreeSet<IpAddr> {
        addresses.iter().map(|last| IpAddr::from([192, 0, 2, *last])).collect()
    }

    #[test]
    fn by_vip_it_is_active_while_one_of_the_addresses_is_here() {
        let mut keeper = RoleKeeper::new(RoleSetting::ByVip, None, &services(&[1, 2]), Some(own(&[9])));
        assert_eq!(keeper.state().reason, RoleReason::NoAddressHere);
        let active = keeper.set_own(Some(own(&[9, 1]))).unwrap();
        assert_eq!((active.role, active.reason), (DirectorRole::Active, RoleReason::AddressesHere(1)));
        assert_eq!(keeper.set_own(Some(own(&[1, 2]))), None, "it is active already");
        assert_eq!(keeper.state().reason, RoleReason::AddressesHere(2));
        assert_eq!(keeper.set_own(None), None, "what was known last holds");
        let standby = keeper.set_services(&services(&[3])).unwrap();
        assert_eq!(standby.role, DirectorRole::Standby);
        assert_eq!(keeper.set_services(&services(&[])).unwrap().reason, RoleReason::NoAddresses);
    }

    #[test]
    fn orders_hold_until_they_are_taken_back() {
        let standby = RoleSetting::Fixed(DirectorRole::Standby);
        let mut keeper = RoleKeeper::new(standby, None, &services(&[1]), None);
        assert_eq!(keeper.state().role, DirectorRole::Standby);
        let ordered = keeper.set_order(Some(DirectorRole::Active)).unwrap();
        assert_eq!((ordered.role, ordered.reason), (DirectorRole::Active, RoleReason::Ordered));
        assert_eq!(keeper.set_setting(RoleSetting::ByVip), None);
        assert_eq!(keeper.set_own(Some(own(&[]))), None);
        assert_eq!(keeper.set_order(None).unwrap().reason, RoleReason::NoAddressHere);
    }

    proptest! {
        #[test]
        fn the_role_is_what_the_last_words_say_in_whatever_order_they_come(
            setting in select(&[
                RoleSetting::Fixed(DirectorRole::Active),
                RoleSetting::Fixed(DirectorRole::Standby),
                RoleSetting::ByVip,
            ][..]),
            order in option::of(select(&[DirectorRole::Active, DirectorRole::Standby][..])),
            here in proptest::collection::vec(0_u8..4, 0..4),
            vips in proptest::sample::subsequence(vec![1_u8, 2, 3], 0..4),
            turns in Just([0, 1, 2, 3]).prop_shuffle(),
        ) {
            let at_once = RoleKeeper::new(setting, order, &services(&vips), Some(own(&here)));
            let mut keeper = RoleKeeper::new(RoleSetting::default(), None, &[], None);
            let mut role = keeper.state().role;
            for turn in turns {
                let change = match turn {
                    0 => keeper.set_setting(setting),
                    1 => keeper.set_order(order),
                    2 => keeper.set_services(&services(&vips)),
                    _ => keeper.set_own(Some(own(&here))),
                };
                prop_assert_eq!(change.is_some(), keeper.state().role != role);
                role = keeper.state().role;
            }
            prop_assert_eq!(keeper.state(), at_once.state());
        }
    }
}
