//! Passive detection: what the traffic itself shows of the servers' health.
//!
//! [`Programs`] loads the eBPF programs and attaches them, [`Targets`] says which packets belong to which server,
//! [`Signals`] reads what was counted, and [`Detector`] raises suspicions. A suspicion only ever asks for a probe.
//!
//! | file | what is in it |
//! |---|---|
//! | `programs.rs` | the eBPF programs and their maps: loading, attaching, attributing packets |
//! | `attach.rs` | attaching to devices: tcx links, or filters on a clsact qdisc |
//! | `sizes.rs` | how large the maps are, and what memory they take |
//! | `mmap_array.rs` | an eBPF array mapped into this process's memory |
//! | `kept_syns.rs` | SYNs that may be sent again, and what may be held back |
//! | `injector.rs` | puts packets into the ingress of a device |
//! | `open_handshakes.rs` | how many handshakes are open |
//! | `counters.rs` | counters, signs of life and sampled flows of each server, read from the maps |
//! | `targets.rs` | destinations, routes and neighbours → keys in the endpoint maps; pure |
//! | `signature.rs` | what tells one server's packets from another's, as far as services say; pure |
//! | `wire_key.rs` | the keys of the endpoint maps; pure |
//! | `interest.rs` | the filter before the endpoint maps; pure |
//! | `shortcuts.rs` | the table of shortcuts beside them; pure |
//! | `blindness.rs` | whether the programs see what IPVS balances; pure |
//! | `visibility.rs` | how much of a server's traffic is seen, and why a destination has no signal |
//! | `contradiction/` | clients that fail at a server whose probes may be well; pure |
//! | `detector/` | from signs of life to suspicions; pure |
//! | `trace.rs` | recordings of the detector's input |
//! | `error.rs` | what can go wrong with programs and maps |

mod attach;
pub mod blindness;
mod contradiction;
mod counters;
mod detector;
mod error;
mod injector;
mod interest;
mod kept_syns;
mod mmap_array;
mod open_handshakes;
mod programs;
mod shortcuts;
mod signature;
mod sizes;
mod targets;
pub mod trace;
mod visibility;
mod wire_key;

pub use attach::{in_front_on_tcx, uses_tcx};
pub use contradiction::{
    ClientReport, ClientWatch, ClientsSay, Comparison, Complaint, Missing, SiblingGroup, Spread,
};
pub use counters::Signals;
pub use detector::{
    Detector, Evidence, EvidenceKind, Finding, Hint, HintSource, IdleEnd, Layer, Observation, Readings,
    Strength, Suspicion, Usual, View,
};
pub use error::PassiveError;
pub use injector::Injector;
pub use kept_syns::{KeptBrief, KeptSyns};
pub use open_handshakes::OpenHandshakes;
pub use programs::{OwnMarks, Programs};
pub use signature::{Forwarding, forwardings};
pub use sizes::Sizes;
pub use targets::{Change, PacketPath, Target, Targets};
pub use visibility::{NoSignal, Visibility};
pub use wire_key::WireKey;
