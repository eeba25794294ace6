//! A second implementation of how packets are attributed to servers: the kernel side's rules, written plainly and on
//! their own, so that each can be tested against the other.

mod headers;

use std::collections::{HashMap, HashSet};
use std::net::IpAddr;

use lvs_common::interest;

use self::headers::{Ip, frame, icmp_about, ip, ports, tunnelled};
use crate::packets::builder::protocol;

/// Whether the agent's own probes have that mark.
fn is_own(mark: u32) -> bool {
    mark == lvs_common::PROBE_MARK || (lvs_common::VIP_MARKS..=lvs_common::VIP_MARKS + 0xffff).contains(&mark)
}

/// How a server's packets look. A port of 0 stands for every port.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Signature {
    /// Masquerade, at this address and port.
    Address(IpAddr, u16),
    /// Masquerade in a firewall-mark service; mark 0: found by its answers.
    AddressMark(IpAddr, u32),
    /// Direct route: the virtual address and port, and the server's MAC address.
    Link(IpAddr, u16, [u8; 6]),
    /// Direct route in a firewall-mark service for IPv4 or IPv6: the mark and the server's MAC address.
    LinkMark(Version, u32, [u8; 6]),
    /// Tunnel: the virtual address and port, and the tunnel's end.
    Tunnel(IpAddr, u16, IpAddr),
    /// Tunnel in a firewall-mark service, with packets of a version inside: the mark and the tunnel's end.
    TunnelMark(Version, u32, IpAddr),
    /// UDP to here is GUE.
    Gue(IpAddr, u16),
}

/// Of IP.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Version {
    /// IPv4.
    Four,
    /// IPv6.
    Six,
}

impl Version {
    /// That of an address.
    #[must_use]
    pub fn of(address: IpAddr) -> Self {
        if address.is_ipv6() { Self::Six } else { Self::Four }
    }
}

/// The direction in which a packet passes the director's device.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    /// Out of the director, with this mark.
    Out(u32),
    /// Into the director.
    In,
}

/// What a packet counts for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Verdict {
    /// A packet to or from this server.
    Server(u32),
    /// A message about a packet to this server, which calls it unreachable.
    Unreachable(u32),
    /// No server.
    Unattributed(Unattributed),
}

/// Why a packet counts for no server.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Unattributed {
    /// Neither IPv4 nor IPv6, or of a protocol that isn't balanced.
    OtherProtocol,
    /// To or from none of the servers.
    NoServer,
    /// To a tunnel's end, but for none of the servers behind it.
    UnknownTunnel,
    /// Not the first fragment.
    Fragment,
    /// Headers that can't be.
    Malformed,
    /// Too many VLAN tags.
    Vlan,
    /// Too many extension headers.
    Extensions,
}

/// Everything that is known about servers.
#[derive(Debug, Default)]
pub struct Model {
    servers: HashMap<(Signature, u8), u32>,
    /// Which coarse filter bits are set where: addresses share bits there, which decides between two reasons.
    interest: HashSet<(usize, u8)>,
}

impl Model {
    /// Lets packets of a signature count for a server.
    pub fn add(&mut self, signature: Signature, protocol: u8, id: u32) {
        self.servers.insert((signature, protocol), id);
        self.interest.insert(filter_bit(signature));
    }

    /// What a frame counts for.
    #[must_use]
    pub fn verdict(&self, direction: Direction, bytes: &[u8]) -> Verdict {
        let verdict = match direction {
            Direction::Out(mark) => self.outgoing(bytes, mark).map(Verdict::Server),
            Direction::In => self.incoming(bytes),
        };
        verdict.unwrap_or_else(Verdict::Unattributed)
    }

    fn outgoing(&self, bytes: &[u8], mark: u32) -> Result<u32, Unattributed> {
        let frame = frame(bytes)?;
        let ip = ip(bytes, frame.ethertype, frame.network, bytes.len())?;
        let at = |bit| self.is_interested(ip.destination, bit);
        let marked = mark != 0 && self.interest.contains(&(interest::of_mark(mark), interest::LINK_MARK));
        if !ADDRESS_BITS.iter().any(|&bit| at(bit)) && !marked {
            return Err(Unattributed::NoServer);
        }
        let tunnel = at(interest::TUNNEL);
        if tunnel && matches!(ip.protocol, protocol::IPV4 | protocol::IPV6 | protocol::GRE) {
            return self.through_tunnel(bytes, &ip, mark);
        }
        let (_, port) = ports(bytes, &ip)?;
        if let Some(id) = self.direct(&ip, port, frame.mac, mark) {
            return Ok(id);
        }
        let gue = self.servers.contains_key(&(Signature::Gue(ip.destination, port), protocol::UDP));
        if tunnel && ip.protocol == protocol::UDP && gue {
            return self.through_tunnel(bytes, &ip, mark);
        }
        Err(Unattributed::NoServer)
    }

    fn direct(&self, ip: &Ip, port: u16, mac: [u8; 6], mark: u32) -> Option<u32> {
        let (to, version) = (ip.destination, Version::of(ip.destination));
        let mut signatures = vec![Signature::Address(to, port)];
        match mark {
            0 => {}
            mark if is_own(mark) => signatures.push(Signature::AddressMark(to, 0)),
            mark => signatures.push(Signature::AddressMark(to, mark)),
        }
        signatures.push(Signature::Address(to, 0));
        signatures.push(Signature::Link(to, port, mac));
        if mark != 0 {
            signatures.push(Signature::LinkMark(version, mark, mac));
        }
        signatures.push(Signature::Link(to, 0, mac));
        self.first(&signatures, ip.protocol)
    }

