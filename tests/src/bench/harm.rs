//! Which clients notice that a server has died: with second chance, without, and with keepalived at its fastest, in the
//! same lab. Counted are the requests whose connection was not there yet; what is established dies with its server.

use std::{
    fmt,
    io::{self, Write as _},
    thread,
    time::Duration,
};

use anyhow::{Context as _, Result, ensure};
use clap::ValueEnum;

use super::keepalived_peer::{keepalived_config, tcp_check};
use crate::lab::{
    Lab,
    agent::{Agent, config::AgentConfig, metric},
    clients::{Load, LoadPlan, requests::Request},
    clock::Moment,
    director::{prepare_ipvs, table_watcher::TableWatcher},
    faults::{Fault, flood::Flood},
    keepalived::{self, Keepalived},
    layout::{Layout, Method},
    wait,
};

/// How long a slow machine may take until every server has served.
const SERVING_LIMIT: Duration = Duration::from_mins(1);
/// Answers of each server that show that it serves.
const SERVED: usize = 2;
/// Traffic before the first fault: the agent learns what is usual.
const HEALTHY: Duration = Duration::from_secs(3);
/// From the fault to its repair: who sends a SYN twice more has its outcome by then.
const WATCHED: Duration = Duration::from_millis(3500);
/// Faults are not to strike always at the same moment of a checker's round: this is no part of a second.
const PHASE: Duration = Duration::from_millis(137);
/// How long the last client may wait with second chance, of a killed server and of a silent one.
const LIMITS: [Duration; 2] = [Duration::from_millis(120), Duration::from_millis(400)];

/// SYNs that are sent again within a second, at most.
const CAP: f64 = 2_000.0;

/// What is measured
#[derive(Clone, Debug, clap::Args)]
pub struct HarmOptions {
    /// How often each fault is injected, each time at another phase of the checkers' rounds
    #[arg(long, default_value_t = 5)]
    pub runs: u32,
    /// New connections a second
    #[arg(long, default_value_t = 200.0)]
    pub rate: f64,
    /// How many real servers
    #[arg(long, default_value_t = 4)]
    pub servers: u8,
    /// SYNs a second from forged addresses, all the while; with it only the cap on what is sent again is judged
    #[arg(long, value_name = "RATE")]
    pub flood: Option<f64>,
    /// Only with these, several times
    #[arg(long, value_enum)]
    pub with: Vec<Checker>,
    /// Only with servers that are forwarded to in this way, several times
    #[arg(long, value_enum)]
    pub method: Vec<MethodWord>,
}

/// Who takes servers out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Checker {
    /// The agent, with second chance.
    SecondChance,
    /// The agent without.
    Agent,
    /// keepalived at its shortest times.
    Keepalived,
}

impl fmt::Display for Checker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::SecondChance => "lvs-agent, second chance",
            Self::Agent => "lvs-agent",
            Self::Keepalived => "keepalived, TCP_CHECK",
        })
    }
}

/// A forwarding method.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum MethodWord {
    /// Masquerade.
    Masquerade,
    /// Direct route.
    DirectRoute,
    /// IPIP.
    Tunnel,
}

impl MethodWord {
    fn method(self) -> Method {
        let [masquerade, direct_route, tunnel] = Method::ALL;
        match self {
            Self::Masquerade => masquerade,
            Self::DirectRoute => direct_route,
            Self::Tunnel => tunnel,
        }
    }

    /// The faults that second chance is for: under direct route and tunnel a killed process' RST bypasses the director.
    fn faults(self) -> &'static [Fault] {
        let all = &[Fault::ProcessKilled, Fault::PortFiltered, Fault::LinkDown];
        if self == Self::Masquerade { all } else { &all[1..] }
    }
}

/// What clients noticed of one fault.
#[derive(Clone, Copy, Debug, Default)]
struct Harm {
    failed: usize,
    late: usize,
    /// What the one took that took longest.
    worst: Duration,
}

