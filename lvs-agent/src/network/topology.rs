//! The route to each server, and what changes about it. Pure: route snapshots and neighbours come in.

use std::{
    collections::{BTreeMap, BTreeSet, HashSet},
    net::IpAddr,
};

use super::{
    neighbour::{NeighbourChange, NeighbourState},
    survey::{Device, RouteSnapshot, ServerNextHop},
};

/// The route to one server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServerRoute {
    /// The server's address.
    pub server: IpAddr,
    /// The next hop of packets to it.
    pub next_hop: ServerNextHop,
    /// Whether the neighbour they are sent to, the server itself or a router, no longer answers for its address
    /// (`FAILED`).
    pub failed: bool,
}

/// Devices to watch from now on, and those no longer to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DevicePlan {
    /// No longer: gone, renamed, or on no route to a server. These come first, as a new device may have the same name.
    pub detach: Vec<Device>,
    /// From now on.
    pub attach: Vec<Device>,
}

impl DevicePlan {
    /// From what is watched to what should be.
    #[must_use]
    pub fn new(watched: &BTreeSet<Device>, wanted: &BTreeSet<Device>) -> Self {
        Self {
            detach: watched.difference(wanted).cloned().collect(),
            attach: wanted.difference(watched).cloned().collect(),
        }
    }
}

/// Devices, routes and neighbours, as far as servers are concerned.
#[derive(Clone, Debug, Default)]
pub struct Topology {
    snapshot: RouteSnapshot,
    /// Every neighbour that has failed: a route may lead to any of them later on. The kernel reports their removal as
    /// well, be it with their device.
    failed: HashSet<(u32, IpAddr)>,
    /// The servers behind each neighbour.
    behind: BTreeMap<(u32, IpAddr), Vec<IpAddr>>,
}

impl Topology {
    /// Takes in a snapshot; the routes that have changed or are new.
    #[must_use]
    pub fn update_routes(&mut self, snapshot: RouteSnapshot) -> Vec<ServerRoute> {
        let before = std::mem::replace(&mut self.snapshot, snapshot);
        self.behind.clear();
        for (server, next_hop) in &self.snapshot.servers {
            if let ServerNextHop::Via { device, neighbour } = next_hop {
                self.behind.entry((*device, *neighbour)).or_default().push(*server);
            }
        }
        let changed = self
            .snapshot
            .servers
            .iter()
            .filter(|(server, next_hop)| before.servers.get(server) != Some(next_hop));
        changed.filter_map(|(server, _)| self.route(*server)).collect()
    }

    /// Takes in a change of a neighbour; the routes of the servers behind it, if it has failed or no longer has.
    #[must_use]
    pub fn update_neighbour(&mut self, change: &NeighbourChange) -> Vec<ServerRoute> {
        let key = (change.device, change.address);
        let changed = match change.state {
            NeighbourState::Failed => self.failed.insert(key),
            // Being asked for again is no answer yet.
            NeighbourState::None | NeighbourState::Incomplete => false,
            NeighbourState::Gone => self.failed.remove(&key),
            usable => usable.is_usable() && self.failed.remove(&key),
        };
        let behind = self.behind.get(&key).filter(|_| changed);
        behind.into_iter().flatten().filter_map(|server| self.route(*server)).collect()
    }

    /// The newest snapshot.
    #[must_use]
    pub fn snapshot(&self) -> &RouteSnapshot {
        &self.snapshot
    }

    /// The route to a server, if the snapshot has it.
    #[must_use]
    pub fn route(&self, server: IpAddr) -> Option<ServerRoute> {
        let next_hop = self.snapshot.servers.get(&server)?.clone();
        let failed = match next_hop {
            ServerNextHop::Via { device, neighbour } => self.failed.contains(&(device, neighbour)),
            ServerNextHop::Local | ServerNextHop::Unreachable(_) => false,
        };
        Some(ServerRoute { server, next_hop, failed })
    }
}

#[cfg(test)]
mod tests {
    use proptest::{collection::vec, prelude::*, sample::select};

    use super::*;

    const SERVER: &str = "10.0.0.1";
    const ROUTER: &str = "10.0.0.254";

