//! Packets into the director, replies of masqueraded servers among them.

use core::mem::MaybeUninit;

use aya_ebpf::programs::TcContext;
use lvs_common::Handshake;

use crate::{
    client::Client,
    clock, datagram, handshake,
    packet::{self, FIN, Ip, RST, SYN, Transport, protocol},
    plain::{self, Attribution},
    sample::Slot,
    server::{self, ANSWERS, Endpoint},
    signal::Signal,
    unattributed::Unattributed,
    unreachable::{self, Message},
};

/// Watches one packet.
#[inline(always)]
pub(crate) fn observe(ctx: &TcContext) -> Result<(), Unattributed> {
    let mut transport = MaybeUninit::<Transport>::uninit();
    // SAFETY: room for a `Transport`, of whatever value.
    let transport = unsafe { &mut *transport.as_mut_ptr() };
    match plain::ingress(ctx, transport) {
        Attribution::NoServer => Err(Unattributed::NoServer),
        Attribution::Server(server, client) => {
            let Some(mut signal) = Signal::of(server.id) else { return Err(Unattributed::BadServerId) };
            signal.received(ctx);
            let client = Client::at_ipv4(client, transport.destination_port, protocol::TCP);
            observe_segment(&mut signal, &client, transport);
            Ok(())
        }
        Attribution::Undecided => {
            let mut message = Message::NONE;
            observe_any(ctx, &mut message)?;
            if message.is_some() { unreachable::observe(ctx, &message) } else { Ok(()) }
        }
    }
}

/// Watches what is no message about servers, and says where such a message begins, if it is one: it is looked at
/// after this function's share of the stack is free again.
#[inline(never)]
fn observe_any(ctx: &TcContext, message: &mut Message) -> Result<(), Unattributed> {
    let frame = packet::frame(ctx)?;
    let mut ip = MaybeUninit::uninit();
    packet::network(ctx, &frame, &mut ip)?;
    // SAFETY: written, because it has not failed.
    let ip = unsafe { ip.assume_init_ref() };
    if ip.protocol == if ip.six { protocol::ICMPV6 } else { protocol::ICMP } {
        *message = Message::of(ip);
        return Ok(());
    }
    observe_answer(ctx, ip)
}

// A function of its own for the stack's sake: it is not beside what messages about servers take.
#[inline(never)]
fn observe_answer(ctx: &TcContext, ip: &Ip) -> Result<(), Unattributed> {
    let interest =
        if ip.six { server::interest_in(&ip.source) } else { server::interest_in_ipv4(ip.source[3]) };
    if interest & ANSWERS == 0 {
        return Err(Unattributed::NoServer);
    }
    let transport = packet::transport(ctx, ip)?;
    let from = Endpoint::at_source(ip, transport.source_port);
    let id = server::answering(interest, &from).ok_or(Unattributed::NoServer)?;
    let Some(mut signal) = Signal::of(id) else { return Err(Unattributed::BadServerId) };
    signal.received(ctx);
    let client = Client::at_destination(ip, transport.destination_port);
    match ip.protocol {
        protocol::TCP => observe_segment(&mut signal, &client, &transport),
        protocol::UDP => datagram::answered(&mut signal, &client),
        _ => {}
    }
    Ok(())
}

#[inline(always)]
fn observe_segment(signal: &mut Signal, client: &Client, segment: &Transport) {
    if segment.flags & (SYN | RST | FIN) == 0 {
        let now = clock::coarse();
        if signal.wants_reply(now) && !handshake::is_probe(signal, client) {
            signal.replied(now);
        }
        return;
    }
    observe_beginning_or_end(signal, client, segment);
}

#[inline(never)]
fn observe_beginning_or_end(signal: &mut Signal, client: &Client, segment: &Transport) {
    let key = client.handshake(signal.id);
    let open = handshake::lookup(&key);
    if open.is_some_and(|open| open.flags & Handshake::PROBE != 0) {
        return;
    }
    if segment.has(RST) {
        if open.is_some_and(|open| handshake::is_refused(&key, &open, segment)) {
            signal.refused(clock::exact());
        } else {
            signal.counters.server_reset += 1;
        }
        if let Some(mut slot) = Slot::of(signal, client) {
            slot.free();
        }
        return;
    }
    let is_believed = if segment.has(FIN) {
        signal.counters.server_fin += 1;
        true
    } else {
        // Without an open handshake anybody may have guessed it.
        open.is_some_and(|open| handshake::answered(signal, client, &key, &open, segment))
    };
    if is_believed {
        signal.replied(clock::coarse());
    }
}
