//! The passive signal: what the traffic itself says about the servers' health.
//!
//! [`KernelSide`] loads and attaches the programs, [`Targets`] decides which packets are whose, [`Signals`] reads what
//! was counted, [`Detector`] makes suspicions of it. A suspicion is never more than the wish for a probe.

mod counted;
mod detector;
mod interest;
mod mapped;
mod programs;
mod targets;

pub use counted::Signals;
pub use detector::{Detector, Evidence, Observation, Strength, Suspicion, View};
pub use programs::{KernelSide, PassiveError, Sizes};
pub use targets::{Change, Mac, NoSignal, Target, Targets, WireKey};
