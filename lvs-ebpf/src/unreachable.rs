//! ICMP and ICMPv6 messages that report a server or its port as unreachable.

use core::mem::MaybeUninit;

use aya_ebpf::programs::TcContext;
use lvs_common::{ServerId, interest};

use crate::{
    client::Client,
    clock,
    handshake::{self, Quoted},
    packet::{self, Ip, Ports, header, headers, protocol},
    sample::Slot,
    server::{self, ANSWERS, Endpoint},
    signal::Signal,
    tunnel,
    unattributed::Unattributed,
};

/// The header of either protocol; the packet that it is about follows (RFC 792; RFC 4443, section 3.1).
const ICMP: usize = 8;
/// The quoted packet is cut off anywhere: what its length claims means nothing.
const NO_LIMIT: usize = u32::MAX as usize;
/// The ports that TCP's header begins with.
const PORTS: usize = 4;
/// Stands for a sequence number that was not quoted. (Of an `Option` the compiler leaves the number undefined, which
/// the verifier doesn't let pass.)
const NO_NUMBER: u64 = u64::MAX;

#[repr(C)]
#[derive(Clone, Copy)]
struct Icmp {
    kind: u8,
    code: u8,
}

/// What follows the ports in a TCP header: with them the 8 bytes that each message quotes at least (RFC 792).
#[repr(C)]
#[derive(Clone, Copy)]
struct Sequence([u16; 2]);

headers!(Icmp, Sequence);

impl Icmp {
    /// Whether a host or port can't be reached, or not by order of an administrator. Not that a packet was too big,
    /// which is everyday business.
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

/// Watches an ICMP or ICMPv6 message into the director.
#[inline(never)]
pub(crate) fn observe(ctx: &TcContext, ip: &Ip) -> Result<(), Unattributed> {
    let icmp: Icmp = header(ctx, ip.transport())?;
    if !icmp.is_unreachable(ip.six) {
        return Err(Unattributed::OtherProtocol);
    }
    let mut quoted = MaybeUninit::uninit();
    if ip.six {
        packet::ipv6(ctx, ip.transport() + ICMP, NO_LIMIT, &mut quoted)?;
    } else {
        packet::inner_ipv4(ctx, ip.transport() + ICMP, NO_LIMIT, &mut quoted)?;
    }
    // SAFETY: written, because it has not failed.
    let quoted = unsafe { quoted.assume_init_ref() };
    let interest = if quoted.six {
        server::interest_in(&quoted.destination)
    } else {
        server::interest_in_ipv4(quoted.destination[3])
    };
    if interest & (ANSWERS | interest::TUNNEL) == 0 {
        return Err(Unattributed::NoServer);
    }
    let tunnels = interest & interest::TUNNEL != 0;
    if !(tunnels && tunnel::is_tunnel(quoted.protocol)) {
        let ports = ports(ctx, quoted)?;
        if let Some(id) = server::answering(interest, &Endpoint::at_destination(quoted, ports.destination)) {
            return blame(ctx, id, quoted, ports.source);
        }
        if !(tunnels && quoted.protocol == protocol::UDP && server::is_gue(quoted, ports.destination)) {
            return Err(Unattributed::NoServer);
        }
    }
    let mut inner = MaybeUninit::uninit();
    tunnel::inner(ctx, quoted, &mut inner)?;
    // SAFETY: as above.
    let inner = unsafe { inner.assume_init_ref() };
    let ports = ports(ctx, inner).map_err(Unattributed::in_tunnel)?;
    let id = server::tunnelled(quoted, inner, ports.destination, 0).ok_or(Unattributed::UnknownTunnel)?;
    blame(ctx, id, inner, ports.source)
}

/// Counts a message about what a client had sent to a server. Probes are answered by it, and are no clients.
// One function, and one key in it: of the stack there is little left here.
#[inline(never)]
fn blame(ctx: &TcContext, id: ServerId, quoted: &Ip, port: u16) -> Result<(), Unattributed> {
    let Some(mut signal) = Signal::of(id) else { return Err(Unattributed::BadServerId) };
    let client = Client::of(quoted, port);
    let is_tcp = client.protocol == protocol::TCP;
    let mut sequence = 0;
    if is_tcp {
        sequence = match header::<Sequence>(ctx, quoted.transport() + PORTS) {
            Ok(Sequence(halves)) => u64::from(packet::number(halves)),
            Err(_) => NO_NUMBER,
        };
    }
    // Anybody can send such a message from anywhere: it counts only if it quotes what is under way.
    let is_about_something_open = match handshake::quoted(&client.handshake(id), sequence) {
        Quoted::Probe => return Ok(()),
        Quoted::Open => true,
        Quoted::Nothing if is_tcp && sequence != NO_NUMBER => match Slot::of(&signal, &client) {
            #[expect(clippy::cast_possible_truncation, reason = "it was one of 32 bits")]
            Some(mut slot) => slot.is_reported(sequence as u32, clock::coarse()),
            None => false,
        },
        Quoted::Nothing => false,
    };
    if is_about_something_open {
        signal.unreachable(clock::exact());
    } else {
        signal.counters.unreachable_doubted += 1;
    }
    Ok(())
}

#[inline(always)]
fn ports(ctx: &TcContext, ip: &Ip) -> Result<Ports, Unattributed> {
    if matches!(ip.protocol, protocol::TCP | protocol::UDP | protocol::SCTP) {
        header(ctx, ip.transport())
    } else {
        Err(Unattributed::OtherProtocol)
    }
}
