//! Handshakes: what a segment says about the server's listening socket.

use aya_ebpf::programs::TcContext;
use lvs_common::{Handshake, HandshakeKey, PROBE_MARK, ServerId};

use crate::{
    maps::HANDSHAKES,
    packet::{ACK, FIN, Packet, RST, SYN},
    server,
    signal::{self, Signal},
};

/// How far behind its SYN the ACK that completes a handshake may be: 1 and, with TCP Fast Open, the data in the SYN.
const FIRST_ACK_WINDOW: u32 = 1 << 16;

/// A segment that leaves the director.
#[inline(always)]
pub(crate) fn to_server(ctx: &TcContext, packet: &Packet) {
    let Some(id) = server::addressed_by(packet) else {
        return signal::count(|doubts| doubts.no_server += 1);
    };
    let Some(mut signal) = Signal::of(id) else {
        return signal::bad_server_id(ctx, id);
    };
    signal.sent(ctx);
    let key = HandshakeKey::new(id, packet.source, packet.source_port);
    if signal::mark(ctx) == PROBE_MARK {
        if packet.has(SYN) {
            remember(&key, &signal, packet, Handshake::PROBE);
        }
        return;
    }
    if packet.has(RST) {
        client_reset(&mut signal, &key);
    } else if packet.has(SYN) {
        // A SYN-ACK from a client is no beginning of anything here.
        if !packet.has(ACK) {
            client_syn(&mut signal, &key, packet);
        }
    } else if packet.has(ACK) {
        client_ack(&mut signal, &key, packet);
        if packet.has(FIN) {
            signal.counters.client_fin += 1;
        }
    }
}

/// A segment that enters the director.
#[inline(always)]
pub(crate) fn from_server(ctx: &TcContext, packet: &Packet) {
    let Some(id) = server::answering_in(packet) else {
        return signal::count(|doubts| doubts.no_server += 1);
    };
    let Some(mut signal) = Signal::of(id) else {
        return signal::bad_server_id(ctx, id);
    };
    signal.received(ctx);
    if !packet.has(RST) && !packet.has(SYN) && !packet.has(FIN) {
        return;
    }
    let handshake = open_handshake(id, packet);
    if handshake.as_ref().is_some_and(|open| open.flags & Handshake::PROBE != 0) {
        return;
    }
    if packet.has(RST) {
        server_reset(&mut signal, packet, handshake);
    } else if packet.has(SYN) {
        server_syn_ack(&mut signal, packet, handshake);
    } else {
        signal.counters.server_fin += 1;
    }
}

/// A client begins a handshake, or tries again.
#[inline(always)]
fn client_syn(signal: &mut Signal, key: &HandshakeKey, packet: &Packet) {
    let again = HANDSHAKES.get_ptr(key).is_some_and(|open| {
        // SAFETY: the entry is a plain value in a preallocated map; if it is reused meanwhile, one SYN is counted as
        // the wrong kind.
        unsafe { (*open).sequence == packet.sequence }
    });
    if again {
        signal.counters.syn_again += 1;
    } else {
        signal.counters.syn += 1;
        remember(key, signal, packet, 0);
    }
    signal.waiting(packet.source);
}

#[inline(always)]
fn remember(key: &HandshakeKey, signal: &Signal, packet: &Packet, flags: u32) {
    let open = Handshake { since_ns: signal.now, sequence: packet.sequence, flags };
    if HANDSHAKES.insert(key, open, 0).is_err() {
        signal::count(|doubts| doubts.handshake_lost += 1);
    }
}

/// A client acknowledges something: if its handshake was open, that is what it completes.
#[inline(always)]
fn client_ack(signal: &mut Signal, key: &HandshakeKey, packet: &Packet) {
    let Some(open) = HANDSHAKES.get_ptr(key) else { return };
    // SAFETY: as in `client_syn`; a reused entry fails the comparison of sequence numbers.
    let Handshake { sequence, flags, .. } = unsafe { *open };
    let ahead = packet.sequence.wrapping_sub(sequence);
    if ahead == 0 || ahead > FIRST_ACK_WINDOW || flags & Handshake::PROBE != 0 {
        return;
    }
    forget(key);
    signal.counters.handshakes += 1;
    if flags & Handshake::ANSWERED == 0 {
        // Half-seen: this ACK is the proof. Where the SYN-ACK was seen it was the proof, a client's round trip ago.
        signal.progress();
    }
}

#[inline(always)]
fn client_reset(signal: &mut Signal, key: &HandshakeKey) {
    if HANDSHAKES.get_ptr(key).is_some() {
        forget(key);
        signal.counters.client_abort += 1;
    } else {
        signal.counters.client_reset += 1;
    }
}

/// The server accepts: proof of life of its listening socket.
#[inline(always)]
fn server_syn_ack(signal: &mut Signal, packet: &Packet, handshake: Option<Handshake>) {
    let Some(open) = handshake else { return };
    if !packet.has(ACK) || packet.acknowledgement.wrapping_sub(open.sequence) == 0 {
        return;
    }
    signal.counters.syn_ack += 1;
    signal.progress();
    let key = HandshakeKey::new(signal.id, packet.destination, packet.destination_port);
    if let Some(entry) = HANDSHAKES.get_ptr_mut(key) {
        // SAFETY: as in `client_syn`; the flag only decides which of two proofs of life counts.
        unsafe { (*entry).flags |= Handshake::ANSWERED };
    }
}

/// The server resets: a refusal where it answers a SYN, else the end of a connection.
///
/// The RST to a SYN acknowledges just that SYN (RFC 9293, section 3.10.7.1); anything else is not believed.
#[inline(always)]
fn server_reset(signal: &mut Signal, packet: &Packet, handshake: Option<Handshake>) {
    match handshake {
        Some(open)
            if open.flags & Handshake::ANSWERED == 0
                && packet.has(ACK)
                && is_first_ack(packet.acknowledgement, open.sequence) =>
        {
            forget(&HandshakeKey::new(signal.id, packet.destination, packet.destination_port));
            signal.refused();
        }
        _ => signal.counters.server_reset += 1,
    }
}

#[inline(always)]
fn is_first_ack(acknowledgement: u32, sequence: u32) -> bool {
    (1..=FIRST_ACK_WINDOW).contains(&acknowledgement.wrapping_sub(sequence))
}

#[inline(always)]
fn open_handshake(id: ServerId, packet: &Packet) -> Option<Handshake> {
    let key = HandshakeKey::new(id, packet.destination, packet.destination_port);
    // SAFETY: as in `client_syn`.
    HANDSHAKES.get_ptr(key).map(|open| unsafe { *open })
}

/// Drops an entry.
#[inline(always)]
fn forget(key: &HandshakeKey) {
    // The only error is that it is gone already, by another CPU or the map's own eviction: as good.
    HANDSHAKES.remove(key).ok();
}
