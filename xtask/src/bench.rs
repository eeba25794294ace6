//! `cargo xtask bench`: reports of what things cost and how well they work.

use std::ffi::OsString;

use anyhow::{Result, ensure};
use clap::Subcommand;

use crate::process;

/// What is measured.
#[derive(Debug, Subcommand)]
pub(crate) enum Bench {
    /// How soon the detector finds faults, and how often it finds none, in simulated traffic
    Detector {
        /// Arguments for the simulation; `--help` tells which
        #[arg(last = true)]
        arguments: Vec<OsString>,
    },
}

/// Measures and prints.
pub(crate) fn bench(what: &Bench) -> Result<()> {
    match what {
        Bench::Detector { arguments } => detector(arguments),
    }
}

fn detector(arguments: &[OsString]) -> Result<()> {
    let mut cargo = process::cargo();
    cargo.args([
        "run",
        "--release",
        "--quiet",
        "--package",
        "lvs-tests",
        "--bin",
        "lvs-bench-detector",
        "--",
    ]);
    let status = process::status(cargo.args(arguments))?;
    ensure!(status.success(), "the simulation of the detector has failed");
    Ok(())
}
