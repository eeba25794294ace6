//! What baseline checks cost a director in processor time: this project's agent and keepalived, the same checks of the
//! same servers, one after the other in one run. `cargo xtask bench checks` runs it in a VM.

use std::{
    fmt::Write as _,
    net::{Ipv4Addr, TcpListener},
    time::Duration,
};

use anyhow::{Context as _, Result};
use nix::unistd::Pid;

use crate::{
    lab::{
        agent::Agent,
        clock::Moment,
        director::{packet_counter::PacketCounter, prepare_ipvs},
        keepalived::{self, Keepalived},
        namespace::Namespace,
        process::{self, processor_time},
        wait,
    },
    say,
};

/// The virtual service; no client ever asks for it.
const VIP: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 80);
/// Where the servers listen, all of them as one socket.
const PORT: u16 = 80;
/// The director's end of the link to the servers, and theirs.
const LINK: [&str; 2] = ["10.8.0.1", "10.8.0.2"];
/// How long a checker may take until it asks each server once a second.
const START_LIMIT: Duration = Duration::from_mins(2);
/// How much of the checks asked for counts as all of them: one interval in which one comes late.
const ALL: f64 = 0.95;

/// What is measured
#[derive(Clone, Debug, clap::Args)]
pub struct CheckCostOptions {
    /// How many real servers, each asked once a second whether it accepts connections
    #[arg(long, default_value_t = 1000, value_parser = clap::value_parser!(u16).range(1..=16_000))]
    pub servers: u16,
    /// Over how many seconds it is measured
    #[arg(long, default_value_t = 20)]
    pub seconds: u32,
    /// How often it is measured, turn and turn about
    #[arg(long, default_value_t = 3)]
    pub rounds: u32,
}

/// What one checker took.
#[derive(Clone, Copy, Debug)]
struct Cost {
    /// Of one core, from 0 to 1.
    share: f64,
    /// Connections that it began, a second.
    checks: f64,
}

/// Measures, prints a table, and returns whether the agent takes less than keepalived.
pub fn compare(options: &CheckCostOptions) -> Result<bool> {
    let checked = CheckedServers::build()?;
    let (mut agent, mut keepalived) = (Vec::new(), Vec::new());
    for _ in 0..options.rounds {
        agent.push(checked.agent(options)?);
        if keepalived::is_there() {
            keepalived.push(checked.keepalived(options)?);
        }
    }
    say(&table(options, &agent, &keepalived));
    if keepalived.is_empty() {
        return Ok(true);
    }
    Ok(median(&agent) < median(&keepalived))
}

/// A director and its servers.
struct CheckedServers {
    director: Namespace,
    /// Connections that were begun.
    checks: PacketCounter,
    _servers: Namespace,
}

impl CheckedServers {
    fn build() -> Result<Self> {
        let director = Namespace::create("director")?;
        let servers = Namespace::create("servers")?;
        prepare_ipvs(&director)?;
        let [near, far] = LINK;
        let links = format!(
            "link set lo up\nlink add eth0 type veth peer name eth0 netns {}\nlink set eth0 up\naddr add {near}/24 dev \
             eth0\nroute add 10.9.0.0/16 via {far}\naddr add {VIP}/32 dev lo\n",
            servers.name()
        );
        process::run(&director, &["ip", "-batch", "-"], &links)?;
        let addresses = format!(
            "link set lo up\nlink set eth0 up\naddr add {far}/24 dev eth0\nroute add local 10.9.0.0/16 dev lo\n"
        );
        process::run(&servers, &["ip", "-batch", "-"], &addresses)?;
        let checks = PacketCounter::start(
            &director,
            &format!("ip daddr 10.9.0.0/16 tcp dport {PORT} tcp flags & (syn | ack) == syn"),
        )?;
        servers.thread("servers", accept)?;
        Ok(Self { director, checks, _servers: servers })
    }

