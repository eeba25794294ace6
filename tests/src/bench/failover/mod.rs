//! Who takes a failed server out of the table, how soon, and how much it asks for that: this project's agent with each
//! kind of clients, and keepalived at its fastest, with its own probes and with BFD, in the same lab.

mod chart;
mod conditions;
mod report;
mod results;

use std::{
    env, fs,
    io::{self, Write as _},
    net::SocketAddr,
    path::{Path, PathBuf},
    thread,
    time::Duration,
};

use anyhow::{Context as _, Result};

use self::{
    conditions::{Checker, Clients, Only},
    report::{Cell, Conditions, Cost},
    results::Results,
};
use super::keepalived_peer::{keepalived_config, tcp_check};
use crate::lab::{
    Lab,
    agent::{Agent, config::AgentConfig, log::EventKind},
    bird::{self, Bird},
    clients::Load,
    clock::Moment,
    director::{packet_counter::PacketCounter, prepare_ipvs, table_watcher::TableWatcher},
    faults::Fault,
    keepalived::{self, Keepalived},
    layout::{AddressPlan, Family, Layout, Method},
    wait,
};

/// How long a slow machine may take until every server has served.
const SERVING_LIMIT: Duration = Duration::from_mins(1);
/// Whoever has not noticed a fault by now never will.
const GIVE_UP_AFTER: Duration = Duration::from_secs(6);
/// Traffic without a fault, over which probes are counted.
const HEALTHY: Duration = Duration::from_secs(5);
/// Faults are not to strike always at the same moment of a checker's round: this is no part of a second.
const PHASE: Duration = Duration::from_millis(137);
/// Answers of each server that show that it serves.
const SERVED: usize = 2;
/// The variable that names the revision of the repository that the agent is built of.
const REVISION: &str = "LVS_REVISION";
/// The file of the results, where they are published and in `$LVS_OUT`.
const RESULTS: &str = "failover.jsonl";

/// What is compared
#[derive(Clone, Debug, clap::Args)]
pub struct FailoverOptions {
    /// How often each fault is injected, each time at another phase of the checkers' rounds
    #[arg(long, default_value_t = 5)]
    pub runs: u32,
    /// How many real servers
    #[arg(long, default_value_t = 4)]
    pub servers: u8,
    /// Only a part: killed, filtered, powered-off, hung; masquerade, direct-route, tunnel; many, one-network,
    /// one-address, none; 200, 8; agent, agent-connect, keepalived, bfd. May be given several times
    #[arg(long)]
    pub only: Vec<String>,
    /// One run of each fault, with many client networks at 200/s and with none
    #[arg(long)]
    pub quick: bool,
    /// Measure nothing: merge these results into those in this folder, and make page and chart of them
    #[arg(long, value_name = "FOLDER", requires = "results")]
    pub publish: Option<PathBuf>,
    /// A file of results to publish; later ones take the place of earlier ones with as many runs
    #[arg(long, value_name = "FILE")]
    pub results: Vec<PathBuf>,
}

/// Takes in results, and writes all of them, the page and the chart below the folder of documents.
fn publish(documents: &Path, results: &[PathBuf]) -> Result<()> {
    let (measurements, images) = (documents.join("measurements"), documents.join("images"));
    let place = measurements.join(RESULTS);
    let mut measured = results::read(&place)?;
    for file in results {
        measured.merge(results::read(file)?);
    }
    fs::create_dir_all(&images).with_context(|| images.display().to_string())?;
    results::write(&measured, &place)?;
    for (path, text) in [
        (measurements.join("failover.md"), measured.page()),
        (images.join("failover.svg"), chart::svg(&measured)),
    ] {
        fs::write(&path, text).with_context(|| path.display().to_string())?;
        print(&format!("written: {}", path.display()))?;
    }
    Ok(())
}

/// Runs all of it and prints the tables. Each result is also written to `$LVS_OUT` at once.
pub fn compare(options: &FailoverOptions) -> Result<()> {
    if let Some(documents) = &options.publish {
        return publish(documents, &options.results);
    }
    let mut words = options.only.clone();
    if options.quick {
        words.extend(["many", "none", "200"].map(str::to_owned));
    }
    let only = Only::of(&words)?;
    let conditions =
        Conditions { runs: if options.quick { 1 } else { options.runs }, servers: options.servers };
    let mut results = Results::new(env::var_os("LVS_OUT").map(|folder| PathBuf::from(folder).join(RESULTS)));
    for checker in only.checkers().into_iter().filter(|checker| is_there(*checker)) {
        for clients in only.clients_of(checker) {
            for method in only.methods() {
                measure(checker, clients, method, &only.faults(), conditions, &mut results)?;
            }
        }
    }
    print(&format!("\n{}", results.measured().tables()))
}

fn is_there(checker: Checker) -> bool {
    match checker {
        Checker::Agent | Checker::AgentConnects => true,
        Checker::Keepalived => keepalived::is_there(),
        Checker::KeepalivedBfd => keepalived::is_there() && bird::is_there(),
    }
}

