//! The lab's network: the cables between the namespaces, addresses and routes.

pub mod netlink;

use std::{fs, iter, net::IpAddr, path::Path, time::Duration};

use anyhow::{Context as _, Result};

use crate::lab::{
    layout::{AddressPlan, Encapsulation, Family, GUE_PORT, Layout, Link, Method},
    namespace::Namespace,
    process,
};

/// The cable of every box to the switch.
pub const LAN: &str = "lan";
/// The device of the clients and of the director towards each other.
pub const WAN: &str = "wan";
/// The switch's bridge for the director and the clients' second leg.
const FRONT: &str = "sw0";
/// The bridge for the servers where they are behind a router.
const BACK: &str = "sw1";
/// The servers' routing table for what they send from the VIP.
pub const DIRECT_TABLE: u32 = 100;

/// The namespaces of one lab, cabled.
#[derive(Debug)]
pub struct Network {
    /// How it is laid out.
    pub layout: Layout,
    /// Where the clients are.
    pub clients: Namespace,
    /// Where IPVS and the agent are.
    pub director: Namespace,
    /// The bridge between the director, the servers and the clients' second leg; or a router.
    pub switch: Namespace,
    /// Where the real servers are.
    pub servers: Vec<Namespace>,
}

impl Network {
    /// Makes the namespaces, the cables, addresses and routes.
    pub fn build(layout: &Layout) -> Result<Self> {
        let network = Self {
            layout: *layout,
            clients: Namespace::create("clients")?,
            director: Namespace::create("director")?,
            switch: Namespace::create("switch")?,
            servers: (0..layout.servers)
                .map(|number| Namespace::create(&port_of(number)))
                .collect::<Result<_>>()?,
        };
        network.set_sysctls()?;
        network.cable()?;
        for family in layout.spoken() {
            network.address(*family)?;
        }
        network.end_tunnels()?;
        Ok(network)
    }

