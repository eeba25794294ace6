//! Which packets belong to which server: from destinations, routes and neighbours to entries in the endpoint maps.
//! Pure.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap, HashSet, VecDeque},
    net::{IpAddr, SocketAddr},
};

use lvs_common::ServerId;

use super::{
    signature::{EndpointSignature, Forwarding},
    visibility::{NoSignal, Visibility},
    wire_key::WireKey,
};
use crate::{
    keyed::KeyMap,
    model::{DestinationKey, ForwardingMethod, Mac, Protocol, ServiceKey},
};

/// A change to make in the eBPF maps, in the order given.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change {
    /// Packets with this key belong to no server from now on.
    Unwatch(WireKey),
    /// This id is another server's from now on: clear all that was counted and learned.
    Reset(ServerId),
    /// Packets with this key belong to this id from now on, whatever id they belonged to before.
    Watch(WireKey, ServerId),
}

/// The path of packets to a server's address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PacketPath {
    /// They stay on the director.
    Local,
    /// They leave the director.
    Out {
        /// Index of the device.
        device: u32,
        /// Its MAC address is what they are sent to: the server itself, or a router.
        next_hop: IpAddr,
    },
}

/// One endpoint as seen on the wire.
#[derive(Clone, Debug)]
pub struct Target {
    /// Its id, an index into the eBPF arrays.
    pub id: ServerId,
    /// How packets reach it.
    pub method: ForwardingMethod,
    /// The destinations that it serves: several where services share a masqueraded server.
    pub destinations: Vec<DestinationKey>,
    signature: EndpointSignature,
}

impl Target {
    /// The real server's address.
    #[must_use]
    pub fn address(&self) -> IpAddr {
        self.signature.form.server()
    }

    /// The protocol of its packets. A destination by firewall mark has one endpoint for each.
    #[must_use]
    pub fn protocol(&self) -> Protocol {
        self.signature.protocol
    }

    /// How much is seen of it.
    #[must_use]
    pub fn visibility(&self) -> Visibility {
        self.signature.visibility()
    }

    /// Whether its packets are attributed by the MAC address that they are sent to.
    #[must_use]
    pub fn needs_mac(&self) -> bool {
        self.signature.needs_mac()
    }

    /// Its name in messages.
    fn server(&self) -> SocketAddr {
        self.destinations.first().map_or_else(|| SocketAddr::new(self.address(), 0), |first| first.server)
    }
}

/// All endpoints, the keys they have at the moment, and the destinations without one.
#[derive(Clone, Debug)]
pub struct Targets {
    capacity: u32,
    endpoints: BTreeMap<ServerId, Target>,
    /// The endpoints of each destination, and of each service for each protocol.
    of_destination: KeyMap<DestinationKey, Vec<ServerId>>,
    of_service: KeyMap<(ServiceKey, Protocol), Vec<ServerId>>,
    ids: HashMap<EndpointSignature, ServerId>,
    /// Destinations that have no endpoint at all.
    unsupported: Vec<(DestinationKey, NoSignal)>,
    /// Destinations with an endpoint that got no id.
    no_room: BTreeSet<DestinationKey>,
    /// Ids from here on were never used.
    next: u32,
    /// Ids of endpoints that are gone, the one that has been gone for longest first.
    freed: VecDeque<ServerId>,
    paths: BTreeMap<IpAddr, PacketPath>,
    macs: BTreeMap<(u32, IpAddr), Mac>,
    /// Devices that can't be watched, and why.
    unwatched: BTreeMap<u32, String>,
    watched: BTreeMap<WireKey, ServerId>,
}

impl Targets {
    /// Gives ids to destinations, in order.
    #[must_use]
    pub fn new(destinations: impl IntoIterator<Item = Forwarding>) -> Self {
        let mut targets = Self {
            capacity: u32::MAX,
            endpoints: BTreeMap::new(),
            of_destination: KeyMap::default(),
            of_service: KeyMap::default(),
            ids: HashMap::new(),
            unsupported: Vec::new(),
            no_room: BTreeSet::new(),
            next: 0,
            freed: VecDeque::new(),
            paths: BTreeMap::new(),
            macs: BTreeMap::new(),
            unwatched: BTreeMap::new(),
            watched: BTreeMap::new(),
        };
        // No key was watched before, so that no id needs to be reset.
        targets.assign(destinations);
        targets
    }

