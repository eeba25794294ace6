//! Two directors, keepalived on each, in front of the same servers and clients.
//!
//! ```text
//!              ┌─ wan ─ director a ─ lan ─┐
//!   clients ─ front                     back ─── rs1, rs2, rs3
//!      │       └─ wan ─ director b ─ lan ─┘        10.0.0.1 …
//!      └────────────────────────────────── lan
//! ```
//!
//! The addresses that move are keepalived's: the two VIPs, and the gateway of masqueraded servers.

use std::{
    fs,
    net::{Ipv4Addr, SocketAddr, TcpStream},
    path::{Path, PathBuf},
    process::{Command, Stdio},
    time::Duration,
};

use anyhow::{Context as _, Result};
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use tempfile::TempDir;

use super::{
    agent::Agent,
    clock::Moment,
    director::prepare_ipvs,
    keepalived,
    namespace::Namespace,
    network::{LAN, WAN, ip, set},
    process::{self, ArmedScript, Process, programs},
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
/// The recipe that both directors have, from this package's folder.
const RECIPE: &str = "../contrib/high-availability/keepalived-pair";

/// The network, the servers and the two directors. Dropping it ends all of it.
#[derive(Debug)]
pub struct Pair {
    /// The directors, a first.
    pub directors: [Director; 2],
    /// The servers' processes.
    servers: Vec<Process>,
    /// Where the clients are.
    pub clients: Namespace,
    switch: Namespace,
    /// Where the servers are.
    pub server_namespaces: Vec<Namespace>,
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
        super::leftovers::remove_of_dead_runs()?;
        let namespaces = ["director-a", "director-b"].map(Namespace::create);
        let [a, b] = namespaces;
        let (a, b) = (a?, b?);
        let (clients, switch) = (Namespace::create("clients")?, Namespace::create("switch")?);
        let server_namespaces: Vec<Namespace> =
            (1..=SERVERS).map(|number| Namespace::create(&format!("rs{number}"))).collect::<Result<_>>()?;
        cable(&switch, &[&a, &b], &clients, &server_namespaces)?;
        let servers = (1..).zip(&server_namespaces).map(|(number, namespace)| serve(namespace, number));
        let servers = servers.collect::<Result<Vec<_>>>()?;
        let directors = [Director::start("director-a", a)?, Director::start("director-b", b)?];
        let mut pair = Self { directors, servers, clients, switch, server_namespaces };
        for director in &mut pair.directors {
            director.agent.wait_until_ready()?;
        }
        wait::until_true("director a to have the VIPs", START_LIMIT, || pair.directors[0].has_vips())?;
        Ok(pair)
    }

    /// Cuts the power of a director: nothing leaves it from one moment on, which is returned, and its programs are
    /// gone.
    pub fn power_off(&mut self, number: usize) -> Result<Moment> {
        let name = self.directors[number].name;
        // First the one that VRRP is on: with the other one first keepalived would have time to say goodbye.
        let script = format!("link set {name}-l down\nlink set {name}-w down\n");
        let (at, _) = ArmedScript::arm(&self.switch, &["ip", "-batch", "-"], script)?.fire()?;
        self.directors[number].kill()?;
        Ok(at)
    }

    /// The link of a server goes down.
    pub fn kill_server(&self, number: u8) -> Result<Moment> {
        let script = format!("link set rs{number} down\n");
        let (at, _) = ArmedScript::arm(&self.switch, &["ip", "-batch", "-"], script)?.fire()?;
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

    /// The process ids of the servers, for errors.
    #[must_use]
    pub fn server_pids(&self) -> Vec<Pid> {
        self.servers.iter().map(Process::pid).collect()
    }
}

impl Director {
    /// Starts keepalived and the agent with the recipe's files.
    fn start(name: &'static str, namespace: Namespace) -> Result<Self> {
        prepare_ipvs(&namespace)?;
        let folder = tempfile::Builder::new().prefix("lvs-lab-").tempdir()?;
        let runtime = format!("RUNTIME_DIRECTORY={}", folder.path().display());
        let config = fs::read_to_string(recipe("lvs-agent.toml"))?;
        let agent = Agent::start_under(&namespace, &config, &["env", &runtime])?;
        let keepalived = keepalived::start_vrrp(&namespace, &recipe("keepalived.conf"), name, folder.path())?;
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

    /// The connections that its kernel has as established, as `CLIENT:PORT`.
    pub fn established(&self) -> Result<Vec<SocketAddr>> {
        let table = self.namespace.run(|| Ok(fs::read_to_string("/proc/thread-self/net/ip_vs_conn")?))?;
        Ok(table.lines().filter(|line| line.contains("ESTABLISHED")).filter_map(client_of).collect())
    }
}

/// The client of a line such as `TCP 0A140001 9C40 C0000250 0050 …`.
fn client_of(line: &str) -> Option<SocketAddr> {
    let mut words = line.split_whitespace().skip(1);
    let address = u32::from_str_radix(words.next()?, 16).ok()?;
    let port = u16::from_str_radix(words.next()?, 16).ok()?;
    Some((Ipv4Addr::from_bits(address), port).into())
}

/// A file of the recipe.
fn recipe(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(RECIPE).join(name)
}

/// All devices, addresses and routes but those that keepalived adds.
fn cable(
    switch: &Namespace,
    directors: &[&Namespace; 2],
    clients: &Namespace,
    servers: &[Namespace],
) -> Result<()> {
    let quiet = ["net/ipv6/conf/all/disable_ipv6=1", "net/ipv6/conf/default/disable_ipv6=1"];
    let no_filter = ["net/ipv4/conf/all/rp_filter=0", "net/ipv4/conf/default/rp_filter=0"];
    for namespace in [switch, clients].into_iter().chain(directors.iter().copied()).chain(servers) {
        set(namespace, &no_filter)?;
        set(namespace, &quiet)?;
    }
    ip(switch, &switch_script(directors, clients, servers))?;
    ip(
        clients,
        &format!(
            "link set lo up\nlink set {WAN} up\nlink set {LAN} up\n\
         addr add 198.51.100.1/24 dev {WAN}\naddr add 10.0.0.253/24 dev {LAN}\n\
         route add local 10.20.0.0/16 dev lo\nroute add 192.0.2.0/24 dev {WAN}\n"
        ),
    )?;
    for (number, director) in (11..).zip(directors) {
        set(director, &["net/ipv4/ip_forward=1", "net/ipv4/conf/all/send_redirects=0"])?;
        ip(
            director,
            &format!(
                "link set lo up\nlink set {WAN} up\nlink set {LAN} up\n\
             addr add 198.51.100.{number}/24 dev {WAN}\naddr add 10.0.0.2{number}/24 dev {LAN}\n\
             route add 10.20.0.0/16 via 198.51.100.1\n"
            ),
        )?;
    }
    for (number, server) in (1..).zip(servers) {
        // A directly routed server has the VIP but must not answer ARP requests for it.
        set(server, &["net/ipv4/conf/all/arp_ignore=1", "net/ipv4/conf/all/arp_announce=2"])?;
        let direct = DIRECT.ip();
        ip(
            server,
            &format!(
                "link set lo up\nlink set {LAN} up\naddr add 10.0.0.{number}/24 dev {LAN}\n\
             route add default via 10.0.0.254\naddr add {direct}/32 dev lo\n\
             rule add from {direct} lookup 100\nroute add default via 10.0.0.253 table 100\n"
            ),
        )?;
    }
    Ok(())
}

/// Two bridges, and a port for everybody.
fn switch_script(directors: &[&Namespace; 2], clients: &Namespace, servers: &[Namespace]) -> String {
    let bridge = |name: &str| {
        format!("link add {name} type bridge forward_delay 0 mcast_snooping 0\nlink set {name} up\n")
    };
    let port = |bridge: &str, port: &str, device: &str, namespace: &Namespace| {
        format!(
            "link add {port} type veth peer name {device} netns {}\nlink set {port} master {bridge} up\n",
            namespace.name()
        )
    };
    let [a, b] = directors;
    let ports = [
        port("front", "clients-w", WAN, clients),
        port("back", "clients-l", LAN, clients),
        port("front", "director-a-w", WAN, a),
        port("back", "director-a-l", LAN, a),
        port("front", "director-b-w", WAN, b),
        port("back", "director-b-l", LAN, b),
    ];
    let servers =
        (1..).zip(servers).map(|(number, server)| port("back", &format!("rs{number}"), LAN, server));
    bridge("front") + &bridge("back") + &ports.into_iter().chain(servers).collect::<String>()
}

/// Starts a server and waits until it listens.
fn serve(namespace: &Namespace, number: u8) -> Result<Process> {
    let name = format!("rs{number}");
    let mut command = Command::new(programs::server()?);
    command.args(["--name", &name, "--listen", "0.0.0.0:80"]).stdin(Stdio::null());
    let mut process = Process::start(namespace, &name, &mut command)?;
    wait::until_true(&format!("{name} to listen"), START_LIMIT, || {
        process.status()?.map_or(Ok(()), |status| Err(anyhow::anyhow!("{name} ended: {status}")))?;
        namespace.run(|| Ok(TcpStream::connect((Ipv4Addr::LOCALHOST, 80)).is_ok()))
    })
    .context("a server")?;
    Ok(process)
}
