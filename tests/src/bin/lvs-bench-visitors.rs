//! What visitors of the metrics' port cost the agent. `cargo xtask bench visitors` runs it in a VM.

use std::process::ExitCode;

use clap::Parser;
use lvs_tests::{
    bench::visitors::{VisitorOptions, measure},
    exit_code,
};

/// Measures how long a scrape takes with many servers, and what open status pages take of a processor
#[derive(Debug, Parser)]
struct Arguments {
    #[command(flatten)]
    options: VisitorOptions,
}

fn main() -> ExitCode {
    exit_code(measure(&Arguments::parse().options))
}
