//! The demonstration: a server fails under load, the table changes, and clients go on.

mod directors;

use std::{
    fmt::{self, Write as _},
    fs,
    io::{self, Write as _},
    path::PathBuf,
    time::Duration,
};

use anyhow::{Context as _, Result, bail};
use serde::Serialize;

use crate::{
    lab::{
        clients::requests::{Request, Summary, achieved_rate},
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
    /// Show each failure twice, first without and then with a second chance for connections that have just begun, and
    /// both side by side as the clients saw it
    #[arg(long)]
    pub second_chance: bool,
    /// Show instead how one director takes over from another: two with keepalived, a server that dies, and a second
    /// later the power of the active director that fails
    #[arg(long, conflicts_with_all = ["only", "second_chance", "rate", "healthy", "after", "json"])]
    pub directors: bool,
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

/// What became of the requests whose connection was not there yet when the server failed, or that were begun before it
/// was out.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct Begun {
    /// How many there were.
    pub requests: usize,
    /// How many failed.
    pub failed: usize,
    /// How many were late.
    pub late: usize,
    /// How long the slowest took, in ms.
    pub slowest_ms: f64,
}

impl Begun {
    fn of(failover: &Failover) -> Self {
        let out = failover.table_out().unwrap_or(failover.watched_until);
        let mut begun = Self::default();
        let begun_by = |request: &&Request| request.had_no_connection(failover.fault, out);
        for request in failover.requests.iter().filter(begun_by) {
            begun.requests += 1;
            begun.failed += usize::from(!request.outcome.is_success());
            begun.late += usize::from(request.is_late());
            begun.slowest_ms = begun.slowest_ms.max(request.ended.ms_after(request.started));
        }
        begun
    }
}

impl fmt::Display for Begun {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { requests, failed, late, slowest_ms } = self;
        write!(f, "{failed} failed, {late} late of {requests}, slowest {slowest_ms:.0} ms")
    }
}

/// The outcome of one run.
#[derive(Clone, Debug, Serialize)]
pub struct Run {
    /// What was shown.
    pub show: Show,
    /// Whether connections that had just begun got a second chance.
    pub second_chance: bool,
    /// What clients saw whose connection was not there yet when the server failed.
    pub begun: Begun,
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
    if options.directors {
        return directors::demonstrate(options.runs);
    }
    let mut runs = Vec::new();
    let chances: &[bool] = if options.second_chance { &[false, true] } else { &[false] };
    for show in Show::ALL.into_iter().filter(|show| options.only.is_none_or(|only| only == *show)) {
        for number in 0..options.runs {
            for &second_chance in chances {
                print(&format!(
                    "\n== {}: {}{}, run {} of {}",
                    show.method(),
                    show.fault(),
                    if second_chance { ", second chance" } else { "" },
                    number + 1,
                    options.runs
                ))?;
                runs.push(one_run(options, show, second_chance, number as usize)?);
            }
        }
    }
    print(&summary_of(&runs))?;
    if options.second_chance {
        print(&side_by_side(&runs))?;
    }
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

fn one_run(options: &DemoOptions, show: Show, second_chance: bool, number: usize) -> Result<Run> {
    let mut setup = Setup::new(show.method()).rate(options.rate);
    if second_chance {
        setup.config = setup.config.second_chance();
    }
    let mut testbed = Testbed::start(&setup)?;
    print("agent ready, every server is in the table and serves")?;
    testbed.run_for(Duration::from_secs(options.healthy))?;
    let faulty = number % testbed.lab.servers.len();
    let (failover, texts) = testbed.failover(show.fault(), faulty, Duration::from_secs(options.after))?;
    let run = assess(show, second_chance, &failover);
    print(&report(&run, &failover, &texts))?;
    if !run.violations.is_empty() {
        print(&testbed.diagnosis())?;
    }
    Ok(run)
}

fn assess(show: Show, second_chance: bool, failover: &Failover) -> Run {
    let early = |at| at >= failover.healthy_since && at < failover.fault;
    Run {
        show,
        second_chance,
        begun: Begun::of(failover),
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

/// Both as the clients saw it whose connection was not there yet when the server failed.
fn side_by_side(runs: &[Run]) -> String {
    let mut text = String::from(
        "\n== requests under way without a connection when the server failed, or begun before it was out\n\
         failure                                 without second chance            with",
    );
    for show in Show::ALL {
        let of = |second_chance| {
            let chosen = runs.iter().filter(|run| run.show == show && run.second_chance == second_chance);
            chosen.map(|run| run.begun.to_string()).collect::<Vec<_>>()
        };
        for (without, with) in of(false).iter().zip(of(true)) {
            let what = format!("{}, {}", show.method(), show.fault());
            // Writing to a string can't fail.
            write!(text, "\n{what:38}  {without:31}  {with}").unwrap_or_default();
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
        let run = assess(Show::Masquerade, false, &failover);
        assert_eq!(run.begun.to_string(), "2 failed, 0 late of 3, slowest 2 ms");
        let text = report(&run, &failover, &texts);
        for words in
            ["strong suspicion", "2 failed: 2 refused", "OLD", "NEW", "0 edits", "only rs1 was taken out"]
        {
            assert!(text.contains(words), "{words} is missing in:\n{text}");
        }
        failover.table.truncate(1);
        let text = report(&assess(Show::Masquerade, false, &failover), &failover, &texts);
        assert!(text.contains("NOT as it should be:\n  rs1 was never taken out"), "{text}");
    }
}