    fn through_tunnel(&self, bytes: &[u8], outer: &Ip, mark: u32) -> Result<u32, Unattributed> {
        let inner = tunnelled(bytes, outer)?;
        let (_, port) = ports(bytes, &inner).map_err(|reason| match reason {
            Unattributed::OtherProtocol => Unattributed::UnknownTunnel,
            other => other,
        })?;
        self.behind(outer, &inner, port, mark).ok_or(Unattributed::UnknownTunnel)
    }

    fn behind(&self, outer: &Ip, inner: &Ip, port: u16, mark: u32) -> Option<u32> {
        let (vip, end) = (inner.destination, outer.destination);
        let mut signatures = vec![Signature::Tunnel(vip, port, end), Signature::Tunnel(vip, 0, end)];
        if mark != 0 {
            signatures.push(Signature::TunnelMark(Version::of(vip), mark, end));
            // The key of a tunnel over IPv6 doesn't tell what is inside.
            if end.is_ipv6() {
                signatures.push(Signature::TunnelMark(Version::Six, mark, end));
            }
        }
        self.first(&signatures, inner.protocol)
    }

    fn incoming(&self, bytes: &[u8]) -> Result<Verdict, Unattributed> {
        let frame = frame(bytes)?;
        let ip = ip(bytes, frame.ethertype, frame.network, bytes.len())?;
        let control = if ip.source.is_ipv6() { protocol::ICMPV6 } else { protocol::ICMP };
        if ip.protocol == control {
            return self.message(bytes, &ip).map(Verdict::Unreachable);
        }
        if !ANSWER_BITS.iter().any(|&bit| self.is_interested(ip.source, bit)) {
            return Err(Unattributed::NoServer);
        }
        let (port, _) = ports(bytes, &ip)?;
        self.answering(ip.source, port, ip.protocol).map(Verdict::Server).ok_or(Unattributed::NoServer)
    }

    fn answering(&self, address: IpAddr, port: u16, protocol: u8) -> Option<u32> {
        let signatures = [
            Signature::Address(address, port),
            Signature::AddressMark(address, 0),
            Signature::Address(address, 0),
        ];
        self.first(&signatures, protocol)
    }

    fn message(&self, bytes: &[u8], ip: &Ip) -> Result<u32, Unattributed> {
        let quoted = icmp_about(bytes, ip)?;
        let to = quoted.destination;
        let tunnel = self.is_interested(to, interest::TUNNEL);
        if !tunnel && !ANSWER_BITS.iter().any(|&bit| self.is_interested(to, bit)) {
            return Err(Unattributed::NoServer);
        }
        if tunnel && matches!(quoted.protocol, protocol::IPV4 | protocol::IPV6 | protocol::GRE) {
            return self.message_about_tunnel(bytes, &quoted);
        }
        let (_, port) = ports(bytes, &quoted)?;
        if let Some(id) = self.answering(to, port, quoted.protocol) {
            return Ok(id);
        }
        let gue = self.servers.contains_key(&(Signature::Gue(to, port), protocol::UDP));
        if tunnel && quoted.protocol == protocol::UDP && gue {
            return self.message_about_tunnel(bytes, &quoted);
        }
        Err(Unattributed::NoServer)
    }

    fn message_about_tunnel(&self, bytes: &[u8], quoted: &Ip) -> Result<u32, Unattributed> {
        self.through_tunnel(bytes, quoted, 0)
    }

    fn first(&self, signatures: &[Signature], protocol: u8) -> Option<u32> {
        signatures.iter().find_map(|&signature| self.servers.get(&(signature, protocol)).copied())
    }

    fn is_interested(&self, address: IpAddr, bit: u8) -> bool {
        self.interest.contains(&(filter_index(address), bit))
    }
}

const ANSWER_BITS: [u8; 3] = [interest::ADDRESS, interest::ADDRESS_MARK, interest::ADDRESS_ANY_PORT];

const ADDRESS_BITS: [u8; 6] = [
    interest::ADDRESS,
    interest::ADDRESS_MARK,
    interest::ADDRESS_ANY_PORT,
    interest::LINK,
    interest::LINK_ANY_PORT,
    interest::TUNNEL,
];

fn filter_index(address: IpAddr) -> usize {
    match address {
        IpAddr::V4(address) => interest::of_ipv4(address.octets()),
        IpAddr::V6(address) => interest::of_ipv6(address.octets()),
    }
}

fn filter_bit(signature: Signature) -> (usize, u8) {
    match signature {
        Signature::Address(address, 0) => (filter_index(address), interest::ADDRESS_ANY_PORT),
        Signature::Address(address, _) => (filter_index(address), interest::ADDRESS),
        Signature::AddressMark(address, _) => (filter_index(address), interest::ADDRESS_MARK),
        Signature::Link(address, 0, _) => (filter_index(address), interest::LINK_ANY_PORT),
        Signature::Link(address, _, _) => (filter_index(address), interest::LINK),
        Signature::LinkMark(_, mark, _) => (interest::of_mark(mark), interest::LINK_MARK),
        Signature::Tunnel(_, _, end) | Signature::TunnelMark(_, _, end) | Signature::Gue(end, _) => {
            (filter_index(end), interest::TUNNEL)
        }
    }
}
