//! The configuration: text becomes the [`model`](crate::model), and each fault has its place.
//!
//! A configuration that was read has been validated whole: nothing in it contradicts itself, and the rest of the agent
//! doesn't check again.

mod changes;
mod common;
mod diagnostics;
#[cfg(test)]
mod fuzz;
mod guess;
pub mod ldirectord;
mod load;
mod loss;
mod name_grace;
pub mod native;
mod prerequisites;
mod reading;
mod restart;

pub(crate) use self::{
    changes::changes,
    loss::{Loss, loss},
    restart::without_restart,
};
pub use self::{
    diagnostics::{
        ConfigError, Contradiction, DirectiveFault, Fault, FaultKind, Faults, FileContent, FileError,
        FileErrorKind, KeyFault, Leniency, NameFault, Need, Note, Place, PortUse, Prerequisite, Strictness,
        ValueFault, Warning, WarningKind,
    },
    load::{Content, Source, read_bytes, read_file},
    name_grace::{NameGrace, NamePolicy, Unresolved},
    reading::{Format, Reading},
};
