//! The lab's network: who has which address, and the cables between the namespaces.

use std::{fs, iter, net::Ipv4Addr, path::Path};

use anyhow::{Context as _, Result};

use crate::{namespace::Namespace, process};

/// What clients connect to.
pub const VIP: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 80);
/// The port of the service and of the real servers.
pub const PORT: u16 = 80;
/// The director's address towards the real servers.
pub const DIRECTOR: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 254);
/// The network that all clients' addresses are from: 256 networks of /24.
pub const CLIENTS: &str = "10.20.0.0/16";

/// The network that forged SYNs claim to be from; nobody answers there.
pub const FORGED: &str = "10.21.0.0/16";

/// The clients' leg on the switch, where the answers of directly routed servers arrive.
const CLIENT_LEG: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 253);
/// Both ends of the cable between the clients and the director.
const CLIENT_WAN: Ipv4Addr = Ipv4Addr::new(198, 51, 100, 1);
const DIRECTOR_WAN: Ipv4Addr = Ipv4Addr::new(198, 51, 100, 254);
/// The servers' routing table for what they send from the VIP.
const DIRECT_TABLE: u32 = 100;

/// The device of every box towards the switch.
pub const LAN: &str = "lan";
/// The device of the clients and of the director towards each other.
pub const WAN: &str = "wan";

/// The address of a client: each of 256 following numbers is in another /24.
#[must_use]
pub fn client_address(number: u32) -> Ipv4Addr {
    let [_, _, host, network] = number.to_be_bytes();
    Ipv4Addr::new(10, 20, network, host % 250 + 1)
}

/// An address that a forged SYN claims to be from.
#[must_use]
pub fn forged_address(number: u32) -> Ipv4Addr {
    let [_, _, network, host] = number.to_be_bytes();
    Ipv4Addr::new(10, 21, network, host)
}

/// The address of the real server with this number, counted from 0.
#[must_use]
pub fn server_address(number: u8) -> Ipv4Addr {
    Ipv4Addr::new(10, 0, 0, number + 1)
}

/// The namespaces of one lab, cabled.
#[derive(Debug)]
pub struct Network {
    /// Where the clients are.
    pub clients: Namespace,
    /// Where IPVS and the agent are.
    pub director: Namespace,
    /// The bridge between the director, the servers and the clients' second leg.
    pub switch: Namespace,
    /// Where the real servers are.
    pub servers: Vec<Namespace>,
}

impl Network {
    /// Makes the namespaces, the cables, addresses and routes.
    pub fn build(servers: u8) -> Result<Self> {
        let network = Self {
            clients: Namespace::create("clients")?,
            director: Namespace::create("director")?,
            switch: Namespace::create("switch")?,
            servers: (0..servers).map(|number| Namespace::create(&port_of(number))).collect::<Result<_>>()?,
        };
        network.set_sysctls()?;
        ip(&network.switch, &network.switch_script())?;
        ip(&network.director, &director_script(&network.clients))?;
        ip(&network.clients, &clients_script())?;
        for (number, server) in (0..).zip(&network.servers) {
            ip(server, &server_script(number))?;
        }
        Ok(network)
    }

    /// A bridge with a port for every box.
    fn switch_script(&self) -> String {
        let bridge =
            "link add sw0 type bridge forward_delay 0 mcast_snooping 0\nlink set sw0 up\n".to_owned();
        let servers = (0..).zip(&self.servers).map(|(number, namespace)| (port_of(number), namespace));
        let others = [("director".to_owned(), &self.director), ("clients".to_owned(), &self.clients)];
        let ports = others.into_iter().chain(servers).map(|(port, namespace)| {
            let name = namespace.name();
            format!("link add {port} type veth peer name {LAN} netns {name}\nlink set {port} master sw0 up\n")
        });
        iter::once(bridge).chain(ports).collect::<Vec<_>>().concat()
    }

