//! Two directors in front of the same servers and clients: with keepalived on each, or behind a router with ECMP.
//!
//! ```text
//!              ┌─ wan ─ director a ─ lan ─┐
//!   clients ─ front                     back ─── rs1, rs2, rs3
//!      │       └─ wan ─ director b ─ lan ─┘        10.0.0.1 …
//!      └────────────────────────────────── lan
//! ```
//!
//! With keepalived the addresses that move are its: the two VIPs, and the gateway of masqueraded servers. With ECMP
//! (`ecmp.rs`) both directors have the one VIP, and the clients' host is the router.

pub mod ecmp;
mod network;

use std::{
    fs,
    net::{Ipv4Addr, SocketAddr},
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::Result;
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use tempfile::TempDir;

use self::network::NAMES;
pub use self::network::PairNetwork;
use super::{
    agent::Agent,
    clock::Moment,
    director::{connection_table, prepare_ipvs, table::Table, table_watcher::PROC_FILE},
    keepalived,
    namespace::Namespace,
    network::{WAN, ip},
    process::{self, Process},
    wait,
};

/// The service whose servers are masqueraded.
pub const MASQUERADED: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::new(192, 0, 2, 80)), 80);
/// The service with direct routing.
pub const DIRECT: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::new(192, 0, 2, 81)), 80);
/// How many real servers.
pub const SERVERS: u8 = 3;
/// How long a program may take to be ready, on a slow machine.
const START_LIMIT: Duration = Duration::from_mins(1);
/// The recipes, from this package's folder, and the one with keepalived.
const RECIPES: &str = "../contrib/high-availability";
const KEEPALIVED: &str = "keepalived-pair";

/// The network, the servers and the two directors. Dropping it ends all of it.
#[derive(Debug)]
pub struct Pair {
    /// The directors, a first.
    pub directors: [Director; 2],
    /// What they are in.
    pub network: PairNetwork,
}

/// One of the two.
#[derive(Debug)]
pub struct Director {
    /// Its name, as in keepalived's configuration.
    pub name: &'static str,
    /// Where it is.
    pub namespace: Namespace,
    /// Its agent.
    pub agent: Agent,
    keepalived: Process,
    /// Holds what its agent would have in `/run`.
    folder: TempDir,
}

impl Pair {
    /// Builds the network and starts everything, but no clients. Director a is active in the end.
    pub fn start() -> Result<Self> {
        let (network, [a, b]) = PairNetwork::build()?;
        ip(&network.clients, &format!("route add 192.0.2.0/24 dev {WAN}\n"))?;
        let [name_a, name_b] = NAMES;
        let directors = [Director::start(name_a, a)?, Director::start(name_b, b)?];
        let mut pair = Self { directors, network };
        for director in &mut pair.directors {
            director.agent.wait_until_ready()?;
        }
        wait::until_true("director a to have the VIPs", START_LIMIT, || pair.directors[0].has_vips())?;
        Ok(pair)
    }

    /// Cuts the power of a director: nothing leaves it from one moment on, which is returned, and its programs are
    /// gone.
    pub fn power_off(&mut self, number: usize) -> Result<Moment> {
        let at = self.network.unplug(number)?;
        self.directors[number].kill()?;
        Ok(at)
    }

    /// Lets the directors hear each other's advertisements, or not.
    pub fn set_vrrp(&self, is_heard: bool) -> Result<()> {
        for director in &self.directors {
            let script = if is_heard {
                "delete table ip lab\n".to_owned()
            } else {
                "table ip lab { chain in { type filter hook input priority 0; ip protocol vrrp drop; }; }\n"
                    .to_owned()
            };
            process::run(&director.namespace, &["nft", "-f", "-"], &script)?;
        }
        Ok(())
    }
}

