//! Prints how soon the detector finds faults, and how often it finds none, in simulated traffic.

use std::process::ExitCode;

use clap::Parser;
use lvs_tests::simulation::report::{self, Simulated, Table};

/// Simulate the detector and print what it finds
#[derive(Debug, Parser)]
struct Arguments {
    /// Only this table; may be given several times
    #[arg(long)]
    only: Vec<Table>,
    /// Take half an hour and more
    #[arg(long, conflicts_with = "hours")]
    long: bool,
    /// Simulate each row of healthy servers for so many hours
    #[arg(long)]
    hours: Option<f64>,
    /// Where the random numbers begin; without it, the seed of the published report
    #[arg(long, default_value_t = report::SEED)]
    seed: u64,
    /// Only rows with this in the name of the fault or the traffic
    #[arg(long, default_value = "")]
    row: String,
}

fn main() -> ExitCode {
    let Arguments { only, long, hours, seed, row } = Arguments::parse();
    let usual = if long { Simulated::Long } else { Simulated::AsNeeded };
    let simulated = hours.map_or(usual, Simulated::Hours);
    if report::print(&only, simulated, seed, &row) { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
