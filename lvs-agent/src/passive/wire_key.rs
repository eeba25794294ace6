//! Keys of the endpoint maps, made of addresses, ports, marks and MAC addresses. Pure.

use std::net::{IpAddr, SocketAddr};

use lvs_common::{EndpointKey4, EndpointKey6, EndpointKind, mapped};

use crate::model::{AddressFamily, Mac, Protocol};

/// The key that the packets of one server have.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum WireKey {
    /// All addresses are IPv4.
    V4(EndpointKey4),
    /// Any address is IPv6.
    V6(EndpointKey6),
}

impl WireKey {
    /// Masquerade: the server's own address and port; port 0 stands for every port.
    #[must_use]
    pub fn address(protocol: Protocol, server: SocketAddr) -> Self {
        let part = Part::Address(server.ip());
        Self::new(EndpointKind::Address, protocol, part, server.port(), Part::Nothing)
    }

    /// Masquerade in a firewall-mark service whose servers have no port of their own.
    #[must_use]
    pub fn address_mark(protocol: Protocol, server: IpAddr, mark: u32) -> Self {
        Self::new(EndpointKind::AddressMark, protocol, Part::Address(server), 0, Part::Mark(mark))
    }

    /// Direct route: the VIP and port, and the server's MAC address.
    #[must_use]
    pub fn link(protocol: Protocol, vip: SocketAddr, mac: Mac) -> Self {
        Self::new(EndpointKind::Link, protocol, Part::Address(vip.ip()), vip.port(), Part::Mac(mac))
    }

    /// Direct route in a firewall-mark service for packets of this IP version.
    #[must_use]
    pub fn link_mark(protocol: Protocol, mark: u32, family: AddressFamily, mac: Mac) -> Self {
        let key = Self::new(EndpointKind::LinkMark, protocol, Part::Mark(mark), 0, Part::Mac(mac));
        key.in_family(family)
    }

    /// Tunnel: the VIP and port inside, the server's address outside.
    #[must_use]
    pub fn tunnel(protocol: Protocol, vip: SocketAddr, end: IpAddr) -> Self {
        let part = Part::Address(vip.ip());
        Self::new(EndpointKind::Tunnel, protocol, part, vip.port(), Part::Address(end))
    }

    /// Tunnel in a firewall-mark service for (inner) packets of this IP version.
    #[must_use]
    pub fn tunnel_mark(protocol: Protocol, mark: u32, family: AddressFamily, end: IpAddr) -> Self {
        let key = Self::new(EndpointKind::TunnelMark, protocol, Part::Mark(mark), 0, Part::Address(end));
        key.in_family(family)
    }

    /// Not a server: UDP to this address and port is GUE.
    #[must_use]
    pub fn gue(end: SocketAddr) -> Self {
        let part = Part::Address(end.ip());
        Self::new(EndpointKind::Gue, Protocol::Udp, part, end.port(), Part::Nothing)
    }

    fn new(kind: EndpointKind, protocol: Protocol, address: Part, port: u16, link: Part) -> Self {
        let (port, protocol, kind) = (port.to_be_bytes(), protocol.number(), kind as u8);
        if let (Some([a, b, c, d, ..]), Some(link)) = (address.bytes4(), link.bytes4()) {
            return Self::V4(EndpointKey4 { address: [a, b, c, d], port, protocol, kind, link });
        }
        let (address, link) = (address.bytes6(), link.bytes6());
        Self::V6(EndpointKey6 { address, port, protocol, kind, zero: [0; 4], link })
    }

    /// A key without an address of its own says by its form what packets it is for.
    fn in_family(self, family: AddressFamily) -> Self {
        match (family, self) {
            (AddressFamily::V6, Self::V4(EndpointKey4 { address, port, protocol, kind, link })) => {
                let outer = kind == EndpointKind::TunnelMark as u8;
                let [a, b, c, d, ..] = link;
                let link = if outer { mapped([a, b, c, d]) } else { widened(link) };
                let address = widened(address);
                Self::V6(EndpointKey6 { address, port, protocol, kind, zero: [0; 4], link })
            }
            (_, key) => key,
        }
    }

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

/// What an address or a link of a key is made of.
#[derive(Clone, Copy)]
enum Part {
    Nothing,
    Address(IpAddr),
    Mark(u32),
    Mac(Mac),
}

impl Part {
    /// As a key for IPv4 has it; `None` for an IPv6 address.
    fn bytes4(self) -> Option<[u8; 8]> {
        match self {
            Self::Nothing => Some([0; 8]),
            Self::Address(IpAddr::V4(address)) => Some(widened(address.octets())),
            Self::Address(IpAddr::V6(_)) => None,
            Self::Mark(mark) => Some(widened(mark.to_ne_bytes())),
            Self::Mac(mac) => Some(widened(mac)),
        }
    }

