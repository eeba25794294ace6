//! Second chance: SYNs are kept while their handshakes are open, for the agent to send them again, and RSTs that answer
//! them may be held back. Only programs that are loaded for it come here.

use core::mem::MaybeUninit;

use aya_ebpf::{helpers::bpf_skb_load_bytes, macros::map, maps::Array, programs::TcContext};
use lvs_common::{HoldBack, KeptSyn, ServerId, chance};

use crate::{
    client::Client,
    clock,
    egress::{AttributedPacket, Further},
    handshake::is_first_ack,
    maps::MAPPABLE,
    opaque::{clear, opaque},
    packet::{self, ACK, Address, Plain, RST, SYN, Transport, header, headers, protocol},
    server::{self, ANSWERS, Endpoint},
    tunnel,
    unattributed::Unattributed,
};

#[expect(clippy::cast_possible_truncation, reason = "32,768")]
#[map]
static KEPT_SYNS: Array<KeptSyn> = Array::with_max_entries(KeptSyn::PLACES as u32, MAPPABLE);

#[expect(clippy::cast_possible_truncation, reason = "32,768")]
#[map]
static RETRIED: Array<u64> = Array::with_max_entries(KeptSyn::PLACES as u32, MAPPABLE);

#[map]
static CHANCES: Array<u64> = Array::with_max_entries(1, MAPPABLE);

#[map]
static HOLD_BACK: Array<HoldBack> = Array::with_max_entries(1, MAPPABLE);

/// Where a TCP header says how long it is (RFC 9293, section 3.1).
const DATA_OFFSET: usize = 12;

/// The data offset, and flags.
#[repr(C)]
#[derive(Clone, Copy)]
struct DataOffset([u8; 2]);

/// An IPv4 address, with which the header of a plain packet ends.
#[repr(C)]
#[derive(Clone, Copy)]
struct Halves([u16; 2]);

headers!(DataOffset, Halves);

/// What becomes of a packet into the director.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// What becomes of any packet.
    Pass,
    /// It is a RST that the agent decides about.
    Hold,
    /// It is such a RST that the agent has sent after all: it was counted when it first came.
    Decided,
}

/// SYNs are kept.
pub(crate) enum SecondChance {}

impl Further for SecondChance {
    const IS_ANYTHING: bool = true;

    #[inline(always)]
    fn place(client: &Client) -> u32 {
        KeptSyn::place(client.hash())
    }

    /// The agent has sent a kept SYN again, and this is it, to the server that it went to before: no retransmission of
    /// the client's.
    #[inline(always)]
    fn is_own(packet: &AttributedPacket, place: u32) -> bool {
        packet.transport.flags & (SYN | ACK | RST) == SYN
            && packet.client.protocol == protocol::TCP
            && is_announced(place)
            && is_retried(packet, place)
    }

    /// A SYN is kept, anything else ends the handshake.
    #[inline(always)]
    fn sent(
        ctx: &TcContext,
        packet: &AttributedPacket,
        is_plain: bool,
        place: u32,
        now: u64,
    ) -> Result<(), Unattributed> {
        let AttributedPacket { server, client, transport: segment, .. } = packet;
        if segment.flags & SYN == 0 {
            end(place, client, segment);
            return Ok(());
        }
        // With data in it, it is TCP Fast Open: sent again, the data might be taken twice (RFC 7413, section 2.1).
        if segment.flags & (ACK | RST) != 0 || segment.payload != 0 || chance_of(server.id) == chance::OFF {
            return Ok(());
        }
        if is_plain { keep_plain(ctx, packet, place, now) } else { keep_any(ctx, packet, place, now) }
    }
}

/// A SYN that was read.
struct Syn<'a> {
    packet: &'a AttributedPacket,
    /// When it came.
    now: u64,
    /// Where it went, as it left the director.
    destination: Address,
    /// Where its TCP header begins.
    transport: usize,
}

#[inline(never)]
fn is_retried(packet: &AttributedPacket, place: u32) -> bool {
    let AttributedPacket { server, client, transport: segment, .. } = packet;
    let Some(kept) = kept(place) else { return false };
    if !is_of(kept, client) || kept.sequence != segment.sequence || kept.server.0 != server.id.0 {
        return false;
    }
    let is_retry = passes_again(place);
    if is_retry {
        kept.retries += 1;
        kept.held_ns = 0;
    }
    is_retry
}

#[inline(never)]
fn end(place: u32, client: &Client, segment: &Transport) {
    let Some(kept) = kept(place) else { return };
    if kept.ended_ns == 0 && is_of(kept, client) {
        kept.ended_ns = clock::exact();
        if segment.has(RST) {
            kept.flags |= KeptSyn::RESET;
        }
    }
}

