//! What the tests, the measurements and the demonstration are made of.
//!
//! - [`lab`]: a network in namespaces, with director, real servers, clients, faults, and the programs that run there.
//! - [`testbed`]: a lab with the agent and clients at work, and the record of one failure in it.
//! - [`packets`]: packets built byte by byte, and a second implementation of how they are attributed to servers.
//! - [`forged`]: packets that a stranger forges, sent in a lab.
//! - [`simulation`]: the detector in simulated traffic.
//! - [`ldirectord`]: Debian's ldirectord, which the agent is compared with, and a stand-in for ipvsadm.
//! - [`mod@bench`]: what `cargo xtask bench` measures in the VM, one module a subcommand.
//! - [`demo`]: what `cargo xtask demo` shows.
//!
//! [`lab`] and [`packets`] use none of the others.

pub mod bench;
pub mod demo;
pub mod forged;
pub mod lab;
pub mod ldirectord;
mod output;
pub mod packets;
pub mod simulation;
pub mod testbed;

pub use self::output::{exit_code, say, warn};