/// Each of the faults, as often as it shall be, in one lab.
fn measure(
    checker: Checker,
    clients: Clients,
    method: Method,
    faults: &[Fault],
    conditions: Conditions,
    results: &mut Results,
) -> Result<()> {
    let layout = Layout::new(method).servers(conditions.servers);
    let mut run = Run::start(checker, layout, clients)?;
    let packets = run.probes.per_second(HEALTHY)?;
    results.add_cost(Cost { checker, clients, method, packets })?;
    let revision = env::var(REVISION).ok().filter(|_| checker.sees_clients());
    let servers = conditions.servers;
    let mut injections = 0..;
    for &fault in faults {
        let mut times = Vec::new();
        for number in (0..conditions.runs).filter_map(|_| injections.next()) {
            let (time, why) = run.inject(fault, number)?;
            let words = time.map_or_else(|| "never".to_owned(), |ms| format!("after {ms:.1} ms"));
            print(&format!("{checker}; {clients}; {method}; {fault}: out {words}{why}"))?;
            times.push(time);
        }
        let revision = revision.clone();
        results.add_cell(Cell { checker, clients, method, fault, times, servers, revision })?;
    }
    Ok(())
}

/// A running checker. Dropping it ends it.
enum Running {
    Agent(Box<Agent>),
    Keepalived { _checker: Keepalived, _birds: Vec<Bird> },
}

/// A lab with a checker at work.
struct Run {
    /// `None`: there is no traffic.
    load: Option<Load>,
    watcher: TableWatcher,
    probes: PacketCounter,
    checker: Running,
    lab: Lab,
}

impl Run {
    fn start(checker: Checker, layout: Layout, clients: Clients) -> Result<Self> {
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
            Checker::Keepalived => Running::Keepalived {
                _checker: Keepalived::start(
                    director,
                    &keepalived_config(layout, &lab.addresses(), tcp_check),
                )?,
                _birds: Vec::new(),
            },
            Checker::KeepalivedBfd => keepalived_with_bfd(&lab, layout)?,
        };
        let watcher = TableWatcher::start(director)?;
        let plan = clients.plan().map(|plan| plan.to(&[layout.service()]));
        let load = plan.map(|plan| Load::start(&lab.network.clients, plan)).transpose()?;
        let running = Self { load, watcher, probes, checker, lab };
        running.wait_until_serving()?;
        Ok(running)
    }

    /// Waits until every server is in the table and, where there is traffic, has served.
    fn wait_until_serving(&self) -> Result<()> {
        let since = Moment::now();
        wait::until_true("every server to be in the table and to serve", SERVING_LIMIT, || {
            let table = self.watcher.table()?;
            Ok(self.lab.servers.iter().all(|server| {
                let serves = |load: &Load| load.served_since(&server.name, since) >= SERVED;
                table.is_in_everywhere(server.address()) && self.load.as_ref().is_none_or(serves)
            }))
        })
        .with_context(|| self.diagnosis())
    }

    fn diagnosis(&self) -> String {
        match &self.checker {
            Running::Agent(agent) => agent.diagnosis(),
            Running::Keepalived { .. } => "keepalived".to_owned(),
        }
    }

    /// What the agent first said against a server after a fault, in words.
    fn first_suspicion(&self, server: SocketAddr, at: Moment) -> String {
        let Running::Agent(agent) = &self.checker else { return String::new() };
        let events = agent.events().into_iter();
        let mut later = events.filter(|event| event.at >= at && event.server == Some(server));
        let words = later.find_map(|event| match event.kind {
            EventKind::Suspicion { evidence, .. } => Some(format!(" ({evidence})")),
            _ => None,
        });
        words.unwrap_or_default()
    }

    /// The fault at one server, and its repair; how long it took until the server was out of the table, in ms, and what
    /// the checker saw.
    fn inject(&mut self, fault: Fault, number: u32) -> Result<(Option<f64>, String)> {
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
        let why = self.first_suspicion(address, at);
        fault.repair(&self.lab.network.switch, &mut self.lab.servers[server])?;
        self.wait_until_serving()?;
        Ok((table, why))
    }
}

/// Fits what the director itself, not a client through it, sends to the servers. A tunnel's packets are the director's
/// own as well, but none of these protocols. BFD's are UDP to port 3784 (RFC 5881, section 4).
fn probes_to(servers: &[SocketAddr]) -> String {
    let own = AddressPlan::of(Family::V4).director;
    let servers = servers.iter().map(|server| server.ip().to_string()).collect::<Vec<_>>().join(", ");
    format!("ip saddr {own} ip daddr {{ {servers} }} meta l4proto {{ tcp, icmp, udp }}")
}

fn bfd_check(server: &SocketAddr) -> String {
    format!("    BFD_CHECK {{\n      name {}\n    }}\n", session(server))
}

/// The name of the BFD session with a server.
fn session(server: &SocketAddr) -> String {
    format!("rs_{}", server.ip().to_string().replace('.', "_"))
}

/// keepalived with a BFD session with each server, where bird is the other end.
fn keepalived_with_bfd(lab: &Lab, layout: Layout) -> Result<Running> {
    let director = AddressPlan::of(Family::V4).director;
    let birds =
        lab.servers.iter().map(|server| Bird::start(server.namespace(), server.address().ip(), director));
    let birds = birds.collect::<Result<_>>()?;
    let instance = |server: &SocketAddr| {
        format!(
            "bfd_instance {} {{\n  neighbor_ip {}\n  source_ip {director}\n  min_rx 10\n  min_tx 10\n  idle_tx 10\n  \
             multiplier 5\n}}\n",
            session(server),
            server.ip()
        )
    };
    let instances = lab.addresses().iter().map(instance).collect::<Vec<_>>().concat();
    let config = instances + &keepalived_config(layout, &lab.addresses(), bfd_check);
    Ok(Running::Keepalived { _checker: Keepalived::start(&lab.network.director, &config)?, _birds: birds })
}

fn print(words: &str) -> Result<()> {
    Ok(writeln!(io::stdout(), "{words}")?)
}