    /// The settings that devices made later inherit.
    fn set_sysctls(&self) -> Result<()> {
        let everywhere = ["net/ipv4/conf/all/rp_filter=0", "net/ipv4/conf/default/rp_filter=0"];
        let quiet = ["net/ipv6/conf/all/disable_ipv6=1", "net/ipv6/conf/default/disable_ipv6=1"];
        let director = [
            "net/ipv4/ip_forward=1",
            "net/ipv4/conf/all/send_redirects=0",
            "net/ipv4/conf/default/send_redirects=0",
        ];
        // A directly routed server has the VIP but must not answer ARP requests for it.
        let server = ["net/ipv4/conf/all/arp_ignore=1", "net/ipv4/conf/all/arp_announce=2"];
        for namespace in [&self.clients, &self.director, &self.switch].into_iter().chain(&self.servers) {
            set(namespace, &everywhere)?;
            // Without IPv6 no device announces itself in the middle of a measurement.
            set_where_known(namespace, &quiet)?;
        }
        set(&self.director, &director)?;
        self.servers.iter().try_for_each(|namespace| set(namespace, &server))
    }
}

/// Runs an `ip` batch inside a namespace.
pub fn ip(namespace: &Namespace, script: &str) -> Result<String> {
    process::run(namespace, &["ip", "-batch", "-"], script)
}

/// The switch's port towards the real server with this number.
#[must_use]
pub fn port_of(server: u8) -> String {
    format!("rs{}", server + 1)
}

/// Writes sysctls, each as `path=value`.
pub fn set(namespace: &Namespace, settings: &[&str]) -> Result<()> {
    namespace.run(|| {
        settings.iter().try_for_each(|setting| {
            let (path, value) = setting.split_once('=').context("a setting without =")?;
            fs::write(Path::new("/proc/sys").join(path), value)
                .with_context(|| format!("cannot set sysctl {path} to {value}"))
        })
    })
}

fn set_where_known(namespace: &Namespace, settings: &[&str]) -> Result<()> {
    let known = |setting: &&str| {
        setting.split_once('=').is_some_and(|(path, _)| Path::new("/proc/sys").join(path).exists())
    };
    set(namespace, &settings.iter().copied().filter(known).collect::<Vec<_>>())
}

fn director_script(clients: &Namespace) -> String {
    let clients = clients.name();
    format!(
        "link set lo up\n\
         link add {WAN} type veth peer name {WAN} netns {clients}\n\
         addr add {DIRECTOR_WAN}/24 dev {WAN}\naddr add {VIP}/32 dev {WAN}\nlink set {WAN} up\n\
         addr add {DIRECTOR}/24 dev {LAN}\nlink set {LAN} up\n\
         route add {CLIENTS} via {CLIENT_WAN}\nroute add {FORGED} via {CLIENT_WAN}\n"
    )
}

fn clients_script() -> String {
    // The local route makes every address of the network the clients' own, without an entry for each.
    format!(
        "link set lo up\n\
         addr add {CLIENT_WAN}/24 dev {WAN}\nlink set {WAN} up\n\
         addr add {CLIENT_LEG}/24 dev {LAN}\nlink set {LAN} up\n\
         route add local {CLIENTS} dev lo\nroute add local {FORGED} dev lo\n\
         route add {VIP}/32 via {DIRECTOR_WAN}\n"
    )
}

fn server_script(number: u8) -> String {
    // For direct routing the VIP is the server's own as well, and what is sent from it bypasses the director.
    format!(
        "link set lo up\n\
         addr add {address}/24 dev {LAN}\nlink set {LAN} up\n\
         route add default via {DIRECTOR}\n\
         addr add {VIP}/32 dev lo\n\
         rule add from {VIP} lookup {DIRECT_TABLE}\n\
         route add default via {CLIENT_LEG} table {DIRECT_TABLE}\n",
        address = server_address(number),
    )
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn neighbouring_clients_are_in_distinct_networks() {
        let networks: HashSet<_> = (0..256).map(|number| client_address(number).octets()[2]).collect();
        assert_eq!(networks.len(), 256);
        let addresses: HashSet<_> = (0..256 * 250).map(client_address).collect();
        assert_eq!(addresses.len(), 256 * 250);
    }
}
