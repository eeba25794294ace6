//! Tables: some packets, and what must have been counted after them.

use lvs_common::{EdgeKind, Latencies, ServerCounters};
use lvs_tests::packets::{attribution::Direction, builder::Frame};

use crate::harness::Harness;

/// One row.
pub(crate) struct Case {
    pub(crate) name: &'static str,
    pub(crate) packets: Vec<(Direction, Frame)>,
    pub(crate) id: u32,
    /// Packets, bytes and times are left out.
    pub(crate) expected: ServerCounters,
    pub(crate) edges: &'static [EdgeKind],
}

impl Case {
    /// A row without edges.
    pub(crate) fn new(
        name: &'static str,
        id: u32,
        packets: Vec<(Direction, Frame)>,
        expected: ServerCounters,
    ) -> Self {
        Self { name, packets, id, expected, edges: &[] }
    }

    /// With these edges, in this order.
    pub(crate) fn edges(self, edges: &'static [EdgeKind]) -> Self {
        Self { edges, ..self }
    }
}

/// Runs every row, each as if it were the first.
pub(crate) fn check(cases: impl IntoIterator<Item = Case>) {
    let mut harness = Harness::new();
    for case in cases {
        harness.clear();
        for (direction, frame) in &case.packets {
            harness.run(*direction, frame);
        }
        assert_eq!(comparable(harness.counters(case.id)), case.expected, "{}", case.name);
        let edges: Vec<_> = case.edges.iter().map(|&kind| (case.id, kind)).collect();
        assert_eq!(harness.edges(), edges, "{}", case.name);
    }
}

/// The counters that don't depend on time and length, which have tests of their own. How many latencies were counted
/// stays, in the first bucket.
pub(crate) fn comparable(counters: ServerCounters) -> ServerCounters {
    let (handshake, response) = (times(counters.handshake.total()), times(counters.response.total()));
    ServerCounters {
        packets_in: 0,
        bytes_in: 0,
        packets_out: 0,
        bytes_out: 0,
        handshake,
        response,
        ..counters
    }
}

/// So many latencies, for the expectation of a row.
pub(crate) fn times(count: u64) -> Latencies {
    let mut latencies = Latencies::default();
    latencies.buckets[0] = u32::try_from(count).unwrap();
    latencies
}