    /// How many keys are watched, of IPv4 and of IPv6.
    #[must_use]
    pub fn watched_keys(&self) -> [usize; 2] {
        let v4 = self.watched.keys().filter(|key| matches!(key, WireKey::V4(_))).count();
        [v4, self.watched.len() - v4]
    }

    /// From now on only ids below `capacity` are given: the eBPF maps have room for no more.
    pub fn limit(&mut self, capacity: u32) {
        self.capacity = capacity;
    }

    /// Takes a new list of destinations. Endpoints that stay keep their ids.
    pub fn update(&mut self, destinations: impl IntoIterator<Item = Forwarding>) -> Vec<Change> {
        let reused = self.assign(destinations);
        let (mut changes, watches) = self.rewatch();
        changes.extend(reused.into_iter().map(Change::Reset));
        changes.extend(watches);
        changes
    }

    /// Takes in the path of packets to a server's address; `None`: unknown. An address of no server is ignored, so new
    /// servers come by [`Targets::update`] first.
    pub fn path(&mut self, server: IpAddr, path: Option<PacketPath>) -> Vec<Change> {
        self.paths([(server, path)])
    }

    /// The same of many, at the cost of one.
    pub fn paths(&mut self, paths: impl IntoIterator<Item = (IpAddr, Option<PacketPath>)>) -> Vec<Change> {
        let servers = self.addresses();
        let mut matters = false;
        for (server, path) in paths.into_iter().filter(|(server, _)| servers.contains(server)) {
            let old = match path {
                Some(path) => self.paths.insert(server, path),
                None => self.paths.remove(&server),
            };
            matters |= old != path;
        }
        if matters { self.changes() } else { Vec::new() }
    }

    /// Takes in a neighbour's MAC address on a device. `None` (failed or gone) leaves the last one that was known in
    /// place where it matters: packets under way may still be sent there.
    pub fn neighbour(&mut self, device: u32, address: IpAddr, mac: Option<Mac>) -> Vec<Change> {
        self.neighbours([(device, address, mac)])
    }

    /// The same of many, at the cost of one.
    pub fn neighbours(
        &mut self,
        neighbours: impl IntoIterator<Item = (u32, IpAddr, Option<Mac>)>,
    ) -> Vec<Change> {
        let out = |path: &PacketPath| match path {
            PacketPath::Out { device, next_hop } => Some((*device, *next_hop)),
            PacketPath::Local => None,
        };
        let next_hops: HashSet<(u32, IpAddr)> = self.paths.values().filter_map(out).collect();
        let mut matters = false;
        for (device, address, mac) in neighbours {
            let key = (device, address);
            match mac {
                // Kept in any case: the route may become known later.
                Some(mac) => matters |= self.macs.insert(key, mac) != Some(mac) && next_hops.contains(&key),
                None if next_hops.contains(&key) => {}
                None => drop(self.macs.remove(&key)),
            }
        }
        if matters { self.changes() } else { Vec::new() }
    }

    /// Takes in that a device can't be watched, and why; `None`: it can. Servers behind it have no signal.
    pub fn device(&mut self, device: u32, not_watched: Option<String>) {
        match not_watched {
            Some(reason) => self.unwatched.insert(device, reason),
            None => self.unwatched.remove(&device),
        };
    }

    /// The changes to make in the eBPF maps. Each is returned once.
    #[must_use]
    pub fn changes(&mut self) -> Vec<Change> {
        let (mut changes, watches) = self.rewatch();
        changes.extend(watches);
        changes
    }

    /// The endpoints, by id.
    #[must_use]
    pub fn all(&self) -> impl ExactSizeIterator<Item = &Target> {
        self.endpoints.values()
    }

    /// The endpoint with an id.
    #[must_use]
    pub fn get(&self, id: ServerId) -> Option<&Target> {
        self.endpoints.get(&id)
    }

    /// The endpoints of a destination: one for each protocol.
    pub fn of(&self, destination: &DestinationKey) -> impl Iterator<Item = &Target> {
        let ids = self.of_destination.get(destination).into_iter().flatten();
        ids.filter_map(|id| self.get(*id))
    }

    /// The endpoints of a service for a protocol.
    pub fn of_service(&self, service: &ServiceKey, protocol: Protocol) -> impl Iterator<Item = &Target> {
        let ids = self.of_service.get(&(*service, protocol)).into_iter().flatten();
        ids.filter_map(|id| self.get(*id))
    }

