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
}

fn main() {
    let Arguments { only, long } = Arguments::parse();
    report::print(&only, long);
}
