//! What it takes to make, read and keep a large IPVS table, beside what ipvsadm(8) takes for the same, and how soon a
//! hard state is in it. `cargo xtask bench table` runs it in a VM.

mod delay;

use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use lvs_agent::{
    ipvs::{
        SchedulerName, Table, TableEditor, TableReader, Wanted, WantedDestination, WantedService, difference,
    },
    model::{ForwardingMethod, Protocol, Scheduler, ServiceKey, Weight},
    netlink::DEFAULT_TIMEOUT,
};

use crate::{
    lab::{director::prepare_ipvs, namespace::Namespace, process},
    say,
};

/// How many times what `ipvsadm -R` takes for the same an application of the whole table may take.
const MOST_FOR_ALL: f64 = 1.5;
/// How many times what `ipvsadm -Sn` takes it may take to find nothing to do.
const MOST_FOR_NOTHING: f64 = 3.0;

/// What is measured
#[derive(Clone, Debug, clap::Args)]
pub struct TableCostOptions {
    /// How many services
    #[arg(long, default_value_t = 1000, value_parser = clap::value_parser!(u16).range(1..))]
    pub services: u16,
    /// How many servers each of them has
    #[arg(long, default_value_t = 10, value_parser = clap::value_parser!(u8).range(1..))]
    pub servers: u8,
    /// How often table and ipvsadm are measured, in turn; the medians are compared
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u16).range(1..))]
    pub rounds: u16,
    /// How many hard states are timed; 0: none
    #[arg(long, default_value_t = 200)]
    pub states: u16,
}

/// Measures, prints a table, and returns whether all of it is as fast as it must be.
pub fn measure(options: &TableCostOptions) -> Result<bool> {
    let director = Namespace::create("director")?;
    prepare_ipvs(&director)?;
    // Without any device that is up a namespace has no unicast addresses, and IPVS takes no servers.
    process::run(&director, &["ip", "link", "set", "lo", "up"], "")?;
    say(&format!("{} services with {} servers each:", options.services, options.servers));
    let as_fast = beside_ipvsadm(&director, options)?;
    let in_time = options.states == 0 || delay::measure(&director, options)?;
    Ok(as_fast && in_time)
}

/// The times of all rounds.
#[derive(Default)]
struct Times {
    restore: Vec<Duration>,
    apply: Vec<Duration>,
    save: Vec<Duration>,
    reconcile: Vec<Duration>,
}

fn beside_ipvsadm(director: &Namespace, options: &TableCostOptions) -> Result<bool> {
    let wanted = wanted(options);
    let rules = rules(&wanted);
    let mut times = Times::default();
    for _ in 0..options.rounds {
        times.restore.push(timed(|| ipvsadm(director, &["-R"], &rules))?);
        times.save.push(timed(|| ipvsadm(director, &["-S", "-n"], ""))?);
        times.reconcile.push(director.run(|| reconcile(&wanted))?);
        ipvsadm(director, &["-C"], "")?;
        times.apply.push(director.run(|| apply(&wanted))?);
        ipvsadm(director, &["-C"], "")?;
    }
    let Times { restore, apply, save, reconcile } = times;
    let all = ratio("make the table", apply, "ipvsadm -R", restore, MOST_FOR_ALL);
    let nothing = ratio("find nothing to do", reconcile, "ipvsadm -Sn", save, MOST_FOR_NOTHING);
    Ok(all && nothing)
}

/// Finds out that there is nothing to do.
fn reconcile(wanted: &Wanted) -> Result<Duration> {
    let begun = Instant::now();
    let table = TableReader::new(DEFAULT_TIMEOUT).table()?;
    let edits = difference(&table, wanted);
    let took = begun.elapsed();
    ensure!(edits.is_empty(), "{} edits where there is nothing to do, the first: {}", edits.len(), edits[0]);
    Ok(took)
}

/// Makes the whole table out of nothing.
fn apply(wanted: &Wanted) -> Result<Duration> {
    let begun = Instant::now();
    let mut editor = TableEditor::new(DEFAULT_TIMEOUT);
    for edit in difference(&Table::default(), wanted) {
        editor.apply(&edit)?;
    }
    let took = begun.elapsed();
    reconcile(wanted)?;
    Ok(took)
}

fn timed(act: impl FnOnce() -> Result<String>) -> Result<Duration> {
    let begun = Instant::now();
    act()?;
    Ok(begun.elapsed())
}

/// Prints how two times stand to each other, and returns whether that is good enough.
fn ratio(what: &str, own: Vec<Duration>, reference: &str, others: Vec<Duration>, most: f64) -> bool {
    let (own, others) = (Spread::of(own), Spread::of(others));
    let ratio = own.median.as_secs_f64() / others.median.as_secs_f64();
    let words = if ratio <= most { "" } else { ": TOO SLOW" };
    say(&format!("{what}: {own}; {reference}: {others}; {ratio:.2} times that, at most {most}{words}"));
    ratio <= most
}

/// The median of some times, and the shortest and longest.
struct Spread {
    least: Duration,
    median: Duration,
    most: Duration,
}

impl Spread {
    /// Of at least one.
    fn of(mut times: Vec<Duration>) -> Self {
        times.sort_unstable();
        let at = |index: usize| times.get(index).copied().unwrap_or_default();
        Self { least: at(0), median: at(times.len() / 2), most: at(times.len().saturating_sub(1)) }
    }
}

impl std::fmt::Display for Spread {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { least, median, most } = self;
        write!(f, "{median:.1?} ({least:.1?} to {most:.1?})")
    }
}

fn ipvsadm(director: &Namespace, arguments: &[&str], input: &str) -> Result<String> {
    process::run(director, &[&["ipvsadm"], arguments].concat(), input)
}

/// So many services with so many servers, all of them different.
fn wanted(options: &TableCostOptions) -> Wanted {
    let service = |number: u16| {
        let [high, low] = number.to_be_bytes();
        let mut service = WantedService::new(SchedulerName::from(&Scheduler::default()));
        for server in 1..=options.servers {
            let wanted = WantedDestination::new(ForwardingMethod::Masquerade, Weight(1));
            service.destinations.insert(([10, high, low, server], 80).into(), wanted);
        }
        let address = ([198, 18, high, low], 80).into();
        (ServiceKey::Address { protocol: Protocol::Tcp, address }, service)
    };
    Wanted { services: (0..options.services).map(service).collect(), ..Wanted::default() }
}

/// The same in ipvsadm's words.
fn rules(wanted: &Wanted) -> String {
    let of_service = |(key, service): (&ServiceKey, &WantedService)| {
        let ServiceKey::Address { address, .. } = *key else { return vec![] };
        let add = format!("-A -t {address} -s {}\n", service.scheduler);
        let servers = service.destinations.iter().map(|(server, destination)| {
            format!("-a -t {address} -r {server} -m -w {}\n", destination.weight.0)
        });
        std::iter::once(add).chain(servers).collect()
    };
    wanted.services.iter().flat_map(of_service).collect()
}
