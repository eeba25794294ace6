//! Compares how fast checkers take a failed server out of the table. `cargo xtask bench failover` runs it in a VM.

use std::process::ExitCode;

use clap::Parser;
use lvs_tests::{
    bench::failover::{FailoverOptions, compare},
    exit_code,
};

/// Compares how fast checkers take a failed server out of the kernel's IPVS table, and how much they ask for that
#[derive(Debug, Parser)]
struct Arguments {
    #[command(flatten)]
    options: FailoverOptions,
}

fn main() -> ExitCode {
    exit_code(compare(&Arguments::parse().options).map(|()| true))
}
