//! The servers that the programs know in these tests, one of each way in which a server can be told.

use std::net::{IpAddr, SocketAddr};

use lvs_agent::passive::WireKey;
use lvs_common::{EndpointKey4, EndpointKey6, EndpointKind, mapped};
use lvs_tests::packets::{
    attribution::{Model, Place, Version},
    builder::protocol::{SCTP, TCP, UDP},
};

/// Server ids that there are; the highest one has no keys.
pub(crate) const SERVERS: u32 = 26;

pub(crate) const MASQUERADED: u32 = 0;
pub(crate) const MASQUERADED_UDP: u32 = 1;
pub(crate) const MASQUERADED_SCTP: u32 = 2;
pub(crate) const MASQUERADED_ANY_PORT: u32 = 3;
pub(crate) const MASQUERADED_MARK: u32 = 4;
pub(crate) const SHARED_MARK: u32 = 5;
pub(crate) const OTHER_SHARED_MARK: u32 = 6;
pub(crate) const ROUTED: u32 = 7;
pub(crate) const OTHER_ROUTED: u32 = 8;
pub(crate) const ROUTED_ANY_PORT: u32 = 9;
pub(crate) const ROUTED_MARK: u32 = 10;
pub(crate) const TUNNELLED: u32 = 11;
pub(crate) const TUNNELLED_ANY_PORT: u32 = 12;
pub(crate) const TUNNELLED_MARK: u32 = 13;
pub(crate) const MASQUERADED6: u32 = 14;
pub(crate) const MASQUERADED6_MARK: u32 = 15;
pub(crate) const ROUTED6: u32 = 16;
pub(crate) const ROUTED6_MARK: u32 = 17;
pub(crate) const TUNNELLED_6_IN_4: u32 = 18;
pub(crate) const TUNNELLED_4_IN_6: u32 = 19;
pub(crate) const TUNNELLED_6_IN_6: u32 = 20;
pub(crate) const TUNNELLED6_MARK: u32 = 21;
pub(crate) const ROUTED_UDP: u32 = 22;
pub(crate) const TUNNELLED_UDP: u32 = 23;
pub(crate) const MASQUERADED6_UDP: u32 = 24;

pub(crate) const MAC: [u8; 6] = [2, 0, 0, 0, 0, 1];
pub(crate) const OTHER_MAC: [u8; 6] = [2, 0, 0, 0, 0, 2];
pub(crate) const MARK: u32 = 7;
pub(crate) const OTHER_MARK: u32 = 0x8000_0009;
pub(crate) const GUE_PORT: u16 = 5555;

pub(crate) fn socket(text: &str) -> SocketAddr {
    text.parse().unwrap()
}

pub(crate) fn address(text: &str) -> IpAddr {
    text.parse().unwrap()
}

pub(crate) fn client() -> SocketAddr {
    socket("198.51.100.7:40000")
}

pub(crate) fn client6() -> SocketAddr {
    socket("[2001:db8:7::7]:40000")
}

pub(crate) fn server() -> SocketAddr {
    socket("10.0.0.1:80")
}

pub(crate) fn server6() -> SocketAddr {
    socket("[fd00::1]:80")
}

pub(crate) fn vip() -> SocketAddr {
    socket("192.0.2.80:80")
}

pub(crate) fn vip6() -> SocketAddr {
    socket("[2001:db8::80]:80")
}

/// Ends of a tunnel: the director's and the server's.
pub(crate) fn near() -> IpAddr {
    address("10.0.1.254")
}

pub(crate) fn far() -> IpAddr {
    address("10.0.1.1")
}

pub(crate) fn near6() -> IpAddr {
    address("fd00:1::fe")
}

pub(crate) fn far6() -> IpAddr {
    address("fd00:1::1")
}

/// What is known about servers.
pub(crate) struct World {
    places: Vec<(Place, u8, u32)>,
}

