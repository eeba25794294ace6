//! What packets to one server look like as far as the table of services says. Pure.

use std::net::{IpAddr, SocketAddr};

use super::{Mac, NoSignal, Sight, WireKey};
use crate::model::{
    AddressFamily, DestinationKey, ForwardingMethod, Protocol, ServiceKey, Tunnel, VirtualService,
};

/// A destination and how packets get there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Forwarding {
    /// Which destination.
    pub destination: DestinationKey,
    /// How packets reach it.
    pub method: ForwardingMethod,
    /// How they are wrapped, where the method is a tunnel.
    pub tunnel: Tunnel,
}

/// The destinations of a service, and how packets get there.
pub fn forwardings(service: &VirtualService) -> impl Iterator<Item = Forwarding> {
    service.destinations().zip(&service.servers).map(|(destination, server)| Forwarding {
        destination,
        method: server.method,
        tunnel: server.tunnel,
    })
}

/// What makes one endpoint on the wire: destinations of the same shape can't be told apart and needn't be, because they
/// are the same socket on the same server.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct Shape {
    pub(super) protocol: Protocol,
    pub(super) form: Form,
}

/// What packets show of the service and the server.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) enum Form {
    /// Masquerade: the server's address and port, whatever the service's are; port 0 stands for every port.
    Address(SocketAddr),
    /// Masquerade by firewall mark, with the port left alone.
    AddressMark { server: IpAddr, mark: u32 },
    /// Direct route: what the client wrote, on the way to the server's MAC address.
    Link { front: Front, server: IpAddr },
    /// Tunnel: what the client wrote, wrapped up for the server's address.
    Tunnel { front: Front, end: IpAddr, gue: Option<u16> },
}

/// What a client's packet shows of the service.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) enum Front {
    /// VIP and port; port 0 stands for every port.
    Address(SocketAddr),
    /// A firewall mark.
    Mark { mark: u32, family: AddressFamily },
}

impl Form {
    /// The real server's address.
    pub(super) fn server(&self) -> IpAddr {
        match self {
            Self::Address(server) => server.ip(),
            Self::AddressMark { server, .. } | Self::Link { server, .. } => *server,
            Self::Tunnel { end, .. } => *end,
        }
    }
}

impl Shape {
    /// All shapes of a destination's packets: one for each protocol.
    pub(super) fn of(forwarding: &Forwarding) -> Result<Vec<Self>, NoSignal> {
        let form = form(forwarding)?;
        let protocols: &[Protocol] = match forwarding.destination.service {
            ServiceKey::Address { protocol, .. } => &[protocol],
            ServiceKey::Mark { .. } => &[Protocol::Tcp, Protocol::Udp],
        };
        Ok(protocols.iter().map(|&protocol| Self { protocol, form }).collect())
    }

    /// How much is seen of it.
    pub(super) fn sight(&self) -> Sight {
        let whole = matches!(self.form, Form::Address(_) | Form::AddressMark { .. });
        match (self.protocol, whole) {
            (Protocol::Tcp | Protocol::Udp, true) => Sight::Whole,
            (Protocol::Tcp, false) => Sight::Half,
            (Protocol::Udp, false) => Sight::CountedOnly(
                "UDP answers bypass the director, so the traffic says nothing about the server",
            ),
            (Protocol::Sctp, _) => Sight::CountedOnly("SCTP handshakes are not tracked"),
        }
    }

    /// The key of its packets, if the next hop's MAC address is this.
    pub(super) fn key(&self, mac: Option<Mac>) -> Result<WireKey, NoSignal> {
        let protocol = self.protocol;
        let mac = mac.ok_or(NoSignal::NeighbourUnknown);
        Ok(match self.form {
            Form::Address(server) => WireKey::address(protocol, server),
            Form::AddressMark { server, mark } => WireKey::address_mark(protocol, server, mark),
            Form::Link { front: Front::Address(vip), .. } => WireKey::link(protocol, vip, mac?),
            Form::Link { front: Front::Mark { mark, family }, .. } => {
                WireKey::link_mark(protocol, mark, family, mac?)
            }
            Form::Tunnel { front: Front::Address(vip), end, .. } => WireKey::tunnel(protocol, vip, end),
            Form::Tunnel { front: Front::Mark { mark, family }, end, .. } => {
                WireKey::tunnel_mark(protocol, mark, family, end)
            }
        })
    }

    /// Whose answers its own look like: those from the same address, where neither a port nor a mark tells them apart.
    pub(super) fn answers(&self) -> Option<(Protocol, IpAddr)> {
        match self.form {
            Form::Address(server) if server.port() == 0 => Some((self.protocol, server.ip())),
            Form::AddressMark { server, .. } => Some((self.protocol, server)),
            _ => None,
        }
    }

    /// The second key of one in a service by firewall mark, for its answers: they bear no mark.
    pub(super) fn answer_key(&self) -> Option<WireKey> {
        match self.form {
            Form::AddressMark { server, .. } => Some(WireKey::address_mark(self.protocol, server, 0)),
            _ => None,
        }
    }

    /// The key that lets its tunnel be recognised, where it needs one.
    pub(super) fn gue_key(&self) -> Option<WireKey> {
        match self.form {
            Form::Tunnel { end, gue: Some(port), .. } => Some(WireKey::gue(SocketAddr::new(end, port))),
            _ => None,
        }
    }

    /// Whether its key needs the MAC address of the next hop.
    pub(super) fn needs_mac(&self) -> bool {
        matches!(self.form, Form::Link { .. })
    }
}

fn form(forwarding: &Forwarding) -> Result<Form, NoSignal> {
    let DestinationKey { service, server } = forwarding.destination;
    let front = match service {
        ServiceKey::Address { address, .. } => Front::Address(address),
        ServiceKey::Mark { mark, family } => Front::Mark { mark, family },
    };
    match (forwarding.method, front) {
        // The kernel leaves the port alone if the destination has none (`ip_vs_schedule`, `ip_vs_sched_persist`).
        (ForwardingMethod::Masquerade, Front::Mark { mark, .. }) if server.port() == 0 => {
            Ok(Form::AddressMark { server: server.ip(), mark })
        }
        (ForwardingMethod::Masquerade, _) => Ok(Form::Address(server)),
        (ForwardingMethod::DirectRoute, front) => Ok(Form::Link { front, server: server.ip() }),
        (ForwardingMethod::Tunnel, front) => {
            let gue = match forwarding.tunnel {
                Tunnel::Ipip | Tunnel::Gre { .. } => None,
                Tunnel::Gue { port, .. } => Some(port),
                Tunnel::Other { kind, .. } => return Err(NoSignal::UnknownTunnel(kind)),
            };
            Ok(Form::Tunnel { front, end: server.ip(), gue })
        }
        (ForwardingMethod::Local, _) => Err(NoSignal::Local),
        (ForwardingMethod::Bypass, _) => Err(NoSignal::Bypass),
    }
}
