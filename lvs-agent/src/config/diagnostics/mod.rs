//! What can be wrong with a configuration, where, and what to do about it.
//!
//! The readers of all formats note what they find in a [`FaultList`]; nothing here knows a reader.

mod contradiction;
mod error;
mod fault;
mod key;
mod ldirectord;
mod masked;
mod place;
mod prerequisite;
mod value;
mod warning;

pub use self::{
    contradiction::Contradiction,
    error::{ConfigError, FileError, FileErrorKind},
    fault::{Fault, FaultKind, Faults},
    key::KeyFault,
    ldirectord::{DirectiveFault, Leniency, NameFault, Note, PortUse},
    place::Place,
    prerequisite::{FileContent, Need, Prerequisite},
    value::ValueFault,
    warning::{Strictness, Warning, WarningKind},
};
pub(crate) use self::{fault::FaultList, ldirectord::SERVICES};
