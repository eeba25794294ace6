//! The active side: one file a protocol, a [`Scheduler`] for the baseline checks, and the confirming [`burst`].
//!
//! Nothing here decides about a server: the outcome of each probe is handed on.

mod agent;
pub mod budget;
pub mod burst;
pub(crate) mod bursts;
mod command;
mod connect;
mod context;
mod database;
mod datagram;
mod dns;
mod errno;
mod greeting;
mod http;
pub mod idle;
mod lane;
mod ldap;
mod oracle;
mod outcome;
mod ping;
mod prober;
mod radius;
mod random;
mod rhythm;
mod schedule;
mod scheduler;
mod session;
mod sip;
mod steps;
mod stream;
mod target;
mod tcp;
#[cfg(test)]
mod testing;
#[cfg(test)]
mod tests;
pub(crate) mod timer;
pub(crate) mod tls;
mod tls_failure;
mod vip;

pub use self::{
    idle::{IdleConnections, IdleHandle, IdleReport},
    outcome::{
        CommandEnd, Failure, FailureReason, LocalFault, Outcome, Phase, Success, Unreachable, Verdict,
        VipFailure, reported,
    },
    ping::Pingers,
    prober::{Probe, Prober},
    rhythm::{Patience, Rhythm},
    schedule::CheckId,
    scheduler::{BaselineCheck, CheckResult, Counts, Scheduler, SchedulerHandle, Stopped},
    steps::{Inspection, Step},
    target::ProbeTarget,
    vip::ReadyMarks,
};
