//! The quick path for plain packets, which on a busy director are nearly all: it sorts out those that belong to no
//! server, and finds the server of TCP segments.
//!
//! Plain are unfragmented IPv4 packets without VLAN tags or options whose headers are in the linear part. For them it
//! decides as the full path would, reading only what the decision takes; all others take the full path.

use aya_ebpf::programs::TcContext;
use lvs_common::interest;

use crate::{
    packet::{Plain, Transport, protocol},
    server::{self, ANSWERS, Server, interest_in_ipv4},
    signal,
};

/// What the quick path says about a packet.
pub(crate) enum Attribution {
    /// It belongs to no server.
    NoServer,
    /// It is a TCP segment from or to this server, whose client has this address.
    Server(Server, u32),
    /// The full path has to decide.
    Undecided,
}

/// Attributes a packet out of the director; with a server, `transport` is written.
#[inline(always)]
pub(crate) fn egress(ctx: &TcContext, transport: &mut Transport) -> Attribution {
    let Some(plain) = Plain::of(ctx) else { return Attribution::Undecided };
    // A mark may name a service whatever the address.
    if signal::mark(ctx) != 0 {
        return Attribution::Undecided;
    }
    let interest = interest_in_ipv4(plain.destination()) & !interest::LINK_MARK;
    if interest == 0 {
        return Attribution::NoServer;
    }
    if interest & interest::TUNNEL != 0 {
        return Attribution::Undecided;
    }
    let Some(ends) = Plain::segment(ctx, transport) else { return Attribution::Undecided };
    let to = (ends.destination, transport.destination_port);
    match server::plain_destination(interest, to, ends.mac) {
        Some(server) => Attribution::Server(server, ends.source),
        None => Attribution::NoServer,
    }
}

/// Attributes a packet into the director; with a server, `transport` is written.
#[inline(always)]
pub(crate) fn ingress(ctx: &TcContext, transport: &mut Transport) -> Attribution {
    let Some(plain) = Plain::of(ctx) else { return Attribution::Undecided };
    // A message about a server comes from anywhere.
    if plain.protocol() == protocol::ICMP {
        return Attribution::Undecided;
    }
    let interest = interest_in_ipv4(plain.source()) & ANSWERS;
    if interest == 0 {
        return Attribution::NoServer;
    }
    if interest & interest::ADDRESS_MARK != 0 {
        return Attribution::Undecided;
    }
    let Some(ends) = Plain::segment(ctx, transport) else { return Attribution::Undecided };
    match server::plain_source(interest, (ends.source, transport.source_port)) {
        Some(server) => Attribution::Server(server, ends.destination),
        None => Attribution::NoServer,
    }
}
