//! The watched devices: programs are attached where servers' packets leave, and detached where they no longer do.

use std::collections::{BTreeMap, BTreeSet};

use tracing::{debug, info, warn};

use crate::{
    network::{Device, DevicePlan, RouteSnapshot},
    passive::{PassiveError, Programs},
};

/// What can watch a device.
pub(crate) trait Watcher {
    /// Watches the device of that name from now on.
    fn attach(&mut self, device: &str) -> Result<(), PassiveError>;
    /// No longer watches it; it may be gone.
    fn detach(&mut self, device: &str) -> Result<(), PassiveError>;
}

impl Watcher for Programs {
    fn attach(&mut self, device: &str) -> Result<(), PassiveError> {
        Programs::attach(self, device)
    }

    fn detach(&mut self, device: &str) -> Result<(), PassiveError> {
        Programs::detach(self, device)
    }
}

/// Which devices are watched.
#[derive(Debug, Default)]
pub(crate) struct Devices {
    /// Those that the operator has named; none: those that lead to servers.
    named: Vec<String>,
    watched: BTreeSet<Device>,
    /// Those that could not be, and why.
    refused: BTreeMap<Device, String>,
}

/// Whether a device that leads to servers is watched; if not, why.
pub(crate) type DeviceState = (u32, Option<String>);

impl Devices {
    pub(crate) fn new(named: Vec<String>) -> Self {
        Self { named, ..Self::default() }
    }

    /// Attaches and detaches as a snapshot demands.
    pub(crate) fn follow(
        &mut self,
        watcher: &mut impl Watcher,
        snapshot: &RouteSnapshot,
    ) -> Vec<DeviceState> {
        let plan = DevicePlan::new(&self.watched, &snapshot.watched(&self.named));
        for device in plan.detach {
            let name = &device.name;
            match watcher.detach(name) {
                Ok(()) => info!(device = name, "no longer watching device {name}"),
                // Usual where it is gone: the kernel has detached the programs with it.
                Err(error) => debug!("{error}"),
            }
            self.watched.remove(&device);
        }
        let before = std::mem::take(&mut self.refused);
        for device in plan.attach {
            match watcher.attach(&device.name) {
                Ok(()) => {
                    info!(device = device.name, "watching device {}", device.name);
                    self.watched.insert(device);
                }
                Err(error) => {
                    let reason = error.to_string();
                    if before.get(&device) != Some(&reason) {
                        warn!("{reason}");
                    }
                    self.refused.insert(device, reason);
                }
            }
        }
        let leading: BTreeSet<u32> = snapshot.neighbours().into_iter().map(|(device, _)| device).collect();
        leading.into_iter().map(|device| (device, self.reason(snapshot, device))).collect()
    }

    /// Attaches again what others have detached, and tries again where it was refused.
    pub(crate) fn keep(&mut self, watcher: &mut impl Watcher, snapshot: &RouteSnapshot) -> Vec<DeviceState> {
        for device in &self.watched {
            if let Err(error) = watcher.attach(&device.name) {
                debug!("{error}");
            }
        }
        if self.refused.is_empty() { Vec::new() } else { self.follow(watcher, snapshot) }
    }

    /// Those that are watched.
    pub(crate) fn watched(&self) -> impl Iterator<Item = &Device> {
        self.watched.iter()
    }

    /// Watches none any more.
    pub(crate) fn clear(&mut self, watcher: &mut impl Watcher) {
        for device in std::mem::take(&mut self.watched) {
            match watcher.detach(&device.name) {
                Ok(()) => info!(device = device.name, "programs detached"),
                Err(error) => warn!("{error}"),
            }
        }
    }

    /// Why a device that leads to servers isn't watched.
    fn reason(&self, snapshot: &RouteSnapshot, index: u32) -> Option<String> {
        if self.watched.iter().any(|device| device.index == index) {
            return None;
        }
        let refused = |(device, reason): (&Device, &String)| (device.index == index).then(|| reason.clone());
        let refusal = self.refused.iter().find_map(refused);
        let name = snapshot.devices.get(&index).map_or("a device that is gone", |device| &device.name);
        Some(refusal.unwrap_or_else(|| {
            format!("its packets leave through {name}, which is not among `devices` in `[passive]`")
        }))
    }
}

