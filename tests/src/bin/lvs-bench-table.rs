//! What it takes to make, read and keep a large IPVS table, beside what ipvsadm(8) takes for the same. Needs root and IPVS:
//! `cargo xtask bench table` runs it in the VM.
#![expect(clippy::print_stdout, reason = "a program that prints a table")]

use std::{
    io::Write as _,
    process::{Command, ExitCode, Stdio},
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, ensure};
use clap::Parser;
use lvs_agent::{
    ipvs::{
        IpvsClient, SchedulerName, Table, TableReader, Wanted, WantedDestination, WantedService, difference,
    },
    netlink::DEFAULT_TIMEOUT,
    service::{ForwardingMethod, Protocol, ServiceKey, Weight},
};
use nix::sched::{CloneFlags, unshare};

/// Measures an IPVS table of many services.
#[derive(Debug, Parser)]
struct Arguments {
    /// How many services.
    #[arg(long, default_value_t = 1000)]
    services: u16,
    /// How many servers each of them has.
    #[arg(long, default_value_t = 10)]
    servers: u8,
    /// How often each measurement is made; the shortest time counts.
    #[arg(long, default_value_t = 3)]
    rounds: u32,
}

/// How many times what ipvsadm takes for the same an application of the whole table may take.
const MOST_FOR_ALL: f64 = 1.5;
/// The same for finding nothing to do.
const MOST_FOR_NOTHING: f64 = 3.0;

fn main() -> Result<ExitCode> {
    let arguments = Arguments::parse();
    unshare(CloneFlags::CLONE_NEWNET).context("needs root: makes a network namespace")?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(measure(&arguments))
}

async fn measure(arguments: &Arguments) -> Result<ExitCode> {
    let wanted = wanted(arguments);
    let rules = rules(&wanted);
    let mut client = IpvsClient::connect(DEFAULT_TIMEOUT).await?;
    let mut reader = TableReader::new(DEFAULT_TIMEOUT);
    let (mut restore, mut apply, mut save, mut reconcile) = (longest(), longest(), longest(), longest());
    for _ in 0..arguments.rounds {
        restore = restore.min(timed(|| ipvsadm(&["-R"], &rules).map(drop))?);
        save = save.min(timed(|| ipvsadm(&["-S", "-n"], "").map(drop))?);
        let begun = Instant::now();
        let table = reader.table()?;
        let edits = difference(&table, &wanted);
        reconcile = reconcile.min(begun.elapsed());
        ensure!(edits.is_empty(), "{} edits where there is nothing to do: {}", edits.len(), edits[0]);
        ipvsadm(&["-C"], "")?;
        let begun = Instant::now();
        for edit in difference(&Table::default(), &wanted) {
            client.apply(&edit).await?;
        }
        apply = apply.min(begun.elapsed());
        ensure!(difference(&reader.table()?, &wanted).is_empty(), "the table isn't as wanted");
        ipvsadm(&["-C"], "")?;
    }
    let all = ratio("make the table", apply, "ipvsadm -R", restore, MOST_FOR_ALL);
    let nothing = ratio("find nothing to do", reconcile, "ipvsadm -Sn", save, MOST_FOR_NOTHING);
    Ok(if all && nothing { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn longest() -> Duration {
    Duration::MAX
}

/// Prints how two times stand to each other, and says whether that is good enough.
fn ratio(what: &str, time: Duration, reference: &str, of_reference: Duration, most: f64) -> bool {
    let ratio = time.as_secs_f64() / of_reference.as_secs_f64();
    println!(
        "{what:20} {time:>10.1?}   {reference} {of_reference:>10.1?}   {ratio:.2} times, at most {most}"
    );
    ratio <= most
}

fn timed(act: impl FnOnce() -> Result<()>) -> Result<Duration> {
    let begun = Instant::now();
    act()?;
    Ok(begun.elapsed())
}

/// Runs ipvsadm with that input, and gives what it prints.
fn ipvsadm(arguments: &[&str], input: &str) -> Result<String> {
    let mut child = Command::new("ipvsadm")
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .context("ipvsadm(8) is needed")?;
    child.stdin.take().context("a piped input")?.write_all(input.as_bytes())?;
    let output = child.wait_with_output()?;
    ensure!(output.status.success(), "ipvsadm {arguments:?}: {}", output.status);
    Ok(String::from_utf8(output.stdout)?)
}

/// So many services with so many servers, all of them different.
fn wanted(arguments: &Arguments) -> Wanted {
    let scheduler = SchedulerName::from(&lvs_agent::service::Scheduler::default());
    let service = |number: u16| {
        let [high, low] = number.to_be_bytes();
        let address = ([198, 18, high, low], 80).into();
        let mut service = WantedService::new(scheduler.clone());
        for server in 1..=arguments.servers {
            let wanted = WantedDestination::new(ForwardingMethod::Masquerade, Weight(1));
            service.destinations.insert(([10, high, low, server], 80).into(), wanted);
        }
        (ServiceKey::Address { protocol: Protocol::Tcp, address }, service)
    };
    Wanted { services: (0..arguments.services).map(service).collect(), ..Wanted::default() }
}

/// The same in ipvsadm's words.
fn rules(wanted: &Wanted) -> String {
    let mut lines = String::new();
    for (key, service) in &wanted.services {
        let ServiceKey::Address { address, .. } = key else { continue };
        lines += &format!("-A -t {address} -s {}\n", service.scheduler);
        for (server, destination) in &service.destinations {
            lines += &format!("-a -t {address} -r {server} -m -w {}\n", destination.weight);
        }
    }
    lines
}
