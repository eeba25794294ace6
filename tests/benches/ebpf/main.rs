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

use crate::{
    cases::{Against, cases},
    measure::{ROUNDS, RUNS, Times},
    programs::Programs,
};

fn main() -> ExitCode {
    let mut programs = Programs::load();
    let cases = cases();
    let mut times = vec![Times::default(); cases.len()];
    // Interleaved, so that what else the machine does meets all of them alike.
    for _ in 0..ROUNDS {
        for (case, times) in cases.iter().zip(&mut times) {
            times.add(case.measure(&mut programs));
        }
    }
    println!("{ROUNDS} rounds of {RUNS} runs each (new SYNs: as many single runs, all packets different)\n");
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