impl Default for World {
    fn default() -> Self {
        let (any, any6) = (address("192.0.2.81"), address("2001:db8::81"));
        let (marked, shared) = (address("10.0.0.3"), address("10.0.0.4"));
        let marked6 = address("fd00::3");
        let (v4, v6) = (vip().ip(), vip6().ip());
        let mut places = vec![
            (Place::Address(server().ip(), 80), TCP, MASQUERADED),
            (Place::Address(server().ip(), 53), UDP, MASQUERADED_UDP),
            (Place::Address(server().ip(), 80), SCTP, MASQUERADED_SCTP),
            (Place::Address(address("10.0.0.2"), 0), TCP, MASQUERADED_ANY_PORT),
            (Place::AddressMark(shared, MARK), TCP, SHARED_MARK),
            (Place::AddressMark(shared, OTHER_MARK), TCP, OTHER_SHARED_MARK),
            (Place::Link(v4, 80, MAC), TCP, ROUTED),
            (Place::Link(v4, 80, OTHER_MAC), TCP, OTHER_ROUTED),
            (Place::Link(any, 0, MAC), TCP, ROUTED_ANY_PORT),
            (Place::LinkMark(Version::Four, MARK, MAC), TCP, ROUTED_MARK),
            (Place::Tunnel(v4, 80, far()), TCP, TUNNELLED),
            (Place::Tunnel(any, 0, far()), TCP, TUNNELLED_ANY_PORT),
            (Place::TunnelMark(Version::Four, MARK, far()), TCP, TUNNELLED_MARK),
            (Place::Address(server6().ip(), 80), TCP, MASQUERADED6),
            (Place::Address(server6().ip(), 53), UDP, MASQUERADED6_UDP),
            (Place::Link(v6, 80, MAC), TCP, ROUTED6),
            (Place::Link(any6, 0, MAC), TCP, ROUTED6),
            (Place::LinkMark(Version::Six, MARK, MAC), TCP, ROUTED6_MARK),
            (Place::Tunnel(v6, 80, far()), TCP, TUNNELLED_6_IN_4),
            (Place::Tunnel(v4, 80, far6()), TCP, TUNNELLED_4_IN_6),
            (Place::Tunnel(v6, 80, far6()), TCP, TUNNELLED_6_IN_6),
            (Place::TunnelMark(Version::Six, MARK, far6()), TCP, TUNNELLED6_MARK),
            (Place::Link(v4, 53, MAC), UDP, ROUTED_UDP),
            (Place::Tunnel(v4, 53, far()), UDP, TUNNELLED_UDP),
            (Place::Gue(far(), GUE_PORT), UDP, 0),
            (Place::Gue(far6(), GUE_PORT), UDP, 0),
        ];
        for (address, id) in [(marked, MASQUERADED_MARK), (marked6, MASQUERADED6_MARK)] {
            for protocol in [TCP, UDP] {
                places.push((Place::AddressMark(address, MARK), protocol, id));
                places.push((Place::AddressMark(address, 0), protocol, id));
            }
        }
        Self { places }
    }
}

impl World {
    /// As keys for the kernel side.
    pub(crate) fn keys(&self) -> impl Iterator<Item = (WireKey, u32)> {
        self.places.iter().map(|&(place, protocol, id)| (key(place, protocol), id))
    }

    /// As a plain model.
    pub(crate) fn model(&self) -> Model {
        let mut model = Model::default();
        for &(place, protocol, id) in &self.places {
            model.add(place, protocol, id);
        }
        model
    }
}

/// What the parts of a key stand for, before it is known which kind of key they go into.
enum Part {
    Nothing,
    Address(IpAddr),
    Mark(u32),
    Mac([u8; 6]),
}

/// The key of a place.
pub(crate) fn key(place: Place, protocol: u8) -> WireKey {
    use EndpointKind as Kind;
    let (kind, address, port, link) = match place {
        Place::Address(address, port) => (Kind::Address, Part::Address(address), port, Part::Nothing),
        Place::AddressMark(address, mark) => (Kind::AddressMark, Part::Address(address), 0, Part::Mark(mark)),
        Place::Link(vip, port, mac) => (Kind::Link, Part::Address(vip), port, Part::Mac(mac)),
        Place::LinkMark(_, mark, mac) => (Kind::LinkMark, Part::Mark(mark), 0, Part::Mac(mac)),
        Place::Tunnel(vip, port, end) => (Kind::Tunnel, Part::Address(vip), port, Part::Address(end)),
        Place::TunnelMark(_, mark, end) => (Kind::TunnelMark, Part::Mark(mark), 0, Part::Address(end)),
        Place::Gue(end, port) => (Kind::Gue, Part::Address(end), port, Part::Nothing),
    };
    let port = port.to_be_bytes();
    if is_six(place) {
        let (address, link) = (part(&address), part(&link));
        WireKey::V6(EndpointKey6 { address, port, protocol, kind: kind as u8, zero: [0; 4], link })
    } else {
        let (address, link) = (part(&address), part(&link));
        WireKey::V4(EndpointKey4 { address, port, protocol, kind: kind as u8, link })
    }
}

fn is_six(place: Place) -> bool {
    match place {
        Place::Address(address, _)
        | Place::AddressMark(address, _)
        | Place::Link(address, ..)
        | Place::Gue(address, _) => address.is_ipv6(),
        Place::LinkMark(version, ..) => version == Version::Six,
        Place::Tunnel(vip, _, end) => vip.is_ipv6() || end.is_ipv6(),
        Place::TunnelMark(version, _, end) => version == Version::Six || end.is_ipv6(),
    }
}

/// A part of a key, filled up with zeros; IPv4 addresses are mapped where there is room.
fn part<const N: usize>(part: &Part) -> [u8; N] {
    let mut bytes = [0; N];
    let from: &[u8] = match part {
        Part::Nothing => &[],
        Part::Address(IpAddr::V4(address)) if N == 16 => &mapped(address.octets()),
        Part::Address(IpAddr::V4(address)) => &address.octets(),
        Part::Address(IpAddr::V6(address)) => &address.octets(),
        Part::Mark(mark) => &mark.to_ne_bytes(),
        Part::Mac(mac) => mac,
    };
    bytes[..from.len()].copy_from_slice(from);
    bytes
}
