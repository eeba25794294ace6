//! The detector in invented traffic: models of clients, servers and faults write what the kernel side would, event by
//! event, and the detector looks at it as the agent does.
//!
//! Time is the simulation's own; the same seed gives the same course.

mod chance;
mod gaps;
mod kernel;
pub mod report;
pub mod scenario;
pub mod tick;
mod traffic;
mod trial;
mod world;

pub use gaps::gaps_an_hour;
pub use kernel::Kernel;
pub use scenario::{Arrivals, Disturbance, Fault, Scenario, Serving};
pub use trial::{Alarms, Detection, detect, false_alarms};
