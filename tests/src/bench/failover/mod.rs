//! Who takes a failed server out of the table, how soon, and how much it asks for that: this project's agent with each
//! kind of clients, and keepalived at its fastest, with its own probes and with BFD, in the same lab.

mod chart;
mod conditions;
mod report;

use std::{
    env, fs,
    io::{self, Write as _},
    net::SocketAddr,
    path::PathBuf,
    thread,
    time::Duration,
};

use anyhow::{Context as _, Result};

use self::{
    conditions::{Checker, Clients, Only},
    report::{Cell, Conditions, Cost, Measured},
};
use crate::lab::{
    Lab,
    agent::{Agent, config::AgentConfig},
    bird::{self, Bird},
    clients::Load,
    clock::Moment,
    director::{packet_counter::PacketCounter, prepare_ipvs, table_watcher::TableWatcher},
    faults::Fault,
    keepalived::{self, Keepalived},
    layout::{AddressPlan, Family, Layout, Method, PORT},
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
}

impl FailoverOptions {
    fn is_whole(&self) -> bool {
        self.only.is_empty() && !self.quick
    }
}

/// Runs all of it and prints the tables. If it is the whole comparison, page and chart are also written to `$LVS_OUT`.
pub fn compare(options: &FailoverOptions) -> Result<()> {
    let mut words = options.only.clone();
    if options.quick {
        words.extend(["many", "none", "200"].map(str::to_owned));
    }
    let only = Only::of(&words)?;
    let conditions =
        Conditions { runs: if options.quick { 1 } else { options.runs }, servers: options.servers };
    let mut measured = Measured::default();
    for checker in only.checkers().into_iter().filter(|checker| is_there(*checker)) {
        for clients in only.clients_of(checker) {
            for method in only.methods() {
                measure(checker, clients, method, &only.faults(), conditions, &mut measured)?;
            }
        }
    }
    print(&format!("\n{}", measured.tables()))?;
    if let Some(out) = env::var_os("LVS_OUT").map(PathBuf::from).filter(|_| options.is_whole()) {
        fs::write(out.join("failover.md"), measured.page(conditions))?;
        fs::write(out.join("failover.svg"), chart::svg(&measured))?;
    }
    Ok(())
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
    measured: &mut Measured,
) -> Result<()> {
    let layout = Layout::new(method).servers(conditions.servers);
    let mut run = Run::start(checker, layout, clients)?;
    let packets = run.probes.per_second(HEALTHY)?;
    measured.costs.push(Cost { checker, clients, method, packets });
    let mut injections = 0..;
    for &fault in faults {
        let mut times = Vec::new();
        for number in (0..conditions.runs).filter_map(|_| injections.next()) {
            let time = run.inject(fault, number)?;
            let words = time.map_or_else(|| "never".to_owned(), |ms| format!("after {ms:.1} ms"));
            print(&format!("{checker}; {clients}; {method}; {fault}: out {words}"))?;
            times.push(time);
        }
        measured.cells.push(Cell { checker, clients, method, fault, times });
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

    /// The fault at one server, and its repair; how long it took until the server was out of the table, in ms.
    fn inject(&mut self, fault: Fault, number: u32) -> Result<Option<f64>> {
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
        fault.repair(&self.lab.network.switch, &mut self.lab.servers[server])?;
        self.wait_until_serving()?;
        Ok(table)
    }
}

/// Fits what the director itself, not a client through it, sends to the servers. A tunnel's packets are the director's
/// own as well, but none of these protocols. BFD's are UDP to port 3784 (RFC 5881, section 4).
fn probes_to(servers: &[SocketAddr]) -> String {
    let own = AddressPlan::of(Family::V4).director;
    let servers = servers.iter().map(|server| server.ip().to_string()).collect::<Vec<_>>().join(", ");
    format!("ip saddr {own} ip daddr {{ {servers} }} meta l4proto {{ tcp, icmp, udp }}")
}

/// A service of keepalived's, with this check of each server.
fn keepalived_config(layout: Layout, servers: &[SocketAddr], check: fn(&SocketAddr) -> String) -> String {
    let kind = match layout.method {
        Method::Masquerade => "NAT",
        Method::DirectRoute => "DR",
        Method::Tunnel(_) => "TUN",
    };
    let server = |server: &SocketAddr| {
        let (ip, check) = (server.ip(), check(server));
        format!("  real_server {ip} {PORT} {{\n    weight 1\n{check}  }}\n")
    };
    let vip = layout.service().ip();
    let servers = servers.iter().map(server).collect::<Vec<_>>().concat();
    format!(
        "virtual_server {vip} {PORT} {{\n  delay_loop 0.1\n  lb_algo rr\n  lb_kind {kind}\n  protocol TCP\n{servers}}}\n"
    )
}

/// The shortest times that keepalived takes.
fn tcp_check(_: &SocketAddr) -> String {
    "    TCP_CHECK {\n      connect_timeout 0.1\n      retry 1\n      delay_before_retry 0.05\n      warmup 0\n    }\n"
        .to_owned()
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
