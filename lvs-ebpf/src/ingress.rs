//! What enters the director, answers of masqueraded servers among it.

use core::mem::MaybeUninit;

use aya_ebpf::programs::TcContext;
use lvs_common::Handshake;

use crate::{
    client::Client,
    clock, datagram,
    doubt::Doubt,
    handshake,
    packet::{self, FIN, Ip, RST, SYN, Transport, protocol},
    plain::{self, Way},
    sample::Slot,
    server::{self, ANSWERS, Endpoint},
    signal::Signal,
    unreachable,
};

/// Looks at one packet.
#[inline(always)]
pub(crate) fn see(ctx: &TcContext) -> Result<(), Doubt> {
    let mut transport = MaybeUninit::<Transport>::uninit();
    // SAFETY: room for a `Transport`, of whatever value.
    let transport = unsafe { &mut *transport.as_mut_ptr() };
    match plain::ingress(ctx, transport) {
        Way::Out => Err(Doubt::NoServer),
        Way::Found(server, client) => {
            let Some(mut signal) = Signal::of(server.id) else { return Err(Doubt::BadServerId) };
            signal.received(ctx);
            let client = Client::at_ipv4(client, transport.destination_port, protocol::TCP);
            see_segment(&mut signal, &client, transport);
            Ok(())
        }
        Way::Long => see_any(ctx),
    }
}

#[inline(never)]
fn see_any(ctx: &TcContext) -> Result<(), Doubt> {
    let frame = packet::frame(ctx)?;
    let mut ip = MaybeUninit::uninit();
    packet::network(ctx, &frame, &mut ip)?;
    // SAFETY: written, because it has not failed.
    let ip = unsafe { ip.assume_init_ref() };
    if ip.protocol == if ip.six { protocol::ICMPV6 } else { protocol::ICMP } {
        return unreachable::see(ctx, ip);
    }
    see_answer(ctx, ip)
}

// A function of its own for the stack's sake: it is not beside what messages about servers take.
#[inline(never)]
fn see_answer(ctx: &TcContext, ip: &Ip) -> Result<(), Doubt> {
    let interest =
        if ip.six { server::interest_in(&ip.source) } else { server::interest_in_ipv4(ip.source[3]) };
    if interest & ANSWERS == 0 {
        return Err(Doubt::NoServer);
    }
    let transport = packet::transport(ctx, ip)?;
    let from = Endpoint::at_source(ip, transport.source_port);
    let id = server::answering(interest, &from).ok_or(Doubt::NoServer)?;
    let Some(mut signal) = Signal::of(id) else { return Err(Doubt::BadServerId) };
    signal.received(ctx);
    let client = Client::at_destination(ip, transport.destination_port);
    match ip.protocol {
        protocol::TCP => see_segment(&mut signal, &client, &transport),
        protocol::UDP => datagram::answered(&mut signal, &client),
        _ => {}
    }
    Ok(())
}

#[inline(always)]
fn see_segment(signal: &mut Signal, client: &Client, segment: &Transport) {
    if segment.flags & (SYN | RST | FIN) == 0 {
        let now = clock::coarse();
        if signal.wants_reply(now) && !handshake::is_probe(signal, client) {
            signal.replied(now);
        }
        return;
    }
    see_beginning_or_end(signal, client, segment);
}

#[inline(never)]
fn see_beginning_or_end(signal: &mut Signal, client: &Client, segment: &Transport) {
    let key = client.handshake(signal.id);
    let open = handshake::of(&key);
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
    if segment.has(FIN) {
        signal.counters.server_fin += 1;
    } else if let Some(open) = open {
        handshake::answered(signal, &key, &open, segment);
    }
    signal.replied(clock::coarse());
}
