//! Packets out of the director, requests to real servers among them.

use core::mem::MaybeUninit;

use aya_ebpf::programs::TcContext;
use lvs_common::{Handshake, interest};

use crate::{
    client::Client,
    clock, datagram,
    handshake::{self, AckOutcome},
    packet::{self, ACK, FIN, Ip, RST, SYN, Transport, protocol},
    plain::{self, Attribution},
    sample::Slot,
    server::{self, Link, Server},
    signal::{self, Signal},
    tunnel,
    unattributed::Unattributed,
};

/// A packet to a server, with what is known of it.
pub(crate) struct AttributedPacket {
    pub(crate) server: Server,
    pub(crate) client: Client,
    pub(crate) transport: Transport,
    /// Whether the agent itself sent it.
    probe: bool,
}

/// What else is done with a client's segments.
pub(crate) trait Further {
    /// Whether anything is.
    const IS_ANYTHING: bool;
    /// Where something is kept of the client.
    fn place(client: &Client) -> u32;
    /// Whether the segment is the agent's doing, so that it is not to be taken in.
    fn is_own(packet: &AttributedPacket, place: u32) -> bool;
    /// Takes in a segment that is not a probe's. `now` is known of SYNs; `is_plain`: it is in a [`packet::Plain`].
    fn sent(
        ctx: &TcContext,
        packet: &AttributedPacket,
        is_plain: bool,
        place: u32,
        now: u64,
    ) -> Result<(), Unattributed>;
}

/// Watches one packet.
#[inline(always)]
pub(crate) fn observe<F: Further>(ctx: &TcContext) -> Result<(), Unattributed> {
    let mut attributed = MaybeUninit::<AttributedPacket>::uninit();
    let room = attributed.as_mut_ptr();
    // SAFETY: room for an `AttributedPacket`, into whose place each part is written: the stack is too small for copies.
    let is_plain = match plain::egress(ctx, unsafe { &mut (*room).transport }) {
        Attribution::NoServer => return Err(Unattributed::NoServer),
        // SAFETY: as above, for the rest of it.
        Attribution::Server(server, client) => unsafe {
            (*room).server = server;
            (*room).client = Client::at_ipv4(client, (*room).transport.source_port, protocol::TCP);
            (*room).probe = false;
            true
        },
        Attribution::Undecided => {
            attribute(ctx, &mut attributed)?;
            false
        }
    };
    // SAFETY: written, because it has not failed.
    let packet = unsafe { attributed.assume_init_ref() };
    if !F::IS_ANYTHING {
        return observe_packet::<F>(ctx, packet, 0);
    }
    let place = F::place(&packet.client);
    if F::is_own(packet, place) {
        return Ok(());
    }
    // Read once for all who need it.
    let now = if packet.transport.has(SYN) { clock::exact() } else { 0 };
    observe_packet::<F>(ctx, packet, now)?;
    if packet.client.protocol != protocol::TCP || packet.probe {
        return Ok(());
    }
    F::sent(ctx, packet, is_plain, place, now)
}

/// Attributes a packet on the full path; written unless this fails.
#[inline(never)]
fn attribute(ctx: &TcContext, attributed: &mut MaybeUninit<AttributedPacket>) -> Result<(), Unattributed> {
    let frame = packet::frame(ctx)?;
    let mut ip = MaybeUninit::uninit();
    packet::network(ctx, &frame, &mut ip)?;
    // SAFETY: written, because it has not failed.
    let ip = unsafe { ip.assume_init_ref() };
    let link = Link { mac: packet::next_hop(ctx)?, mark: signal::mark(ctx) };
    let interest = server::interest(ip, &link);
    if interest == 0 {
        return Err(Unattributed::NoServer);
    }
    if interest & interest::TUNNEL != 0 && tunnel::is_tunnel(ip.protocol) {
        return attribute_tunnel(ctx, ip, link.mark, attributed);
    }
    let port = {
        let attributed = attributed.as_mut_ptr();
        // SAFETY: room for an `AttributedPacket`, into whose place each part is written: the stack is too small for
        // copies.
        let transport = unsafe { &mut (*attributed).transport };
        *transport = packet::transport(ctx, ip)?;
        let (port, from) = (transport.destination_port, transport.source_port);
        if let Some(server) = server::destination(interest, ip, port, &link) {
            // SAFETY: as above, for the rest of it.
            unsafe {
                (*attributed).server = server;
                (*attributed).client = Client::of(ip, from);
                (*attributed).probe = link.probe();
            }
            return Ok(());
        }
        port
    };
    if interest & interest::TUNNEL != 0 && ip.protocol == protocol::UDP && server::is_gue(ip, port) {
        return attribute_tunnel(ctx, ip, link.mark, attributed);
    }
    Err(Unattributed::NoServer)
}

