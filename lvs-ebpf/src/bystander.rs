//! The short way out for packets that are none of our business, which on a busy director are most.
//!
//! It decides only the plainest case, an unfragmented IPv4 packet without VLAN tags or options in the linear part, and
//! decides it as the long way would; what is not plain goes the long way. So it reads only what the decision takes.

use aya_ebpf::programs::TcContext;
use lvs_common::interest;

use crate::{
    packet::{Plain, protocol},
    server::{ANSWERS, interest_in_ipv4},
    signal,
};

/// Whether no server can be at the destination of a packet that leaves the director.
#[inline(always)]
pub(crate) fn goes_to_none(ctx: &TcContext) -> bool {
    let Some(plain) = Plain::of(ctx) else { return false };
    // A mark may name a service whatever the address.
    signal::mark(ctx) == 0 && interest_in_ipv4(plain.destination()) & !interest::LINK_MARK == 0
}

/// Whether no server can be at the source of a packet that enters the director.
#[inline(always)]
pub(crate) fn comes_from_none(ctx: &TcContext) -> bool {
    let Some(plain) = Plain::of(ctx) else { return false };
    // A message about a server comes from anywhere.
    plain.protocol() != protocol::ICMP && interest_in_ipv4(plain.source()) & ANSWERS == 0
}
