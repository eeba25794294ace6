//! The detector in simulated traffic: models of clients, servers and faults write what the kernel side would, event by
//! event, and the detector evaluates it as in the agent.
//!
//! Time is the simulation's own; the same seed gives the same events.

mod clients;
mod gaps;
mod kernel_model;
mod random;
pub mod report;
pub mod scenario;
mod simulator;
pub mod tick_cost;
mod traffic;
mod trial;

pub use gaps::gaps_an_hour;
pub use kernel_model::KernelModel;
pub use scenario::{Arrivals, Disturbance, Fault, Scenario, Serving};
pub use trial::{Alarms, Detection, detect, false_alarms};
