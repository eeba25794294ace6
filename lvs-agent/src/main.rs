//! The command line: `lvs-agent run --config FILE`, `lvs-agent status`.

use std::process::ExitCode;

use clap::Parser as _;
use lvs_agent::cli::Cli;

fn main() -> ExitCode {
    lvs_agent::cli::main(&Cli::parse())
}
