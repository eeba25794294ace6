//! Prints how soon the detector finds faults, and how often it finds none, in simulated traffic.

use clap::Parser;
use lvs_tests::simulation::report::{self, Table};

/// Simulate the detector and print what it finds
#[derive(Debug, Parser)]
struct Arguments {
    /// Only this table; may be given several times
    #[arg(long)]
    only: Vec<Table>,
    /// Take half an hour and more
    #[arg(long)]
    long: bool,
    /// Where the random numbers begin; without it, the seed of the published report
    #[arg(long, default_value_t = report::SEED)]
    seed: u64,
    /// Only rows with this in the name of the fault or the traffic
    #[arg(long, default_value = "")]
    row: String,
}

fn main() {
    let Arguments { only, long, seed, row } = Arguments::parse();
    report::print(&only, long, seed, &row);
}
