//! What is known of the way to each server, and what changes about it. Pure: surveys and neighbours come in.

use std::{
    collections::{BTreeMap, BTreeSet, HashSet},
    net::IpAddr,
};

use super::{Device, NeighbourChange, NeighbourState, Reach, Survey};

/// The way to one server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServerWay {
    /// The server's address.
    pub server: IpAddr,
    /// Where packets to it go.
    pub reach: Reach,
    /// Whether whoever they are sent to, the server itself or a router, no longer answers for its address (`FAILED`).
    pub failed: bool,
}

/// Devices to watch from now on, and those no longer to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DevicePlan {
    /// No longer: gone, renamed, or no way to a server any more. These come first, as a new device may have the same name.
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
pub struct Surroundings {
    survey: Survey,
    /// Every neighbour that has failed: a route may lead to any of them later on. The kernel tells as well when they go,
    /// be it with their device.
    failed: HashSet<(u32, IpAddr)>,
    /// The servers behind each neighbour.
    behind: BTreeMap<(u32, IpAddr), Vec<IpAddr>>,
}

impl Surroundings {
    /// Takes in a survey; the servers whose way has changed or that are new.
    #[must_use]
    pub fn survey(&mut self, survey: Survey) -> Vec<ServerWay> {
        let before = std::mem::replace(&mut self.survey, survey);
        self.behind.clear();
        for (server, reach) in &self.survey.servers {
            if let Reach::Through { device, neighbour } = reach {
                self.behind.entry((*device, *neighbour)).or_default().push(*server);
            }
        }
        let changed =
            self.survey.servers.iter().filter(|(server, reach)| before.servers.get(server) != Some(reach));
        changed.filter_map(|(server, _)| self.way(*server)).collect()
    }

    /// Takes in what the kernel says of a neighbour; the servers behind it, if it has failed or no longer has.
    #[must_use]
    pub fn neighbour(&mut self, change: &NeighbourChange) -> Vec<ServerWay> {
        let key = (change.device, change.address);
        let changed = match change.state {
            NeighbourState::Failed => self.failed.insert(key),
            // Being asked for again is no answer yet.
            NeighbourState::None | NeighbourState::Incomplete => false,
            NeighbourState::Gone => self.failed.remove(&key),
            usable => usable.is_usable() && self.failed.remove(&key),
        };
        let behind = self.behind.get(&key).filter(|_| changed);
        behind.into_iter().flatten().filter_map(|server| self.way(*server)).collect()
    }

    /// The newest survey.
    #[must_use]
    pub fn last(&self) -> &Survey {
        &self.survey
    }

