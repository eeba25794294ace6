//! The short way for plain packets, which on a busy director are nearly all: out for those that are none of our business,
//! and the server of TCP segments.
//!
//! It decides only about unfragmented IPv4 packets without VLAN tags or options whose headers are in the linear part, and
//! decides as the long way would; what is not plain goes the long way. So it reads only what the decision takes.

use aya_ebpf::programs::TcContext;
use lvs_common::interest;

use crate::{
    packet::{Plain, Transport, protocol},
    server::{self, ANSWERS, Server, interest_in_ipv4},
    signal,
};

/// What the short way has found.
pub(crate) enum Way {
    /// No server's.
    Out,
    /// A TCP segment from or to this server, and the address at its other end.
    Found(Server, u32),
    /// That it can't tell.
    Long,
}

/// Whose a packet that leaves the director is; if it is found, `transport` is written.
#[inline(always)]
pub(crate) fn egress(ctx: &TcContext, transport: &mut Transport) -> Way {
    let Some(plain) = Plain::of(ctx) else { return Way::Long };
    // A mark may name a service whatever the address.
    if signal::mark(ctx) != 0 {
        return Way::Long;
    }
    let interest = interest_in_ipv4(plain.destination()) & !interest::LINK_MARK;
    if interest == 0 {
        return Way::Out;
    }
    if interest & interest::TUNNEL != 0 {
        return Way::Long;
    }
    let Some(ends) = Plain::segment(ctx, transport) else { return Way::Long };
    let to = (ends.destination, transport.destination_port);
    match server::plain_destination(interest, to, ends.mac) {
        Some(server) => Way::Found(server, ends.source),
        None => Way::Out,
    }
}

/// Whose a packet that enters the director is; if it is found, `transport` is written.
#[inline(always)]
pub(crate) fn ingress(ctx: &TcContext, transport: &mut Transport) -> Way {
    let Some(plain) = Plain::of(ctx) else { return Way::Long };
    // A message about a server comes from anywhere.
    if plain.protocol() == protocol::ICMP {
        return Way::Long;
    }
    let interest = interest_in_ipv4(plain.source()) & ANSWERS;
    if interest == 0 {
        return Way::Out;
    }
    if interest & interest::ADDRESS_MARK != 0 {
        return Way::Long;
    }
    let Some(ends) = Plain::segment(ctx, transport) else { return Way::Long };
    match server::plain_source(interest, (ends.source, transport.source_port)) {
        Some(server) => Way::Found(server, ends.destination),
        None => Way::Out,
    }
}
