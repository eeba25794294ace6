//! `cargo xtask test`: everything that must hold, step by step, and one line with the sum.

mod beside;
mod durations;
mod shares;
mod steps;
mod summary;
mod tee;

use std::time::{Duration, Instant};

use anyhow::Result;

use self::steps::Session;
use self::summary::Counts;
use crate::cache::Cache;
use crate::setup::{FOR_CHECKS, FOR_TESTS, FOR_VM, TO_BUILD, ensure_all};
use crate::vm::kernel;

pub(crate) use self::steps::Step;

/// What is tested.
#[derive(Debug, Clone)]
pub(crate) struct TestOptions {
    /// Take more time: more cases for each property, and what tests do when `LVS_LONG` is set.
    pub(crate) long: bool,
    /// The VM's kernels that the eBPF programs and the scenarios are tested on.
    pub(crate) kernels: Vec<kernel::Line>,
    /// Only these steps, and the builds that they need; all if empty.
    pub(crate) only: Vec<Step>,
}

/// How a step went.
struct Report {
    name: String,
    counts: Counts,
    time: Duration,
}

/// Runs the steps and prints their sum; returns whether nothing failed.
pub(crate) fn test(cache: &Cache, options: &TestOptions) -> Result<bool> {
    let steps = steps::chosen(&options.only);
    if steps.iter().any(|step| step.needs_setup()) {
        ensure_all(cache, &[TO_BUILD, FOR_VM, FOR_TESTS].concat())?;
    }
    if steps.contains(&Step::Checks) {
        ensure_all(cache, FOR_CHECKS)?;
    }
    let mut session = Session::new(cache, options)?;
    let mut reports = Vec::new();
    let has_package = steps.contains(&Step::Package);
    for step in steps {
        if has_package && step == Step::KernelSide {
            session.begin_package();
        }
        for (name, run) in session.runs_of(step) {
            println!("\n== {name}");
            let start = Instant::now();
            let counts = session.perform(run).unwrap_or_else(|error| {
                println!("{name}: {error:#}");
                Counts::one(false)
            });
            reports.push(Report { name, counts, time: start.elapsed() });
        }
    }
    Ok(conclude(&reports))
}

/// Prints a line for each step and, alone on the last line, the sum.
fn conclude(reports: &[Report]) -> bool {
    println!();
    for Report { name, counts, time } in reports {
        println!("{name:24} {:6.1} s  {counts}", time.as_secs_f64());
    }
    let sum: Counts = reports.iter().map(|report| report.counts).sum();
    println!("{sum}");
    sum.failed == 0
}
