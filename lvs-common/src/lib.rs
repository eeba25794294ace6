//! What the kernel side and the agent must agree on: the layout of map keys and values, the names of maps, programs
//! and load-time constants.
//!
//! Every type here is `#[repr(C)]` without padding, so that its bytes mean the same on both sides and may be compared
//! and hashed by the kernel. Times are nanoseconds of `CLOCK_MONOTONIC` (`bpf_ktime_get_ns`).
#![no_std]

mod counters;
mod edge;
pub mod interest;
mod key;
mod latency;
mod names;
mod shortcut;
mod state;

pub use counters::{Doubts, ServerCounters};
pub use edge::{Edge, EdgeKind};
pub use key::{EndpointKey4, EndpointKey6, EndpointKind, HandshakeKey, ServerId, mapped};
pub use latency::Latencies;
pub use names::{COARSE_CLOCK, EGRESS, INGRESS, MAX_SERVERS, PROBE_MARK, map};
pub use shortcut::Shortcut;
pub use state::{Again, Flow, Handshake, Layer, Networks, ServerState};
