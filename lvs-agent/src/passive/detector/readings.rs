//! What the detector reads of the kernel side when it needs it: more than is read of every server on every tick.

use lvs_common::{ServerCounters, ServerId, ServerWaiting};

use super::finding::Layer;

/// The kernel side as it is now.
pub trait Readings {
    /// A server's counters, summed over CPUs.
    fn counters(&self, id: ServerId) -> ServerCounters;

    /// How many of a server's sampled flows are active at `now_ns`.
    fn active_flows(&self, id: ServerId, now_ns: u64) -> u32;

    /// Which connections wait for a server.
    fn waiting(&self, id: ServerId) -> ServerWaiting;

    /// When a layer of a server last answered a client network, in the units of
    /// [`ServerAnswered::time_of`](lvs_common::ServerAnswered::time_of); 0: never.
    fn answered(&self, id: ServerId, layer: Layer, network: u8) -> u32;
}
