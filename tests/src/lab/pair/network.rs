//! The network of two directors in front of the same servers, without what moves addresses between them.

use std::{
    net::{Ipv4Addr, TcpStream},
    process::{Command, Stdio},
};

use anyhow::{Context as _, Result};

use super::{DIRECT, SERVERS, START_LIMIT};
use crate::lab::{
    clock::Moment,
    leftovers,
    namespace::Namespace,
    network::{LAN, WAN, ip, set},
    process::{ArmedScript, Process, programs},
    wait,
};

/// The names of the directors, a first.
pub(super) const NAMES: [&str; 2] = ["director-a", "director-b"];

/// Namespaces with their devices, addresses and routes, and the servers. Dropping it ends all of it.
#[derive(Debug)]
pub struct PairNetwork {
    /// Where the clients are.
    pub clients: Namespace,
    switch: Namespace,
    /// Where the servers are, and their processes.
    _servers: (Vec<Namespace>, Vec<Process>),
}

impl PairNetwork {
    /// Builds it, and starts the servers. Returns where the directors are, too.
    pub(super) fn build() -> Result<(Self, [Namespace; 2])> {
        leftovers::remove_of_dead_runs()?;
        let [a, b] = NAMES.map(Namespace::create);
        let directors = [a?, b?];
        let (clients, switch) = (Namespace::create("clients")?, Namespace::create("switch")?);
        let servers: Vec<Namespace> =
            (1..=SERVERS).map(|number| Namespace::create(&format!("rs{number}"))).collect::<Result<_>>()?;
        cable(&switch, &directors, &clients, &servers)?;
        let processes = (1..).zip(&servers).map(|(number, namespace)| serve(namespace, number));
        let processes = processes.collect::<Result<Vec<_>>>()?;
        Ok((Self { clients, switch, _servers: (servers, processes) }, directors))
    }

    /// Takes both links from a director: nothing leaves it from one moment on, which is returned.
    pub(super) fn unplug(&self, director: usize) -> Result<Moment> {
        let name = NAMES[director];
        // First the one that VRRP is on: with the other one first keepalived would have time to say goodbye.
        self.at_switch(format!("link set {name}-l down\nlink set {name}-w down\n"))
    }

    /// The link of a server goes down.
    pub fn kill_server(&self, number: u8) -> Result<Moment> {
        self.at_switch(format!("link set rs{number} down\n"))
    }

    fn at_switch(&self, script: String) -> Result<Moment> {
        let (at, _) = ArmedScript::arm(&self.switch, &["ip", "-batch", "-"], script)?.fire()?;
        Ok(at)
    }
}

/// All devices, addresses and routes but the VIPs on the directors and the way to them.
fn cable(
    switch: &Namespace,
    directors: &[Namespace; 2],
    clients: &Namespace,
    servers: &[Namespace],
) -> Result<()> {
    let quiet = ["net/ipv6/conf/all/disable_ipv6=1", "net/ipv6/conf/default/disable_ipv6=1"];
    let no_filter = ["net/ipv4/conf/all/rp_filter=0", "net/ipv4/conf/default/rp_filter=0"];
    for namespace in [switch, clients].into_iter().chain(directors).chain(servers) {
        set(namespace, &no_filter)?;
        set(namespace, &quiet)?;
    }
    ip(switch, &switch_script(directors, clients, servers))?;
    ip(
        clients,
        &format!(
            "link set lo up\nlink set {WAN} up\nlink set {LAN} up\n\
         addr add 198.51.100.1/24 dev {WAN}\naddr add 10.0.0.253/24 dev {LAN}\n\
         route add local 10.20.0.0/16 dev lo\n"
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
fn switch_script(directors: &[Namespace; 2], clients: &Namespace, servers: &[Namespace]) -> String {
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
