//! ICMP and ICMPv6 messages that call a server or its port unreachable.

use aya_ebpf::programs::TcContext;
use lvs_common::{Handshake, ServerId, interest};

use crate::{
    client::Client,
    clock,
    doubt::Doubt,
    handshake,
    packet::{self, ETHERTYPE_IPV4, ETHERTYPE_IPV6, Header, Ip, Ports, header, protocol},
    server::{self, ANSWERS, Endpoint},
    signal::Signal,
    tunnel,
};

/// The header of either protocol; the packet that it is about follows (RFC 792; RFC 4443, section 3.1).
const ICMP: u32 = 8;
/// The quoted packet is cut off anywhere: what its length claims means nothing.
const NO_LIMIT: u32 = u32::MAX;

#[repr(C)]
#[derive(Clone, Copy)]
struct Icmp {
    kind: u8,
    code: u8,
}

// SAFETY: made of bytes.
unsafe impl Header for Icmp {}

impl Icmp {
    /// Whether a host or port can't be reached, or not by order of an administrator. Not that a packet was too big, which
    /// is everyday business.
    #[inline(always)]
    fn is_unreachable(self, six: bool) -> bool {
        if six {
            // No route, prohibited, address, port (RFC 4443, section 3.1).
            self.kind == 1 && matches!(self.code, 0 | 1 | 3 | 4)
        } else {
            // Network, host, port (RFC 792), prohibited in three ways (RFC 1812, section 5.2.7.1).
            self.kind == 3 && matches!(self.code, 0 | 1 | 3 | 9 | 10 | 13)
        }
    }
}

/// Looks at an ICMP or ICMPv6 message that enters the director.
#[inline(never)]
pub(crate) fn see(ctx: &TcContext, ip: &Ip) -> Result<(), Doubt> {
    let icmp: Icmp = header(ctx, ip.transport)?;
    if !icmp.is_unreachable(ip.six) {
        return Err(Doubt::OtherProtocol);
    }
    let ethertype = if ip.six { ETHERTYPE_IPV6 } else { ETHERTYPE_IPV4 };
    let quoted = packet::inner(ctx, ethertype, ip.transport + ICMP, NO_LIMIT)?;
    let interest = if quoted.six {
        server::interest_in(&quoted.destination)
    } else {
        server::interest_in_ipv4(&quoted.destination)
    };
    if interest & (ANSWERS | interest::TUNNEL) == 0 {
        return Err(Doubt::NoServer);
    }
    let (id, client) = addressed(ctx, interest, &quoted)?;
    let mut signal = Signal::of(id)?;
    let key = client.handshake(id);
    // What was sent by a probe is its own answer.
    if handshake::of(&key).is_none_or(|open| open.flags & Handshake::PROBE == 0) {
        signal.unreachable(clock::exact());
    }
    Ok(())
}

/// Which server the quoted packet was sent to, and by whom.
#[inline(always)]
fn addressed(ctx: &TcContext, interest: u8, quoted: &Ip) -> Result<(ServerId, Client), Doubt> {
    let tunnels = interest & interest::TUNNEL != 0;
    if tunnels && tunnel::is_tunnel(quoted.protocol) {
        return tunnelled(ctx, quoted);
    }
    let ports = ports(ctx, quoted)?;
    let to = Endpoint {
        address: quoted.destination,
        six: quoted.six,
        protocol: quoted.protocol,
        port: ports.destination,
    };
    if let Some(id) = server::answering(interest, &to) {
        return Ok((id, client(quoted, ports.source)));
    }
    if tunnels && quoted.protocol == protocol::UDP && server::is_gue(quoted, ports.destination) {
        return tunnelled(ctx, quoted);
    }
    Err(Doubt::NoServer)
}

#[inline(never)]
fn tunnelled(ctx: &TcContext, outer: &Ip) -> Result<(ServerId, Client), Doubt> {
    let inner = tunnel::inner(ctx, outer)?;
    let ports = ports(ctx, &inner).map_err(|doubt| match doubt {
        Doubt::OtherProtocol => Doubt::UnknownTunnel,
        other => other,
    })?;
    let id = server::tunnelled(outer, &inner, ports.destination, 0).ok_or(Doubt::UnknownTunnel)?;
    Ok((id, client(&inner, ports.source)))
}

#[inline(always)]
fn ports(ctx: &TcContext, ip: &Ip) -> Result<Ports, Doubt> {
    if matches!(ip.protocol, protocol::TCP | protocol::UDP | protocol::SCTP) {
        header(ctx, ip.transport)
    } else {
        Err(Doubt::OtherProtocol)
    }
}

#[inline(always)]
fn client(ip: &Ip, port: u16) -> Client {
    Client { address: ip.source, six: ip.six, port, protocol: ip.protocol }
}
