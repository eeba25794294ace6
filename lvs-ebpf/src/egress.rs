//! What leaves the director, requests to real servers among it.

use aya_ebpf::programs::TcContext;
use lvs_common::{Handshake, interest};

use crate::{
    client::Client,
    clock, datagram,
    doubt::Doubt,
    handshake::{self, Standing},
    packet::{self, ACK, FIN, Ip, RST, SYN, Transport, protocol},
    sample::Slot,
    server::{self, Link, Server},
    signal::{self, Signal},
    tunnel,
};

/// Looks at one packet.
#[inline(always)]
pub(crate) fn see(ctx: &TcContext) -> Result<(), Doubt> {
    let frame = packet::frame(ctx)?;
    let ip = packet::network(ctx, &frame)?;
    let link = Link::of(&frame, signal::mark(ctx));
    let interest = server::interest(&ip, &link);
    if interest == 0 {
        return Err(Doubt::NoServer);
    }
    let tunnels = interest & interest::TUNNEL != 0;
    if tunnels && tunnel::is_tunnel(ip.protocol) {
        return see_tunnel(ctx, &ip, link.mark);
    }
    let transport = packet::transport(ctx, &ip)?;
    if let Some(server) = server::destination(interest, &ip, transport.destination_port, &link) {
        return see_packet(ctx, server, &ip, &transport, link.probe());
    }
    if tunnels && ip.protocol == protocol::UDP && server::is_gue(&ip, transport.destination_port) {
        return see_tunnel(ctx, &ip, link.mark);
    }
    Err(Doubt::NoServer)
}

#[inline(never)]
fn see_tunnel(ctx: &TcContext, outer: &Ip, mark: u32) -> Result<(), Doubt> {
    let ip = tunnel::inner(ctx, outer)?;
    let transport = packet::transport(ctx, &ip).map_err(|doubt| match doubt {
        Doubt::OtherProtocol => Doubt::UnknownTunnel,
        other => other,
    })?;
    let id = server::tunnelled(outer, &ip, transport.destination_port, mark).ok_or(Doubt::UnknownTunnel)?;
    let probe = Link { mark, ..Link::NONE }.probe();
    see_packet(ctx, Server { id, answers: false }, &ip, &transport, probe)
}

/// Looks at a packet to a server.
#[inline(always)]
fn see_packet(
    ctx: &TcContext,
    server: Server,
    ip: &Ip,
    transport: &Transport,
    probe: bool,
) -> Result<(), Doubt> {
    let mut signal = Signal::of(server.id)?;
    signal.sent(ctx);
    let client =
        Client { address: ip.source, six: ip.six, port: transport.source_port, protocol: ip.protocol };
    match ip.protocol {
        protocol::TCP if probe => probed(&signal, &client, transport),
        protocol::TCP => see_segment(&mut signal, &client, transport),
        protocol::UDP if server.answers => datagram::sent(&mut signal, &client, probe),
        _ => {}
    }
    Ok(())
}

/// The agent's own handshakes are remembered, so that their answers aren't taken for answers to clients.
#[inline(always)]
fn probed(signal: &Signal, client: &Client, segment: &Transport) {
    if segment.has(SYN) {
        let open =
            Handshake { since_ns: clock::exact(), sequence: segment.sequence, flags: Handshake::PROBE };
        handshake::remember(&client.handshake(signal.id), open);
    }
}

#[inline(always)]
fn see_segment(signal: &mut Signal, client: &Client, segment: &Transport) {
    if segment.flags & (SYN | RST) != 0 {
        return see_beginning_or_end(signal, client, segment);
    }
    if segment.has(ACK) {
        see_acknowledgement(signal, client, segment);
    }
}

#[inline(always)]
fn see_beginning_or_end(signal: &mut Signal, client: &Client, segment: &Transport) {
    if segment.has(RST) {
        handshake::reset(signal, client);
    } else if segment.has(ACK) || !handshake::began(signal, client, segment, clock::exact()) {
        // A SYN-ACK from a client is no beginning of anything here; the same SYN again is nothing new.
        return;
    }
    // Whatever flow had this address and port is over.
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
        let established = standing == Standing::Completed || (standing == Standing::None && segment.payload > 0);
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