#[cfg(test)]
mod tests {
    use std::{io, net::IpAddr};

    use super::*;
    use crate::network::ServerNextHop;

    /// Notes what it is calls, and refuses one device.
    #[derive(Default)]
    struct RecordingWatcher {
        calls: Vec<String>,
        refuses: Option<&'static str>,
    }

    impl Watcher for RecordingWatcher {
        fn attach(&mut self, device: &str) -> Result<(), PassiveError> {
            self.calls.push(format!("+{device}"));
            match self.refuses {
                Some(refused) if refused == device => {
                    Err(PassiveError::System { what: "attaching", error: io::Error::other("no") })
                }
                _ => Ok(()),
            }
        }

        fn detach(&mut self, device: &str) -> Result<(), PassiveError> {
            self.calls.push(format!("-{device}"));
            Ok(())
        }
    }

    /// Devices by index and name, and the index of the one that leads to the only server.
    fn survey(devices: &[(u32, &str)], leading: u32) -> RouteSnapshot {
        let server: IpAddr = [10, 0, 0, 1].into();
        let device =
            |(index, name): &(u32, &str)| (*index, Device { index: *index, name: (*name).to_owned() });
        RouteSnapshot {
            devices: devices.iter().map(device).collect(),
            servers: [(server, ServerNextHop::Via { device: leading, neighbour: server })].into(),
        }
    }

    #[test]
    fn programs_follow_the_servers() {
        let mut watcher = RecordingWatcher::default();
        let mut devices = Devices::new(Vec::new());
        let snapshots = [
            ("at first", survey(&[(2, "a"), (3, "b")], 2), "+a"),
            ("nothing new", survey(&[(2, "a"), (3, "b")], 2), ""),
            ("the route moves", survey(&[(2, "a"), (3, "b")], 3), "-a +b"),
            ("made again", survey(&[(2, "a"), (9, "b")], 9), "-b +b"),
            ("renamed", survey(&[(2, "a"), (9, "c")], 9), "-b +c"),
        ];
        for (what, snapshot, expected) in snapshots {
            let states = devices.follow(&mut watcher, &snapshot);
            assert_eq!(std::mem::take(&mut watcher.calls).join(" "), expected, "{what}");
            assert!(states.iter().all(|(_, reason)| reason.is_none()), "{what}: {states:?}");
        }
        devices.clear(&mut watcher);
        assert_eq!(watcher.calls, ["-c"]);
    }

    #[test]
    fn a_device_that_refuses_is_tried_again() {
        let mut watcher = RecordingWatcher { refuses: Some("a"), ..RecordingWatcher::default() };
        let mut devices = Devices::new(Vec::new());
        let there = survey(&[(2, "a")], 2);
        let states = devices.follow(&mut watcher, &there);
        assert!(matches!(&states[..], [(2, Some(reason))] if reason.contains("attaching")), "{states:?}");
        watcher.refuses = None;
        assert_eq!(devices.keep(&mut watcher, &there), [(2, None)]);
        assert_eq!(watcher.calls, ["+a", "+a"]);
        assert_eq!(devices.keep(&mut watcher, &there), []);
        assert_eq!(
            watcher.calls,
            ["+a", "+a", "+a"],
            "programs are attached again if others have detached them"
        );
    }

    #[test]
    fn named_devices_alone_are_watched() {
        let mut watcher = RecordingWatcher::default();
        let mut devices = Devices::new(vec!["b".to_owned()]);
        let states = devices.follow(&mut watcher, &survey(&[(2, "a"), (3, "b")], 2));
        assert_eq!(watcher.calls, ["+b"]);
        assert!(matches!(&states[..], [(2, Some(reason))] if reason.contains("through a")), "{states:?}");
    }
}