    /// The bridge that the servers' ports are in.
    #[must_use]
    pub fn servers_bridge(&self) -> &'static str {
        if self.layout.link == Link::Router { BACK } else { FRONT }
    }

    /// Puts so much time between the clients and everybody else, there and back together.
    pub fn set_distance(&self, round_trip: Duration) -> Result<()> {
        let micros = round_trip.as_micros();
        let script = format!("qdisc add dev {WAN} root netem delay {micros}us limit 100000\n");
        process::run(&self.clients, &["tc", "-batch", "-"], &script).map(drop)
    }

    /// From now on the way between clients and director leads through a GRE tunnel: devices without Ethernet.
    pub fn lead_clients_through_gre(&self) -> Result<()> {
        let AddressPlan { vip, clients, client_wan, director_wan, host, .. } =
            AddressPlan::of(self.layout.family);
        let tunnel = |local: IpAddr, remote: IpAddr, behind: &str| {
            format!(
                "link add wan-gre type gre local {local} remote {remote}\nlink set wan-gre up\n\
                 route replace {behind} dev wan-gre\n"
            )
        };
        ip(&self.director, &tunnel(director_wan, client_wan, clients))?;
        ip(&self.clients, &tunnel(client_wan, director_wan, &format!("{vip}/{host}"))).map(drop)
    }

    /// All devices.
    fn cable(&self) -> Result<()> {
        ip(&self.switch, &self.switch_script())?;
        let clients = self.clients.name();
        let wan = format!("link add {WAN} type veth peer name {WAN} netns {clients}\n");
        let up = format!("link set lo up\nlink set {WAN} up\nlink set {LAN} up\n");
        ip(&self.director, &format!("{wan}{up}{}", director_link(self.layout.link)))?;
        ip(&self.clients, &up)?;
        self.servers
            .iter()
            .try_for_each(|server| ip(server, &format!("link set lo up\nlink set {LAN} up\n")).map(drop))
    }

    /// A bridge with a port for every box; a second one for the servers behind a router.
    fn switch_script(&self) -> String {
        let bridge = |name: &str| {
            format!("link add {name} type bridge forward_delay 0 mcast_snooping 0\nlink set {name} up\n")
        };
        let mut bridges = bridge(FRONT);
        if self.layout.link == Link::Router {
            bridges += &bridge(BACK);
        }
        let back = self.servers_bridge();
        let servers = (0..).zip(&self.servers).map(|(number, namespace)| (port_of(number), namespace, back));
        let clients = ("clients".to_owned(), &self.clients, FRONT);
        let ports = iter::once(clients).chain(servers).map(|(port, namespace, bridge)| {
            let name = namespace.name();
            format!(
                "link add {port} type veth peer name {LAN} netns {name}\nlink set {port} master {bridge} up\n"
            )
        });
        let ports = ports.collect::<Vec<_>>().concat();
        format!("{bridges}{ports}{}", self.director_port())
    }

    /// The switch's port towards the director: what speaks its VLANs is the bridge's port.
    fn director_port(&self) -> String {
        let name = self.director.name();
        let cable =
            format!("link add director type veth peer name {LAN} netns {name}\nlink set director up\n");
        let (vlans, port) = match self.layout.link {
            Link::Vlan => (vlan("director", 5), "director.5"),
            Link::StackedVlans => (vlan("director", 7) + &vlan("director.7", 5), "director.7.5"),
            _ => (String::new(), "director"),
        };
        format!("{cable}{vlans}link set {port} master {FRONT}\n")
    }

    /// The settings that devices made later inherit.
    fn set_sysctls(&self) -> Result<()> {
        let everywhere = ["net/ipv4/conf/all/rp_filter=0", "net/ipv4/conf/default/rp_filter=0"];
        let quiet = ["net/ipv6/conf/all/disable_ipv6=1", "net/ipv6/conf/default/disable_ipv6=1"];
        // Addresses are there at once, and nobody looks for routers in the middle of a measurement.
        let v6 = [
            "net/ipv6/conf/all/accept_dad=0",
            "net/ipv6/conf/default/accept_dad=0",
            "net/ipv6/conf/default/dad_transmits=0",
            "net/ipv6/conf/default/router_solicitations=0",
            "net/ipv6/ip_nonlocal_bind=1",
        ];
        let forward = [
            "net/ipv4/ip_forward=1",
            "net/ipv4/conf/all/send_redirects=0",
            "net/ipv4/conf/default/send_redirects=0",
            "net/ipv4/fib_multipath_hash_policy=1",
        ];
        let forward_v6 = ["net/ipv6/conf/all/forwarding=1", "net/ipv6/conf/default/forwarding=1"];
        // A half-seen server has the VIP but must not answer ARP requests for it.
        let server = ["net/ipv4/conf/all/arp_ignore=1", "net/ipv4/conf/all/arp_announce=2"];
        let speaks_v6 = self.layout.spoken().contains(&Family::V6);
        for namespace in [&self.clients, &self.director, &self.switch].into_iter().chain(&self.servers) {
            set(namespace, &everywhere)?;
            // Without IPv6 no device announces itself in the middle of a measurement.
            if speaks_v6 { set(namespace, &v6)? } else { set_where_known(namespace, &quiet)? }
        }
        let routers = [Some(&self.director), (self.layout.link == Link::Router).then_some(&self.switch)];
        for router in routers.into_iter().flatten() {
            set(router, &forward)?;
            if speaks_v6 {
                set(router, &forward_v6)?;
            }
        }
        self.servers.iter().try_for_each(|namespace| set(namespace, &server))
    }

    /// The addresses and routes of one family.
    fn address(&self, family: Family) -> Result<()> {
        let option = if family == Family::V4 { "-4" } else { "-6" };
        let run = |namespace: &Namespace, script: String| {
            process::run(namespace, &["ip", option, "-batch", "-"], &script).map(drop)
        };
        run(&self.director, self.director_routes(family))?;
        run(&self.clients, clients_routes(family))?;
        if self.layout.link == Link::Router {
            run(&self.switch, self.router_routes(family))?;
        }
        (0..)
            .zip(&self.servers)
            .try_for_each(|(number, server)| run(server, self.server_routes(family, number)))
    }

    fn director_routes(&self, family: Family) -> String {
        let device = self.layout.link.device();
        let AddressPlan { vip, director, director_wan, client_wan, clients, forged, prefix, host, .. } =
            AddressPlan::of(family);
        let behind = if self.layout.link == Link::Router {
            let AddressPlan { back, router_front, .. } = AddressPlan::of(family);
            format!("route add {back} via {router_front}\n")
        } else {
            String::new()
        };
        format!(
            "addr add {director_wan}/{prefix} dev {WAN}\naddr add {vip}/{host} dev {WAN}\n\
             addr add {director}/{prefix} dev {device}\n\
             route add {clients} via {client_wan}\nroute add {forged} via {client_wan}\n{behind}"
        )
    }

    /// The router spreads what is for the VIP over all servers, as nothing in a packet says which is meant.
    fn router_routes(&self, family: Family) -> String {
        let AddressPlan { vip, client_leg, router_front, router_back, clients, forged, prefix, host, .. } =
            AddressPlan::of(family);
        let hop = |number| format!(" nexthop via {}", self.layout.address_in(family, number));
        let hops = (0..self.layout.servers).map(hop).collect::<Vec<_>>().concat();
        format!(
            "addr add {router_front}/{prefix} dev {FRONT}\naddr add {router_back}/{prefix} dev {BACK}\n\
             route add {vip}/{host}{hops}\n\
             route add {clients} via {client_leg}\nroute add {forged} via {client_leg}\n"
        )
    }

    /// The VIP is the server's own as well, and what is sent from it bypasses the director.
    fn server_routes(&self, family: Family, number: u8) -> String {
        let AddressPlan { vip, director, client_leg, router_back, prefix, host, .. } =
            AddressPlan::of(family);
        let address = self.layout.address_in(family, number);
        let (default, direct) = match self.layout.link {
            Link::Router => (router_back, router_back),
            _ => (director, client_leg),
        };
        format!(
            "addr add {address}/{prefix} dev {LAN}\nroute add default via {default}\n\
             addr add {vip}/{host} dev lo\n\
             rule add from {vip}/{host} lookup {DIRECT_TABLE}\n\
             route add default via {direct} table {DIRECT_TABLE}\n"
        )
    }

    /// Lets the servers unpack what reaches them through a tunnel.
    fn end_tunnels(&self) -> Result<()> {
        let Method::Tunnel(encapsulation) = self.layout.method else { return Ok(()) };
        if encapsulation == Encapsulation::Gue {
            // The kernel loads by itself what it has a device's kind for, but not this.
            let module = if self.layout.server_family == Family::V4 { "fou" } else { "fou6" };
            process::load_module(module)?;
        }
        (0..)
            .zip(&self.servers)
            .try_for_each(|(number, server)| ip(server, &self.tunnel_end(encapsulation, number)).map(drop))
    }

    /// The device that takes a tunnel's packets from anybody.
    fn tunnel_end(&self, encapsulation: Encapsulation, number: u8) -> String {
        let local = self.layout.server_address(number);
        let kind = match (encapsulation, self.layout.family, self.layout.server_family) {
            (Encapsulation::Gre, _, Family::V4) => "gre",
            (Encapsulation::Gre, _, Family::V6) => "ip6gre",
            (_, Family::V4, Family::V4) => "ipip",
            (_, Family::V6, Family::V4) => "sit",
            (_, Family::V4, Family::V6) => "ip6tnl mode ipip6",
            (_, Family::V6, Family::V6) => "ip6tnl mode ip6ip6",
        };
        let gue = match (encapsulation, self.layout.server_family) {
            (Encapsulation::Gue, Family::V4) => format!("fou add port {GUE_PORT} gue\n"),
            (Encapsulation::Gue, Family::V6) => format!("fou add port {GUE_PORT} gue -6\n"),
            _ => String::new(),
        };
        format!("{gue}link add tun type {kind} local {local}\nlink set tun up\n")
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

/// What is on top of the director's cable to the switch.
fn director_link(link: Link) -> String {
    match link {
        Link::Plain | Link::Router => String::new(),
        Link::Vlan => vlan(LAN, 5),
        Link::StackedVlans => vlan(LAN, 7) + &vlan("lan.7", 5),
        Link::Bond => format!(
            "link add bond0 type bond mode active-backup miimon 100\n\
             link set {LAN} down\nlink set {LAN} master bond0\nlink set bond0 up\n"
        ),
        Link::Bridge => format!(
            "link add br0 type bridge forward_delay 0 mcast_snooping 0\n\
             link set {LAN} master br0\nlink set br0 up\n"
        ),
    }
}

fn vlan(device: &str, number: u16) -> String {
    format!(
        "link add link {device} name {device}.{number} type vlan id {number}\nlink set {device}.{number} up\n"
    )
}

fn clients_routes(family: Family) -> String {
    let AddressPlan { vip, client_leg, client_wan, director_wan, clients, forged, prefix, host, .. } =
        AddressPlan::of(family);
    // The local route makes every address of the network the clients' own, without an entry for each.
    format!(
        "addr add {client_wan}/{prefix} dev {WAN}\naddr add {client_leg}/{prefix} dev {LAN}\n\
         route add local {clients} dev lo\nroute add local {forged} dev lo\n\
         route add {vip}/{host} via {director_wan}\n"
    )
}
