//! What those who look at the agent cost it: how long a scrape takes with many servers, what open status pages, `top`
//! and `status --watch` take of a processor, and whether decisions come later while they are there. Beside that, what
//! an agent costs at whom nobody looks. `cargo xtask bench visitors` runs it in a VM.

mod crowd;
mod latency;

use std::{
    fmt::Write as _,
    fs,
    net::TcpListener,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result};

use self::crowd::{Pages, Watchers};
use crate::{
    lab::{
        agent::{Agent, config::METRICS, metric},
        director::prepare_ipvs,
        namespace::Namespace,
        process, wait,
    },
    say,
};

/// What a scrape may take.
const SCRAPE: Duration = Duration::from_millis(30);
/// What open pages, `top` and `status --watch` may take of a processor in the agent altogether.
const WATCHED: f64 = 0.03;
/// What an agent may take of a processor at whom nobody looks, and of memory.
const IDLE: f64 = 0.01;
const IDLE_MIB: f64 = 30.0;
/// How many servers it has then.
const IDLE_SERVERS: u16 = 100;
/// How long the agent may take until it has an answer of every server.
const START: Duration = Duration::from_mins(5);
/// Servers of each service.
const EACH: u16 = 10;

/// What is measured
#[derive(Clone, Debug, clap::Args)]
pub struct VisitorOptions {
    /// How many servers
    #[arg(long, default_value_t = 1000, value_parser = clap::value_parser!(u16).range(1..=10_000))]
    pub servers: u16,
    /// How many status pages are open
    #[arg(long, default_value_t = 10, value_parser = clap::value_parser!(u8).range(1..=12))]
    pub pages: u8,
    /// How often the metrics are scraped, to see how long it takes
    #[arg(long, default_value_t = 50, value_parser = clap::value_parser!(u16).range(1..))]
    pub scrapes: u16,
    /// For how long the processor's time is measured, in seconds, with and without visitors in turn
    #[arg(long, default_value_t = 20, value_parser = clap::value_parser!(u16).range(1..))]
    pub seconds: u16,
    /// How often that is
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u16).range(1..))]
    pub rounds: u16,
    /// How many hard states are timed in each round with and in each without visitors
    #[arg(long, default_value_t = 40, value_parser = clap::value_parser!(u16).range(2..))]
    pub states: u16,
    /// Only these: scrapes, watched, idle or latency; may be given several times
    #[arg(long)]
    pub only: Vec<Part>,
}

/// A part of the measurement.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Part {
    /// How long a scrape takes.
    Scrapes,
    /// What pages, `top` and `status --watch` cost.
    Watched,
    /// What an agent costs at whom nobody looks.
    Idle,
    /// How soon decisions are in the table.
    Latency,
}

/// Measures, prints, and returns whether all of it is within its limits.
pub fn measure(options: &VisitorOptions) -> Result<bool> {
    let director = Namespace::create("director")?;
    prepare_ipvs(&director)?;
    for command in [
        &["ip", "link", "set", "lo", "up"][..],
        // All of these addresses are this machine's, so that one listener answers for all servers.
        &["ip", "route", "add", "local", "10.9.0.0/16", "dev", "lo"],
    ] {
        process::run(&director, command, "")?;
    }
    let listener = director.run(|| Ok(TcpListener::bind("0.0.0.0:80")?))?;
    let answering = director.thread("servers", move || {
        for stream in listener.incoming() {
            drop(stream?);
        }
        Ok(())
    })?;
    let wants = |part| options.only.is_empty() || options.only.contains(&part);
    let mut is_well = true;
    if wants(Part::Scrapes) || wants(Part::Watched) {
        let mut agent = start(&director, options.servers, &config(options.servers))?;
        is_well &= !wants(Part::Scrapes) || scrapes(&agent, options)?;
        is_well &= !wants(Part::Watched) || watched(&director, &agent, options)?;
        agent.stop()?;
    }
    if wants(Part::Idle) {
        // With the passive signal and everything else that is usual.
        let mut agent = start(&director, IDLE_SERVERS, &config(IDLE_SERVERS).replace(NO_SIGNAL, ""))?;
        is_well &= idle(&agent, options)?;
        agent.stop()?;
    }
    if wants(Part::Latency) {
        is_well &= latency::measure(&director, options)?;
    }
    // It waits for connections as long as the namespace is there.
    drop(answering);
    Ok(is_well)
}

/// Starts an agent, and waits until so many servers are well.
fn start(director: &Namespace, servers: u16, config: &str) -> Result<Agent> {
    let mut agent = Agent::start(director, config)?;
    agent.wait_until_ready()?;
    let wanted = f64::from(servers);
    wait::until_true("an answer of every server", START, || {
        agent.check_running()?;
        Ok(metric(&agent.metrics()?, "lvs_server_up", &[]) == Some(wanted))
    })
    .with_context(|| agent.diagnosis())?;
    Ok(agent)
}

