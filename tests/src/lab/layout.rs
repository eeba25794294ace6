//! How a lab is laid out: forwarding method, address families, the kind of the director's device, and all addresses.

use std::{
    fmt,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
};

use serde::{Deserialize, Serialize};

/// The port of the first service and of the real servers.
pub const PORT: u16 = 80;
/// The port of a second service; the real servers listen there too.
pub const SECOND_PORT: u16 = 81;
/// Where the real servers take GUE.
pub const GUE_PORT: u16 = 6080;

/// How packets reach the real servers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Method {
    /// Address translation.
    Masquerade,
    /// The server's MAC address.
    DirectRoute,
    /// A packet around the packet.
    Tunnel(Encapsulation),
}

/// What a tunnelled packet is wrapped in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Encapsulation {
    /// An IP header alone (RFC 2003, 2473, 4213).
    Ipip,
    /// GRE (RFC 2784).
    Gre,
    /// Generic UDP encapsulation, to [`GUE_PORT`].
    Gue,
}

impl Method {
    /// One of each kind.
    pub const ALL: [Self; 3] = [Self::Masquerade, Self::DirectRoute, Self::Tunnel(Encapsulation::Ipip)];

    /// Its name in the agent's configuration.
    #[must_use]
    pub fn keyword(self) -> &'static str {
        match self {
            Self::Masquerade => "masquerade",
            Self::DirectRoute => "direct-route",
            Self::Tunnel(_) => "tunnel",
        }
    }

    /// The options that `ipvsadm` takes.
    #[must_use]
    pub fn option(self) -> String {
        match self {
            Self::Masquerade => "-m".to_owned(),
            Self::DirectRoute => "-g".to_owned(),
            Self::Tunnel(Encapsulation::Ipip) => "-i".to_owned(),
            Self::Tunnel(Encapsulation::Gre) => "-i --tun-type gre".to_owned(),
            Self::Tunnel(Encapsulation::Gue) => format!("-i --tun-type gue --tun-port {GUE_PORT}"),
        }
    }

    /// Whether the director sees what the servers send to the clients.
    #[must_use]
    pub fn sees_answers(self) -> bool {
        self == Self::Masquerade
    }
}

impl fmt::Display for Method {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tunnel(Encapsulation::Gre) => f.write_str("tunnel (GRE)"),
            Self::Tunnel(Encapsulation::Gue) => f.write_str("tunnel (GUE)"),
            _ => f.write_str(self.keyword()),
        }
    }
}

/// A version of IP.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Family {
    /// IPv4.
    V4,
    /// IPv6.
    V6,
}

/// The director's device towards the real servers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Link {
    /// A cable to the switch.
    Plain,
    /// A VLAN on that cable.
    Vlan,
    /// A VLAN in a VLAN: on the cable the inner tag is in the packet's bytes.
    StackedVlans,
    /// A bond with the cable as its only member.
    Bond,
    /// A bridge with the cable as its only port.
    Bridge,
    /// A cable to a router in the switch's place: all servers are behind the router's MAC address.
    Router,
}

impl Link {
    /// The name of the device that the routes to the servers lead through.
    #[must_use]
    pub fn device(self) -> &'static str {
        match self {
            Self::Plain | Self::Router => "lan",
            Self::Vlan => "lan.5",
            Self::StackedVlans => "lan.7.5",
            Self::Bond => "bond0",
            Self::Bridge => "br0",
        }
    }
}

/// How a lab is laid out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Layout {
    /// How many real servers.
    pub servers: u8,
    /// The forwarding method of all of them.
    pub method: Method,
    /// The clients' and the VIP's.
    pub family: Family,
    /// The real servers' own. Other than [`Layout::family`] only with a tunnel.
    pub server_family: Family,
    /// The director's device towards the servers.
    pub link: Link,
}

impl Layout {
    /// Three servers, IPv4, a plain cable.
    #[must_use]
    pub fn new(method: Method) -> Self {
        Self { servers: 3, method, family: Family::V4, server_family: Family::V4, link: Link::Plain }
    }

