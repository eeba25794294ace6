//! The configuration: text becomes the [`model`](crate::model), and each fault has its place.
//!
//! A configuration that was read has been validated whole: nothing in it contradicts itself, and the rest of the agent
//! doesn't check again.

mod changes;
mod common;
mod diagnostics;
#[cfg(test)]
mod fuzz;
pub mod ldirectord;
mod load;
pub mod native;
mod reading;
mod restart;

pub(crate) use self::{changes::changes, restart::without_restart};
pub use self::{
    diagnostics::{
        ConfigError, Contradiction, DirectiveFault, Fault, FaultKind, Faults, FileError, FileErrorKind,
        KeyFault, Leniency, NameFault, Note, Place, PortUse, Strictness, ValueFault, Warning, WarningKind,
    },
    load::{Fingerprint, Source, read_bytes, read_file},
    reading::{Format, Reading},
};
