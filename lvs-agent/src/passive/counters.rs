//! What the eBPF programs have counted, as values.

use std::{array, io, ops::Range};

use aya::maps::MapData;
use bytemuck::Zeroable as _;
use lvs_common::{
    Flow, ServerAnswered, ServerCounters, ServerId, ServerState, ServerWaiting, UnattributedCounters,
};

use super::{
    detector::{Layer, Readings},
    mmap_array::MmapArray,
};

/// How many pairs of networks are in a [`ServerAnswered`]: first those of the listening socket.
const PAIRS: usize = size_of::<ServerAnswered>() / size_of::<[u32; 2]>();

/// Reads counters and signs of life. Cheap: memory of the kernel, mapped into this process.
pub struct Signals {
    counters: MmapArray<ServerCounters>,
    states: MmapArray<ServerState>,
    waiting: MmapArray<ServerWaiting>,
    /// [`ServerAnswered`] by pairs of networks: seldom is more than one of them read.
    answered: MmapArray<[u32; 2]>,
    flows: MmapArray<Flow>,
    unattributed: MmapArray<UnattributedCounters>,
    cpus: usize,
    servers: usize,
}

/// The maps that [`Signals`] reads.
pub(super) struct SignalMaps {
    pub(super) counters: MapData,
    pub(super) states: MapData,
    pub(super) waiting: MapData,
    pub(super) answered: MapData,
    pub(super) flows: MapData,
    pub(super) unattributed: MapData,
}

impl Signals {
    /// Views of the maps, for `servers` ids on `cpus` possible CPUs.
    pub(super) fn new(maps: &SignalMaps, cpus: usize, servers: usize) -> io::Result<Self> {
        Ok(Self {
            counters: MmapArray::new(maps.counters.fd(), cpus * servers)?,
            states: MmapArray::new(maps.states.fd(), servers)?,
            waiting: MmapArray::new(maps.waiting.fd(), servers)?,
            answered: MmapArray::new(maps.answered.fd(), servers * PAIRS)?,
            flows: MmapArray::new(maps.flows.fd(), servers * Flow::EACH)?,
            unattributed: MmapArray::new(maps.unattributed.fd(), cpus)?,
            cpus,
            servers,
        })
    }

    /// How many ids there are.
    #[must_use]
    pub fn capacity(&self) -> usize {
        self.servers
    }

    /// How many entries are read for one server's counters.
    #[must_use]
    pub fn cpus(&self) -> usize {
        self.cpus
    }

    /// A server's counters, summed over CPUs; zeros for an id that isn't there.
    #[must_use]
    pub fn counters(&self, id: ServerId) -> ServerCounters {
        self.entries(id)
            .filter_map(|entry| self.counters.get(entry))
            .fold(ServerCounters::zeroed(), |sum, one| sum.plus(&one))
    }

    /// A server's signs of life; zeros for an id that isn't there.
    #[must_use]
    pub fn state(&self, id: ServerId) -> ServerState {
        self.states.get(id.0 as usize).unwrap_or_else(ServerState::zeroed)
    }

    /// Which connections wait for a server; none for an id that isn't there.
    #[must_use]
    pub fn waiting(&self, id: ServerId) -> ServerWaiting {
        self.waiting.get(id.0 as usize).unwrap_or_else(ServerWaiting::zeroed)
    }

    /// When a server last answered each client network; never for an id that isn't there.
    #[must_use]
    pub fn answered(&self, id: ServerId) -> ServerAnswered {
        let first = id.0 as usize * PAIRS;
        let pairs: [[u32; 2]; PAIRS] =
            array::from_fn(|pair| self.answered.get(first + pair).unwrap_or_default());
        bytemuck::cast(pairs)
    }

    /// A server's sampled flows; slots that are free are left out.
    pub fn flows(&self, id: ServerId) -> impl Iterator<Item = Flow> {
        slots(id).filter_map(|slot| self.flows.get(slot)).filter(|flow| flow.tag != 0)
    }

    /// What was not attributed to a server, summed over CPUs.
    #[must_use]
    pub fn unattributed(&self) -> UnattributedCounters {
        (0..self.cpus)
            .filter_map(|cpu| self.unattributed.get(cpu))
            .fold(UnattributedCounters::zeroed(), |sum, one| sum.plus(&one))
    }

    /// Clears all values of an id before it is reused for another server. No key may lead to it.
    pub fn reset(&mut self, id: ServerId) {
        for entry in self.entries(id) {
            self.counters.set(entry, ServerCounters::zeroed());
        }
        self.states.set(id.0 as usize, ServerState::zeroed());
        self.waiting.set(id.0 as usize, ServerWaiting::zeroed());
        for pair in 0..PAIRS {
            self.answered.set(id.0 as usize * PAIRS + pair, [0; 2]);
        }
        for slot in slots(id) {
            self.flows.set(slot, Flow::zeroed());
        }
    }

    /// Where an id's counters are, one entry for each CPU.
    fn entries(&self, id: ServerId) -> impl Iterator<Item = usize> + use<> {
        let (server, servers) = (id.0 as usize, self.servers);
        // The index of an id that isn't there would be another id's on the next CPU.
        let cpus = if server < servers { self.cpus } else { 0 };
        (0..cpus).map(move |cpu| cpu * servers + server)
    }
}

impl Readings for Signals {
    fn counters(&self, id: ServerId) -> ServerCounters {
        self.counters(id)
    }

    fn active_flows(&self, id: ServerId, now_ns: u64) -> u32 {
        let active = self.flows(id).filter(|flow| now_ns.saturating_sub(flow.seen_ns) < Flow::IDLE_NS);
        u32::try_from(active.count()).unwrap_or(u32::MAX)
    }

    fn waiting(&self, id: ServerId) -> ServerWaiting {
        self.waiting(id)
    }

    fn answered(&self, id: ServerId, layer: Layer, network: u8) -> u32 {
        let first = match layer {
            Layer::Host => 0,
            Layer::Application => PAIRS / 2,
        };
        let network = usize::from(network);
        let pair = self.answered.get(id.0 as usize * PAIRS + first + network / 2).unwrap_or_default();
        pair[network % 2]
    }
}

/// Where an id's sampled flows are.
fn slots(id: ServerId) -> Range<usize> {
    let first = id.0 as usize * Flow::EACH;
    first..first + Flow::EACH
}
