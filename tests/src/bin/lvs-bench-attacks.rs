//! Attacks the agent while servers fail. `cargo xtask bench attacks` runs it in a VM.

use std::process::ExitCode;

use clap::Parser;
use lvs_tests::{
    bench::attacks::{AttackOptions, attack},
    exit_code,
};

/// Attacks the agent in one way after another while servers fail: how soon these are out, and what it costs
#[derive(Debug, Parser)]
struct Arguments {
    #[command(flatten)]
    options: AttackOptions,
}

fn main() -> ExitCode {
    exit_code(attack(&Arguments::parse().options))
}
