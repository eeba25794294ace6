//! What baseline checks cost, beside keepalived. `cargo xtask bench checks` runs it in a VM.

use std::process::ExitCode;

use clap::Parser;
use lvs_tests::{
    bench::checks::{CheckCostOptions, compare},
    exit_code,
};

/// Measures the processor time that checks take, the agent's and keepalived's
#[derive(Debug, Parser)]
struct Arguments {
    #[command(flatten)]
    options: CheckCostOptions,
}

fn main() -> ExitCode {
    exit_code(compare(&Arguments::parse().options))
}
