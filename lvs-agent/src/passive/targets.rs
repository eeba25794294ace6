//! Which packets are whose: from destinations and the neighbour table to entries in the kernel side's maps. Pure.

use std::{
    collections::BTreeMap,
    fmt,
    net::{IpAddr, SocketAddr, SocketAddrV4},
};

use lvs_common::{EndpointKey4, EndpointKey6, EndpointKind, ServerId};

use crate::service::{DestinationKey, ForwardingMethod, Protocol, ServiceKey};

/// A link-layer address.
pub type Mac = [u8; 6];

/// What packets of one server look like.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum WireKey {
    /// All addresses are IPv4.
    V4(EndpointKey4),
    /// Any address is IPv6.
    V6(EndpointKey6),
}

impl WireKey {
    /// What its parts stand for; `None` for a number that means nothing.
    pub(super) fn kind(&self) -> Option<EndpointKind> {
        let number = match self {
            Self::V4(key) => key.kind,
            Self::V6(key) => key.kind,
        };
        let kinds = [
            EndpointKind::Address,
            EndpointKind::AddressMark,
            EndpointKind::Link,
            EndpointKind::LinkMark,
            EndpointKind::Tunnel,
            EndpointKind::TunnelMark,
            EndpointKind::Gue,
        ];
        kinds.into_iter().find(|kind| *kind as u8 == number)
    }

    /// The mark that its address begins with, where it does.
    pub(super) fn mark(&self) -> u32 {
        let bytes = match self {
            Self::V4(EndpointKey4 { address, .. }) => *address,
            Self::V6(EndpointKey6 { address: [a, b, c, d, ..], .. }) => [*a, *b, *c, *d],
        };
        u32::from_ne_bytes(bytes)
    }
}

/// Why a destination has no passive signal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NoSignal {
    /// Its protocol, IP version, forwarding method or kind of service is not attributed yet.
    NotSupported(&'static str),
    /// Its MAC address is not known (yet).
    NeighbourUnknown,
    /// Another server of the same service has the same MAC address: their packets look alike.
    SameMac(SocketAddr),
}

impl fmt::Display for NoSignal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotSupported(what) => write!(f, "{what} can't be attributed by this version"),
            Self::NeighbourUnknown => f.write_str("its MAC address is not in the neighbour table"),
            Self::SameMac(other) => write!(f, "its packets look like those of {other}: same MAC address"),
        }
    }
}

/// A change to make in the kernel side's maps.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change {
    /// Packets with this key count for this id from now on.
    Watch(WireKey, ServerId),
    /// Packets with this key count for nobody from now on.
    Unwatch(WireKey),
}

/// One endpoint as seen on the wire.
#[derive(Clone, Debug)]
pub struct Target {
    /// Its id in the kernel side's arrays.
    pub id: ServerId,
    /// How packets reach it.
    pub method: ForwardingMethod,
    /// The destinations that it serves: several where services share a masqueraded server.
    pub destinations: Vec<DestinationKey>,
    /// The virtual address and port of direct route.
    vip: Option<SocketAddrV4>,
    server: SocketAddrV4,
}

impl Target {
    /// The real server's address.
    #[must_use]
    pub fn address(&self) -> IpAddr {
        (*self.server.ip()).into()
    }

    /// Whether the director sees only what clients send.
    #[must_use]
    pub fn is_half_seen(&self) -> bool {
        self.method != ForwardingMethod::Masquerade
    }
}

/// All endpoints, the keys they have at the moment, and the destinations without one.
#[derive(Clone, Debug, Default)]
pub struct Targets {
    endpoints: Vec<Target>,
    unsupported: Vec<(DestinationKey, NoSignal)>,
    macs: BTreeMap<IpAddr, Mac>,
    watched: BTreeMap<ServerId, WireKey>,
}

impl Targets {
    /// Gives ids to destinations, in order.
    #[must_use]
    pub fn new(destinations: impl IntoIterator<Item = (DestinationKey, ForwardingMethod)>) -> Self {
        let mut all = Self::default();
        let mut masqueraded: BTreeMap<SocketAddrV4, usize> = BTreeMap::new();
        for (destination, method) in destinations {
            let (vip, server) = match attributable(&destination, method) {
                Ok(addresses) => addresses,
                Err(reason) => {
                    all.unsupported.push((destination, reason));
                    continue;
                }
            };
            let is_masqueraded = method == ForwardingMethod::Masquerade;
            if let Some(&known) = masqueraded.get(&server).filter(|_| is_masqueraded) {
                all.endpoints[known].destinations.push(destination);
                continue;
            }
            let index = all.endpoints.len();
            if is_masqueraded {
                masqueraded.insert(server, index);
            }
            let id = ServerId(u32::try_from(index).unwrap_or(u32::MAX));
            let vip = (!is_masqueraded).then_some(vip);
            all.endpoints.push(Target { id, method, destinations: vec![destination], vip, server });
        }
        all
    }

