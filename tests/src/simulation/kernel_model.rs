//! The kernel side's rules, as plain Rust: what a server's packets make of its state, counters and flows.

use bytemuck::Zeroable as _;
use lvs_common::{
    Flow, Latencies, LayerState, Retransmissions, ServerAnswered, ServerCounters, ServerState, ServerWaiting,
    Sketch, WaitingConnections,
};

/// A later time of progress than this makes a flow's renewal worth writing, in ns.
const STALE_NS: u64 = 1_000_000;

/// What the kernel side keeps of one server.
#[derive(Clone, Debug)]
pub struct KernelModel {
    /// Signs of life.
    pub state: ServerState,
    /// Counters.
    pub counters: ServerCounters,
    /// Connections that wait.
    pub waiting: ServerWaiting,
    /// When client networks were answered.
    pub answered: ServerAnswered,
    flows: Vec<Flow>,
}

impl Default for KernelModel {
    fn default() -> Self {
        Self {
            state: ServerState::zeroed(),
            counters: ServerCounters::zeroed(),
            waiting: ServerWaiting::zeroed(),
            answered: ServerAnswered::zeroed(),
            flows: vec![Flow::zeroed(); Flow::EACH],
        }
    }
}

impl KernelModel {
    /// A SYN of the connection `tag`; `again` if it was sent before.
    pub fn syn(&mut self, network: u32, tag: u64, again: bool, now: u64) {
        demand(&mut self.state.listener, &mut self.waiting.listener, bit(network), tag, now);
        if again {
            self.counters.syn_again += 1;
        } else {
            self.counters.syn += 1;
        }
    }

    /// The listener's proof of life to a client of `network`. Its time counts if the SYN of `since` was sent only once
    /// and not answered before.
    pub fn accepted(&mut self, network: u32, since: Option<u64>, now: u64) {
        self.answered.listener[usize::from(bit(network))] = ServerAnswered::time_of(now);
        if let Some(since) = since {
            took(&mut self.counters.handshake, since, now);
        }
        self.state.listener.progress_ns = now;
        reset(&mut self.state.listener);
        self.lives();
        self.state.refusals = 0;
        self.state.refused_since_ns = 0;
    }

    /// A RST in answer to a SYN; returns whether that is an edge.
    pub fn refused(&mut self, now: u64) -> bool {
        self.counters.refused += 1;
        self.state.refused_last_ns = now;
        self.state.refusals += 1;
        if self.state.refusals == 1 {
            self.state.refused_since_ns = now;
        }
        self.state.refusals == 1
    }

    /// Any packet from the server but RST (masquerade).
    pub fn replied(&mut self, now: u64) {
        renew(&mut self.state.reply_ns, now);
        self.lives();
    }

    /// A flow gets the slot that `tag` leads to, unless another one that is active has it.
    pub fn sample(&mut self, tag: u64, network: u32, now: u64) -> bool {
        let flow = self.slot(tag);
        if flow.tag == tag {
            return true;
        }
        if flow.tag != 0 && now.saturating_sub(flow.seen_ns) <= Flow::IDLE_NS {
            return false;
        }
        *flow = Flow { tag, seen_ns: now, progress_ns: now, network: bit(network).into(), ..Flow::zeroed() };
        true
    }

    /// The flow is over.
    pub fn close(&mut self, tag: u64) {
        let flow = self.slot(tag);
        if flow.tag == tag {
            flow.tag = 0;
        }
    }

    /// New data on a flow: a request, if it waits for nothing.
    pub fn request(&mut self, tag: u64, now: u64) {
        let flow = self.slot(tag);
        if flow.tag != tag {
            return;
        }
        flow.seen_ns = now;
        if flow.request_ns != 0 {
            return;
        }
        flow.request_ns = now;
        let network = flow.network.to_le_bytes()[0];
        self.counters.requests += 1;
        demand(&mut self.state.application, &mut self.waiting.application, network, tag, now);
    }