    /// The same with another number of real servers.
    #[must_use]
    pub fn servers(self, servers: u8) -> Self {
        Self { servers, ..self }
    }

    /// The same with other families of the clients and of the servers.
    #[must_use]
    pub fn families(self, family: Family, server_family: Family) -> Self {
        Self { family, server_family, ..self }
    }

    /// The same with another device towards the servers.
    #[must_use]
    pub fn link(self, link: Link) -> Self {
        Self { link, ..self }
    }

    /// The families that the lab's boxes speak.
    #[must_use]
    pub fn spoken(&self) -> &'static [Family] {
        if self.family == Family::V6 || self.server_family == Family::V6 {
            &[Family::V4, Family::V6]
        } else {
            &[Family::V4]
        }
    }

    /// VIP and port of the first service.
    #[must_use]
    pub fn service(&self) -> SocketAddr {
        SocketAddr::new(AddressPlan::of(self.family).vip, PORT)
    }

    /// The director's address on the servers' side.
    #[must_use]
    pub fn director(&self) -> IpAddr {
        AddressPlan::of(self.server_family).director
    }

    /// VIP and port of the second service.
    #[must_use]
    pub fn second_service(&self) -> SocketAddr {
        SocketAddr::new(AddressPlan::of(self.family).vip, SECOND_PORT)
    }

    /// The address that the director knows the real server with this number by, counted from 0.
    #[must_use]
    pub fn server_address(&self, number: u8) -> IpAddr {
        self.address_in(self.server_family, number)
    }

    /// The address of a real server in one of the spoken families.
    #[must_use]
    pub(crate) fn address_in(self, family: Family, number: u8) -> IpAddr {
        let behind = u8::from(self.link == Link::Router);
        match family {
            Family::V4 => Ipv4Addr::new(10, 0, behind, number + 1).into(),
            Family::V6 => Ipv6Addr::new(0xfd00, 0, 0, behind.into(), 0, 0, 0, u16::from(number) + 1).into(),
        }
    }
}

impl fmt::Display for Layout {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.method.fmt(f)?;
        match (self.family, self.server_family) {
            (Family::V4, Family::V4) => {}
            (Family::V6, Family::V6) => f.write_str(", IPv6")?,
            (Family::V6, Family::V4) => f.write_str(", IPv6 in IPv4")?,
            (Family::V4, Family::V6) => f.write_str(", IPv4 in IPv6")?,
        }
        match self.link {
            Link::Plain => Ok(()),
            Link::Vlan => f.write_str(", VLAN"),
            Link::StackedVlans => f.write_str(", VLAN in a VLAN"),
            Link::Bond => f.write_str(", bond"),
            Link::Bridge => f.write_str(", bridge"),
            Link::Router => f.write_str(", behind a router"),
        }
    }
}

/// All addresses of one family but the servers'.
#[derive(Clone, Copy, Debug)]
pub(crate) struct AddressPlan {
    /// What clients connect to.
    pub(crate) vip: IpAddr,
    /// The director towards the servers.
    pub(crate) director: IpAddr,
    /// The clients' leg on the switch, where the answers of half-seen servers arrive.
    pub(crate) client_leg: IpAddr,
    /// The router on the director's side.
    pub(crate) router_front: IpAddr,
    /// The router on the servers' side.
    pub(crate) router_back: IpAddr,
    /// The servers' network behind the router.
    pub(crate) back: &'static str,
    /// The clients' end of the cable to the director.
    pub(crate) client_wan: IpAddr,
    /// The director's end of that cable.
    pub(crate) director_wan: IpAddr,
    /// The network that all clients' addresses are from.
    pub(crate) clients: &'static str,
    /// The network that forged SYNs claim to be from; nobody answers there.
    pub(crate) forged: &'static str,
    /// Length of every network's prefix.
    pub(crate) prefix: u8,
    /// Length of an address.
    pub(crate) host: u8,
}