/// Keeps a SYN in a plain packet, as nearly all are.
#[inline(never)]
fn keep_plain(ctx: &TcContext, packet: &AttributedPacket, place: u32, now: u64) -> Result<(), Unattributed> {
    let Halves(destination) = header(ctx, Plain::TRANSPORT - size_of::<Halves>())?;
    let destination = packet::mapped(packet::number(destination).to_be());
    let syn = Syn { packet, now, destination, transport: Plain::TRANSPORT };
    store(ctx, place, &syn)
}

#[inline(never)]
fn keep_any(ctx: &TcContext, packet: &AttributedPacket, place: u32, now: u64) -> Result<(), Unattributed> {
    let frame = packet::frame(ctx)?;
    let mut ip = MaybeUninit::uninit();
    packet::network(ctx, &frame, &mut ip)?;
    // SAFETY: written, because it has not failed.
    let outer = unsafe { ip.assume_init_ref() };
    if outer.protocol == protocol::TCP {
        let (destination, transport) = (outer.destination, outer.transport());
        return store(ctx, place, &Syn { packet, now, destination, transport });
    }
    let mut inner = MaybeUninit::uninit();
    tunnel::inner(ctx, outer, &mut inner)?;
    // SAFETY: as above.
    let inner = unsafe { inner.assume_init_ref() };
    let (destination, transport) = (inner.destination, inner.transport());
    store(ctx, place, &Syn { packet, now, destination, transport })
}

#[inline(always)]
fn store(ctx: &TcContext, place: u32, syn: &Syn<'_>) -> Result<(), Unattributed> {
    let AttributedPacket { server, client, transport: segment, .. } = syn.packet;
    let Some(kept) = kept(place) else { return Ok(()) };
    let (mut since, mut retries) = (syn.now, 0);
    if is_of(kept, client) && kept.sequence == segment.sequence {
        if kept.server.0 == server.id.0 {
            return Ok(());
        }
        since = kept.since_ns;
        retries = kept.retries + u8::from(passes_again(place));
    }
    kept.stored_ns = 0;
    kept.length = copy_header(ctx, syn.transport, &mut kept.tcp)?;
    kept.since_ns = since;
    clear(&mut kept.ended_ns);
    clear(&mut kept.held_ns);
    kept.client = client.address;
    kept.destination = syn.destination;
    kept.server = server.id;
    kept.sequence = segment.sequence;
    let skb = ctx.skb.skb;
    // SAFETY: `skb` is the program's own context.
    kept.device = unsafe { (*skb).ingress_ifindex };
    // SAFETY: as above.
    kept.mark = unsafe { (*skb).mark };
    kept.retries = retries;
    kept.flags = if client.six { KeptSyn::IPV6 } else { 0 };
    kept.stored_ns = syn.now;
    Ok(())
}

/// Copies a TCP header with its options; returns how long it is.
#[inline(always)]
fn copy_header(ctx: &TcContext, at: usize, into: &mut [u8; 64]) -> Result<u8, Unattributed> {
    let DataOffset([offset, _]) = header(ctx, at + DATA_OFFSET)?;
    // Both bounds apart: made one comparison, the verifier doesn't see the lower one.
    let length = opaque(usize::from(offset >> 4) * 4);
    if length < KeptSyn::SHORTEST {
        return Err(Unattributed::Malformed);
    }
    let length = opaque(length);
    if length > KeptSyn::LONGEST {
        return Err(Unattributed::Malformed);
    }
    #[expect(clippy::cast_possible_truncation, reason = "an offset in a packet, and at most 60")]
    // SAFETY: the room is longer than the longest header.
    let result =
        unsafe { bpf_skb_load_bytes(ctx.skb.skb.cast(), at as u32, into.as_mut_ptr().cast(), length as u32) };
    if result != 0 {
        return Err(Unattributed::Malformed);
    }
    #[expect(clippy::cast_possible_truncation, reason = "at most 60")]
    let length = length as u8;
    Ok(length)
}

/// Takes in a packet into the director.
#[inline(always)]
pub(crate) fn received(ctx: &TcContext) -> Verdict {
    let Some(plain) = Plain::of(ctx) else { return received_any(ctx).unwrap_or(Verdict::Pass) };
    if plain.protocol() != protocol::TCP {
        return Verdict::Pass;
    }
    let mut segment = MaybeUninit::<Transport>::uninit();
    // SAFETY: room for a `Transport`, of whatever value.
    let segment = unsafe { &mut *segment.as_mut_ptr() };
    // Nearly all packets end here.
    if Plain::segment(ctx, segment).is_some() && segment.flags & (SYN | RST) == 0 {
        return Verdict::Pass;
    }
    received_any(ctx).unwrap_or(Verdict::Pass)
}

