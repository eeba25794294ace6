//! A crowd of the lab: connections that say nothing, or that all ask at once.

use clap::Parser;
use lvs_tests::lab::crowd::{CrowdOptions, crowd};

/// A crowd of the lab: connections that say nothing, or that all ask at once
#[derive(Debug, Parser)]
struct Arguments {
    #[command(flatten)]
    options: CrowdOptions,
}

fn main() -> anyhow::Result<()> {
    crowd(Arguments::parse().options)
}
