//! How fast a checker takes a failed server out of the table, and how much it asks for that: this project's agent, with
//! a check of the application and with keepalived's question, and keepalived at its fastest setting, in the same lab.

use std::{
    fmt::Write as _,
    io::{self, Write as _},
    net::SocketAddr,
    thread,
    time::Duration,
};

use anyhow::{Context as _, Result};

use crate::lab::{
    Lab,
    agent::{Agent, config::AgentConfig, log::EventKind},
    clients::{Load, LoadPlan},
    clock::Moment,
    director::{
        packet_counter::PacketCounter, prepare_ipvs, table::same_server, table_watcher::TableWatcher,
    },
    faults::Fault,
    keepalived::{self, Keepalived},
    layout::{AddressPlan, Family, Layout, Method, PORT},
    namespace::Namespace,
    wait,
};

/// How long a slow machine may take until every server has served.
const SERVING_LIMIT: Duration = Duration::from_mins(1);
/// Whoever has not noticed a fault by now never will.
const GIVE_UP_AFTER: Duration = Duration::from_secs(6);
/// Traffic without a fault, over which probes are counted.
const HEALTHY: Duration = Duration::from_secs(5);
/// Faults are not to strike always at the same moment of a checker's round.
const PHASE: Duration = Duration::from_millis(137);

/// The faults of the table's columns.
const FAULTS: [Fault; 4] = [Fault::ProcessKilled, Fault::PortFiltered, Fault::LinkDown, Fault::ProcessHung];

/// What is compared
#[derive(Clone, Debug, clap::Args)]
pub struct FailoverOptions {
    /// How often each fault is injected
    #[arg(long, default_value_t = 3)]
    pub runs: u32,
    /// New connections a second
    #[arg(long, default_value_t = 100.0)]
    pub rate: f64,
    /// How many real servers
    #[arg(long, default_value_t = 4)]
    pub servers: u8,
}

/// A health checker.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Checker {
    /// Asks for a page.
    Agent,
    /// Asks what keepalived asks: whether connections are taken.
    AgentConnects,
    /// Asks whether connections are taken.
    Keepalived,
}

impl Checker {
    fn name(self) -> &'static str {
        match self {
            Self::Agent => "lvs-agent, http",
            Self::AgentConnects => "lvs-agent, connect",
            Self::Keepalived => "keepalived",
        }
    }
}

/// A running checker. Dropping it ends it.
enum Running {
    Agent(Box<Agent>),
    Keepalived(#[expect(dead_code, reason = "it runs while it is there")] Keepalived),
}

/// What came of a fault, in ms after it.
#[derive(Clone, Copy, Debug, Default)]
struct Times {
    suspicion: Option<f64>,
    table: Option<f64>,
}

/// One row of the table.
struct Row {
    name: String,
    faults: Vec<Vec<Times>>,
    probes: f64,
}

/// Runs all of it and prints the table.
pub fn compare(options: &FailoverOptions) -> Result<()> {
    let mut rows = Vec::new();
    let keepalived = keepalived::is_there().then_some(Checker::Keepalived);
    let checkers = [Some(Checker::Agent), Some(Checker::AgentConnects), keepalived];
    for checker in checkers.into_iter().flatten() {
        for method in Method::ALL {
            rows.push(row(options, checker, method)?);
        }
    }
    print(&table_of(options, &rows))
}

fn row(options: &FailoverOptions, checker: Checker, method: Method) -> Result<Row> {
    let name = format!("{}, {method}", checker.name());
    let layout = Layout::new(method).servers(options.servers);
    let mut run = Run::start(checker, layout, options.rate)?;
    let probes = run.probes.per_second(HEALTHY)?;
    let mut faults = Vec::new();
    let mut injections = 0..;
    for fault in FAULTS {
        let mut times = Vec::new();
        for number in (0..options.runs).filter_map(|_| injections.next()) {
            let seen = run.inject(fault, number)?;
            print(&format!("{name}, {fault}: suspected {}, out {}", one(seen.suspicion), one(seen.table)))?;
            times.push(seen);
        }
        faults.push(times);
    }
    Ok(Row { name, faults, probes })
}

/// A lab with a checker at work.
struct Run {
    load: Load,
    watcher: TableWatcher,
    probes: PacketCounter,
    checker: Running,
    lab: Lab,
}

impl Run {
    fn start(checker: Checker, layout: Layout, rate: f64) -> Result<Self> {
        let lab = Lab::build(&layout)?;
        let director = &lab.network.director;
        prepare_ipvs(director)?;
        let probes = PacketCounter::start(director, &probes_to(&lab.addresses()))?;
        let checker = match checker {
            Checker::Agent | Checker::AgentConnects => {
                let config = AgentConfig::http(&layout, &lab.addresses());
                let connects = checker == Checker::AgentConnects;
                let config = if connects { config.check_by_connect() } else { config };
                let mut agent = Agent::start(director, &config.to_toml()?)?;
                agent.wait_until_ready()?;
                Running::Agent(Box::new(agent))
            }
            Checker::Keepalived => fastest_keepalived(director, layout, &lab.addresses())?,
        };
        let watcher = TableWatcher::start(director)?;
        let load = Load::start(&lab.network.clients, LoadPlan::paced(rate).to(&[layout.service()]))?;
        let running = Self { load, watcher, probes, checker, lab };
        running.wait_until_serving()?;
        Ok(running)
    }

    fn wait_until_serving(&self) -> Result<()> {
        let since = Moment::now();
        wait::until_true("every server to be in the table and to serve", SERVING_LIMIT, || {
            let table = self.watcher.table()?;
            Ok(self.lab.servers.iter().all(|server| {
                table.is_in_everywhere(server.address()) && self.load.served_since(&server.name, since) > 2
            }))
        })
        .with_context(|| self.diagnosis())
    }