    /// As a key for IPv6 has it.
    fn bytes6(self) -> [u8; 16] {
        match self {
            Self::Nothing => [0; 16],
            Self::Address(IpAddr::V4(address)) => mapped(address.octets()),
            Self::Address(IpAddr::V6(address)) => address.octets(),
            Self::Mark(mark) => widened(mark.to_ne_bytes()),
            Self::Mac(mac) => widened(mac),
        }
    }
}

/// The bytes, and zeros behind them.
fn widened<const SHORT: usize, const LONG: usize>(short: [u8; SHORT]) -> [u8; LONG] {
    std::array::from_fn(|index| short.get(index).copied().unwrap_or(0))
}

#[cfg(test)]
mod tests {
    use super::*;

    const MAC: Mac = [2, 0, 0, 0, 0, 9];
    const MARK: [u8; 4] = 0x0102_0304_u32.to_ne_bytes();

    fn v4(address: [u8; 4], port: u16, protocol: u8, kind: EndpointKind, link: [u8; 8]) -> WireKey {
        let (port, kind) = (port.to_be_bytes(), kind as u8);
        WireKey::V4(EndpointKey4 { address, port, protocol, kind, link })
    }

    fn v6(address: [u8; 16], port: u16, protocol: u8, kind: EndpointKind, link: [u8; 16]) -> WireKey {
        let (port, kind) = (port.to_be_bytes(), kind as u8);
        WireKey::V6(EndpointKey6 { address, port, protocol, kind, zero: [0; 4], link })
    }

    fn six(last: u8) -> [u8; 16] {
        [0x20, 1, 0xd, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, last]
    }

    #[test]
    fn every_kind_in_every_family() {
        use EndpointKind::{Address, AddressMark, Gue, Link, LinkMark, Tunnel, TunnelMark};
        let (tcp, udp) = (Protocol::Tcp, Protocol::Udp);
        let at = |text: &str| text.parse::<SocketAddr>().unwrap();
        let ip = |text: &str| text.parse::<IpAddr>().unwrap();
        let (four, six_mac) = ([192, 0, 2, 1], widened::<6, 16>(MAC));
        let (end4, mark) = ([10, 0, 0, 1, 0, 0, 0, 0], 0x0102_0304);
        let [a, b, c, d] = MARK;
        let (mark8, mark16) = ([a, b, c, d, 0, 0, 0, 0], widened::<4, 16>(MARK));
        let mapped_end = mapped([10, 0, 0, 1]);
        let mapped_vip = mapped([192, 0, 2, 1]);
        let (vip4, vip6) = (at("192.0.2.1:80"), at("[2001:db8::1]:80"));
        let (server4, server6) = (ip("10.0.0.1"), ip("2001:db8::2"));
        let cases = [
            (WireKey::address(tcp, vip4), v4(four, 80, 6, Address, [0; 8])),
            (WireKey::address(udp, vip6), v6(six(1), 80, 17, Address, [0; 16])),
            (WireKey::address_mark(tcp, ip("192.0.2.1"), mark), v4(four, 0, 6, AddressMark, mark8)),
            (WireKey::address_mark(tcp, server6, mark), v6(six(2), 0, 6, AddressMark, mark16)),
            (WireKey::link(tcp, vip4, MAC), v4(four, 80, 6, Link, widened(MAC))),
            (WireKey::link(tcp, vip6, MAC), v6(six(1), 80, 6, Link, six_mac)),
            (WireKey::link_mark(tcp, mark, AddressFamily::V4, MAC), v4(MARK, 0, 6, LinkMark, widened(MAC))),
            (WireKey::link_mark(tcp, mark, AddressFamily::V6, MAC), v6(mark16, 0, 6, LinkMark, six_mac)),
            (WireKey::tunnel(tcp, vip4, server4), v4(four, 80, 6, Tunnel, end4)),
            (WireKey::tunnel(tcp, vip4, server6), v6(mapped_vip, 80, 6, Tunnel, six(2))),
            (WireKey::tunnel(tcp, vip6, server4), v6(six(1), 80, 6, Tunnel, mapped_end)),
            (WireKey::tunnel(tcp, vip6, server6), v6(six(1), 80, 6, Tunnel, six(2))),
            (WireKey::tunnel_mark(udp, mark, AddressFamily::V4, server4), v4(MARK, 0, 17, TunnelMark, end4)),
            (
                WireKey::tunnel_mark(udp, mark, AddressFamily::V6, server4),
                v6(mark16, 0, 17, TunnelMark, mapped_end),
            ),
            (
                WireKey::tunnel_mark(udp, mark, AddressFamily::V4, server6),
                v6(mark16, 0, 17, TunnelMark, six(2)),
            ),
            (WireKey::gue(at("10.0.0.1:6080")), v4([10, 0, 0, 1], 6080, 17, Gue, [0; 8])),
            (WireKey::gue(at("[2001:db8::2]:6080")), v6(six(2), 6080, 17, Gue, [0; 16])),
        ];
        for (made, expected) in cases {
            assert_eq!(made, expected);
            assert!(made.kind().is_some());
        }
    }
}
