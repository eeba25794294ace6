//! What a large IPVS table costs, beside ipvsadm. `cargo xtask bench table` runs it in a VM.

use std::process::ExitCode;

use clap::Parser;
use lvs_tests::{
    bench::table::{TableCostOptions, measure},
    exit_code,
};

/// Measures how long it takes to make a large table, to find nothing to do, and to act on a hard state
#[derive(Debug, Parser)]
struct Arguments {
    #[command(flatten)]
    options: TableCostOptions,
}

fn main() -> ExitCode {
    exit_code(measure(&Arguments::parse().options))
}
