//! `cargo xtask bench`: measurements, as tables.

mod detector;
mod failover;

use std::ffi::OsString;

use anyhow::Result;
use clap::Subcommand;

use crate::cache::Cache;

/// What is measured.
#[derive(Debug, Subcommand)]
pub(crate) enum Bench {
    /// How soon the detector finds faults, and how often it finds none, in simulated traffic
    Detector {
        /// Arguments for the simulation; `--help` tells which
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

/// Measures; returns the exit status.
pub(crate) fn bench(cache: &Cache, bench: &Bench) -> Result<i32> {
    match bench {
        Bench::Detector { arguments } => detector::simulate(arguments),
        Bench::Failover { arguments } => failover::compare(cache, arguments),
    }
}
