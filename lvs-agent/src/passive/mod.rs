//! The passive signal: what the traffic itself says about the servers' health.
//!
//! [`KernelSide`] loads and attaches the programs, [`Targets`] decides which packets are whose, [`Signals`] reads what
//! was counted, [`Detector`] makes suspicions of it. A suspicion is never more than the wish for a probe.

mod attach;
mod counted;
mod detector;
mod interest;
mod mapped;
mod programs;
mod shape;
mod shortcuts;
mod sight;
mod sizes;
mod targets;
pub mod trace;
mod wire_key;

pub use counted::Signals;
pub use detector::{Detector, Evidence, Finding, Layer, Observation, Strength, Suspicion, Usual, View};
pub use programs::{KernelSide, PassiveError};
pub use shape::{Forwarding, forwardings};
pub use sight::{NoSignal, Sight};
pub use sizes::Sizes;
pub use targets::{Change, Path, Target, Targets};
pub use wire_key::{Mac, WireKey};
