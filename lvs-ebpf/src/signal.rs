//! What is written per server: counters, signs of life, edges.

use aya_ebpf::{helpers::bpf_get_smp_processor_id, programs::TcContext};
use lvs_common::{
    Edge, EdgeKind, Latencies, LayerState, Retransmissions, ServerAnswered, ServerCounters, ServerId,
    ServerState, Sketch, WaitingConnections,
};

use crate::{
    maps::{ANSWERED, COUNTERS, EDGES, MAX_SERVERS, STATES, WAITING},
    opaque::clear_all,
    unattributed::{Unattributed, count},
};

/// How stale a time that every packet would renew may be, in ns: the cache line with it is shared by all CPUs.
const STALE: u64 = 1_000_000;

/// Whose demand it is, as sketches count it.
#[derive(Clone, Copy)]
pub(crate) struct Origin {
    /// One of the 256 bits that stand for networks.
    pub(crate) network: u32,
    /// A hash of the client's address and port.
    pub(crate) connection: u32,
}

/// One server's values while one packet is looked at.
pub(crate) struct Signal {
    pub(crate) id: ServerId,
    pub(crate) counters: &'static mut ServerCounters,
    pub(crate) state: &'static mut ServerState,
}

impl Signal {
    /// The values of server `id`, or nothing where the agent gave an id outside its own arrays.
    // Not a `Result`: copying one splits its pointers into bytes, which the verifier doesn't let pass.
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
        unsafe { Some(Self { id, counters: &mut *counters, state: &mut *state }) }
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

    /// A client waits for the listening socket.
    #[inline(always)]
    pub(crate) fn wants_listener(&mut self, client: Origin, now: u64) {
        let Some(waiting) = WAITING.get_ptr_mut(self.id.0) else { return };
        // SAFETY: as for the state.
        demand(&mut self.state.listener, unsafe { &mut (*waiting).listener }, client, now);
    }

    /// A client waits for a response.
    #[inline(always)]
    pub(crate) fn wants_application(&mut self, client: Origin, now: u64) {
        let Some(waiting) = WAITING.get_ptr_mut(self.id.0) else { return };
        // SAFETY: as for the state.
        demand(&mut self.state.application, unsafe { &mut (*waiting).application }, client, now);
    }

    /// The listening socket has answered a client of this network.
    #[inline(always)]
    pub(crate) fn listener_answered(&self, network: u32, now: u64) {
        if let Some(answered) = ANSWERED.get_ptr_mut(self.id.0) {
            // SAFETY: as for the state.
            let times = unsafe { &mut (*answered).listener };
            times[network as usize & (Sketch::BITS - 1)] = ServerAnswered::time_of(now);
        }
    }

    /// The application has answered a client of this network.
    #[inline(always)]
    pub(crate) fn application_answered(&self, network: u32, now: u64) {
        if let Some(answered) = ANSWERED.get_ptr_mut(self.id.0) {
            // SAFETY: as for the state.
            let times = unsafe { &mut (*answered).application };
            times[network as usize & (Sketch::BITS - 1)] = ServerAnswered::time_of(now);
        }
    }

    /// Proof of life of the listening socket.
    #[inline(always)]
    pub(crate) fn listener_alive(&mut self, now: u64) {
        self.state.listener.progress_ns = now;
        reset(&mut self.state.listener);
        self.host_alive();
        if self.state.refusals != 0 {
            self.state.refusals = 0;
            self.state.refused_since_ns = 0;
            self.edge(EdgeKind::Accepted, now);
        }
    }

    /// Proof of life of the application behind the listening socket.
    #[inline(always)]
    pub(crate) fn application_alive(&mut self, now: u64) {
        renew(&mut self.state.application.progress_ns, now);
        reset(&mut self.state.application);
        self.host_alive();
    }

    /// The server has sent something, whatever it is.
    #[inline(always)]
    pub(crate) fn replied(&mut self, now: u64) {
        renew(&mut self.state.reply_ns, now);
        self.host_alive();
    }

    /// Whether [`Signal::replied`] would tell anything new.
    #[inline(always)]
    pub(crate) fn wants_reply(&self, now: u64) -> bool {
        now.wrapping_sub(self.state.reply_ns) >= STALE || self.has_evidence()
    }

    /// Proof of life of the host: data that was sent again was not lost there.
    #[inline(always)]
    pub(crate) fn host_alive(&mut self) {
        if self.has_evidence() {
            self.state.again =
                Retransmissions { networks: 0, since_ns: 0, last_ns: 0, segments: 0, flows: 0 };
            self.state.unreachables = 0;
        }
    }

    #[inline(always)]
    fn has_evidence(&self) -> bool {
        self.state.again.segments | self.state.unreachables != 0
    }

    /// The server has answered a SYN with RST.
    #[inline(always)]
    pub(crate) fn refused(&mut self, now: u64) {
        self.counters.refused += 1;
        self.state.refused_last_ns = now;
        self.state.refusals += 1;
        if self.state.refusals == 1 {
            self.state.refused_since_ns = now;
            self.edge(EdgeKind::Refused, now);
        }
    }

    /// ICMP reports the server or its port as unreachable.
    #[inline(always)]
    pub(crate) fn unreachable(&mut self, now: u64) {
        self.counters.unreachable += 1;
        self.state.unreachable_last_ns = now;
        self.state.unreachables += 1;
        if self.state.unreachables == 1 {
            self.edge(EdgeKind::Unreachable, now);
        }
    }

    #[inline(always)]
    fn edge(&self, kind: EdgeKind, now: u64) {
        let edge = Edge { at_ns: now, server: self.id, kind: kind as u32 };
        match EDGES.reserve::<Edge>(0) {
            Some(mut record) => {
                record.write(edge);
                record.submit(0);
            }
            None => count(Unattributed::EdgeLost),
        }
    }
}

/// Demand: a client waits for a layer.
#[inline(always)]
fn demand(layer: &mut LayerState, waiting: &mut WaitingConnections, client: Origin, now: u64) {
    const MASK: usize = LayerState::REMEMBERED - 1;
    if layer.attempts == 0 {
        clear_all(&mut waiting.connections.0);
        waiting.waiting = 0;
    }
    layer.last_ns = now;
    layer.attempts += 1;
    let is_new = waiting.connections.add(client.connection);
    #[expect(clippy::cast_possible_truncation, reason = "one of 256")]
    let network = client.network as u8;
    if layer.networks.add(client.network) {
        let place = layer.waiting as usize;
        if place < LayerState::REMEMBERED {
            layer.since_ns[place & MASK] = now;
            waiting.first[place & MASK] = network;
            layer.waiting += 1;
        }
        return;
    }
    let place = waiting.waiting as usize;
    if is_new && place < LayerState::REMEMBERED {
        waiting.since_ns[place & MASK] = now;
        waiting.networks[place & MASK] = network;
        waiting.waiting += 1;
    }
}

/// No client waits any longer.
#[inline(always)]
fn reset(layer: &mut LayerState) {
    if layer.attempts != 0 {
        layer.attempts = 0;
        layer.waiting = 0;
        clear_all(&mut layer.networks.0);
    }
}

#[inline(always)]
fn renew(time: &mut u64, now: u64) {
    if now.wrapping_sub(*time) >= STALE {
        *time = now;
    }
}

/// Counts a latency.
#[inline(always)]
pub(crate) fn record_latency(latencies: &mut Latencies, from: u64, to: u64) {
    let bucket = Latencies::bucket_of(to.saturating_sub(from));
    latencies.buckets[bucket & (Latencies::BUCKETS - 1)] += 1;
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