impl Harm {
    /// Of the requests that were on their way, or begun, between the fault and the repair.
    fn of(requests: &[Request], fault: Moment, repaired: Moment) -> Self {
        let mut harm = Self::default();
        for request in requests.iter().filter(|request| request.had_no_connection(fault, repaired)) {
            harm.failed += usize::from(!request.outcome.is_success());
            harm.late += usize::from(request.is_late());
            harm.worst = harm.worst.max(request.ended.since(request.started));
        }
        harm
    }

    fn is_within(self, fault: Fault) -> bool {
        let [killed, silent] = LIMITS;
        let limit = if fault == Fault::ProcessKilled { killed } else { silent };
        self.failed == 0 && self.late == 0 && self.worst <= limit
    }
}

/// Runs all of it, prints a line for each fault and then the table. Whether second chance has left nobody harmed.
pub fn compare(options: &HarmOptions) -> Result<bool> {
    let chosen = |all: &[Checker]| if options.with.is_empty() { all.to_vec() } else { options.with.clone() };
    let checkers = chosen(Checker::value_variants());
    let methods = if options.method.is_empty() {
        MethodWord::value_variants().to_vec()
    } else {
        options.method.clone()
    };
    let mut rows = Vec::new();
    let mut kept = true;
    for word in methods {
        let mut cells = word.faults().iter().map(|fault| (*fault, Vec::new())).collect::<Vec<_>>();
        for &checker in &checkers {
            if checker == Checker::Keepalived && !keepalived::is_there() {
                print("keepalived is not there")?;
                continue;
            }
            let layout = Layout::new(word.method()).servers(options.servers);
            let mut run = Run::start(checker, layout, options)?;
            for (fault, cells) in &mut cells {
                let harms = run.harms(*fault, options.runs, &format!("{checker}; {layout}; {fault}"))?;
                let is_judged = checker == Checker::SecondChance && options.flood.is_none();
                kept &= !is_judged || harms.iter().all(|harm| harm.is_within(*fault));
                cells.push((checker, harms));
            }
        }
        rows.push((word, cells));
    }
    print(&format!("\n{}", table(&rows, options)))?;
    Ok(kept)
}

type Cells = Vec<(Fault, Vec<(Checker, Vec<Harm>)>)>;

fn table(rows: &[(MethodWord, Cells)], options: &HarmOptions) -> String {
    let mut lines = vec![
        format!(
            "Requests that failed + that were late (500 ms or more), of {} faults each, and what the slowest of all took;\n\
             {}/s over {} servers; requests whose connection was there when the server died are not counted.\n",
            options.runs, options.rate, options.servers
        ),
        "| method | fault | with | failed | late | slowest, ms |".to_owned(),
        "|---|---|---|---|---|---|".to_owned(),
    ];
    for (word, cells) in rows {
        for (fault, cells) in cells {
            for (checker, harms) in cells {
                let list = |count: fn(&Harm) -> usize| {
                    let counts: Vec<String> = harms.iter().map(|harm| count(harm).to_string()).collect();
                    format!("{} ({})", harms.iter().map(count).sum::<usize>(), counts.join(" "))
                };
                let worst = harms.iter().map(|harm| harm.worst).max().unwrap_or_default();
                lines.push(format!(
                    "| {} | {fault} | {checker} | {} | {} | {} |",
                    word.method(),
                    list(|harm| harm.failed),
                    list(|harm| harm.late),
                    format_args!("{:.1}", worst.as_secs_f64() * 1e3)
                ));
            }
        }
    }
    lines.join("\n")
}

/// A running checker. Dropping it ends it.
enum Running {
    Agent { agent: Box<Agent> },
    Keepalived { _keepalived: Keepalived },
}

/// A lab with a checker at work, and clients.
struct Run {
    load: Load,
    watcher: TableWatcher,
    checker: Running,
    flood: Option<Flood>,
    lab: Lab,
    /// Faults so far.
    faults: u32,
}

