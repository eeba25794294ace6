//! The lab (namespaces, servers, clients, faults) that the scenarios run in.
//!
//! ```text
//!   clients ──── wan ──── director ──── lan ──┐
//!   10.20.x.y             VIP 192.0.2.80      │
//!      │                                   switch ──── rs1, rs2, rs3
//!      └───────────────── lan ────────────────┘        10.0.0.1 …
//! ```
//!
//! Every box is a network namespace. Requests go through the director. Masqueraded servers answer through the
//! director, directly routed and tunnelled ones straight to the clients' leg on the switch. A [`layout::Layout`] says
//! what differs from lab to lab.

pub mod agent;
pub mod agent_config;
pub mod agent_log;
pub mod check_cost;
pub mod client;
pub mod clock;
pub mod contest;
pub mod counter;
pub mod demo;
pub mod director;
pub mod disturbance;
pub mod empty;
pub mod fault;
pub mod flood;
pub mod http;
pub mod keepalived;
pub mod lab;
pub mod layout;
pub mod leftovers;
pub mod model;
pub mod namespace;
pub mod netlink;
pub mod network;
pub mod observation;
pub mod oracle;
pub mod packet;
pub mod privileges;
pub mod process;
pub mod programs;
pub mod recorder;
pub mod requests;
pub mod scene;
pub mod serve;
pub mod server;
pub mod simulation;
pub mod table;
pub mod table_cost;
pub mod throughput;
pub mod timeline;
pub mod wait;
pub mod watch;

use std::process::ExitCode;

/// Tells a person about something that went wrong, where no error can be given back.
#[expect(clippy::print_stderr, reason = "destructors have nobody to return an error to")]
pub fn warn(message: &str) {
    eprintln!("lab: {message}");
}

/// The exit code of a measurement: whether what was measured is as it must be. An error is told.
#[must_use]
pub fn exit_code(measured: anyhow::Result<bool>) -> ExitCode {
    match measured {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            warn(&format!("{error:#}"));
            ExitCode::FAILURE
        }
    }
}

/// Tells about a result that a reader of a test's output wants to see.
#[expect(clippy::print_stdout, reason = "what a test has measured is its output")]
pub fn say(words: &str) {
    println!("{words}");
}
