//! `cargo xtask bench`: measurements, as tables.

mod checks;
mod detector;
mod director;
mod ebpf;
mod failover;
mod keepalived;
mod table;

use std::ffi::OsString;

use anyhow::Result;
use clap::Subcommand;

use crate::cache::Cache;

/// What is measured.
#[derive(Debug, Subcommand)]
pub(crate) enum Bench {
    /// What one packet costs in the eBPF programs, against two references; needs root
    Ebpf,
    /// What the eBPF programs cost an IPVS director in throughput, in the VM
    Director {
        /// Arguments for the measurement; `--help` tells which
        #[arg(last = true)]
        arguments: Vec<OsString>,
    },
    /// What 10,000 TCP checks and 1,000 HTTP checks a second take, and the same checks by keepalived in the VM
    Checks,
    /// How soon the detector finds faults, and how often it finds none, in simulated traffic
    Detector {
        /// Arguments for the simulation; `--help` tells which
        #[arg(last = true)]
        arguments: Vec<OsString>,
    },
    /// What it takes in the VM to make, read and keep a large IPVS table, and how soon a hard state is in it
    Table {
        /// Arguments for the measurement; `--help` tells which
        #[arg(last = true)]
        arguments: Vec<OsString>,
    },
    /// Compare in the VM how fast checkers take a failed server out, and how much they ask for that
    Failover {
        /// Arguments for the comparison; `--help` tells which
        #[arg(last = true)]
        arguments: Vec<OsString>,
    },
}

/// Measures; returns the exit status, 0 if what must be reached is.
pub(crate) fn bench(cache: &Cache, bench: &Bench) -> Result<i32> {
    match bench {
        Bench::Ebpf => Ok(i32::from(!ebpf::ebpf(cache)?)),
        Bench::Director { arguments } => director::measure(cache, arguments),
        Bench::Checks => checks::measure(cache),
        Bench::Detector { arguments } => detector::simulate(arguments),
        Bench::Table { arguments } => table::measure(cache, arguments),
        Bench::Failover { arguments } => failover::compare(cache, arguments),
    }
}
