//! Counts the clients that notice that a server has died. `cargo xtask bench harm` runs it in a VM.

use std::process::ExitCode;

use clap::Parser;
use lvs_tests::{
    bench::harm::{HarmOptions, compare},
    exit_code,
};

/// Counts the clients that notice that a server has died: with second chance, without, and with keepalived. The exit
/// code is 0 only if with second chance nobody does
#[derive(Debug, Parser)]
struct Arguments {
    #[command(flatten)]
    options: HarmOptions,
}

fn main() -> ExitCode {
    exit_code(compare(&Arguments::parse().options))
}
