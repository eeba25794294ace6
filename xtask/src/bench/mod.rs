//! `cargo xtask bench`: measurements, as tables.

mod attacks;
mod checks;
mod detector;
mod director;
mod ebpf;
mod failover;
mod harm;
mod keepalived;
mod table;
mod visitors;

use std::ffi::OsString;

use anyhow::Result;
use clap::Subcommand;

use crate::cache::Cache;
use crate::vm::kernel;

/// What is measured.
#[derive(Debug, Subcommand)]
pub(crate) enum Bench {
    /// Measure the time of one packet in the eBPF programs, against two references; needs root
    Ebpf {
        /// Arguments for the measurement; list them with `-- --help`
        #[arg(last = true)]
        arguments: Vec<OsString>,
    },
    /// Measure an IPVS director's throughput with and without the eBPF programs, in the VM
    Director {
        /// Arguments for the measurement; list them with `-- --help`
        #[arg(last = true)]
        arguments: Vec<OsString>,
    },
    /// Measure the CPU time of 10,000 TCP checks and 1,000 HTTP checks a second, and compare with keepalived in the
    /// VM
    Checks,
    /// Measure detection times and false suspicions in simulated traffic
    Detector {
        /// Arguments for the simulation; list them with `-- --help`
        #[arg(last = true)]
        arguments: Vec<OsString>,
    },
    /// Attack the agent in the VM, one way after another, while servers fail
    Attacks {
        /// Arguments for the attacks; list them with `-- --help`
        #[arg(last = true)]
        arguments: Vec<OsString>,
    },
    /// Measure how fast a large IPVS table is written, read and repaired, and a hard state applied, in the VM
    Table {
        /// Arguments for the measurement; list them with `-- --help`
        #[arg(last = true)]
        arguments: Vec<OsString>,
    },
    /// Measure what a scrape, open status pages, `top` and an idle agent cost, and what they do to decisions, in the VM
    Visitors {
        /// Arguments for the measurement; list them with `-- --help`
        #[arg(last = true)]
        arguments: Vec<OsString>,
    },
    /// Compare the agent with keepalived in the VM: how fast a failed server is out, and how many probes that takes
    Failover {
        /// Arguments for the comparison; list them with `-- --help`
        #[arg(last = true)]
        arguments: Vec<OsString>,
    },
    /// Count the clients that notice that a server has died, in the VM: with second chance, without, with keepalived
    Harm {
        /// The VM's kernel: 6.1, 5.10, 6.12 or 7.2
        #[arg(long, default_value_t = kernel::DEFAULT)]
        kernel: kernel::Line,
        /// Arguments for the count; list them with `-- --help`
        #[arg(last = true)]
        arguments: Vec<OsString>,
    },
}

/// Measures; returns the exit status, 0 if what must be reached is.
pub(crate) fn bench(cache: &Cache, bench: &Bench) -> Result<i32> {
    match bench {
        Bench::Ebpf { arguments } => Ok(i32::from(!ebpf::ebpf(cache, arguments)?)),
        Bench::Director { arguments } => director::measure(cache, arguments),
        Bench::Checks => checks::measure(cache),
        Bench::Detector { arguments } => detector::simulate(arguments),
        Bench::Attacks { arguments } => attacks::measure(cache, arguments),
        Bench::Table { arguments } => table::measure(cache, arguments),
        Bench::Visitors { arguments } => visitors::measure(cache, arguments),
        Bench::Failover { arguments } => failover::compare(cache, arguments),
        Bench::Harm { kernel, arguments } => harm::compare(cache, *kernel, arguments),
    }
}