    /// The client acknowledges new data; returns whether the flow is sampled.
    pub fn response(&mut self, tag: u64, now: u64) -> bool {
        let flow = self.slot(tag);
        if flow.tag != tag {
            return false;
        }
        let (since, network) = (flow.request_ns, flow.network as usize);
        *flow = Flow { seen_ns: now, progress_ns: now, request_ns: 0, again_ns: 0, again: 0, ..*flow };
        if since != 0 {
            self.counters.responses += 1;
            took(&mut self.counters.response, since, now);
            self.answered.application[network] = ServerAnswered::time_of(now);
        }
        renew(&mut self.state.application.progress_ns, now);
        reset(&mut self.state.application);
        self.lives();
        true
    }

    /// Data again; returns whether the flow waits at all.
    pub fn sent_again(&mut self, tag: u64, now: u64) -> bool {
        let flow = self.slot(tag);
        if flow.tag != tag || flow.request_ns == 0 {
            return false;
        }
        let (counted_ns, network) = (if flow.again == 0 { 0 } else { flow.again_ns }, flow.network);
        flow.seen_ns = now;
        flow.again += 1;
        flow.again_ns = now;
        self.counters.sent_again += 1;
        let again = &mut self.state.again;
        let counted = again.segments != 0 && counted_ns >= again.since_ns;
        if again.segments == 0 {
            again.since_ns = now;
        }
        again.last_ns = now;
        again.segments += 1;
        again.networks |= 1 << (network % 64);
        if !counted {
            again.flows += 1;
        }
        true
    }

    /// How many sampled flows are active.
    #[must_use]
    pub fn active_flows(&self, now: u64) -> u32 {
        let active = |flow: &&Flow| flow.tag != 0 && now.saturating_sub(flow.seen_ns) <= Flow::IDLE_NS;
        u32::try_from(self.flows.iter().filter(active).count()).unwrap_or(u32::MAX)
    }

    fn slot(&mut self, tag: u64) -> &mut Flow {
        #[expect(clippy::cast_possible_truncation, reason = "the lowest bits choose")]
        let slot = tag as usize % Flow::EACH;
        &mut self.flows[slot]
    }

    fn lives(&mut self) {
        if self.state.again.segments != 0 || self.state.unreachables != 0 {
            self.state.again = Retransmissions::zeroed();
            self.state.unreachables = 0;
        }
    }
}

/// The bit of a network: two share one as often as random ones would (`MurmurHash3`'s end).
fn bit(network: u32) -> u8 {
    let mixed = (network ^ network >> 16).wrapping_mul(0x85eb_ca6b);
    let mixed = (mixed ^ mixed >> 13).wrapping_mul(0xc2b2_ae35);
    (mixed ^ mixed >> 16).to_le_bytes()[0]
}

fn demand(layer: &mut LayerState, waiting: &mut WaitingConnections, network: u8, tag: u64, now: u64) {
    if layer.attempts == 0 {
        waiting.connections = Sketch::NONE;
        waiting.waiting = 0;
    }
    layer.last_ns = now;
    layer.attempts += 1;
    let is_new = waiting.connections.add((tag >> 32) as u32);
    if layer.networks.add(network.into()) {
        if let Some(since_ns) = layer.since_ns.get_mut(layer.waiting as usize) {
            *since_ns = now;
            waiting.first[layer.waiting as usize] = network;
            layer.waiting += 1;
        }
    } else if is_new && let Some(since_ns) = waiting.since_ns.get_mut(waiting.waiting as usize) {
        *since_ns = now;
        waiting.networks[waiting.waiting as usize] = network;
        waiting.waiting += 1;
    }
}

fn reset(layer: &mut LayerState) {
    layer.attempts = 0;
    layer.waiting = 0;
    layer.networks = Sketch::NONE;
}

fn renew(time: &mut u64, now: u64) {
    if now - *time >= STALE_NS {
        *time = now;
    }
}

fn took(latencies: &mut Latencies, from: u64, to: u64) {
    latencies.buckets[Latencies::bucket_of(to - from)] += 1;
}
