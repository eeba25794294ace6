//! Why a packet is attributed to no server, and counting that; the same for edges and handshakes that are lost.

use core::mem::{offset_of, size_of};

use aya_ebpf::{helpers::bpf_get_smp_processor_id, programs::TcContext};
use aya_log_ebpf::warn;
use lvs_common::UnattributedCounters;

use crate::{maps::DOUBTS, opaque::opaque};

/// The counters by number; a power of two, so that the verifier sees that an index is inside.
const COUNTERS: usize = size_of::<UnattributedCounters>() / 8;

/// A reason. Each stands for one of the counters of [`UnattributedCounters`], as whose number it is written.
#[derive(Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Unattributed {
    OtherProtocol = counter(offset_of!(UnattributedCounters, other_protocol)),
    NoServer = counter(offset_of!(UnattributedCounters, no_server)),
    UnknownTunnel = counter(offset_of!(UnattributedCounters, unknown_tunnel)),
    Fragment = counter(offset_of!(UnattributedCounters, fragment)),
    Malformed = counter(offset_of!(UnattributedCounters, malformed)),
    Vlan = counter(offset_of!(UnattributedCounters, vlan)),
    Extensions = counter(offset_of!(UnattributedCounters, extensions)),
    EdgeLost = counter(offset_of!(UnattributedCounters, edge_lost)),
    HandshakeLost = counter(offset_of!(UnattributedCounters, handshake_lost)),
    BadServerId = counter(offset_of!(UnattributedCounters, bad_server_id)),
}

impl Unattributed {
    /// The reason for a packet inside a tunnel.
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
pub(crate) fn count(reason: Unattributed) {
    count_here(opaque(reason as usize) & (COUNTERS - 1));
}

/// Counts for the reason with this number, which the verifier must see to be one.
#[inline(always)]
pub(crate) fn count_here(index: usize) {
    // SAFETY: a helper without arguments.
    let cpu = unsafe { bpf_get_smp_processor_id() };
    if let Some(counters) = DOUBTS.get_ptr_mut(cpu) {
        // SAFETY: `UnattributedCounters` is nothing but counters, and the index is below their number; this CPU alone
        // writes them.
        unsafe { *counters.cast::<u64>().add(index) += 1 };
    }
}

/// Logs what should never happen, where the agent asked for it at load time.
#[inline(never)]
pub(crate) fn log(ctx: &TcContext, reason: Unattributed) {
    match reason {
        Unattributed::Malformed => warn!(ctx, "malformed packet of {} bytes let pass", ctx.len()),
        Unattributed::BadServerId => warn!(ctx, "a map has a server id that is outside the arrays"),
        _ => {}
    }
}
