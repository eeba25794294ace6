//! What the kernel side has counted, as values.

use std::io;

use aya::maps::{MapData, MapError, PerCpuArray};
use bytemuck::{Zeroable as _, pod_read_unaligned};
use lvs_common::{Doubts, ServerCounters, ServerId, ServerState};

use super::mapped::MappedArray;

type RawDoubts = [u8; size_of::<Doubts>()];

/// Reads counters and signs of life. Cheap: memory of the kernel, mapped into this process.
pub struct Signals {
    counters: MappedArray<ServerCounters>,
    states: MappedArray<ServerState>,
    doubts: PerCpuArray<MapData, RawDoubts>,
    cpus: usize,
    servers: usize,
}

impl Signals {
    /// Views of the three maps, for `servers` ids on `cpus` possible CPUs.
    pub(super) fn new(
        counters: &MapData,
        states: &MapData,
        doubts: PerCpuArray<MapData, RawDoubts>,
        cpus: usize,
        servers: usize,
    ) -> io::Result<Self> {
        Ok(Self {
            counters: MappedArray::new(counters.fd(), cpus * servers)?,
            states: MappedArray::new(states.fd(), servers)?,
            doubts,
            cpus,
            servers,
        })
    }

    /// A server's counters, summed over CPUs; zeros for an id that isn't there.
    #[must_use]
    pub fn counters(&self, id: ServerId) -> ServerCounters {
        let server = id.0 as usize;
        (0..self.cpus)
            .filter_map(|cpu| self.counters.get(cpu * self.servers + server))
            .fold(ServerCounters::zeroed(), |sum, one| sum.plus(&one))
    }

    /// A server's signs of life; zeros for an id that isn't there.
    #[must_use]
    pub fn state(&self, id: ServerId) -> ServerState {
        self.states.get(id.0 as usize).unwrap_or_else(ServerState::zeroed)
    }

    /// What could not be attributed, summed over CPUs.
    pub fn doubts(&self) -> Result<Doubts, MapError> {
        let per_cpu = self.doubts.get(&0, 0)?;
        Ok(per_cpu
            .iter()
            .map(|bytes| pod_read_unaligned::<Doubts>(bytes))
            .fold(Doubts::zeroed(), |sum, one| sum.plus(&one)))
    }
}
