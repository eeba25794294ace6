//! The words of LVS as types: what names a virtual service and a real server in it.

mod persistence;
mod tunnel;

use std::{
    fmt,
    net::{IpAddr, SocketAddr},
    str::FromStr,
};

pub use persistence::{Netmask, Persistence};
pub use tunnel::{Tunnel, TunnelFlags};

/// Transport protocol of a virtual service.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Protocol {
    /// TCP, protocol number 6.
    Tcp,
    /// UDP, protocol number 17.
    Udp,
    /// SCTP, protocol number 132.
    Sctp,
}

impl Protocol {
    /// The IANA protocol number.
    #[must_use]
    pub fn number(self) -> u8 {
        match self {
            Self::Tcp => 6,
            Self::Udp => 17,
            Self::Sctp => 132,
        }
    }

    /// The protocol behind an IANA number, if IPVS balances it.
    #[must_use]
    pub fn from_number(number: u16) -> Option<Self> {
        match number {
            6 => Some(Self::Tcp),
            17 => Some(Self::Udp),
            132 => Some(Self::Sctp),
            _ => None,
        }
    }
}

impl fmt::Display for Protocol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Tcp => "tcp",
            Self::Udp => "udp",
            Self::Sctp => "sctp",
        })
    }
}

/// IP version, as IPVS names it for services without an address.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum AddressFamily {
    /// IPv4.
    V4,
    /// IPv6.
    V6,
}

impl From<IpAddr> for AddressFamily {
    fn from(address: IpAddr) -> Self {
        if address.is_ipv4() { Self::V4 } else { Self::V6 }
    }
}

/// What names a virtual service in the kernel's table.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ServiceKey {
    /// A VIP and port. Port 0 means every port and needs persistence.
    Address {
        /// Transport protocol.
        protocol: Protocol,
        /// VIP and port.
        address: SocketAddr,
    },
    /// A firewall mark.
    Mark {
        /// The mark, never 0.
        mark: u32,
        /// IP version of the packets with that mark.
        family: AddressFamily,
    },
}

impl ServiceKey {
    /// IP version of the service's clients.
    #[must_use]
    pub fn family(&self) -> AddressFamily {
        match self {
            Self::Address { address, .. } => address.ip().into(),
            Self::Mark { family, .. } => *family,
        }
    }
}

impl fmt::Display for ServiceKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Address { protocol, address } => write!(f, "{protocol} {address}"),
            Self::Mark { mark, family: AddressFamily::V4 } => write!(f, "mark {mark}"),
            Self::Mark { mark, family: AddressFamily::V6 } => write!(f, "mark {mark} (IPv6)"),
        }
    }
}

/// A destination: a real server *in* a service.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct DestinationKey {
    /// The key of its virtual service.
    pub service: ServiceKey,
    /// The real server's address and port.
    pub server: SocketAddr,
}

impl fmt::Display for DestinationKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} -> {}", self.service, self.server)
    }
}

/// Weight of a destination. 0 is quiescent: no new connections, existing ones go on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Weight(pub u16);

impl Weight {
    /// The weight that keeps new connections away.
    pub const QUIESCENT: Self = Self(0);

    /// Whether new connections are kept away.
    #[must_use]
    pub fn is_quiescent(self) -> bool {
        self == Self::QUIESCENT
    }
}

impl fmt::Display for Weight {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// How packets reach the real server.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ForwardingMethod {
    /// Destination address rewritten (`ipvsadm -m`, NAT); answers come back through the director.
    Masquerade,
    /// Destination kept, sent to the server's MAC address (`ipvsadm -g`); answers bypass the director.
    DirectRoute,
    /// Wrapped into another packet (`ipvsadm -i`); answers bypass the director.
    Tunnel,
    /// Delivered on the director itself.
    Local,
    /// Sent on to where it was going (cache clusters).
    Bypass,
}

impl fmt::Display for ForwardingMethod {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Masquerade => "masquerade",
            Self::DirectRoute => "direct-route",
            Self::Tunnel => "tunnel",
            Self::Local => "local",
            Self::Bypass => "bypass",
        })
    }
}

/// A scheduler that Linux has (`net/netfilter/ipvs/Kconfig`, Linux 6.12).
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Scheduler(&'static str);

impl Scheduler {
    /// Every scheduler, by the name that `ipvsadm -s` takes.
    pub const NAMES: [&'static str; 14] =
        ["rr", "wrr", "lc", "wlc", "fo", "ovf", "lblc", "lblcr", "dh", "sh", "mh", "sed", "nq", "twos"];

    /// The scheduler's name, as the kernel spells it.
    #[must_use]
    pub fn name(&self) -> &'static str {
        self.0
    }

    /// Whether it chooses a server by a hash, and what it does if that one takes no connections.
    pub(crate) fn hashing(&self) -> Option<Hashing> {
        match self.0 {
            "sh" | "mh" => Some(Hashing::Fallback),
            "dh" => Some(Hashing::NoFallback),
            _ => None,
        }
    }
}

/// What a scheduler that chooses by a hash does about a server that takes no connections.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Hashing {
    /// It refuses the client, or chooses another server if its fallback flag is set.
    Fallback,
    /// It refuses the client.
    NoFallback,
}

impl Default for Scheduler {
    /// `wlc`, as ipvsadm has it.
    fn default() -> Self {
        Self("wlc")
    }
}

/// There is no scheduler of that name.
#[derive(Debug, thiserror::Error)]
#[error("unknown scheduler \"{0}\"; Linux has: {known}", known = Scheduler::NAMES.join(", "))]
pub struct UnknownScheduler(String);

impl FromStr for Scheduler {
    type Err = UnknownScheduler;

    fn from_str(name: &str) -> Result<Self, Self::Err> {
        Self::NAMES
            .into_iter()
            .find(|known| *known == name)
            .map(Self)
            .ok_or_else(|| UnknownScheduler(name.to_owned()))
    }
}

impl fmt::Display for Scheduler {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0)
    }
}
