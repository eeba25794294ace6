//! What one packet costs: the eBPF programs by `BPF_PROG_TEST_RUN`, against two references in the same run. Needs root
//! and the object files that `LVS_EBPF_OBJECT` and `LVS_REFERENCE_OBJECT` name (`cargo xtask bench ebpf` sets them).
#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a benchmark: the panic is the message"
)]
#![expect(clippy::print_stdout, reason = "the report is the output")]

mod cases;
mod measure;
mod programs;

use std::process::ExitCode;

use clap::Parser;

use crate::{
    cases::{Against, Case, cases},
    measure::{ROUNDS, RUNS, Times},
    programs::Programs,
};

/// What is measured
#[derive(Debug, Parser)]
struct Arguments {
    /// Only packets whose name has these words, and what they are compared with
    #[arg(long)]
    only: Option<String>,
    /// How often each is measured; where a clock counts instructions once is enough
    #[arg(long, default_value_t = ROUNDS)]
    rounds: usize,
    /// What cargo adds
    #[arg(long, hide = true)]
    bench: bool,
}

fn main() -> ExitCode {
    let Arguments { only, rounds, .. } = Arguments::parse();
    let mut programs = Programs::load();
    let cases = chosen(cases(), only.as_deref());
    let mut times = vec![Times::default(); cases.len()];
    // Interleaved, so that what else the machine does meets all of them alike.
    for _ in 0..rounds {
        for (case, times) in cases.iter().zip(&mut times) {
            times.add(case.measure(&mut programs));
        }
    }
    println!("{rounds} rounds of {RUNS} runs each (new SYNs: as many single runs, all packets different)\n");
    println!("{:46} {:>8} {:>15} {:>7} {:>6}", "packet", "ns", "lowest-highest", "ratio", "limit");
    let mut kept = true;
    for (case, own) in cases.iter().zip(&times) {
        let to = cases.iter().position(|other| Some(other.name) == case.against.map(Against::name));
        let ratio = to.map(|index| own.median() / times[index].median());
        let limit = case.against.and_then(|against| against.limit);
        kept &= limit.zip(ratio).is_none_or(|(limit, ratio)| ratio <= limit);
        println!(
            "{:46} {:8.1} {:>15} {:>7} {:>6}",
            case.name,
            own.median(),
            format!("{:.1}-{:.1}", own.lowest(), own.highest()),
            ratio.map_or_else(String::new, |ratio| format!("{ratio:.2}")),
            limit.map_or_else(String::new, |limit| format!("{limit:.1}")),
        );
    }
    println!("\n{:20} {:>12} {:>12} {:>10}", "program", "instructions", "bytes (JIT)", "verified");
    for (name, sizes) in programs.sizes() {
        println!("{name:20} {:12} {:12} {:10}", sizes.instructions, sizes.machine_code, sizes.verified);
    }
    println!("\n{}", if kept { "All limits are kept." } else { "A limit is exceeded." });
    if kept { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// Those whose names have these words, and what they are compared with.
fn chosen(cases: Vec<Case>, words: Option<&str>) -> Vec<Case> {
    let Some(words) = words else { return cases };
    let mut names: Vec<&str> =
        cases.iter().map(|case| case.name).filter(|name| name.contains(words)).collect();
    let of = |name: &str| cases.iter().find(|case| case.name == name)?.against.map(Against::name);
    let mut next = 0;
    while let Some(name) = names.get(next) {
        names.extend(of(name));
        next += 1;
    }
    cases.into_iter().filter(|case| names.contains(&case.name)).collect()
}
