//! What visitors of the metrics' port cost the agent. `cargo xtask bench visitors` runs it in a VM.

use std::process::ExitCode;

use clap::Parser;
use lvs_tests::{
    bench::visitors::{VisitorOptions, measure},
    exit_code,
};

/// Measures what those cost who look at the agent, and whether decisions come later while they are there
#[derive(Debug, Parser)]
struct Arguments {
    #[command(flatten)]
    options: VisitorOptions,
}

fn main() -> ExitCode {
    exit_code(measure(&Arguments::parse().options))
}