    /// Brings the lists of endpoints by destination and by service up to date.
    fn index(&mut self) {
        (self.of_destination, self.of_service) = Default::default();
        // An endpoint may serve several destinations of a service; they follow each other, as ids do.
        let add = |ids: &mut Vec<ServerId>, id| {
            if ids.last() != Some(&id) {
                ids.push(id);
            }
        };
        for (id, target) in &self.endpoints {
            for destination in &target.destinations {
                add(self.of_destination.entry(*destination).or_default(), *id);
                let service = (destination.service, target.protocol());
                add(self.of_service.entry(service).or_default(), *id);
            }
        }
    }

    /// The servers' addresses, each once: their routes and neighbours matter.
    #[must_use]
    pub fn addresses(&self) -> BTreeSet<IpAddr> {
        self.all().map(Target::address).collect()
    }

    /// The destinations without a passive signal, and why.
    #[must_use]
    pub fn without_signal(&self) -> Vec<(DestinationKey, NoSignal)> {
        let keys = self.keys();
        let mut reasons: BTreeMap<DestinationKey, Option<NoSignal>> = BTreeMap::new();
        for target in self.all() {
            let reason = self.reason(target, &keys);
            for destination in &target.destinations {
                // One protocol with a signal is enough; else the first one's reason counts.
                reasons
                    .entry(*destination)
                    .and_modify(|known| {
                        *known = known.take().filter(|_| reason.is_some());
                    })
                    .or_insert_with(|| reason.clone());
            }
        }
        for destination in &self.no_room {
            reasons.entry(*destination).or_insert(Some(NoSignal::NoRoom));
        }
        let unattributed =
            reasons.into_iter().filter_map(|(destination, reason)| Some((destination, reason?)));
        self.unsupported.iter().cloned().chain(unattributed).collect()
    }

    /// Why an endpoint has no signal.
    fn reason(&self, target: &Target, keys: &Keys) -> Option<NoSignal> {
        let key = match self.key(target) {
            Ok(key) => key,
            Err(reason) => return Some(reason),
        };
        if let Some(twin) = keys.twin(&key, target.id).and_then(|twin| self.get(twin)) {
            return Some(NoSignal::SameMac(twin.server()));
        }
        let twin = keys.answering_alike(target).and_then(|twin| self.get(twin));
        if let Some(twin) = twin.and_then(|twin| twin.destinations.first()) {
            return Some(NoSignal::SameAnswers(*twin));
        }
        if let Some(PacketPath::Out { device, .. }) = self.paths.get(&target.address())
            && let Some(reason) = self.unwatched.get(device)
        {
            return Some(NoSignal::DeviceNotWatched(reason.clone()));
        }
        match target.visibility() {
            Visibility::CountersOnly(reason) => Some(NoSignal::CountersOnly(reason)),
            Visibility::Both | Visibility::ClientOnly => None,
        }
    }

    /// Gives each signature among the destinations an id; known ones keep theirs. Returns the ids that had another
    /// owner.
    fn assign(&mut self, destinations: impl IntoIterator<Item = Forwarding>) -> Vec<ServerId> {
        self.unsupported.clear();
        self.no_room.clear();
        let mut wanted: HashMap<EndpointSignature, Vec<Forwarding>> = HashMap::new();
        let mut order = Vec::new();
        for forwarding in destinations {
            match EndpointSignature::of(&forwarding) {
                Ok(signatures) => {
                    for signature in signatures {
                        let sharing = wanted.entry(signature).or_default();
                        if sharing.is_empty() {
                            order.push(signature);
                        }
                        sharing.push(forwarding);
                    }
                }
                Err(reason) => self.unsupported.push((forwarding.destination, reason)),
            }
        }
        let gone: Vec<EndpointSignature> =
            self.ids.keys().filter(|signature| !wanted.contains_key(signature)).copied().collect();
        let mut gone: Vec<ServerId> =
            gone.iter().filter_map(|signature| self.ids.remove(signature)).collect();
        gone.sort_unstable();
        self.endpoints.retain(|id, _| gone.binary_search(id).is_err());
        let mut reused = Vec::new();
        for signature in order {
            let Some(sharing) = wanted.get(&signature) else { continue };
            let destinations = sharing.iter().map(|forwarding| forwarding.destination);
            let Some(id) = self.ids.get(&signature).copied().or_else(|| self.new_id(&mut reused)) else {
                self.no_room.extend(destinations);
                continue;
            };
            self.ids.insert(signature, id);
            let method = sharing.first().map_or(ForwardingMethod::Masquerade, |first| first.method);
            self.endpoints.insert(id, Target { id, method, destinations: destinations.collect(), signature });
        }
        self.index();
        let addresses = self.addresses();
        self.paths.retain(|address, _| addresses.contains(address));
        // Only now, so that none of them is given again while a program may still be on its way to it.
        self.freed.extend(gone);
        reused
    }