/// No packet of these servers passes a device where the signal would be.
const NO_SIGNAL: &str = "[passive]\nenabled = false\n";

/// Each server is asked once a second, so that on a page every line changes all the time.
fn config(servers: u16) -> String {
    let mut text = format!("[agent]\nmetrics = \"{METRICS}\"\n{NO_SIGNAL}");
    for number in 0..servers {
        // Writing into a string can't fail.
        if number % EACH == 0 {
            let service = number / EACH;
            let [high, low] = service.to_be_bytes();
            write!(
                text,
                "[[service]]\nname = \"service {service}\"\naddress = \"192.168.{high}.{low}:80\"\n\
                 scheduler = \"rr\"\nforward = \"masquerade\"\n\
                 check = {{ type = \"connect\", interval = \"1s\", timeout = \"500ms\" }}\n"
            )
            .ok();
        }
        let [high, low] = (number + 1).to_be_bytes();
        write!(text, "[[service.server]]\naddress = \"10.9.{high}.{low}:80\"\n").ok();
    }
    text
}

fn scrapes(agent: &Agent, options: &VisitorOptions) -> Result<bool> {
    let mut times = Vec::new();
    let (mut bytes, mut lines) = (0, 0);
    for _ in 0..options.scrapes {
        let begun = Instant::now();
        let text = agent.metrics()?;
        times.push(begun.elapsed());
        (bytes, lines) = (text.len(), text.lines().filter(|line| !line.starts_with('#')).count());
        // Longer than a text is shared by those who come together.
        std::thread::sleep(Duration::from_millis(600));
    }
    times.sort_unstable();
    let median = times[times.len() / 2];
    let is_fast = median <= SCRAPE;
    let words = if is_fast { "" } else { ": TOO SLOW" };
    say(&format!(
        "a scrape with {} servers: {median:.1?} ({:.1?} to {:.1?}, {} times; {lines} series, {bytes} bytes), \
         at most {SCRAPE:.0?}{words}",
        options.servers,
        times[0],
        times[times.len() - 1],
        times.len(),
    ));
    Ok(is_fast)
}

fn watched(director: &Namespace, agent: &Agent, options: &VisitorOptions) -> Result<bool> {
    let mut costs = Vec::new();
    for _ in 0..options.rounds {
        let without = share(agent, options)?;
        let pages = Pages::open(director, options.pages)?;
        // The whole table is sent first, which is not what a page costs while it is open.
        std::thread::sleep(Duration::from_secs(3));
        let with_pages = share(agent, options)?;
        let watchers = Watchers::start(director)?;
        std::thread::sleep(Duration::from_secs(3));
        let with_all = share(agent, options)?;
        watchers.end()?;
        let bytes = pages.close()?;
        say(&format!(
            "{} pages: {:.2} % of a processor; with top and status --watch {:.2} %; without {:.2} %; {} kB to the pages",
            options.pages,
            100.0 * with_pages,
            100.0 * with_all,
            100.0 * without,
            bytes / 1000
        ));
        costs.push(with_all - without);
    }
    let cost = median(&mut costs);
    let is_cheap = cost <= WATCHED;
    let words = if is_cheap { "" } else { ": TOO MUCH" };
    say(&format!(
        "{} pages, top and status --watch with {} servers: {:.2} % of a processor, at most {:.0} %{words}",
        options.pages,
        options.servers,
        100.0 * cost,
        100.0 * WATCHED
    ));
    Ok(is_cheap)
}

fn idle(agent: &Agent, options: &VisitorOptions) -> Result<bool> {
    let mut costs = Vec::new();
    for _ in 0..options.rounds {
        costs.push(share(agent, options)?);
    }
    let mib = resident_mib(agent)?;
    let cost = median(&mut costs);
    let is_cheap = cost <= IDLE && mib <= IDLE_MIB;
    let words = if is_cheap { "" } else { ": TOO MUCH" };
    say(&format!(
        "an agent with {IDLE_SERVERS} servers: {:.2} % of a processor, at most {:.0} %; {mib:.1} MiB, at most \
         {IDLE_MIB:.0}{words}",
        100.0 * cost,
        100.0 * IDLE
    ));
    Ok(is_cheap)
}

/// What the agent takes of a processor.
fn share(agent: &Agent, options: &VisitorOptions) -> Result<f64> {
    let (begun, before) = (Instant::now(), process::processor_time(agent.pid())?);
    std::thread::sleep(Duration::from_secs(options.seconds.into()));
    let used = process::processor_time(agent.pid())?.saturating_sub(before);
    Ok(used.as_secs_f64() / begun.elapsed().as_secs_f64())
}

fn resident_mib(agent: &Agent) -> Result<f64> {
    let status = fs::read_to_string(format!("/proc/{}/status", agent.pid()))?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).context("no VmRSS")?;
    let kib: f64 = line.trim().trim_end_matches(" kB").parse()?;
    Ok(kib / 1024.0)
}

fn median(values: &mut [f64]) -> f64 {
    values.sort_unstable_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or_default()
}
