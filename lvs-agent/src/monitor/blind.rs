//! What the monitor makes of its hooks on devices: where it is blind, and programs of others before its own.

use std::collections::BTreeMap;

use super::{Monitor, hooks::HookReport};
use crate::{
    event::Event,
    model::DestinationKey,
    network::{Device, ServerNextHop},
    passive::{
        NoSignal, Visibility,
        blindness::{Blindness, Look, Packets, Way},
    },
};

/// Where the programs are blind, and who is before them.
#[derive(Debug, Default)]
pub(super) struct Blind {
    blindness: Blindness,
    in_front: BTreeMap<(String, Way), Vec<String>>,
}

impl Blind {
    /// Why the programs see nothing on a device in a direction; `None`: they do.
    fn reason(&self, device: &str, way: Way) -> Option<String> {
        let counted = self.blindness.at(device, way)?;
        let who = match self.in_front.get(&(device.to_owned(), way)).map(|names| names.join(", ")) {
            Some(names) if !names.is_empty() => format!("{names} on {device} comes first"),
            _ => "something else takes packets first".to_owned(),
        };
        let words = match way {
            Way::Out => "to servers",
            Way::In => "from servers",
        };
        Some(format!(
            "blind on {device}: IPVS counted {} packets {words}, the programs {}; {who}; see `tcx-order` and \
             `clsact-priority` in `[passive]`",
            counted.kernel, counted.seen
        ))
    }

    /// Whose programs are before the agent's on a device.
    fn others(&self, device: &str) -> Option<String> {
        let names = Way::ALL.iter().filter_map(|way| self.in_front.get(&(device.to_owned(), *way)));
        let mut names: Vec<&str> = names.flatten().map(String::as_str).collect();
        names.sort_unstable();
        names.dedup();
        (!names.is_empty()).then(|| format!("{} on {device} may take packets first", names.join(", ")))
    }
}

impl Monitor {
    /// Takes in a look at what surrounds the programs.
    pub(super) fn look_around(&mut self, found: HookReport) {
        for ((device, way), names) in found.in_front {
            let before = self.blind.in_front.insert((device.clone(), way), names.clone()).unwrap_or_default();
            if before != names {
                self.events.publish(Event::InFront { device, way, names });
            }
        }
        let Some(counted) = found.counted else { return };
        let look = self.look(counted);
        for change in self.blind.blindness.compare(look) {
            let names = self.blind.in_front.get(&(change.device.clone(), change.way)).cloned();
            self.events.publish(Event::Blind { change, in_front: names.unwrap_or_default() });
        }
    }

    /// What was counted for the servers whose packets are attributed, by the kernel and by the programs.
    fn look(&self, mut counted: BTreeMap<DestinationKey, Packets>) -> Look {
        let mut look = Look::default();
        for target in self.targets.all() {
            let Some(device) = self.device_to(target.address()) else { continue };
            let attributed = target
                .destinations
                .iter()
                .filter(|one| matches!(self.without_signal.get(one), None | Some(NoSignal::CountersOnly(_))));
            let mut any = false;
            for destination in attributed {
                any = true;
                if let Some(packets) = counted.remove(destination) {
                    look.kernel.insert(*destination, (device.name.clone(), packets));
                }
            }
            if let Some((out, into)) = self.counted.get(&target.id).filter(|_| any) {
                let into = (target.visibility() == Visibility::Both).then_some(*into);
                look.seen.insert(target.id, (device.name.clone(), Packets { out: *out, into }));
            }
        }
        look
    }

    fn device_to(&self, server: std::net::IpAddr) -> Option<&Device> {
        let snapshot = self.topology.snapshot();
        match snapshot.servers.get(&server)? {
            ServerNextHop::Via { device, .. } => snapshot.devices.get(device),
            ServerNextHop::Local | ServerNextHop::Unreachable(_) => None,
        }
    }

    /// How much is seen of a server where what its route and service allow is `seen`, with a reason if that is less, or
    /// may be.
    pub(super) fn seen_by_programs(
        &self,
        server: std::net::IpAddr,
        seen: crate::control::Visibility,
    ) -> (crate::control::Visibility, Option<String>) {
        use crate::control::Visibility::{Both, ClientOnly, None as Nothing};
        let Some(device) = self.device_to(server).map(|device| device.name.as_str()) else {
            return (seen, None);
        };
        if seen == Nothing {
            return (seen, None);
        }
        if let Some(reason) = self.blind.reason(device, Way::Out) {
            return (Nothing, Some(reason));
        }
        if let Some(reason) = self.blind.reason(device, Way::In).filter(|_| seen == Both) {
            return (ClientOnly, Some(reason));
        }
        (seen, self.blind.others(device))
    }

    /// Tells who looks around which devices are watched.
    pub(super) fn name_devices(&self) {
        let devices: Vec<Device> = self.devices.watched().cloned().collect();
        self.outputs.devices.send_if_modified(|known| {
            let is_new = *known != devices;
            *known = devices;
            is_new
        });
    }
}
