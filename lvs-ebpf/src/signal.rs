//! Where it is written down: counters, signs of life, edges, doubts.

use aya_ebpf::{
    helpers::{bpf_get_smp_processor_id, bpf_ktime_get_ns},
    programs::TcContext,
};
use aya_log_ebpf::warn;
use lvs_common::{Doubts, Edge, EdgeKind, ServerCounters, ServerId, ServerState};

use crate::{
    maps::{COUNTERS, DOUBTS, EDGES, MAX_SERVERS, STATES},
    packet::Doubt,
};

/// One server's values while one packet is looked at.
pub(crate) struct Signal {
    pub(crate) id: ServerId,
    pub(crate) now: u64,
    pub(crate) counters: &'static mut ServerCounters,
    pub(crate) state: &'static mut ServerState,
}

impl Signal {
    /// The values of server `id`, or nothing where the agent gave an id outside its own arrays.
    #[inline(always)]
    pub(crate) fn of(id: ServerId) -> Option<Self> {
        let servers = MAX_SERVERS.load();
        if id.0 >= servers {
            return None;
        }
        // SAFETY: a helper without arguments.
        let cpu = unsafe { bpf_get_smp_processor_id() };
        let counters = COUNTERS.get_ptr_mut(cpu * servers + id.0)?;
        let state = STATES.get_ptr_mut(id.0)?;
        // SAFETY: both point into arrays that live as long as the program. Only this CPU writes `counters`; `state` is
        // shared on purpose: its fields are plain numbers, each read and written whole, and lost updates are allowed
        // for (see `ServerState`).
        unsafe { Some(Self { id, now: bpf_ktime_get_ns(), counters: &mut *counters, state: &mut *state }) }
    }

    /// The server has proved that its listening socket lives.
    #[inline(always)]
    pub(crate) fn progress(&mut self) {
        self.state.progress_ns = self.now;
        let waiting_since = self.state.waiting_since_ns;
        if waiting_since != 0 {
            self.counters.wait_sum_ns += self.now.saturating_sub(waiting_since);
            self.counters.waits += 1;
            self.state.waiting_since_ns = 0;
            self.state.waiting_clients = 0;
            self.state.waiting_syns = 0;
        }
        if self.state.refusals != 0 {
            self.state.refusals = 0;
            self.state.refused_since_ns = 0;
            self.edge(EdgeKind::Accepted);
        }
    }

    /// A client at `address` has sent a SYN and waits.
    #[inline(always)]
    pub(crate) fn waiting(&mut self, address: [u8; 4]) {
        if self.state.waiting_since_ns == 0 {
            self.state.waiting_since_ns = self.now;
        }
        self.state.last_syn_ns = self.now;
        self.state.waiting_syns += 1;
        self.state.waiting_clients |= 1 << network_bit(address);
    }

    /// The server has answered a SYN with RST.
    #[inline(always)]
    pub(crate) fn refused(&mut self) {
        self.counters.refused += 1;
        self.state.refused_last_ns = self.now;
        self.state.refusals += 1;
        if self.state.refusals == 1 {
            self.state.refused_since_ns = self.now;
            self.edge(EdgeKind::Refused);
        }
    }

    /// Counts a packet and its bytes on their way to the server.
    #[inline(always)]
    pub(crate) fn sent(&mut self, ctx: &TcContext) {
        self.counters.packets_in += segments(ctx);
        self.counters.bytes_in += u64::from(ctx.len());
    }

    /// Counts a packet and its bytes from the server.
    #[inline(always)]
    pub(crate) fn received(&mut self, ctx: &TcContext) {
        self.counters.packets_out += segments(ctx);
        self.counters.bytes_out += u64::from(ctx.len());
    }

    #[inline(always)]
    fn edge(&self, kind: EdgeKind) {
        let edge = Edge { at_ns: self.now, server: self.id, kind: kind as u32 };
        match EDGES.reserve::<Edge>(0) {
            Some(mut record) => {
                record.write(edge);
                record.submit(0);
            }
            None => count(|doubts| doubts.edge_lost += 1),
        }
    }
}

/// Which of 64 bits stands for the /24 of `address`. Multiplication by 2^32 / golden ratio spreads neighbours apart
/// (Knuth, The Art of Computer Programming 3, section 6.4).
#[inline(always)]
fn network_bit(address: [u8; 4]) -> u32 {
    let network = u32::from_be_bytes(address) >> 8;
    network.wrapping_mul(0x9e37_79b9) >> 26
}

/// How many packets on the wire this one is: with segmentation offload one buffer is many.
#[inline(always)]
fn segments(ctx: &TcContext) -> u64 {
    // SAFETY: `skb` is the program's own context.
    let segments = unsafe { (*ctx.skb.skb).gso_segs };
    if segments == 0 { 1 } else { u64::from(segments) }
}

/// The packet's mark.
#[inline(always)]
pub(crate) fn mark(ctx: &TcContext) -> u32 {
    // SAFETY: as above.
    unsafe { (*ctx.skb.skb).mark }
}

/// Counts a frame that is not looked into, and logs those that should not be there.
#[inline(always)]
pub(crate) fn doubt(ctx: &TcContext, doubt: Doubt) {
    match doubt {
        Doubt::OtherProtocol => count(|doubts| doubts.other_protocol += 1),
        Doubt::Vlan => count(|doubts| doubts.vlan += 1),
        Doubt::Fragment => count(|doubts| doubts.fragment += 1),
        Doubt::Malformed => {
            count(|doubts| doubts.malformed += 1);
            warn!(ctx, "malformed packet of {} bytes let pass", ctx.len());
        }
    }
}

/// Counts an id that the agent should not have given.
#[inline(always)]
pub(crate) fn bad_server_id(ctx: &TcContext, id: ServerId) {
    count(|doubts| doubts.bad_server_id += 1);
    warn!(ctx, "server id {} is outside the arrays", id.0);
}

/// Changes this CPU's doubts.
#[inline(always)]
pub(crate) fn count(change: impl FnOnce(&mut Doubts)) {
    if let Some(doubts) = DOUBTS.get_ptr_mut(0) {
        // SAFETY: this CPU's own entry of an array that lives as long as the program.
        change(unsafe { &mut *doubts });
    }
}