    fn diagnosis(&self) -> String {
        match &self.checker {
            Running::Agent(agent) => agent.diagnosis(),
            Running::Keepalived(_) => "keepalived".to_owned(),
        }
    }

    /// The fault at one server, and its repair.
    fn inject(&mut self, fault: Fault, number: u32) -> Result<Times> {
        let server = number as usize % self.lab.servers.len();
        let armed = fault.arm(&self.lab.network.switch, &self.lab.servers[server])?;
        self.wait_until_serving()?;
        thread::sleep(PHASE * (number % 8));
        let at = armed.inject()?;
        let address = self.lab.servers[server].address();
        let out = |watcher: &TableWatcher| -> Result<_> {
            let history = watcher.history()?;
            Ok(history.into_iter().find(|seen| seen.at >= at && seen.table.is_out(address)))
        };
        while out(&self.watcher)?.is_none() && Moment::now().since(at) < GIVE_UP_AFTER {
            thread::sleep(Duration::from_millis(20));
        }
        let table = out(&self.watcher)?.map(|seen| seen.at.ms_after(at));
        let suspicion = self.suspicion_since(at, address);
        fault.repair(&self.lab.network.switch, &mut self.lab.servers[server])?;
        self.wait_until_serving()?;
        Ok(Times { suspicion, table })
    }

    fn suspicion_since(&self, at: Moment, server: SocketAddr) -> Option<f64> {
        let Running::Agent(agent) = &self.checker else { return None };
        let events = agent.events();
        let mut against = events.iter().filter(|event| {
            event.at >= at
                && event.server.is_some_and(|suspect| same_server(suspect, server))
                && matches!(event.kind, EventKind::Suspicion { .. })
        });
        against.next().map(|event| event.at.ms_after(at))
    }
}

/// Fits what the director itself, not a client through it, sends to the servers. A tunnel's packets are the director's
/// own as well, but neither TCP nor ICMP.
fn probes_to(servers: &[SocketAddr]) -> String {
    let own = AddressPlan::of(Family::V4).director;
    let servers = servers.iter().map(|server| server.ip().to_string()).collect::<Vec<_>>().join(", ");
    format!("ip saddr {own} ip daddr {{ {servers} }} meta l4proto {{ tcp, icmp }}")
}

/// keepalived, at the shortest times that it takes.
fn fastest_keepalived(director: &Namespace, layout: Layout, servers: &[SocketAddr]) -> Result<Running> {
    let kind = match layout.method {
        Method::Masquerade => "NAT",
        Method::DirectRoute => "DR",
        Method::Tunnel(_) => "TUN",
    };
    let server = |server: &SocketAddr| {
        let ip = server.ip();
        format!(
            "  real_server {ip} {PORT} {{\n    weight 1\n    TCP_CHECK {{\n      connect_timeout 0.1\n      \
             retry 1\n      delay_before_retry 0.05\n      warmup 0\n    }}\n  }}\n"
        )
    };
    let vip = layout.service().ip();
    let servers = servers.iter().map(server).collect::<Vec<_>>().concat();
    let text = format!(
        "virtual_server {vip} {PORT} {{\n  delay_loop 0.1\n  lb_algo rr\n  lb_kind {kind}\n  protocol TCP\n{servers}}}\n"
    );
    Ok(Running::Keepalived(Keepalived::start(director, &text)?))
}

fn table_of(options: &FailoverOptions, rows: &[Row]) -> String {
    let FailoverOptions { runs, rate, servers } = options;
    let mut text = format!(
        "\n{servers} servers, {rate} new connections/s, {runs} runs of each; ms from the fault: to the suspicion → to \
         the kernel's table,\nmin/median/max; probe packets/s from the director to all servers\n\n\
         | checker | killed | filtered | powered off | hung | probes/s |\n|---|---|---|---|---|---|\n"
    );
    for row in rows {
        text += "| ";
        text += &row.name;
        for times in &row.faults {
            let suspicion = spread(times.iter().map(|times| times.suspicion));
            let table = spread(times.iter().map(|times| times.table));
            let arrow = suspicion.map(|suspicion| format!("{suspicion} → ")).unwrap_or_default();
            // Writing to a string can't fail.
            write!(text, " | {arrow}{}", table.unwrap_or_else(|| "never".to_owned())).unwrap_or_default();
        }
        writeln!(text, " | {:.0} |", row.probes).unwrap_or_default();
    }
    text
}

/// `least/median/greatest` in whole ms; with a note if some are missing, `None` if all are.
fn spread(times: impl Iterator<Item = Option<f64>>) -> Option<String> {
    let all: Vec<_> = times.collect();
    let mut known: Vec<f64> = all.iter().flatten().copied().collect();
    known.sort_by(f64::total_cmp);
    let median = known.get(known.len().saturating_sub(1) / 2)?;
    let text = format!("{:.0}/{median:.0}/{:.0}", known.first()?, known.last()?);
    let missing = all.len() - known.len();
    Some(if missing == 0 { text } else { format!("{text} ({missing} × never)") })
}

fn one(time: Option<f64>) -> String {
    time.map_or_else(|| "never".to_owned(), |ms| format!("after {ms:.1} ms"))
}

fn print(words: &str) -> Result<()> {
    Ok(writeln!(io::stdout(), "{words}")?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_spread_tells_what_is_missing() {
        for (times, expected) in [
            (vec![], None),
            (vec![None, None], None),
            (vec![Some(3.0), Some(1.0), Some(2.0)], Some("1/2/3")),
            (vec![Some(3.2), None], Some("3/3/3 (1 × never)")),
        ] {
            assert_eq!(spread(times.into_iter()).as_deref(), expected);
        }
    }
}