impl AddressPlan {
    pub(crate) fn of(family: Family) -> Self {
        match family {
            Family::V4 => Self {
                vip: Ipv4Addr::new(192, 0, 2, 80).into(),
                director: Ipv4Addr::new(10, 0, 0, 254).into(),
                client_leg: Ipv4Addr::new(10, 0, 0, 253).into(),
                router_front: Ipv4Addr::new(10, 0, 0, 200).into(),
                router_back: Ipv4Addr::new(10, 0, 1, 254).into(),
                back: "10.0.1.0/24",
                client_wan: Ipv4Addr::new(198, 51, 100, 1).into(),
                director_wan: Ipv4Addr::new(198, 51, 100, 254).into(),
                clients: "10.20.0.0/16",
                forged: "10.21.0.0/16",
                prefix: 24,
                host: 32,
            },
            Family::V6 => Self {
                vip: Ipv6Addr::new(0x2001, 0xdb8, 0x80, 0, 0, 0, 0, 0x80).into(),
                director: Ipv6Addr::new(0xfd00, 0, 0, 0, 0, 0, 0, 0xfe).into(),
                client_leg: Ipv6Addr::new(0xfd00, 0, 0, 0, 0, 0, 0, 0xfd).into(),
                router_front: Ipv6Addr::new(0xfd00, 0, 0, 0, 0, 0, 0, 0xc8).into(),
                router_back: Ipv6Addr::new(0xfd00, 0, 0, 1, 0, 0, 0, 0xfe).into(),
                back: "fd00:0:0:1::/64",
                client_wan: Ipv6Addr::new(0x2001, 0xdb8, 0xff, 0, 0, 0, 0, 1).into(),
                director_wan: Ipv6Addr::new(0x2001, 0xdb8, 0xff, 0, 0, 0, 0, 0xfe).into(),
                clients: "2001:db8:20::/48",
                forged: "2001:db8:21::/48",
                prefix: 64,
                host: 128,
            },
        }
    }
}

/// The network that all clients' addresses of a family are from.
#[must_use]
pub fn clients_of(family: Family) -> &'static str {
    AddressPlan::of(family).clients
}

/// The address of a client: each of 256 following numbers is in another network (/24, /64).
#[must_use]
pub fn client_address(family: Family, number: u32) -> IpAddr {
    let [_, _, host, network] = number.to_be_bytes();
    let host = host % 250 + 1;
    match family {
        Family::V4 => Ipv4Addr::new(10, 20, network, host).into(),
        Family::V6 => Ipv6Addr::new(0x2001, 0xdb8, 0x20, network.into(), 0, 0, 0, host.into()).into(),
    }
}

/// The network (/24, /64) that a client is in.
#[must_use]
pub fn network_of(client: IpAddr) -> String {
    match client {
        IpAddr::V4(address) => {
            let [a, b, c, _] = address.octets();
            format!("{a}.{b}.{c}.0/24")
        }
        IpAddr::V6(address) => {
            let [a, b, c, d, ..] = address.segments();
            format!("{a:x}:{b:x}:{c:x}:{d:x}::/64")
        }
    }
}

/// An address that a forged SYN claims to be from.
#[must_use]
pub fn forged_address(number: u32) -> Ipv4Addr {
    let [_, _, network, host] = number.to_be_bytes();
    Ipv4Addr::new(10, 21, network, host)
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn neighbouring_clients_are_in_distinct_networks() {
        for family in [Family::V4, Family::V6] {
            let networks: HashSet<_> =
                (0..256).map(|number| network_of(client_address(family, number))).collect();
            assert_eq!(networks.len(), 256);
            let addresses: HashSet<_> = (0..256 * 250).map(|number| client_address(family, number)).collect();
            assert_eq!(addresses.len(), 256 * 250);
        }
    }

    #[test]
    fn a_layout_says_what_is_special_about_it() {
        let plain = Layout::new(Method::DirectRoute);
        for (layout, words) in [
            (plain, "direct-route"),
            (plain.link(Link::Bond), "direct-route, bond"),
            (
                Layout::new(Method::Tunnel(Encapsulation::Gre)).families(Family::V6, Family::V4),
                "tunnel (GRE), IPv6 in IPv4",
            ),
        ] {
            assert_eq!(layout.to_string(), words);
        }
    }
}