impl Director {
    /// Starts keepalived and the agent with the recipe's files.
    fn start(name: &'static str, namespace: Namespace) -> Result<Self> {
        prepare_ipvs(&namespace)?;
        let folder = tempfile::Builder::new().prefix("lvs-lab-").tempdir()?;
        let agent = start_agent(&namespace, KEEPALIVED, folder.path())?;
        let keepalived =
            keepalived::start_vrrp(&namespace, &recipe(KEEPALIVED, "keepalived.conf"), name, folder.path())?;
        Ok(Self { name, namespace, agent, keepalived, folder })
    }

    /// Kills its programs, keepalived's children first so that they say nothing any more.
    fn kill(&mut self) -> Result<()> {
        let parent = self.keepalived.pid();
        let children = fs::read_to_string(format!("/proc/{parent}/task/{parent}/children"))?;
        for child in children.split_whitespace() {
            kill(Pid::from_raw(child.parse()?), Signal::SIGKILL)?;
        }
        self.keepalived.signal(Signal::SIGKILL)?;
        self.kill_agent()
    }

    /// Kills its agent alone.
    pub fn kill_agent(&mut self) -> Result<()> {
        self.agent.signal(Signal::SIGKILL)?;
        self.agent.wait_for_end().map(drop)
    }

    /// Its control socket.
    #[must_use]
    pub fn control(&self) -> PathBuf {
        self.folder.path().join("control")
    }

    /// Whether it has both VIPs.
    pub fn has_vips(&self) -> Result<bool> {
        let addresses = process::run(&self.namespace, &["ip", "-4", "-o", "addr", "show", "dev", WAN], "")?;
        Ok([MASQUERADED, DIRECT].iter().all(|vip| addresses.contains(&format!(" {}/32 ", vip.ip()))))
    }

    /// The fields of the last event of that name in its agent's log, and when it was.
    #[must_use]
    pub fn last_event(&self, name: &str) -> Option<(Moment, serde_json::Value)> {
        let lines = self.agent.lines();
        lines.iter().rev().find_map(|line| {
            let fields: serde_json::Value = serde_json::from_str(line).ok()?;
            (fields["event"] == name).then_some(())?;
            Some((Moment::from_ns(fields["at_ns"].as_u64()?), fields))
        })
    }

    /// The kernel's table there.
    pub fn table(&self) -> Result<Table> {
        table(&self.namespace)
    }

    /// The connections that its kernel has as established, as `CLIENT:PORT`.
    pub fn established(&self) -> Result<Vec<SocketAddr>> {
        established(&self.namespace)
    }
}

/// Starts an agent with a recipe's file; what it would have in `/run` is in `folder`.
fn start_agent(namespace: &Namespace, name: &str, folder: &Path) -> Result<Agent> {
    let runtime = format!("RUNTIME_DIRECTORY={}", folder.display());
    let config = fs::read_to_string(recipe(name, "lvs-agent.toml"))?;
    Agent::start_under(namespace, &config, &["env", &runtime])
}

/// A director's table.
fn table(director: &Namespace) -> Result<Table> {
    Table::parse(&director.run(|| Ok(fs::read_to_string(PROC_FILE)?))?)
}

/// The connections that a director's kernel has as established, as `CLIENT:PORT`.
fn established(director: &Namespace) -> Result<Vec<SocketAddr>> {
    Ok(connection_table(director)?
        .lines()
        .filter(|line| line.contains("ESTABLISHED"))
        .filter_map(client_of)
        .collect())
}

/// The client of a line such as `TCP 0A140001 9C40 C0000250 0050 …`.
fn client_of(line: &str) -> Option<SocketAddr> {
    let mut words = line.split_whitespace().skip(1);
    let address = u32::from_str_radix(words.next()?, 16).ok()?;
    let port = u16::from_str_radix(words.next()?, 16).ok()?;
    Some((Ipv4Addr::from_bits(address), port).into())
}

/// A file of a recipe.
fn recipe(name: &str, file: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(RECIPES).join(name).join(file)
}