    fn address(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    fn through(device: u32, neighbour: &str) -> ServerNextHop {
        ServerNextHop::Via { device, neighbour: address(neighbour) }
    }

    fn survey(devices: &[(u32, &str)], servers: &[(&str, ServerNextHop)]) -> RouteSnapshot {
        let device =
            |(index, name): &(u32, &str)| (*index, Device { index: *index, name: (*name).to_owned() });
        RouteSnapshot {
            devices: devices.iter().map(device).collect(),
            servers: servers.iter().map(|(server, next_hop)| (address(server), next_hop.clone())).collect(),
        }
    }

    fn entry(device: u32, neighbour: &str, state: NeighbourState) -> NeighbourChange {
        NeighbourChange { device, address: address(neighbour), state, mac: None }
    }

    #[test]
    fn a_server_has_failed_until_its_neighbour_answers_or_is_removed() {
        use NeighbourState::{Failed, Gone, Incomplete, Probe, Reachable, Stale};
        let devices = [(2, "eth0"), (3, "eth1")];
        let mut topology = Topology::default();
        let routes = topology.update_routes(survey(&devices, &[(SERVER, through(2, SERVER))]));
        assert_eq!(routes.iter().map(|route| route.failed).collect::<Vec<_>>(), [false]);
        let changes = [
            ("is being resolved", 2, Incomplete, None),
            ("answers", 2, Reachable, None),
            ("goes stale", 2, Stale, None),
            ("is being probed again", 2, Probe, None),
            ("on another device", 3, Failed, None),
            ("fails", 2, Failed, Some(true)),
            ("is being resolved again", 2, Incomplete, None),
            ("fails again", 2, Failed, None),
            ("is back", 2, Reachable, Some(false)),
            ("fails once more", 2, Failed, Some(true)),
            ("is removed", 2, Gone, Some(false)),
        ];
        for (what, device, state, expected) in changes {
            let routes = topology.update_neighbour(&entry(device, SERVER, state));
            assert_eq!(routes.first().map(|route| route.failed), expected, "{what}");
        }
        let moved = topology.update_routes(survey(&devices, &[(SERVER, through(3, SERVER))]));
        assert!(moved[0].failed, "the other device's entry was known all along");
    }

    #[test]
    fn a_failed_router_fails_all_servers_behind_it() {
        let servers = [
            ("10.9.0.1", through(2, ROUTER)),
            ("10.9.0.2", through(2, ROUTER)),
            (SERVER, through(2, SERVER)),
        ];
        let mut topology = Topology::default();
        assert_eq!(topology.update_routes(survey(&[(2, "eth0")], &servers)).len(), 3);
        let routes = topology.update_neighbour(&entry(2, ROUTER, NeighbourState::Failed));
        let failed: Vec<_> = routes.iter().map(|route| (route.server, route.failed)).collect();
        assert_eq!(failed, [(address("10.9.0.1"), true), (address("10.9.0.2"), true)]);
    }

    #[test]
    fn only_changed_routes_are_returned() {
        let mut topology = Topology::default();
        let first =
            survey(&[(2, "eth0")], &[(SERVER, through(2, SERVER)), ("10.0.0.2", ServerNextHop::Local)]);
        assert_eq!(topology.update_routes(first.clone()).len(), 2);
        assert_eq!(topology.update_routes(first), []);
        let recreated =
            survey(&[(5, "eth0")], &[(SERVER, through(5, SERVER)), ("10.0.0.2", ServerNextHop::Local)]);
        let routes = topology.update_routes(recreated);
        assert_eq!(routes.iter().map(|route| route.server).collect::<Vec<_>>(), [address(SERVER)]);
    }

    #[test]
    fn devices_that_were_made_again_or_renamed_are_watched_anew() {
        let device = |index, name: &str| Device { index, name: name.to_owned() };
        let cases = [
            ("the same", vec![device(2, "a")], vec![device(2, "a")], (vec![], vec![])),
            (
                "made again",
                vec![device(2, "a")],
                vec![device(7, "a")],
                (vec![device(2, "a")], vec![device(7, "a")]),
            ),
            (
                "renamed",
                vec![device(2, "a")],
                vec![device(2, "b")],
                (vec![device(2, "a")], vec![device(2, "b")]),
            ),
            (
                "one more",
                vec![device(2, "a")],
                vec![device(2, "a"), device(3, "b")],
                (vec![], vec![device(3, "b")]),
            ),
            ("none any more", vec![device(2, "a")], vec![], (vec![device(2, "a")], vec![])),
        ];
        for (what, watched, wanted, (detach, attach)) in cases {
            let plan = DevicePlan::new(&watched.into_iter().collect(), &wanted.into_iter().collect());
            assert_eq!(plan, DevicePlan { detach, attach }, "{what}");
        }
    }

    fn any_change() -> impl Strategy<Value = NeighbourChange> {
        use NeighbourState::{Failed, Gone, Incomplete, Permanent, Reachable};
        let states = vec![Failed, Gone, Incomplete, Permanent, Reachable];
        let who = select(vec![SERVER, ROUTER, "10.0.0.2"]);
        (1..4_u32, who, select(states)).prop_map(|(device, who, state)| entry(device, who, state))
    }

    fn any_survey() -> impl Strategy<Value = RouteSnapshot> {
        let next_hop = prop_oneof![
            (1..4_u32).prop_map(|device| through(device, SERVER)),
            (1..4_u32).prop_map(|device| through(device, ROUTER)),
            Just(ServerNextHop::Local),
            Just(ServerNextHop::Unreachable(super::super::NetworkError::NoDeviceIndex(7))),
        ];
        (vec(any::<bool>(), 3), vec(next_hop, 0..3)).prop_map(|(there, next_hops)| {
            let names = [(1, "a"), (2, "b"), (3, "c")];
            let devices: Vec<_> =
                names.into_iter().zip(there).filter(|(_, there)| *there).map(|(one, _)| one).collect();
            let servers: Vec<_> = [SERVER, "10.0.0.2"].into_iter().zip(next_hops).collect();
            survey(&devices, &servers)
        })
    }

    #[derive(Clone, Debug)]
    enum Input {
        RouteSnapshot(RouteSnapshot),
        Neighbour(NeighbourChange),
    }

    proptest! {
        /// The changes, applied in order, give the route to every server.
        #[test]
        fn changes_applied_in_order_give_all_routes(inputs in vec(
            prop_oneof![any_survey().prop_map(Input::RouteSnapshot), any_change().prop_map(Input::Neighbour)], 1..20,
        )) {
            let mut topology = Topology::default();
            let mut copy: BTreeMap<IpAddr, ServerRoute> = BTreeMap::new();
            for input in inputs {
                let changes = match input {
                    Input::RouteSnapshot(survey) => {
                        copy.retain(|server, _| survey.servers.contains_key(server));
                        topology.update_routes(survey)
                    }
                    Input::Neighbour(change) => topology.update_neighbour(&change),
                };
                for route in changes {
                    copy.insert(route.server, route);
                }
                let known = topology.snapshot().servers.keys().filter_map(|server| topology.route(*server));
                prop_assert_eq!(copy.values().cloned().collect::<Vec<_>>(), known.collect::<Vec<_>>());
            }
        }
    }
}