impl Run {
    fn start(checker: Checker, layout: Layout, options: &HarmOptions) -> Result<Self> {
        let lab = Lab::build(&layout)?;
        let director = &lab.network.director;
        prepare_ipvs(director)?;
        let addresses = lab.addresses();
        let running = match checker {
            Checker::SecondChance | Checker::Agent => {
                let config = AgentConfig::http(&layout, &addresses);
                let config = if checker == Checker::SecondChance { config.second_chance() } else { config };
                let mut agent = Agent::start(director, &config.to_toml()?)?;
                agent.wait_until_ready()?;
                Running::Agent { agent: Box::new(agent) }
            }
            Checker::Keepalived => {
                let config = keepalived_config(layout, &addresses, tcp_check);
                Running::Keepalived { _keepalived: Keepalived::start(director, &config)? }
            }
        };
        let watcher = TableWatcher::start(director)?;
        let plan = LoadPlan { clients: 32, ..LoadPlan::paced(options.rate) }.to(&[layout.service()]);
        let load = Load::start(&lab.network.clients, plan)?;
        let mut run = Self { load, watcher, checker: running, flood: None, lab, faults: 0 };
        run.wait_until_serving()?;
        run.flood = options.flood.map(|rate| Flood::start(&run.lab.network.clients, rate)).transpose()?;
        thread::sleep(HEALTHY);
        Ok(run)
    }

    fn wait_until_serving(&self) -> Result<()> {
        let since = Moment::now();
        wait::until_true("every server to be in the table and to serve", SERVING_LIMIT, || {
            let table = self.watcher.table()?;
            Ok(self.lab.servers.iter().all(|server| {
                table.is_in_everywhere(server.address())
                    && self.load.served_since(&server.name, since) >= SERVED
            }))
        })
        .context("before a fault")
    }

    /// A fault so many times, each at another server and phase.
    fn harms(&mut self, fault: Fault, runs: u32, words: &str) -> Result<Vec<Harm>> {
        let mut harms = Vec::new();
        for _ in 0..runs {
            let harm = self.inject(fault)?;
            let Harm { failed, late, worst } = harm;
            print(&format!(
                "{words}: {failed} failed, {late} late, the slowest {:.1} ms",
                worst.as_secs_f64() * 1e3
            ))?;
            harms.push(harm);
        }
        Ok(harms)
    }

    /// The SYNs that the agent has sent again, of all clients.
    fn sent_again(&self) -> Result<f64> {
        let Running::Agent { agent } = &self.checker else { return Ok(0.0) };
        Ok(metric(&agent.metrics()?, "lvs_second_chance_retried_total", &[]).unwrap_or(0.0))
    }

    fn inject(&mut self, fault: Fault) -> Result<Harm> {
        let number = self.faults;
        self.faults += 1;
        let server = number as usize % self.lab.servers.len();
        let armed = fault.arm(&self.lab.network.switch, &self.lab.servers[server])?;
        self.wait_until_serving()?;
        thread::sleep(PHASE * (number % 8));
        // A scrape takes the director's time, which nothing else in a measurement does.
        let sent_before = self.flood.as_ref().map(|_| self.sent_again()).transpose()?;
        let at = armed.inject()?;
        thread::sleep(WATCHED);
        let repaired = Moment::now();
        if let (Some(flood), Some(sent_before)) = (&self.flood, sent_before) {
            let sent = self.sent_again()? - sent_before;
            print(&format!("{} SYNs were forged; {sent} SYNs were sent again in {WATCHED:?}", flood.sent()))?;
            ensure!(sent <= CAP * repaired.since(at).as_secs_f64(), "more than the cap of {CAP} a second");
        }
        fault.repair(&self.lab.network.switch, &mut self.lab.servers[server])?;
        self.wait_until_serving()?;
        Ok(Harm::of(&self.load.requests(), at, repaired))
    }
}

fn print(words: &str) -> Result<()> {
    Ok(writeln!(io::stdout(), "{words}")?)
}