#[inline(never)]
fn attribute_tunnel(
    ctx: &TcContext,
    outer: &Ip,
    mark: u32,
    attributed: &mut MaybeUninit<AttributedPacket>,
) -> Result<(), Unattributed> {
    let mut ip = MaybeUninit::uninit();
    tunnel::inner(ctx, outer, &mut ip)?;
    // SAFETY: written, because it has not failed.
    let ip = unsafe { ip.assume_init_ref() };
    let attributed = attributed.as_mut_ptr();
    // SAFETY: room for an `AttributedPacket`; the transport layer's part is written into its place.
    let transport = unsafe { &mut (*attributed).transport };
    packet::inner_transport(ctx, ip, transport)?;
    let (port, from) = (transport.destination_port, transport.source_port);
    let id = server::tunnelled(outer, ip, port, mark).ok_or(Unattributed::UnknownTunnel)?;
    // SAFETY: as above, for the rest of it.
    unsafe {
        (*attributed).server = Server { id, answers: false };
        (*attributed).client = Client::of(ip, from);
        (*attributed).probe = server::is_own(mark);
    }
    Ok(())
}

/// Counts a packet to a server and takes in what it says. `now` is known where something else is done with SYNs.
#[inline(never)]
fn observe_packet<F: Further>(
    ctx: &TcContext,
    packet: &AttributedPacket,
    now: u64,
) -> Result<(), Unattributed> {
    let Some(mut signal) = Signal::of(packet.server.id) else { return Err(Unattributed::BadServerId) };
    signal.sent(ctx);
    match packet.client.protocol {
        protocol::TCP if packet.probe => observe_probe(&signal, &packet.client, &packet.transport),
        protocol::TCP => observe_segment::<F>(&mut signal, &packet.client, &packet.transport, now),
        protocol::UDP if packet.server.answers => datagram::sent(&mut signal, &packet.client, packet.probe),
        _ => {}
    }
    Ok(())
}

/// The agent's own handshakes are remembered, so that their answers aren't taken for answers to clients.
#[inline(never)]
fn observe_probe(signal: &Signal, client: &Client, segment: &Transport) {
    if segment.has(SYN) {
        let open =
            Handshake { since_ns: clock::exact(), sequence: segment.sequence, flags: Handshake::PROBE };
        handshake::store(&client.handshake(signal.id), open);
    }
}

#[inline(always)]
fn observe_segment<F: Further>(signal: &mut Signal, client: &Client, segment: &Transport, now: u64) {
    if segment.has(RST) {
        observe_reset(signal, client);
    } else if segment.has(SYN) {
        // A SYN-ACK from a client is no beginning of anything here.
        if !segment.has(ACK) {
            observe_syn(signal, client, segment, if F::IS_ANYTHING { now } else { clock::exact() });
        }
    } else if segment.has(ACK) {
        observe_acknowledgement(signal, client, segment);
    }
}

#[inline(never)]
fn observe_reset(signal: &mut Signal, client: &Client) {
    handshake::reset(signal, client);
    free(signal, client);
}

#[inline(always)]
fn observe_syn(signal: &mut Signal, client: &Client, segment: &Transport, now: u64) {
    // The same SYN again is nothing new.
    if handshake::began(signal, client, segment, now) {
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
fn observe_acknowledgement(signal: &mut Signal, client: &Client, segment: &Transport) {
    let Some(mut slot) = Slot::of(signal, client) else { return };
    let now = clock::coarse();
    let sampled = slot.is_held() || {
        let outcome = handshake::acknowledged(signal, client, segment);
        let established =
            outcome == AckOutcome::Completed || (outcome == AckOutcome::NoHandshake && segment.payload > 0);
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
