//! The entries of the state file, in the form of its JSON.

use std::net::SocketAddr;

use serde::{Deserialize, Serialize};

use crate::{
    ipvs::{Destination, KernelWeight, overrides::Override},
    model::{
        AddressFamily, DestinationKey, DirectorRole, ForwardingMethod, Protocol, ServiceKey, Tunnel,
        TunnelFlags,
    },
    pool::{AdminCommands, Drain},
};

/// One destination with an override.
#[derive(Serialize, Deserialize)]
pub(super) struct OverrideEntry {
    service: Service,
    pub(super) server: SocketAddr,
    method: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    tunnel: Option<Encapsulation>,
    /// Its original weight.
    weight: i32,
    #[serde(default)]
    upper_threshold: u32,
    #[serde(default)]
    lower_threshold: u32,
    /// The weights that it may have in the table, the likeliest first; null: not there.
    stands: Vec<Option<i32>>,
}

/// The admin commands of one destination.
#[derive(Serialize, Deserialize)]
pub(super) struct CommandEntry {
    service: Service,
    server: SocketAddr,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    drain: Option<DrainName>,
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    maintenance: bool,
}

#[derive(Clone, Copy, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum DrainName {
    Quiesce,
    Remove,
}

/// A role, by its name.
#[derive(Clone, Copy, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum RoleName {
    Active,
    Standby,
}

impl From<DirectorRole> for RoleName {
    fn from(role: DirectorRole) -> Self {
        match role {
            DirectorRole::Active => Self::Active,
            DirectorRole::Standby => Self::Standby,
        }
    }
}

impl From<RoleName> for DirectorRole {
    fn from(role: RoleName) -> Self {
        match role {
            RoleName::Active => Self::Active,
            RoleName::Standby => Self::Standby,
        }
    }
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum Service {
    Tcp(SocketAddr),
    Udp(SocketAddr),
    Sctp(SocketAddr),
    MarkIpv4(u32),
    MarkIpv6(u32),
}

/// The encapsulation of a tunnel, as in the kernel's attributes.
#[derive(Clone, Copy, Serialize, Deserialize)]
struct Encapsulation {
    kind: u8,
    port: u16,
    flags: u16,
}

impl OverrideEntry {
    pub(super) fn new(key: &DestinationKey, ours: &Override) -> Self {
        let Override { original, current, previous } = ours;
        let weight = |weight: Option<KernelWeight>| weight.map(|weight| weight.0);
        Self {
            service: key.service.into(),
            server: key.server,
            method: original.method.to_string(),
            tunnel: (original.method == ForwardingMethod::Tunnel).then(|| original.tunnel.into()),
            weight: original.weight.0,
            upper_threshold: original.upper_threshold,
            lower_threshold: original.lower_threshold,
            stands: std::iter::once(weight(*current)).chain(previous.map(weight)).collect(),
        }
    }

    /// The override; `None`: this is no IPVS entry.
    pub(super) fn to_override(&self) -> Option<(DestinationKey, Override)> {
        const METHODS: [ForwardingMethod; 5] = [
            ForwardingMethod::Masquerade,
            ForwardingMethod::DirectRoute,
            ForwardingMethod::Tunnel,
            ForwardingMethod::Local,
            ForwardingMethod::Bypass,
        ];
        let method = METHODS.into_iter().find(|method| method.to_string() == self.method)?;
        let original = Destination {
            server: self.server,
            method,
            tunnel: self.tunnel.map_or_else(Tunnel::default, Tunnel::from),
            weight: KernelWeight(self.weight),
            upper_threshold: self.upper_threshold,
            lower_threshold: self.lower_threshold,
        };
        let mut stands = self.stands.iter().map(|weight| weight.map(KernelWeight));
        let (current, previous) = (stands.next()?, stands.next());
        let key = DestinationKey { service: (&self.service).into(), server: self.server };
        Some((key, Override { original, current, previous }))
    }
}

impl CommandEntry {
    pub(super) fn new(key: &DestinationKey, commands: AdminCommands) -> Self {
        let AdminCommands { drain, maintenance } = commands;
        let drain = drain.map(|drain| match drain {
            Drain::Quiesce => DrainName::Quiesce,
            Drain::Remove => DrainName::Remove,
        });
        Self { service: key.service.into(), server: key.server, drain, maintenance }
    }

    pub(super) fn to_commands(&self) -> (DestinationKey, AdminCommands) {
        let drain = self.drain.map(|drain| match drain {
            DrainName::Quiesce => Drain::Quiesce,
            DrainName::Remove => Drain::Remove,
        });
        let key = DestinationKey { service: (&self.service).into(), server: self.server };
        (key, AdminCommands { drain, maintenance: self.maintenance })
    }
}

impl From<ServiceKey> for Service {
    fn from(key: ServiceKey) -> Self {
        match key {
            ServiceKey::Address { protocol: Protocol::Tcp, address } => Self::Tcp(address),
            ServiceKey::Address { protocol: Protocol::Udp, address } => Self::Udp(address),
            ServiceKey::Address { protocol: Protocol::Sctp, address } => Self::Sctp(address),
            ServiceKey::Mark { mark, family: AddressFamily::V4 } => Self::MarkIpv4(mark),
            ServiceKey::Mark { mark, family: AddressFamily::V6 } => Self::MarkIpv6(mark),
        }
    }
}

impl From<&Service> for ServiceKey {
    fn from(service: &Service) -> Self {
        let of = |protocol, address: &SocketAddr| Self::Address { protocol, address: *address };
        match service {
            Service::Tcp(address) => of(Protocol::Tcp, address),
            Service::Udp(address) => of(Protocol::Udp, address),
            Service::Sctp(address) => of(Protocol::Sctp, address),
            Service::MarkIpv4(mark) => Self::Mark { mark: *mark, family: AddressFamily::V4 },
            Service::MarkIpv6(mark) => Self::Mark { mark: *mark, family: AddressFamily::V6 },
        }
    }
}

/// `IP_VS_CONN_F_TUNNEL_TYPE_*` of `linux/ip_vs.h`.
const IPIP: u8 = 0;
const GUE: u8 = 1;
const GRE: u8 = 2;

impl From<Tunnel> for Encapsulation {
    fn from(tunnel: Tunnel) -> Self {
        match tunnel {
            Tunnel::Ipip => Self { kind: IPIP, port: 0, flags: 0 },
            Tunnel::Gue { port, flags } => Self { kind: GUE, port, flags: flags.0 },
            Tunnel::Gre { flags } => Self { kind: GRE, port: 0, flags: flags.0 },
            Tunnel::Other { kind, port, flags } => Self { kind, port, flags: flags.0 },
        }
    }
}

impl From<Encapsulation> for Tunnel {
    fn from(Encapsulation { kind, port, flags }: Encapsulation) -> Self {
        let flags = TunnelFlags(flags);
        match kind {
            IPIP => Self::Ipip,
            GUE => Self::Gue { port, flags },
            GRE => Self::Gre { flags },
            kind => Self::Other { kind, port, flags },
        }
    }
}
