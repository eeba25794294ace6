//! The demonstration: a server fails under load, the table changes, and clients go on.

use std::{
    fmt::Write as _,
    fs,
    io::{self, Write as _},
    path::PathBuf,
    time::Duration,
};

use anyhow::{Context as _, Result, bail};
use serde::Serialize;

use crate::{
    lab::{
        clients::requests::{Summary, achieved_rate},
        director::table_watcher::changes,
        faults::Fault,
        layout::Method,
    },
    testbed::{
        Setup, TableTexts, Testbed,
        failover::{Failover, Milestones},
        timeline::Timeline,
    },
};

/// What the demonstration does
#[derive(Clone, Debug, clap::Args)]
pub struct DemoOptions {
    /// Show only this failure
    #[arg(long, value_enum)]
    pub only: Option<Show>,
    /// New connections a second
    #[arg(long, default_value_t = 100.0)]
    pub rate: f64,
    /// Seconds of healthy traffic before the fault, without any edit of the table
    #[arg(long, default_value_t = 3, value_name = "SECONDS")]
    pub healthy: u64,
    /// Seconds to watch after the edit
    #[arg(long, default_value_t = 3, value_name = "SECONDS")]
    pub after: u64,
    /// How often each failure is repeated, each time in a new lab
    #[arg(long, default_value_t = 1)]
    pub runs: u32,
    /// Write the times of all runs to this file
    #[arg(long, value_name = "FILE")]
    pub json: Option<PathBuf>,
}

/// A failure to show.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, clap::ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub enum Show {
    /// Masquerade: a server's process is killed
    Masquerade,
    /// Direct route: a server loses its link
    DirectRoute,
}

impl Show {
    const ALL: [Self; 2] = [Self::Masquerade, Self::DirectRoute];

    fn method(self) -> Method {
        match self {
            Self::Masquerade => Method::Masquerade,
            Self::DirectRoute => Method::DirectRoute,
        }
    }

    fn fault(self) -> Fault {
        match self {
            Self::Masquerade => Fault::ProcessKilled,
            Self::DirectRoute => Fault::LinkDown,
        }
    }
}

/// The outcome of one run.
#[derive(Clone, Debug, Serialize)]
pub struct Run {
    /// What was shown.
    pub show: Show,
    /// The server that failed.
    pub server: String,
    /// New connections a second, as they were.
    pub rate: f64,
    /// Seconds of healthy traffic before the fault.
    pub healthy_seconds: f64,
    /// Changes of the kernel's table in that time: none, if all is well.
    pub healthy_edits: usize,
    /// The times that matter, in ms since the fault.
    pub milestones: Milestones,
    /// What the clients saw before the fault.
    pub before: Summary,
    /// What the clients saw between fault and edit.
    pub during: Summary,
    /// What the clients saw after the edit.
    pub after: Summary,
    /// What was not as it should be.
    pub violations: Vec<String>,
}

/// Shows everything asked for. An error if anything was not as it should be.
pub fn demonstrate(options: &DemoOptions) -> Result<()> {
    let mut runs = Vec::new();
    for show in Show::ALL.into_iter().filter(|show| options.only.is_none_or(|only| only == *show)) {
        for number in 0..options.runs {
            print(&format!(
                "\n== {}: {}, run {} of {}",
                show.method(),
                show.fault(),
                number + 1,
                options.runs
            ))?;
            runs.push(one_run(options, show, number as usize)?);
        }
    }
    print(&summary_of(&runs))?;
    if let Some(path) = &options.json {
        let text = serde_json::to_string_pretty(&runs)?;
        fs::write(path, text).with_context(|| format!("cannot write {}", path.display()))?;
    }
    let bad = runs.iter().filter(|run| !run.violations.is_empty()).count();
    if bad > 0 {
        bail!("{bad} of {} runs were not as they should be", runs.len());
    }
    Ok(())
}

