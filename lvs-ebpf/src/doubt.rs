//! Why a packet counts for no server.

use core::mem::{offset_of, size_of};

use aya_ebpf::{helpers::bpf_get_smp_processor_id, programs::TcContext};
use aya_log_ebpf::warn;
use lvs_common::Doubts;

use crate::{maps::DOUBTS, opaque::opaque};

/// The counters by number; a power of two, so that the verifier sees that an index is inside.
const COUNTERS: usize = size_of::<Doubts>() / 8;

/// A reason. Each stands for one of the counters of [`Doubts`], as whose number it is written.
#[derive(Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Doubt {
    OtherProtocol = counter(offset_of!(Doubts, other_protocol)),
    NoServer = counter(offset_of!(Doubts, no_server)),
    UnknownTunnel = counter(offset_of!(Doubts, unknown_tunnel)),
    Fragment = counter(offset_of!(Doubts, fragment)),
    Malformed = counter(offset_of!(Doubts, malformed)),
    Vlan = counter(offset_of!(Doubts, vlan)),
    Extensions = counter(offset_of!(Doubts, extensions)),
    EdgeLost = counter(offset_of!(Doubts, edge_lost)),
    HandshakeLost = counter(offset_of!(Doubts, handshake_lost)),
    BadServerId = counter(offset_of!(Doubts, bad_server_id)),
}

impl Doubt {
    /// What a doubt about a tunnelled packet is called.
    #[inline(always)]
    pub(crate) fn in_tunnel(self) -> Self {
        if self == Self::OtherProtocol { Self::UnknownTunnel } else { self }
    }
}

#[expect(clippy::cast_possible_truncation, reason = "there are few counters")]
const fn counter(offset: usize) -> u8 {
    assert!(offset / 8 < COUNTERS && COUNTERS.is_power_of_two());
    (offset / 8) as u8
}

/// Counts on this CPU.
#[inline(always)]
pub(crate) fn count(doubt: Doubt) {
    count_here(opaque(doubt as usize) & (COUNTERS - 1));
}

/// Counts for the reason with this number, which the verifier must see to be one.
#[inline(always)]
pub(crate) fn count_here(index: usize) {
    // SAFETY: a helper without arguments.
    let cpu = unsafe { bpf_get_smp_processor_id() };
    if let Some(doubts) = DOUBTS.get_ptr_mut(cpu) {
        // SAFETY: `Doubts` is nothing but counters, and the index is below their number; this CPU alone writes them.
        unsafe { *doubts.cast::<u64>().add(index) += 1 };
    }
}

/// Logs what should not be there, where the agent asked for it at load time.
#[inline(never)]
pub(crate) fn complain(ctx: &TcContext, doubt: Doubt) {
    match doubt {
        Doubt::Malformed => warn!(ctx, "malformed packet of {} bytes let pass", ctx.len()),
        Doubt::BadServerId => warn!(ctx, "a map has a server id that is outside the arrays"),
        _ => {}
    }
}
