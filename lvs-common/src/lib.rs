//! What the eBPF programs and the agent share: the layout of map keys and values, the names of maps, programs and
//! load-time constants.
//!
//! | file | what is in it |
//! |---|---|
//! | `key.rs` | map keys: endpoints and handshakes; server ids |
//! | `state.rs` | map values: a server's signs of life by layer, handshakes, sampled flows |
//! | `waiting.rs` | map values: connections that wait for a server, and when each client network was answered |
//! | `counters.rs` | map values: counters of each server, and of packets attributed to none |
//! | `latency.rs` | a histogram of latencies |
//! | `edge.rs` | records of the ring buffer |
//! | `interest.rs` | the filter before the endpoint maps |
//! | `second_chance.rs` | map values: SYNs that may be sent again, and what may be held back |
//! | `shortcut.rs` | the table of shortcuts beside them |
//! | `names.rs` | names of programs, maps and constants |
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
mod second_chance;
mod shortcut;
mod state;
mod waiting;

pub use counters::{ServerCounters, UnattributedCounters};
pub use edge::{Edge, EdgeKind};
pub use key::{EndpointKey4, EndpointKey6, EndpointKind, HandshakeKey, ServerId, mapped};
pub use latency::Latencies;
pub use names::{
    COARSE_CLOCK, EGRESS, EGRESS_CHANCE, INGRESS, INGRESS_CHANCE, INJECT, MAX_SERVERS, PROBE_MARK,
    PROBE_MARK_NAME, VIP_MARKS, VIP_MARKS_NAME, map,
};
pub use second_chance::{HoldBack, KeptSyn, chance};
pub use shortcut::Shortcut;
pub use state::{Flow, Handshake, LayerState, Retransmissions, ServerState, Sketch};
pub use waiting::{ServerAnswered, ServerWaiting, WaitingConnections};
