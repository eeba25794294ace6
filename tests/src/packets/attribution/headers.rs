//! Headers, as the RFCs draw them.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::Unattributed;
use crate::packets::builder::{ETHERNET, protocol};

pub(super) struct Frame {
    pub(super) mac: [u8; 6],
    pub(super) ethertype: u16,
    pub(super) network: usize,
}

pub(super) struct Ip {
    pub(super) source: IpAddr,
    pub(super) destination: IpAddr,
    pub(super) protocol: u8,
    /// Where its payload begins.
    pub(super) payload: usize,
    /// Where it ends by its own claim.
    pub(super) end: usize,
    /// Whether it may be cut off before: a quoted packet.
    pub(super) cut: bool,
}

const IPV4: u16 = 0x0800;
const IPV6: u16 = 0x86dd;

/// Where the limit of a packet in another means nothing.
const NO_LIMIT: usize = usize::MAX;

fn take<const N: usize>(bytes: &[u8], at: usize) -> Result<[u8; N], Unattributed> {
    let taken = bytes.get(at..).and_then(|rest| rest.first_chunk::<N>());
    taken.copied().ok_or(Unattributed::Malformed)
}

fn number(bytes: &[u8], at: usize) -> Result<usize, Unattributed> {
    Ok(usize::from(u16::from_be_bytes(take(bytes, at)?)))
}

fn byte(bytes: &[u8], at: usize) -> Result<u8, Unattributed> {
    take(bytes, at).map(|[byte]| byte)
}

/// The link layer, behind at most two tags.
pub(super) fn frame(bytes: &[u8]) -> Result<Frame, Unattributed> {
    let header: [u8; ETHERNET] = take(bytes, 0)?;
    let mac = take(bytes, 0)?;
    let mut ethertype = u16::from_be_bytes([header[12], header[13]]);
    let mut network = ETHERNET;
    let mut tags = 0;
    while ethertype == 0x8100 || ethertype == 0x88a8 {
        if tags == 2 {
            return Err(Unattributed::Vlan);
        }
        let [_, _, high, low] = take(bytes, network)?;
        ethertype = u16::from_be_bytes([high, low]);
        network += 4;
        tags += 1;
    }
    Ok(Frame { mac, ethertype, network })
}

/// The network layer.
pub(super) fn ip(bytes: &[u8], ethertype: u16, at: usize, limit: usize) -> Result<Ip, Unattributed> {
    match ethertype {
        IPV4 => ipv4(bytes, at, limit),
        IPV6 => ipv6(bytes, at, limit),
        _ => Err(Unattributed::OtherProtocol),
    }
}

fn ipv4(bytes: &[u8], at: usize, limit: usize) -> Result<Ip, Unattributed> {
    let header: [u8; 20] = take(bytes, at)?;
    let length = usize::from(header[0] & 15) * 4;
    let total = number(bytes, at + 2)?;
    let room = limit.checked_sub(at).ok_or(Unattributed::Malformed)?;
    if header[0] >> 4 != 4 || length < 20 {
        return Err(Unattributed::Malformed);
    }
    let all = total == 0 && room > 0xffff;
    if !all && (total < length || total > room) {
        return Err(Unattributed::Malformed);
    }
    if number(bytes, at + 6)? & 0x1fff != 0 {
        return Err(Unattributed::Fragment);
    }
    let address = |from| take::<4>(bytes, at + from).map(|octets| IpAddr::V4(Ipv4Addr::from(octets)));
    Ok(Ip {
        source: address(12)?,
        destination: address(16)?,
        protocol: header[9],
        payload: at + length,
        end: if all { limit } else { at + total },
        cut: false,
    })
}

fn ipv6(bytes: &[u8], at: usize, limit: usize) -> Result<Ip, Unattributed> {
    let header: [u8; 40] = take(bytes, at)?;
    let claimed = 40 + number(bytes, at + 4)?;
    let room = limit.checked_sub(at).ok_or(Unattributed::Malformed)?;
    if header[0] >> 4 != 6 || claimed > room {
        return Err(Unattributed::Malformed);
    }
    let all = claimed == 40 && room > 40 + 0xffff;
    let (protocol, payload) = behind_extensions(bytes, header[6], at + 40)?;
    let address = |from| take::<16>(bytes, at + from).map(|octets| IpAddr::V6(Ipv6Addr::from(octets)));
    Ok(Ip {
        source: address(8)?,
        destination: address(24)?,
        protocol,
        payload,
        end: if all { limit } else { at + claimed },
        cut: false,
    })
}

