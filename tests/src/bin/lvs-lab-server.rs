//! A real server of the lab: a small HTTP server that answers with its name.

use clap::Parser;
use lvs_tests::lab::servers::program::{ServeOptions, serve};

/// A real server of the lab: answers every GET with its own name
#[derive(Debug, Parser)]
struct Arguments {
    #[command(flatten)]
    options: ServeOptions,
}

fn main() -> anyhow::Result<()> {
    serve(&Arguments::parse().options)
}