    /// The endpoints, by id.
    #[must_use]
    pub fn all(&self) -> &[Target] {
        &self.endpoints
    }

    /// The endpoint with an id.
    #[must_use]
    pub fn get(&self, id: ServerId) -> Option<&Target> {
        self.endpoints.get(id.0 as usize)
    }

    /// The endpoint that serves a destination, if its packets can be attributed at all.
    #[must_use]
    pub fn of(&self, destination: &DestinationKey) -> Option<&Target> {
        self.endpoints.iter().find(|target| target.destinations.contains(destination))
    }

    /// The endpoints that serve a service.
    pub fn of_service(&self, service: &ServiceKey) -> impl Iterator<Item = &Target> {
        self.endpoints.iter().filter(move |target| {
            target.destinations.iter().any(|destination| destination.service == *service)
        })
    }

    /// Takes note of a neighbour's MAC address, or that it has none any more, and says what must change in the maps.
    ///
    /// A neighbour that fails keeps its last address: its packets, if any, are still its own.
    #[must_use]
    pub fn neighbour(&mut self, address: IpAddr, mac: Option<Mac>) -> Vec<Change> {
        let Some(mac) = mac.filter(|_| self.endpoints.iter().any(|target| target.address() == address))
        else {
            return Vec::new();
        };
        if self.macs.insert(address, mac) == Some(mac) { Vec::new() } else { self.changes() }
    }

    /// What must change in the maps now; nothing when asked again.
    #[must_use]
    pub fn changes(&mut self) -> Vec<Change> {
        let wanted: BTreeMap<ServerId, WireKey> =
            self.endpoints.iter().filter_map(|target| Some((target.id, self.key(target).ok()?))).collect();
        let gone = self.watched.iter().filter(|(id, key)| wanted.get(id) != Some(key));
        let new = wanted.iter().filter(|(id, key)| self.watched.get(id) != Some(key));
        // First what goes: a key may pass from one server to another.
        let changes = gone
            .map(|(_, key)| Change::Unwatch(*key))
            .chain(new.map(|(id, key)| Change::Watch(*key, *id)))
            .collect();
        self.watched = wanted;
        changes
    }

    /// The destinations without a passive signal, and why.
    #[must_use]
    pub fn without_signal(&self) -> Vec<(DestinationKey, NoSignal)> {
        let unattributed = self.endpoints.iter().filter_map(|target| {
            let reason = self.key(target).err()?;
            Some(target.destinations.iter().map(move |destination| (*destination, reason)))
        });
        self.unsupported.iter().copied().chain(unattributed.flatten()).collect()
    }

    /// What a target's packets look like, if that is known and nobody else's look the same.
    fn key(&self, target: &Target) -> Result<WireKey, NoSignal> {
        let Some(vip) = target.vip else {
            return Ok(WireKey::V4(key4(target.server, EndpointKind::Address, [0; 8])));
        };
        let mac = self.mac(target).ok_or(NoSignal::NeighbourUnknown)?;
        let twin = self
            .endpoints
            .iter()
            .find(|other| other.id != target.id && other.vip == target.vip && self.mac(other) == Some(mac));
        match twin {
            Some(twin) => Err(NoSignal::SameMac(twin.server.into())),
            None => Ok(WireKey::V4(key4(vip, EndpointKind::Link, link(mac)))),
        }
    }

    fn mac(&self, target: &Target) -> Option<Mac> {
        self.macs.get(&IpAddr::from(*target.server.ip())).copied()
    }
}

fn key4(address: SocketAddrV4, kind: EndpointKind, link: [u8; 8]) -> EndpointKey4 {
    EndpointKey4 {
        address: address.ip().octets(),
        port: address.port().to_be_bytes(),
        protocol: Protocol::Tcp.number(),
        kind: kind as u8,
        link,
    }
}

fn link([a, b, c, d, e, f]: Mac) -> [u8; 8] {
    [a, b, c, d, e, f, 0, 0]
}

