//! How large the eBPF maps are made, and what memory they take.

use lvs_common::{
    EndpointKey4, EndpointKey6, Flow, Handshake, HandshakeKey, HoldBack, KeptSyn, ServerAnswered,
    ServerCounters, ServerId, ServerState, ServerWaiting, Shortcut, UnattributedCounters,
    interest::INTERESTS,
};

use crate::model::SecondChance;

/// Open handshakes remembered for each server: at 1,000 new connections a second and a client RTT of 200 ms, all of
/// them.
const HANDSHAKES_EACH: u32 = 256;
/// At 112 bytes an entry from 3.5 to 14 MiB. The least is what a flood of SYNs must fill before an answer comes: at a
/// million a second 33 ms.
const HANDSHAKES: std::ops::RangeInclusive<u32> = (1 << 15)..=(1 << 17);
/// Room for servers that are added at run time: at least this many …
const SPARE: u32 = 64;
/// … and one for so many that are there at the start.
const SPARE_EACH: u32 = 4;

/// Keys of one server at most: its own, and one for its answers by firewall mark or for its tunnel's end.
const KEYS: u32 = 2;
/// A record in the ring buffer with the kernel's header.
const EDGE_BYTES: u32 = 24;
/// The smallest ring buffer; a power of two, as all are.
const EDGES_BYTES: u32 = 128 << 10;

/// Sizes of the maps.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sizes {
    /// Server ids.
    pub servers: u32,
    /// Open handshakes that are remembered; the least recently used one gives way.
    pub handshakes: u32,
    /// Whether SYNs are kept for a second chance.
    pub second_chance: SecondChance,
}

impl Sizes {
    /// Sizes for so many endpoints, with room for more.
    #[must_use]
    pub fn for_endpoints(endpoints: usize) -> Self {
        let endpoints = u32::try_from(endpoints).unwrap_or(u32::MAX);
        let servers = endpoints.saturating_add(SPARE.max(endpoints / SPARE_EACH));
        let handshakes =
            servers.saturating_mul(HANDSHAKES_EACH).clamp(*HANDSHAKES.start(), *HANDSHAKES.end());
        Self { servers, handshakes, second_chance: SecondChance::Off }
    }

    /// The same with second chance.
    #[must_use]
    pub fn with(self, second_chance: SecondChance) -> Self {
        Self { second_chance, ..self }
    }

    /// What second chance takes beside that.
    fn second_chance_memory(self) -> u64 {
        match self.second_chance {
            SecondChance::Off => 0,
            SecondChance::On => {
                array(KeptSyn::PLACES as u64, size_of::<KeptSyn>())
                    + array(KeptSyn::PLACES as u64, size_of::<u64>())
                    + array(self.servers.into(), size_of::<u64>())
                    + array(1, size_of::<HoldBack>())
            }
        }
    }

    /// Entries in each of the maps that lead to a server.
    pub(super) fn keys(self) -> u32 {
        self.servers.saturating_mul(KEYS)
    }

    /// Sampled flows.
    pub(super) fn flows(self) -> u32 {
        self.servers.saturating_mul(FLOWS_EACH)
    }

    /// Counters, of all CPUs.
    pub(super) fn counters(self, cpus: u32) -> u32 {
        self.servers.saturating_mul(cpus)
    }

    /// Bytes of the ring buffer: room for two edges of every server.
    pub(super) fn edge_bytes(self) -> u32 {
        let wanted = self.servers.saturating_mul(2 * EDGE_BYTES).min(1 << 30);
        wanted.next_power_of_two().max(EDGES_BYTES)
    }

    /// What the maps take in bytes on a machine with so many possible CPUs, by what Linux 6.18 allocates
    /// (`array_map_mem_usage`, `htab_map_mem_usage`, `ringbuf_map_mem_usage`). Most of it is for each server
    /// (4 KiB of flows, 2 KiB of when networks were answered), and for each server and CPU (the counters).
    #[must_use]
    pub fn memory(self, cpus: u32) -> u64 {
        let keys = u64::from(self.keys());
        table(keys, size_of::<EndpointKey4>(), size_of::<ServerId>())
            + table(keys, size_of::<EndpointKey6>(), size_of::<ServerId>())
            + table(self.handshakes.into(), size_of::<HandshakeKey>(), size_of::<Handshake>())
            + array(1, INTERESTS)
            + array(Shortcut::PLACES as u64, size_of::<Shortcut>())
            + array(self.counters(cpus).into(), size_of::<ServerCounters>())
            + array(self.servers.into(), size_of::<ServerState>())
            + array(self.servers.into(), size_of::<ServerWaiting>())
            + array(self.servers.into(), size_of::<ServerAnswered>())
            + array(self.flows().into(), size_of::<Flow>())
            + array(cpus.into(), size_of::<UnattributedCounters>())
            + self.second_chance_memory()
            + ring(self.edge_bytes())
            + ring(LOG_BYTES)
    }
}

/// [`Flow::EACH`] as the maps' sizes are counted.
#[expect(clippy::cast_possible_truncation, reason = "64")]
const FLOWS_EACH: u32 = Flow::EACH as u32;

const PAGE: u64 = 4096;
/// aya-log's ring buffer.
const LOG_BYTES: u32 = 128 << 10;
/// `struct htab_elem` without key and value.
const ELEMENT: u64 = 48;
/// `struct bucket`.
const BUCKET: u64 = 16;

/// An array that is mapped into memory: whole pages, and one for its head.
fn array(entries: u64, value: usize) -> u64 {
    PAGE + (entries * (value as u64).next_multiple_of(8)).next_multiple_of(PAGE)
}

/// A ring buffer, and the pages in front of it.
fn ring(bytes: u32) -> u64 {
    u64::from(bytes) + 4 * PAGE
}

/// A hash table with all its elements allocated beforehand.
fn table(entries: u64, key: usize, value: usize) -> u64 {
    let element = ELEMENT + (key as u64).next_multiple_of(8) + (value as u64).next_multiple_of(8);
    entries * element + entries.next_power_of_two() * BUCKET
}

#[cfg(test)]
mod tests {
    use super::*;

    /// 64 MiB: what the maps may take for 1,000 servers.
    const LIMIT: u64 = 64 << 20;

    #[test]
    fn a_thousand_servers_fit_up_to_64_cpus() {
        let sizes = Sizes::for_endpoints(1000);
        for cpus in [1, 2, 8, 64] {
            let memory = sizes.memory(cpus);
            assert!(memory <= LIMIT, "{cpus} CPUs: {memory} bytes");
        }
    }

    #[test]
    fn sizes_follow_the_number_of_servers() {
        let few = Sizes::for_endpoints(4);
        assert_eq!(few, Sizes { servers: 68, handshakes: 1 << 15, second_chance: SecondChance::Off });
        assert!(few.memory(2) < 6 << 20, "{}", few.memory(2));
        let many = Sizes::for_endpoints(10_000);
        assert_eq!(many, Sizes { servers: 12_500, handshakes: 1 << 17, second_chance: SecondChance::Off });
        let chance = few.with(SecondChance::On).memory(2) - few.memory(2);
        assert!((5 << 20..6 << 20).contains(&chance), "{chance}");
        assert!(many.memory(2) > Sizes::for_endpoints(1000).memory(2));
    }

    #[test]
    fn no_number_is_too_large() {
        let sizes = Sizes::for_endpoints(usize::MAX);
        assert_eq!(sizes.servers, u32::MAX);
        assert!(sizes.edge_bytes().is_power_of_two());
        assert!(sizes.memory(u32::MAX) > 0);
    }
}
