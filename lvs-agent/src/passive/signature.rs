//! What tells the packets of one server from those of another, as far as the services say. Pure.

use std::net::{IpAddr, SocketAddr};

use super::{
    visibility::{NoSignal, Visibility},
    wire_key::WireKey,
};
use crate::model::{
    AddressFamily, DestinationKey, ForwardingMethod, Mac, Protocol, ServiceKey, Tunnel, VirtualService,
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

/// What makes one endpoint on the wire: destinations of the same signature can't be distinguished and needn't be,
/// because they are the same socket on the same server.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct EndpointSignature {
    pub(super) protocol: Protocol,
    pub(super) form: PacketForm,
}

/// What packets show of the service and the server.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) enum PacketForm {
    /// Masquerade: the server's address and port, whatever the service's are; port 0 stands for every port.
    Address(SocketAddr),
    /// Masquerade by firewall mark, with the port left alone.
    AddressMark { server: IpAddr, mark: u32 },
    /// Direct route: what the client wrote, on the way to the server's MAC address.
    Link { service: ServiceMatch, server: IpAddr },
    /// Tunnel: what the client wrote, wrapped up for the server's address.
    Tunnel { service: ServiceMatch, end: IpAddr, gue: Option<u16> },
}

/// What a client's packet shows of the service.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) enum ServiceMatch {
    /// VIP and port; port 0 stands for every port.
    Address(SocketAddr),
    /// A firewall mark.
    Mark { mark: u32, family: AddressFamily },
}

impl PacketForm {
    /// The real server's address.
    pub(super) fn server(&self) -> IpAddr {
        match self {
            Self::Address(server) => server.ip(),
            Self::AddressMark { server, .. } | Self::Link { server, .. } => *server,
            Self::Tunnel { end, .. } => *end,
        }
    }
}

impl EndpointSignature {
    /// All signatures of a destination: one for each protocol.
    pub(super) fn of(forwarding: &Forwarding) -> Result<Vec<Self>, NoSignal> {
        let form = form(forwarding)?;
        let protocols: &[Protocol] = match forwarding.destination.service {
            ServiceKey::Address { protocol, .. } => &[protocol],
            ServiceKey::Mark { .. } => &[Protocol::Tcp, Protocol::Udp],
        };
        Ok(protocols.iter().map(|&protocol| Self { protocol, form }).collect())
    }

    /// How much of its traffic is seen.
    pub(super) fn visibility(&self) -> Visibility {
        let both_ways = matches!(self.form, PacketForm::Address(_) | PacketForm::AddressMark { .. });
        match (self.protocol, both_ways) {
            (Protocol::Tcp | Protocol::Udp, true) => Visibility::Both,
            (Protocol::Tcp, false) => Visibility::ClientOnly,
            (Protocol::Udp, false) => Visibility::CountersOnly(
                "UDP answers bypass the director, so the traffic says nothing about the server",
            ),
            (Protocol::Sctp, _) => Visibility::CountersOnly("SCTP handshakes are not tracked"),
        }
    }

    /// The key of its packets, if the next hop's MAC address is this.
    pub(super) fn key(&self, mac: Option<Mac>) -> Result<WireKey, NoSignal> {
        let protocol = self.protocol;
        let mac = mac.ok_or(NoSignal::NeighbourUnknown);
        Ok(match self.form {
            PacketForm::Address(server) => WireKey::address(protocol, server),
            PacketForm::AddressMark { server, mark } => WireKey::address_mark(protocol, server, mark),
            PacketForm::Link { service: ServiceMatch::Address(vip), .. } => {
                WireKey::link(protocol, vip, mac?)
            }
            PacketForm::Link { service: ServiceMatch::Mark { mark, family }, .. } => {
                WireKey::link_mark(protocol, mark, family, mac?)
            }
            PacketForm::Tunnel { service: ServiceMatch::Address(vip), end, .. } => {
                WireKey::tunnel(protocol, vip, end)
            }
            PacketForm::Tunnel { service: ServiceMatch::Mark { mark, family }, end, .. } => {
                WireKey::tunnel_mark(protocol, mark, family, end)
            }
        })
    }

    /// What its answers look like where neither a port nor a mark tells them from others: their protocol and address.
    pub(super) fn answers(&self) -> Option<(Protocol, IpAddr)> {
        match self.form {
            PacketForm::Address(server) if server.port() == 0 => Some((self.protocol, server.ip())),
            PacketForm::AddressMark { server, .. } => Some((self.protocol, server)),
            _ => None,
        }
    }

    /// The second key of a destination by firewall mark, for its answers: they bear no mark.
    pub(super) fn answer_key(&self) -> Option<WireKey> {
        match self.form {
            PacketForm::AddressMark { server, .. } => Some(WireKey::address_mark(self.protocol, server, 0)),
            _ => None,
        }
    }

    /// The key of its tunnel's end, where the programs need one.
    pub(super) fn gue_key(&self) -> Option<WireKey> {
        match self.form {
            PacketForm::Tunnel { end, gue: Some(port), .. } => Some(WireKey::gue(SocketAddr::new(end, port))),
            _ => None,
        }
    }

    /// Whether its key needs the MAC address of the next hop.
    pub(super) fn needs_mac(&self) -> bool {
        matches!(self.form, PacketForm::Link { .. })
    }
}

fn form(forwarding: &Forwarding) -> Result<PacketForm, NoSignal> {
    let DestinationKey { service, server } = forwarding.destination;
    let service = match service {
        ServiceKey::Address { address, .. } => ServiceMatch::Address(address),
        ServiceKey::Mark { mark, family } => ServiceMatch::Mark { mark, family },
    };
    match (forwarding.method, service) {
        // The kernel leaves the port alone if the destination has none (`ip_vs_schedule`, `ip_vs_sched_persist`).
        (ForwardingMethod::Masquerade, ServiceMatch::Mark { mark, .. }) if server.port() == 0 => {
            Ok(PacketForm::AddressMark { server: server.ip(), mark })
        }
        (ForwardingMethod::Masquerade, _) => Ok(PacketForm::Address(server)),
        (ForwardingMethod::DirectRoute, service) => Ok(PacketForm::Link { service, server: server.ip() }),
        (ForwardingMethod::Tunnel, service) => {
            let gue = match forwarding.tunnel {
                Tunnel::Ipip | Tunnel::Gre { .. } => None,
                Tunnel::Gue { port, .. } => Some(port),
                Tunnel::Other { kind, .. } => return Err(NoSignal::UnknownTunnel(kind)),
            };
            Ok(PacketForm::Tunnel { service, end: server.ip(), gue })
        }
        (ForwardingMethod::Local, _) => Err(NoSignal::Local),
        (ForwardingMethod::Bypass, _) => Err(NoSignal::Bypass),
    }
}