    /// A free id: one that was never used, or else the one that has been free for longest.
    fn new_id(&mut self, reused: &mut Vec<ServerId>) -> Option<ServerId> {
        if self.next < self.capacity {
            self.next += 1;
            return Some(ServerId(self.next - 1));
        }
        let id = self.freed.pop_front()?;
        reused.push(id);
        Some(id)
    }

    /// Brings `watched` up to date: what is no longer watched, and what is now.
    fn rewatch(&mut self) -> (Vec<Change>, Vec<Change>) {
        let wanted = self.keys().unambiguous();
        let gone = self.watched.keys().filter(|key| !wanted.contains_key(key));
        let gone = gone.map(|key| Change::Unwatch(*key)).collect();
        let new = wanted.iter().filter(|(key, id)| self.watched.get(key) != Some(id));
        let new = new.map(|(key, id)| Change::Watch(*key, *id)).collect();
        self.watched = wanted;
        (gone, new)
    }

    /// The keys that all endpoints have, as far as is known.
    fn keys(&self) -> Keys {
        let mut keys = Keys::default();
        for target in self.all() {
            let Ok(key) = self.key(target) else { continue };
            let signature = &target.signature;
            keys.add(
                target.id,
                [Some(key), signature.answer_key()].into_iter().flatten(),
                signature.answers(),
            );
            keys.tunnels.extend(signature.gue_key());
        }
        keys
    }

    /// A target's key, even if another target has the same.
    fn key(&self, target: &Target) -> Result<WireKey, NoSignal> {
        let path = self.paths.get(&target.address());
        if path == Some(&PacketPath::Local) {
            return Err(NoSignal::Local);
        }
        if !target.needs_mac() {
            return target.signature.key(None);
        }
        let Some(PacketPath::Out { device, next_hop }) = path else { return Err(NoSignal::RouteUnknown) };
        target.signature.key(self.macs.get(&(*device, *next_hop)).copied())
    }
}

/// Keys and their owners.
#[derive(Debug, Default)]
struct Keys {
    owners: BTreeMap<WireKey, Vec<ServerId>>,
    /// Servers whose answers look alike.
    answering: BTreeMap<(Protocol, IpAddr), Vec<ServerId>>,
    /// Ends of tunnels, which the programs need to know as such.
    tunnels: BTreeSet<WireKey>,
}

impl Keys {
    /// The id behind keys that belong to no server.
    const NO_SERVER: ServerId = ServerId(0);

    fn add(
        &mut self,
        id: ServerId,
        keys: impl Iterator<Item = WireKey>,
        answers: Option<(Protocol, IpAddr)>,
    ) {
        for key in keys {
            self.owners.entry(key).or_default().push(id);
        }
        if let Some(answers) = answers {
            self.answering.entry(answers).or_default().push(id);
        }
    }

    /// Another endpoint with the same key.
    fn twin(&self, key: &WireKey, id: ServerId) -> Option<ServerId> {
        self.owners.get(key)?.iter().copied().find(|owner| *owner != id)
    }

    /// Another endpoint whose answers look like a target's.
    fn answering_alike(&self, target: &Target) -> Option<ServerId> {
        let alike = self.answering.get(&target.signature.answers()?)?;
        alike.iter().copied().find(|id| *id != target.id)
    }

    /// The keys with one owner whose answers look like no other's, and the tunnels' ends.
    fn unambiguous(self) -> BTreeMap<WireKey, ServerId> {
        let alike: BTreeSet<ServerId> =
            self.answering.into_values().filter(|ids| ids.len() > 1).flatten().collect();
        let alone = self.owners.into_iter().filter_map(|(key, owners)| match owners.as_slice() {
            [owner] if !alike.contains(owner) => Some((key, *owner)),
            _ => None,
        });
        alone.chain(self.tunnels.into_iter().map(|key| (key, Self::NO_SERVER))).collect()
    }
}

#[cfg(test)]
mod tests;