    fn agent(&self, options: &CheckCostOptions) -> Result<Cost> {
        let mut text = format!(
            "[agent]\non-exit = \"remove\"\n[passive]\nenabled = false\n[[service]]\naddress = \"{VIP}:{PORT}\"\n\
             forward = \"masquerade\"\nidle-connection = \"off\"\ncheck = {{ type = \"connect\", interval = \"1s\", timeout = \"1s\" }}\n"
        );
        for server in addresses(options) {
            writeln!(text, "[[service.server]]\naddress = \"{server}\"")?;
        }
        let mut agent = Agent::start(&self.director, &text)?;
        agent.wait_until_ready()?;
        let cost = self.measure(agent.pid(), options).with_context(|| agent.diagnosis());
        agent.stop()?;
        cost
    }

    fn keepalived(&self, options: &CheckCostOptions) -> Result<Cost> {
        let keepalived = Keepalived::start(&self.director, &keepalived_config(options)?)?;
        let cost = self.measure(keepalived.pid(), options);
        keepalived.stop()?;
        cost
    }

    /// What the process and its children take once they do all their checks.
    fn measure(&self, process: Pid, options: &CheckCostOptions) -> Result<Cost> {
        let wanted = f64::from(options.servers);
        wait::until_true("every server to be asked each second", START_LIMIT, || {
            Ok(self.checks.per_second(Duration::from_secs(2))? >= wanted * ALL)
        })?;
        let (since, used) = (Moment::now(), processor_time(process)?);
        let checks = self.checks.per_second(Duration::from_secs(options.seconds.into()))?;
        let (until, used_then) = (Moment::now(), processor_time(process)?);
        let took = until.since(since).as_secs_f64();
        let cost = Cost { share: used_then.saturating_sub(used).as_secs_f64() / took, checks };
        anyhow::ensure!(cost.checks >= wanted * ALL, "only {:.0} checks a second", cost.checks);
        Ok(cost)
    }
}

/// Takes connections and ends them, for as long as this process lives.
fn accept() -> Result<()> {
    let listener = TcpListener::bind((Ipv4Addr::UNSPECIFIED, PORT))?;
    loop {
        // Its peer may have gone already.
        drop(listener.accept());
    }
}

fn addresses(options: &CheckCostOptions) -> impl Iterator<Item = Ipv4Addr> {
    (0..options.servers).map(|number| {
        let [high, low] = (number / 250 * 256 + number % 250 + 1).to_be_bytes();
        Ipv4Addr::new(10, 9, high, low)
    })
}

/// The checks that the agent does, for keepalived.
fn keepalived_config(options: &CheckCostOptions) -> Result<String> {
    let mut text = format!(
        "virtual_server {VIP} {PORT} {{\n  delay_loop 1\n  lb_algo wlc\n  lb_kind NAT\n  protocol TCP\n"
    );
    for server in addresses(options) {
        writeln!(
            text,
            "  real_server {server} {PORT} {{\n    weight 1\n    TCP_CHECK {{\n      connect_timeout 1\n    }}\n  }}"
        )?;
    }
    text += "}\n";
    Ok(text)
}

fn median(costs: &[Cost]) -> f64 {
    let mut shares: Vec<f64> = costs.iter().map(|cost| cost.share / cost.checks).collect();
    shares.sort_by(f64::total_cmp);
    shares.get(shares.len() / 2).copied().unwrap_or(f64::NAN)
}

fn table(options: &CheckCostOptions, agent: &[Cost], keepalived: &[Cost]) -> String {
    let mut text = format!(
        "\n{} servers, each asked every second whether it accepts connections; processor time of the checker in {} s, each \
         round's\n\n| checker | checks/s | of a core, % | µs a check |\n|---|---|---|---|\n",
        options.servers, options.seconds
    );
    for (name, costs) in [("lvs-agent", agent), ("keepalived", keepalived)] {
        let each = |value: fn(&Cost) -> f64| {
            costs.iter().map(|cost| format!("{:.1}", value(cost))).collect::<Vec<_>>().join(" ")
        };
        let row = [
            each(|cost| cost.checks),
            each(|cost| 100.0 * cost.share),
            each(|cost| 1e6 * cost.share / cost.checks),
        ];
        if costs.is_empty() {
            text += "| keepalived | not there | | |\n";
        } else {
            // Writing to a string can't fail.
            writeln!(text, "| {name} | {} |", row.join(" | ")).unwrap_or_default();
        }
    }
    text
}