fn behind_extensions(bytes: &[u8], first: u8, start: usize) -> Result<(u8, usize), Unattributed> {
    let (mut next, mut at, mut seen) = (first, start, 0);
    loop {
        let units = match next {
            protocol::HOP_BY_HOP | protocol::ROUTING | protocol::DESTINATION => 8,
            protocol::AUTHENTICATION => 4,
            protocol::FRAGMENT => 0,
            _ => return Ok((next, at)),
        };
        if seen == 6 {
            return Err(Unattributed::Extensions);
        }
        let [following, length, high, low] = take(bytes, at)?;
        let length = usize::from(length);
        at += match units {
            8 => 8 * (length + 1),
            4 => 4 * (length + 2),
            _ if u16::from_be_bytes([high, low]) >> 3 != 0 => return Err(Unattributed::Fragment),
            _ => 8,
        };
        next = following;
        seen += 1;
    }
}

/// Source and destination port of a packet whose transport header is whole.
pub(super) fn ports(bytes: &[u8], ip: &Ip) -> Result<(u16, u16), Unattributed> {
    let at = ip.payload;
    let known = matches!(ip.protocol, protocol::TCP | protocol::UDP | protocol::SCTP);
    if !known {
        return Err(Unattributed::OtherProtocol);
    }
    let [a, b, c, d] = take(bytes, at)?;
    let ports = (u16::from_be_bytes([a, b]), u16::from_be_bytes([c, d]));
    if ip.cut {
        return Ok(ports);
    }
    let length = match ip.protocol {
        protocol::TCP => usize::from(byte(bytes, at + 12)? >> 4) * 4,
        protocol::UDP => 8,
        _ => 12,
    };
    let shortest = if ip.protocol == protocol::TCP { 20 } else { length };
    if length < shortest || at + length > ip.end {
        return Err(Unattributed::Malformed);
    }
    Ok(ports)
}

/// The packet in a tunnel; UDP is taken for GUE.
pub(super) fn tunnelled(bytes: &[u8], outer: &Ip) -> Result<Ip, Unattributed> {
    let at = outer.payload;
    let (ethertype, inside) = match outer.protocol {
        protocol::IPV4 => (IPV4, at),
        protocol::IPV6 => (IPV6, at),
        protocol::GRE => gre(bytes, at)?,
        _ => gue(bytes, at + 8)?,
    };
    let mut inner = match ethertype {
        IPV4 | IPV6 => ip(bytes, ethertype, inside, outer.end)?,
        _ => return Err(Unattributed::UnknownTunnel),
    };
    inner.cut = outer.cut;
    Ok(inner)
}

fn gre(bytes: &[u8], at: usize) -> Result<(u16, usize), Unattributed> {
    let [flags, version, high, low] = take(bytes, at)?;
    if flags & 0x4f != 0 || version != 0 {
        return Err(Unattributed::UnknownTunnel);
    }
    let fields = (flags & 0xb0).count_ones() as usize;
    Ok((u16::from_be_bytes([high, low]), at + 4 + 4 * fields))
}

fn gue(bytes: &[u8], at: usize) -> Result<(u16, usize), Unattributed> {
    let [first, inside] = take(bytes, at)?;
    match (first >> 4, inside) {
        (4, _) => Ok((IPV4, at)),
        (6, _) => Ok((IPV6, at)),
        (0 | 1, protocol::IPV4) => Ok((IPV4, at + 4 + 4 * usize::from(first & 31))),
        (0 | 1, protocol::IPV6) => Ok((IPV6, at + 4 + 4 * usize::from(first & 31))),
        _ => Err(Unattributed::UnknownTunnel),
    }
}

/// The packet that an ICMP or ICMPv6 message calls its host or port unreachable for. It is cut off anywhere.
pub(super) fn icmp_about(bytes: &[u8], message: &Ip) -> Result<Ip, Unattributed> {
    let six = message.source.is_ipv6();
    let [kind, code] = take(bytes, message.payload)?;
    let unreachable = match (six, kind) {
        (true, 1) => [0, 1, 3, 4].contains(&code),
        (false, 3) => [0, 1, 3, 9, 10, 13].contains(&code),
        _ => false,
    };
    if !unreachable {
        return Err(Unattributed::OtherProtocol);
    }
    let mut quoted = ip(bytes, if six { IPV6 } else { IPV4 }, message.payload + 8, NO_LIMIT)?;
    quoted.cut = true;
    Ok(quoted)
}
