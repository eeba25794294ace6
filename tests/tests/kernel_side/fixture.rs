//! The servers that the programs know in these tests, one for each way in which packets are attributed.

use std::net::{IpAddr, SocketAddr};

use lvs_agent::passive::WireKey;
use lvs_common::{EndpointKey4, EndpointKey6, EndpointKind, mapped};
use lvs_tests::packets::{
    attribution::{Model, Signature, Version},
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
pub(crate) struct Fixture {
    signatures: Vec<(Signature, u8, u32)>,
}

impl Default for Fixture {
    fn default() -> Self {
        let (any, any6) = (address("192.0.2.81"), address("2001:db8::81"));
        let (marked, shared) = (address("10.0.0.3"), address("10.0.0.4"));
        let marked6 = address("fd00::3");
        let (v4, v6) = (vip().ip(), vip6().ip());
        let mut signatures = vec![
            (Signature::Address(server().ip(), 80), TCP, MASQUERADED),
            (Signature::Address(server().ip(), 53), UDP, MASQUERADED_UDP),
            (Signature::Address(server().ip(), 80), SCTP, MASQUERADED_SCTP),
            (Signature::Address(address("10.0.0.2"), 0), TCP, MASQUERADED_ANY_PORT),
            (Signature::AddressMark(shared, MARK), TCP, SHARED_MARK),
            (Signature::AddressMark(shared, OTHER_MARK), TCP, OTHER_SHARED_MARK),
            (Signature::Link(v4, 80, MAC), TCP, ROUTED),
            (Signature::Link(v4, 80, OTHER_MAC), TCP, OTHER_ROUTED),
            (Signature::Link(any, 0, MAC), TCP, ROUTED_ANY_PORT),
            (Signature::LinkMark(Version::Four, MARK, MAC), TCP, ROUTED_MARK),
            (Signature::Tunnel(v4, 80, far()), TCP, TUNNELLED),
            (Signature::Tunnel(any, 0, far()), TCP, TUNNELLED_ANY_PORT),
            (Signature::TunnelMark(Version::Four, MARK, far()), TCP, TUNNELLED_MARK),
            (Signature::Address(server6().ip(), 80), TCP, MASQUERADED6),
            (Signature::Address(server6().ip(), 53), UDP, MASQUERADED6_UDP),
            (Signature::Link(v6, 80, MAC), TCP, ROUTED6),
            (Signature::Link(any6, 0, MAC), TCP, ROUTED6),
            (Signature::LinkMark(Version::Six, MARK, MAC), TCP, ROUTED6_MARK),
            (Signature::Tunnel(v6, 80, far()), TCP, TUNNELLED_6_IN_4),
            (Signature::Tunnel(v4, 80, far6()), TCP, TUNNELLED_4_IN_6),
            (Signature::Tunnel(v6, 80, far6()), TCP, TUNNELLED_6_IN_6),
            (Signature::TunnelMark(Version::Six, MARK, far6()), TCP, TUNNELLED6_MARK),
            (Signature::Link(v4, 53, MAC), UDP, ROUTED_UDP),
            (Signature::Tunnel(v4, 53, far()), UDP, TUNNELLED_UDP),
            (Signature::Gue(far(), GUE_PORT), UDP, 0),
            (Signature::Gue(far6(), GUE_PORT), UDP, 0),
        ];
        for (address, id) in [(marked, MASQUERADED_MARK), (marked6, MASQUERADED6_MARK)] {
            for protocol in [TCP, UDP] {
                signatures.push((Signature::AddressMark(address, MARK), protocol, id));
                signatures.push((Signature::AddressMark(address, 0), protocol, id));
            }
        }
        Self { signatures }
    }
}

impl Fixture {
    /// As keys for the kernel side.
    pub(crate) fn keys(&self) -> impl Iterator<Item = (WireKey, u32)> {
        self.signatures.iter().map(|&(signature, protocol, id)| (key(signature, protocol), id))
    }

    /// As a plain model.
    pub(crate) fn model(&self) -> Model {
        let mut model = Model::default();
        for &(signature, protocol, id) in &self.signatures {
            model.add(signature, protocol, id);
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

/// The key of a signature.
pub(crate) fn key(signature: Signature, protocol: u8) -> WireKey {
    use EndpointKind as Kind;
    let (kind, address, port, link) = match signature {
        Signature::Address(address, port) => (Kind::Address, Part::Address(address), port, Part::Nothing),
        Signature::AddressMark(address, mark) => {
            (Kind::AddressMark, Part::Address(address), 0, Part::Mark(mark))
        }
        Signature::Link(vip, port, mac) => (Kind::Link, Part::Address(vip), port, Part::Mac(mac)),
        Signature::LinkMark(_, mark, mac) => (Kind::LinkMark, Part::Mark(mark), 0, Part::Mac(mac)),
        Signature::Tunnel(vip, port, end) => (Kind::Tunnel, Part::Address(vip), port, Part::Address(end)),
        Signature::TunnelMark(_, mark, end) => (Kind::TunnelMark, Part::Mark(mark), 0, Part::Address(end)),
        Signature::Gue(end, port) => (Kind::Gue, Part::Address(end), port, Part::Nothing),
    };
    let port = port.to_be_bytes();
    if is_six(signature) {
        let (address, link) = (part(&address), part(&link));
        WireKey::V6(EndpointKey6 { address, port, protocol, kind: kind as u8, zero: [0; 4], link })
    } else {
        let (address, link) = (part(&address), part(&link));
        WireKey::V4(EndpointKey4 { address, port, protocol, kind: kind as u8, link })
    }
}

fn is_six(signature: Signature) -> bool {
    match signature {
        Signature::Address(address, _)
        | Signature::AddressMark(address, _)
        | Signature::Link(address, ..)
        | Signature::Gue(address, _) => address.is_ipv6(),
        Signature::LinkMark(version, ..) => version == Version::Six,
        Signature::Tunnel(vip, _, end) => vip.is_ipv6() || end.is_ipv6(),
        Signature::TunnelMark(version, _, end) => version == Version::Six || end.is_ipv6(),
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