    /// The way to a server, if the survey knows of it.
    #[must_use]
    pub fn way(&self, server: IpAddr) -> Option<ServerWay> {
        let reach = self.survey.servers.get(&server)?.clone();
        let failed = match reach {
            Reach::Through { device, neighbour } => self.failed.contains(&(device, neighbour)),
            Reach::Local | Reach::Nowhere(_) => false,
        };
        Some(ServerWay { server, reach, failed })
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

    fn through(device: u32, neighbour: &str) -> Reach {
        Reach::Through { device, neighbour: address(neighbour) }
    }

    fn survey(devices: &[(u32, &str)], servers: &[(&str, Reach)]) -> Survey {
        let device =
            |(index, name): &(u32, &str)| (*index, Device { index: *index, name: (*name).to_owned() });
        Survey {
            devices: devices.iter().map(device).collect(),
            servers: servers.iter().map(|(server, reach)| (address(server), reach.clone())).collect(),
        }
    }

    fn entry(device: u32, neighbour: &str, state: NeighbourState) -> NeighbourChange {
        NeighbourChange { device, address: address(neighbour), state, mac: None }
    }

    #[test]
    fn a_server_has_failed_until_its_neighbour_answers_or_is_forgotten() {
        use NeighbourState::{Failed, Gone, Incomplete, Probe, Reachable, Stale};
        let devices = [(2, "eth0"), (3, "eth1")];
        let mut around = Surroundings::default();
        let ways = around.survey(survey(&devices, &[(SERVER, through(2, SERVER))]));
        assert_eq!(ways.iter().map(|way| way.failed).collect::<Vec<_>>(), [false]);
        let course = [
            ("asked for", 2, Incomplete, None),
            ("answers", 2, Reachable, None),
            ("goes stale", 2, Stale, None),
            ("is asked again", 2, Probe, None),
            ("on another device", 3, Failed, None),
            ("fails", 2, Failed, Some(true)),
            ("is asked for again", 2, Incomplete, None),
            ("fails again", 2, Failed, None),
            ("is back", 2, Reachable, Some(false)),
            ("fails once more", 2, Failed, Some(true)),
            ("is forgotten", 2, Gone, Some(false)),
        ];
        for (what, device, state, expected) in course {
            let ways = around.neighbour(&entry(device, SERVER, state));
            assert_eq!(ways.first().map(|way| way.failed), expected, "{what}");
        }
        let moved = around.survey(survey(&devices, &[(SERVER, through(3, SERVER))]));
        assert!(moved[0].failed, "the other device's entry was known all along");
    }

    #[test]
    fn a_router_stands_for_all_behind_it() {
        let servers = [
            ("10.9.0.1", through(2, ROUTER)),
            ("10.9.0.2", through(2, ROUTER)),
            (SERVER, through(2, SERVER)),
        ];
        let mut around = Surroundings::default();
        assert_eq!(around.survey(survey(&[(2, "eth0")], &servers)).len(), 3);
        let ways = around.neighbour(&entry(2, ROUTER, NeighbourState::Failed));
        let failed: Vec<_> = ways.iter().map(|way| (way.server, way.failed)).collect();
        assert_eq!(failed, [(address("10.9.0.1"), true), (address("10.9.0.2"), true)]);
    }

    #[test]
    fn only_what_has_changed_is_told() {
        let mut around = Surroundings::default();
        let first = survey(&[(2, "eth0")], &[(SERVER, through(2, SERVER)), ("10.0.0.2", Reach::Local)]);
        assert_eq!(around.survey(first.clone()).len(), 2);
        assert_eq!(around.survey(first), []);
        let recreated = survey(&[(5, "eth0")], &[(SERVER, through(5, SERVER)), ("10.0.0.2", Reach::Local)]);
        let ways = around.survey(recreated);
        assert_eq!(ways.iter().map(|way| way.server).collect::<Vec<_>>(), [address(SERVER)]);
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

    fn any_survey() -> impl Strategy<Value = Survey> {
        let reach = prop_oneof![
            (1..4_u32).prop_map(|device| through(device, SERVER)),
            (1..4_u32).prop_map(|device| through(device, ROUTER)),
            Just(Reach::Local),
            Just(Reach::Nowhere(super::super::NetworkError::NoDeviceIndex(7))),
        ];
        (vec(any::<bool>(), 3), vec(reach, 0..3)).prop_map(|(there, reaches)| {
            let names = [(1, "a"), (2, "b"), (3, "c")];
            let devices: Vec<_> =
                names.into_iter().zip(there).filter(|(_, there)| *there).map(|(one, _)| one).collect();
            let servers: Vec<_> = [SERVER, "10.0.0.2"].into_iter().zip(reaches).collect();
            survey(&devices, &servers)
        })
    }

    #[derive(Clone, Debug)]
    enum Input {
        Survey(Survey),
        Neighbour(NeighbourChange),
    }

    proptest! {
        /// Whoever follows what is told knows the way to every server.
        #[test]
        fn whoever_follows_the_changes_knows_all_ways(inputs in vec(
            prop_oneof![any_survey().prop_map(Input::Survey), any_change().prop_map(Input::Neighbour)], 1..20,
        )) {
            let mut around = Surroundings::default();
            let mut copy: BTreeMap<IpAddr, ServerWay> = BTreeMap::new();
            for input in inputs {
                let changes = match input {
                    Input::Survey(survey) => {
                        copy.retain(|server, _| survey.servers.contains_key(server));
                        around.survey(survey)
                    }
                    Input::Neighbour(change) => around.neighbour(&change),
                };
                for way in changes {
                    copy.insert(way.server, way);
                }
                let all = around.last().servers.keys().filter_map(|server| around.way(*server));
                prop_assert_eq!(copy.values().cloned().collect::<Vec<_>>(), all.collect::<Vec<_>>());
            }
        }
    }
}