fn one_run(options: &DemoOptions, show: Show, number: usize) -> Result<Run> {
    let mut testbed = Testbed::start(&Setup::new(show.method()).rate(options.rate))?;
    print("agent ready, every server is in the table and serves")?;
    testbed.run_for(Duration::from_secs(options.healthy))?;
    let faulty = number % testbed.lab.servers.len();
    let (failover, texts) = testbed.failover(show.fault(), faulty, Duration::from_secs(options.after))?;
    let run = assess(show, &failover);
    print(&report(&run, &failover, &texts))?;
    if !run.violations.is_empty() {
        print(&testbed.diagnosis())?;
    }
    Ok(run)
}

fn assess(show: Show, failover: &Failover) -> Run {
    let early = |at| at >= failover.healthy_since && at < failover.fault;
    Run {
        show,
        server: failover.faulty.name.clone(),
        rate: achieved_rate(&failover.requests),
        healthy_seconds: failover.fault.since(failover.healthy_since).as_secs_f64(),
        healthy_edits: changes(&failover.table).iter().filter(|change| early(change.at)).count(),
        milestones: failover.milestones(),
        before: failover.before(),
        during: failover.during(),
        after: failover.after(),
        violations: failover.violations(),
    }
}

fn report(run: &Run, failover: &Failover, texts: &TableTexts) -> String {
    let Run { healthy_seconds, healthy_edits, rate, before, during, after, .. } = run;
    let verdict = if run.violations.is_empty() {
        format!("as it should be: only {} was taken out, and it came back", run.server)
    } else {
        format!("NOT as it should be:\n  {}", run.violations.join("\n  "))
    };
    format!(
        "{timeline}\n\
         healthy for {healthy_seconds:.1} s at {rate:.0} new connections a second: {healthy_edits} edits\n\
         clients before the fault:       {before}\n\
         clients from fault to edit:     {during}\n\
         clients after the edit:         {after}\n\
         \ntable before the fault:\n{}\ntable after the edit:\n{}\n{verdict}",
        texts.before,
        texts.after,
        timeline = Timeline::of(failover, &run.show.fault().to_string()),
    )
}

fn summary_of(runs: &[Run]) -> String {
    let mut text = String::from("\n== from the fault to the kernel's table, ms");
    for show in Show::ALL {
        let times = runs.iter().filter(|run| run.show == show).filter_map(|run| run.milestones.table);
        if let Some([least, median, most]) = spread(times.collect()) {
            let (method, fault) = (show.method(), show.fault());
            // Writing to a string can't fail.
            write!(text, "\n{method}, {fault}: min {least:.1}, median {median:.1}, max {most:.1}")
                .unwrap_or_default();
        }
    }
    text
}

/// Least, median (the lower one of two) and greatest; `None` of none.
fn spread(mut values: Vec<f64>) -> Option<[f64; 3]> {
    values.sort_by(f64::total_cmp);
    let median = values.get(values.len().saturating_sub(1) / 2)?;
    Some([*values.first()?, *median, *values.last()?])
}

fn print(words: &str) -> Result<()> {
    Ok(writeln!(io::stdout(), "{words}")?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testbed::failover::tests::good;

    #[test]
    fn the_spread_of_times() {
        for (values, expected) in [
            (vec![], None),
            (vec![5.0], Some([5.0, 5.0, 5.0])),
            (vec![9.0, 1.0], Some([1.0, 1.0, 9.0])),
            (vec![9.0, 1.0, 3.0], Some([1.0, 3.0, 9.0])),
        ] {
            assert_eq!(spread(values), expected);
        }
    }

    #[test]
    fn the_report_has_times_clients_tables_and_the_verdict() {
        let texts = TableTexts { before: "OLD".to_owned(), after: "NEW".to_owned() };
        let mut failover = good();
        let run = assess(Show::Masquerade, &failover);
        let text = report(&run, &failover, &texts);
        for words in
            ["strong suspicion", "2 failed: 2 refused", "OLD", "NEW", "0 edits", "only rs1 was taken out"]
        {
            assert!(text.contains(words), "{words} is missing in:\n{text}");
        }
        failover.table.truncate(1);
        let text = report(&assess(Show::Masquerade, &failover), &failover, &texts);
        assert!(text.contains("NOT as it should be:\n  rs1 was never taken out"), "{text}");
    }
}