/// The VIP and server addresses of a destination whose packets can be told from others.
fn attributable(
    destination: &DestinationKey,
    method: ForwardingMethod,
) -> Result<(SocketAddrV4, SocketAddrV4), NoSignal> {
    let ServiceKey::Address { protocol: Protocol::Tcp, address: vip } = destination.service else {
        return Err(NoSignal::NotSupported("a service that isn't TCP at an address"));
    };
    let (SocketAddr::V4(vip), SocketAddr::V4(server)) = (vip, destination.server) else {
        return Err(NoSignal::NotSupported("IPv6"));
    };
    match method {
        ForwardingMethod::Masquerade | ForwardingMethod::DirectRoute => Ok((vip, server)),
        ForwardingMethod::Tunnel => Err(NoSignal::NotSupported("a tunnel")),
        ForwardingMethod::Local => Err(NoSignal::NotSupported("a server on the director itself")),
        ForwardingMethod::Bypass => Err(NoSignal::NotSupported("bypass")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MAC_A: Mac = [2, 0, 0, 0, 0, 1];
    const MAC_B: Mac = [2, 0, 0, 0, 0, 2];

    fn destination(vip: &str, server: &str) -> DestinationKey {
        let service = ServiceKey::Address { protocol: Protocol::Tcp, address: vip.parse().unwrap() };
        DestinationKey { service, server: server.parse().unwrap() }
    }

    fn direct(vip: [u8; 4], mac: Mac) -> WireKey {
        WireKey::V4(key4(SocketAddrV4::new(vip.into(), 80), EndpointKind::Link, link(mac)))
    }

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[test]
    fn a_masqueraded_server_in_two_services_is_one_target() {
        let one = destination("192.0.2.1:80", "10.0.0.1:80");
        let two = destination("192.0.2.2:80", "10.0.0.1:80");
        let mut targets =
            Targets::new([(one, ForwardingMethod::Masquerade), (two, ForwardingMethod::Masquerade)]);
        assert_eq!(targets.all().len(), 1);
        assert_eq!(targets.all()[0].destinations, [one, two]);
        let key = WireKey::V4(key4("10.0.0.1:80".parse().unwrap(), EndpointKind::Address, [0; 8]));
        assert_eq!(targets.changes(), [Change::Watch(key, ServerId(0))]);
        assert_eq!(targets.changes(), []);
    }

    #[test]
    fn a_directly_routed_server_is_watched_once_its_mac_is_known_and_follows_it() {
        let mut targets =
            Targets::new([(destination("192.0.2.1:80", "10.0.0.1:80"), ForwardingMethod::DirectRoute)]);
        assert_eq!(targets.changes(), []);
        assert_eq!(targets.without_signal()[0].1, NoSignal::NeighbourUnknown);
        let vip = [192, 0, 2, 1];
        assert_eq!(
            targets.neighbour(ip("10.0.0.1"), Some(MAC_A)),
            [Change::Watch(direct(vip, MAC_A), ServerId(0))]
        );
        assert_eq!(targets.neighbour(ip("10.0.0.1"), None), [], "a failed neighbour keeps its key");
        assert_eq!(
            targets.neighbour(ip("10.0.0.1"), Some(MAC_B)),
            [Change::Unwatch(direct(vip, MAC_A)), Change::Watch(direct(vip, MAC_B), ServerId(0))]
        );
        assert!(targets.without_signal().is_empty());
    }

    #[test]
    fn two_servers_behind_one_mac_are_nobodys() {
        let mut targets = Targets::new([
            (destination("192.0.2.1:80", "10.0.0.1:80"), ForwardingMethod::DirectRoute),
            (destination("192.0.2.1:80", "10.0.0.2:80"), ForwardingMethod::DirectRoute),
            (destination("192.0.2.9:80", "10.0.0.2:80"), ForwardingMethod::DirectRoute),
        ]);
        let first = targets.neighbour(ip("10.0.0.1"), Some(MAC_A));
        assert_eq!(first, [Change::Watch(direct([192, 0, 2, 1], MAC_A), ServerId(0))]);
        let both = targets.neighbour(ip("10.0.0.2"), Some(MAC_A));
        assert_eq!(
            both,
            [
                Change::Unwatch(direct([192, 0, 2, 1], MAC_A)),
                Change::Watch(direct([192, 0, 2, 9], MAC_A), ServerId(2))
            ],
            "the other service has only one server behind that MAC"
        );
        let reasons: Vec<_> = targets.without_signal().into_iter().map(|(_, reason)| reason).collect();
        let other = |address: &str| NoSignal::SameMac(address.parse().unwrap());
        assert_eq!(reasons, [other("10.0.0.2:80"), other("10.0.0.1:80")]);
    }

    #[test]
    fn what_is_not_attributed_is_named() {
        let mark = DestinationKey {
            service: ServiceKey::Mark { mark: 1, family: crate::service::AddressFamily::V4 },
            server: "10.0.0.1:80".parse().unwrap(),
        };
        let targets = Targets::new([
            (mark, ForwardingMethod::Masquerade),
            (destination("[2001:db8::1]:80", "[2001:db8::2]:80"), ForwardingMethod::Masquerade),
            (destination("192.0.2.1:80", "10.0.0.1:80"), ForwardingMethod::Tunnel),
        ]);
        assert!(targets.all().is_empty());
        assert_eq!(targets.without_signal().len(), 3);
    }
}
