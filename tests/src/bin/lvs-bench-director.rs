//! What the eBPF programs cost an IPVS director in throughput. `cargo xtask bench director` runs it in a VM.

use std::process::ExitCode;

use clap::Parser;
use lvs_tests::{
    bench::director::{ThroughputOptions, compare},
    exit_code,
};

/// Measures the throughput of an IPVS director with the eBPF programs attached and without
#[derive(Debug, Parser)]
struct Arguments {
    #[command(flatten)]
    options: ThroughputOptions,
}

fn main() -> ExitCode {
    exit_code(compare(&Arguments::parse().options))
}