#[inline(never)]
fn received_any(ctx: &TcContext) -> Result<Verdict, Unattributed> {
    let frame = packet::frame(ctx)?;
    let mut ip = MaybeUninit::uninit();
    packet::network(ctx, &frame, &mut ip)?;
    // SAFETY: written, because it has not failed.
    let ip = unsafe { ip.assume_init_ref() };
    if ip.protocol != protocol::TCP {
        return Ok(Verdict::Pass);
    }
    let segment = packet::transport(ctx, ip)?;
    if segment.flags & (SYN | RST) == 0 {
        return Ok(Verdict::Pass);
    }
    let interest =
        if ip.six { server::interest_in(&ip.source) } else { server::interest_in_ipv4(ip.source[3]) };
    if interest & ANSWERS == 0 {
        return Ok(Verdict::Pass);
    }
    let from = Endpoint::at_source(ip, segment.source_port);
    let Some(id) = server::answering(interest, &from) else { return Ok(Verdict::Pass) };
    Ok(answered(ctx, id, &Client::at_destination(ip, segment.destination_port), &segment))
}

/// Takes in a masqueraded server's answer.
#[inline(never)]
fn answered(ctx: &TcContext, id: ServerId, client: &Client, segment: &Transport) -> Verdict {
    let Some(kept) = kept(SecondChance::place(client)) else { return Verdict::Pass };
    let is_answer = is_of(kept, client)
        && kept.server.0 == id.0
        && segment.has(ACK)
        && is_first_ack(segment.acknowledgement, kept.sequence);
    if !is_answer {
        return Verdict::Pass;
    }
    if !segment.has(RST) {
        kept.flags |= KeptSyn::ANSWERED;
        return Verdict::Pass;
    }
    let now = clock::exact();
    let is_open = kept.ended_ns == 0 && kept.flags & KeptSyn::ANSWERED == 0;
    if is_open
        && kept.held_ns == 0
        && kept.retries < KeptSyn::RETRIES
        && chance_of(id) == chance::HOLD
        && may_hold(now)
    {
        // SAFETY: `skb` is the program's own context.
        kept.reply_device = unsafe { (*ctx.skb.skb).ifindex };
        kept.held_ns = now;
        return Verdict::Hold;
    }
    let was_held = kept.held_ns != 0;
    // The client is refused.
    kept.ended_ns = now;
    kept.flags |= KeptSyn::REFUSED;
    if was_held { Verdict::Decided } else { Verdict::Pass }
}

/// Whether one more RST may be held back.
#[inline(always)]
fn may_hold(now: u64) -> bool {
    let Some(state) = HOLD_BACK.get_ptr_mut(0) else { return false };
    // SAFETY: plain numbers in an array that lives as long as the program. Two CPUs that count at once hold back one
    // more than they may.
    let state = unsafe { &mut *state };
    if now.saturating_sub(state.alive_ns) > HoldBack::LIFE_NS || state.left == 0 {
        return false;
    }
    state.left -= 1;
    state.held += 1;
    true
}

#[inline(always)]
fn chance_of(id: ServerId) -> u64 {
    // SAFETY: a number that the agent writes whole.
    CHANCES.get_ptr(id.0).map_or(chance::OFF, |chance| unsafe { *chance })
}

/// What is in a place.
#[inline(always)]
fn kept(place: u32) -> Option<&'static mut KeptSyn> {
    // SAFETY: the array lives as long as the program. It is shared by all CPUs; one client's packets come by one at a
    // time, and two clients that share a place spoil no more than one SYN's second chance: the agent sends none whose
    // parts don't fit.
    KEPT_SYNS.get_ptr_mut(place).map(|kept| unsafe { &mut *kept })
}

/// Whether a place has a SYN of this client.
#[inline(always)]
fn is_of(kept: &KeptSyn, client: &Client) -> bool {
    let [a, b, c, d] = kept.client;
    let [e, f, g, h] = client.address;
    kept.stored_ns != 0
        && u16::from_ne_bytes([kept.tcp[0], kept.tcp[1]]) == client.port
        && (a ^ e) | (b ^ f) | (c ^ g) | (d ^ h) == 0
}

/// Whether the agent has said that it sends the SYN in a place again.
#[inline(always)]
fn is_announced(place: u32) -> bool {
    // SAFETY: a number that is written whole.
    RETRIED.get_ptr(place).is_some_and(|retried| unsafe { *retried != 0 })
}

/// Whether the agent has just sent the SYN in a place again; true once.
#[inline(always)]
fn passes_again(place: u32) -> bool {
    let Some(retried) = RETRIED.get_ptr_mut(place) else { return false };
    // SAFETY: a number that is written whole; the agent writes it before it sends the SYN.
    unsafe {
        let is_retried = *retried != 0;
        *retried = 0;
        is_retried
    }
}
