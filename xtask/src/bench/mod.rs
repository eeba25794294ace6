//! `cargo xtask bench`: what things cost, measured and printed.

mod ebpf;

use anyhow::Result;
use clap::Subcommand;

use crate::cache::Cache;

/// What is measured.
#[derive(Debug, Subcommand)]
pub(crate) enum Bench {
    /// What one packet costs in the eBPF programs, against two references; needs root
    Ebpf,
}

/// Measures, prints a report, and returns whether everything that must be reached is.
pub(crate) fn bench(cache: &Cache, what: &Bench) -> Result<bool> {
    match what {
        Bench::Ebpf => ebpf::ebpf(cache),
    }
}
