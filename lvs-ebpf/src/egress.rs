//! What leaves the director, requests to real servers among it.

use core::mem::MaybeUninit;

use aya_ebpf::programs::TcContext;
use lvs_common::{Handshake, PROBE_MARK, interest};

use crate::{
    client::Client,
    clock, datagram,
    doubt::Doubt,
    handshake::{self, Standing},
    packet::{self, ACK, FIN, Ip, RST, SYN, Transport, protocol},
    plain::{self, Way},
    sample::Slot,
    server::{self, Link, Server},
    signal::{self, Signal},
    tunnel,
};

/// A packet to a server.
struct Seen {
    server: Server,
    client: Client,
    transport: Transport,
    /// Whether the agent itself sent it.
    probe: bool,
}

/// Looks at one packet.
#[inline(always)]
pub(crate) fn see(ctx: &TcContext) -> Result<(), Doubt> {
    let mut seen = MaybeUninit::<Seen>::uninit();
    let room = seen.as_mut_ptr();
    // SAFETY: room for a `Seen`, into whose place each part is written: the stack is too small for copies.
    match plain::egress(ctx, unsafe { &mut (*room).transport }) {
        Way::Out => return Err(Doubt::NoServer),
        // SAFETY: as above, for the rest of it.
        Way::Found(server, client) => unsafe {
            (*room).server = server;
            (*room).client = Client::at_ipv4(client, (*room).transport.source_port, protocol::TCP);
            (*room).probe = false;
        },
        Way::Long => attribute(ctx, &mut seen)?,
    }
    // SAFETY: written, because it has not failed.
    see_packet(ctx, unsafe { seen.assume_init_ref() })
}

/// Finds out whose packet it is, and writes that unless it fails.
#[inline(never)]
fn attribute(ctx: &TcContext, seen: &mut MaybeUninit<Seen>) -> Result<(), Doubt> {
    let frame = packet::frame(ctx)?;
    let mut ip = MaybeUninit::uninit();
    packet::network(ctx, &frame, &mut ip)?;
    // SAFETY: written, because it has not failed.
    let ip = unsafe { ip.assume_init_ref() };
    let link = Link { mac: packet::next_hop(ctx)?, mark: signal::mark(ctx) };
    let interest = server::interest(ip, &link);
    if interest == 0 {
        return Err(Doubt::NoServer);
    }
    if interest & interest::TUNNEL != 0 && tunnel::is_tunnel(ip.protocol) {
        return attribute_tunnel(ctx, ip, link.mark, seen);
    }
    let port = {
        let seen = seen.as_mut_ptr();
        // SAFETY: room for a `Seen`, into whose place each part is written: the stack is too small for copies.
        let transport = unsafe { &mut (*seen).transport };
        *transport = packet::transport(ctx, ip)?;
        let (port, from) = (transport.destination_port, transport.source_port);
        if let Some(server) = server::destination(interest, ip, port, &link) {
            // SAFETY: as above, for the rest of it.
            unsafe {
                (*seen).server = server;
                (*seen).client = Client::of(ip, from);
                (*seen).probe = link.probe();
            }
            return Ok(());
        }
        port
    };
    if interest & interest::TUNNEL != 0 && ip.protocol == protocol::UDP && server::is_gue(ip, port) {
        return attribute_tunnel(ctx, ip, link.mark, seen);
    }
    Err(Doubt::NoServer)
}

#[inline(never)]
fn attribute_tunnel(
    ctx: &TcContext,
    outer: &Ip,
    mark: u32,
    seen: &mut MaybeUninit<Seen>,
) -> Result<(), Doubt> {
    let mut ip = MaybeUninit::uninit();
    tunnel::inner(ctx, outer, &mut ip)?;
    // SAFETY: written, because it has not failed.
    let ip = unsafe { ip.assume_init_ref() };
    let seen = seen.as_mut_ptr();
    // SAFETY: room for a `Seen`; the transport layer's part is written into its place.
    let transport = unsafe { &mut (*seen).transport };
    packet::inner_transport(ctx, ip, transport)?;
    let (port, from) = (transport.destination_port, transport.source_port);
    let id = server::tunnelled(outer, ip, port, mark).ok_or(Doubt::UnknownTunnel)?;
    // SAFETY: as above, for the rest of it.
    unsafe {
        (*seen).server = Server { id, answers: false };
        (*seen).client = Client::of(ip, from);
        (*seen).probe = mark == PROBE_MARK;
    }
    Ok(())
}

/// Looks at a packet to a server.
#[inline(never)]
fn see_packet(ctx: &TcContext, seen: &Seen) -> Result<(), Doubt> {
    let Some(mut signal) = Signal::of(seen.server.id) else { return Err(Doubt::BadServerId) };
    signal.sent(ctx);
    match seen.client.protocol {
        protocol::TCP if seen.probe => probed(&signal, &seen.client, &seen.transport),
        protocol::TCP => see_segment(&mut signal, &seen.client, &seen.transport),
        protocol::UDP if seen.server.answers => datagram::sent(&mut signal, &seen.client, seen.probe),
        _ => {}
    }
    Ok(())
}

/// The agent's own handshakes are remembered, so that their answers aren't taken for answers to clients.
#[inline(never)]
fn probed(signal: &Signal, client: &Client, segment: &Transport) {
    if segment.has(SYN) {
        let open =
            Handshake { since_ns: clock::exact(), sequence: segment.sequence, flags: Handshake::PROBE };
        handshake::remember(&client.handshake(signal.id), open);
    }
}

#[inline(always)]
fn see_segment(signal: &mut Signal, client: &Client, segment: &Transport) {
    if segment.has(RST) {
        see_reset(signal, client);
    } else if segment.has(SYN) {
        // A SYN-ACK from a client is no beginning of anything here.
        if !segment.has(ACK) {
            see_syn(signal, client, segment);
        }
    } else if segment.has(ACK) {
        see_acknowledgement(signal, client, segment);
    }
}

#[inline(never)]
fn see_reset(signal: &mut Signal, client: &Client) {
    handshake::reset(signal, client);
    free(signal, client);
}

#[inline(always)]
fn see_syn(signal: &mut Signal, client: &Client, segment: &Transport) {
    // The same SYN again is nothing new.
    if handshake::began(signal, client, segment, clock::exact()) {
        free(signal, client);
    }
}

/// Whatever flow had this address and port is over.
#[inline(always)]
fn free(signal: &Signal, client: &Client) {
    if let Some(mut slot) = Slot::of(signal, client) {
        slot.free();
    }
}

#[inline(always)]
fn see_acknowledgement(signal: &mut Signal, client: &Client, segment: &Transport) {
    let Some(mut slot) = Slot::of(signal, client) else { return };
    let now = clock::coarse();
    let sampled = slot.is_held() || {
        let standing = handshake::acknowledged(signal, client, segment);
        let established =
            standing == Standing::Completed || (standing == Standing::None && segment.payload > 0);
        established && slot.take(client, segment, now)
    };
    if sampled {
        slot.sent(signal, segment, now);
    }
    if segment.has(FIN) {
        signal.counters.client_fin += 1;
        if sampled {
            slot.finish();
        }
    }
}
