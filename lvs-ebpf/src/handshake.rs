//! Open handshakes: what a segment says about the server's listening socket.

use lvs_common::{Handshake, HandshakeKey};

use crate::{
    client::Client,
    clock,
    maps::HANDSHAKES,
    packet::{ACK, Transport},
    signal::{self, Signal},
    unattributed::{Unattributed, count},
};

/// How far behind its SYN the ACK that completes a handshake may be: 1 and, with TCP Fast Open, the data in the SYN.
const FIRST_ACK_WINDOW: u32 = 1 << 16;

/// What a client's ACK does to its handshake.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum AckOutcome {
    /// It completes the handshake.
    Completed,
    /// The handshake stays open.
    Open,
    /// No open handshake is known.
    NoHandshake,
}

/// A client begins a handshake, or tries again; returns whether it is a new one.
#[inline(always)]
pub(crate) fn began(signal: &mut Signal, client: &Client, segment: &Transport, now: u64) -> bool {
    let key = &client.handshake(signal.id);
    let new = Handshake { since_ns: now, sequence: segment.sequence, flags: 0 };
    signal.wants_listener(client.origin(), now);
    if let Some(open) = HANDSHAKES.get_ptr_mut(key) {
        // SAFETY: the entry is a plain value in a preallocated map; if it is reused meanwhile, one SYN is counted as
        // the wrong kind, or one handshake is not seen to be completed.
        let open = unsafe { &mut *open };
        if open.sequence == segment.sequence {
            signal.counters.syn_again += 1;
            open.flags = open.flags & !Handshake::REPORTED | Handshake::AGAIN;
            return false;
        }
        // The port is used anew. In its place, which is cheaper than an entry of its own.
        *open = new;
    } else {
        store(key, new);
    }
    signal.counters.syn += 1;
    true
}

/// Stores an open handshake.
#[inline(always)]
pub(crate) fn store(key: &HandshakeKey, open: Handshake) {
    if HANDSHAKES.insert(key, open, 0).is_err() {
        count(Unattributed::HandshakeLost);
    }
}

/// A client acknowledges something: if its handshake was open, that is what it completes.
#[inline(never)]
pub(crate) fn acknowledged(signal: &mut Signal, client: &Client, segment: &Transport) -> AckOutcome {
    let key = client.handshake(signal.id);
    let Some(open) = lookup(&key) else { return AckOutcome::NoHandshake };
    if open.flags & Handshake::PROBE != 0 || !is_first_ack(segment.sequence, open.sequence) {
        return AckOutcome::Open;
    }
    remove(&key);
    signal.counters.handshakes += 1;
    if open.flags & Handshake::ANSWERED == 0 {
        // Half-seen: this ACK is the proof. Where the SYN-ACK was seen it was the proof, a client's round trip ago.
        listener_answered(signal, client, &open);
    } else {
        signal.host_alive();
    }
    AckOutcome::Completed
}

/// Counts a client's RST; whatever handshake it had is over.
#[inline(always)]
pub(crate) fn reset(signal: &mut Signal, client: &Client) {
    let key = &client.handshake(signal.id);
    if HANDSHAKES.get_ptr(key).is_some() {
        remove(key);
        signal.counters.client_abort += 1;
    } else {
        signal.counters.client_reset += 1;
    }
}

/// The server accepts: proof of life of its listening socket. Returns whether it is believed.
#[inline(always)]
pub(crate) fn answered(
    signal: &mut Signal,
    client: &Client,
    key: &HandshakeKey,
    open: &Handshake,
    segment: &Transport,
) -> bool {
    // A SYN-ACK acknowledges the SYN, and data in it at most; anything else is not believed.
    if !segment.has(ACK) || !is_first_ack(segment.acknowledgement, open.sequence) {
        return false;
    }
    signal.counters.syn_ack += 1;
    listener_answered(signal, client, open);
    if let Some(entry) = HANDSHAKES.get_ptr_mut(key) {
        // SAFETY: as in `began`; the flag only decides which of two proofs of life counts.
        unsafe { (*entry).flags |= Handshake::ANSWERED };
    }
    true
}

/// Whether the server's RST answers the SYN of an open handshake, which then is over.
///
/// The RST to a SYN acknowledges just that SYN (RFC 9293, section 3.10.7.1); anything else is not believed.
#[inline(always)]
pub(crate) fn is_refused(key: &HandshakeKey, open: &Handshake, segment: &Transport) -> bool {
    let refused = open.flags & Handshake::ANSWERED == 0
        && segment.has(ACK)
        && is_first_ack(segment.acknowledgement, open.sequence);
    if refused {
        remove(key);
    }
    refused
}

/// The listening socket has answered a client.
#[inline(always)]
pub(crate) fn listener_answered(signal: &mut Signal, client: &Client, open: &Handshake) {
    let now = clock::exact();
    if open.flags & (Handshake::AGAIN | Handshake::ANSWERED) == 0 {
        signal::record_latency(&mut signal.counters.handshake, open.since_ns, now);
    }
    signal.listener_answered(client.network(), now);
    signal.listener_alive(now);
}

/// The open handshake of a key.
#[inline(always)]
pub(crate) fn lookup(key: &HandshakeKey) -> Option<Handshake> {
    // SAFETY: as in `began`; a reused entry fails the comparison of sequence numbers.
    HANDSHAKES.get_ptr(key).map(|open| unsafe { *open })
}

/// What an ICMP message quotes.
pub(crate) enum Quoted {
    /// One of the agent's own probes.
    Probe,
    /// An open handshake, or a datagram that waits.
    Open,
    /// Neither.
    Nothing,
}

/// What an ICMP message that quotes a packet of the client is about. UDP has sequence number 0, and what
/// is no number of 32 bits is none.
///
/// Whoever forges it has to know the client's address and port, and of TCP the sequence number of its SYN (RFC 5927,
/// section 4.1). Each SYN and each datagram is believed once, and none after the server's SYN-ACK.
#[inline(always)]
pub(crate) fn quoted(key: &HandshakeKey, sequence: u64) -> Quoted {
    let Some(open) = HANDSHAKES.get_ptr_mut(key) else { return Quoted::Nothing };
    // SAFETY: as in `began`; a reused entry fails the comparison of sequence numbers, or one message counts too many.
    let open = unsafe { &mut *open };
    if open.flags & Handshake::PROBE != 0 {
        return Quoted::Probe;
    }
    if open.flags & (Handshake::ANSWERED | Handshake::REPORTED) != 0 || sequence != u64::from(open.sequence) {
        return Quoted::Nothing;
    }
    open.flags |= Handshake::REPORTED;
    Quoted::Open
}

/// Whether the client is no client but one of the agent's probes.
#[inline(never)]
pub(crate) fn is_probe(signal: &Signal, client: &Client) -> bool {
    lookup(&client.handshake(signal.id)).is_some_and(|open| open.flags & Handshake::PROBE != 0)
}

/// Drops an entry.
#[inline(always)]
pub(crate) fn remove(key: &HandshakeKey) {
    // The only error is that it is gone already, by another CPU or the map's own eviction: as good.
    HANDSHAKES.remove(key).ok();
}

#[inline(always)]
pub(crate) fn is_first_ack(acknowledgement: u32, sequence: u32) -> bool {
    (1..=FIRST_ACK_WINDOW).contains(&acknowledgement.wrapping_sub(sequence))
}
