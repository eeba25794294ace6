//! The kernel's table as a value: virtual services and their destinations, without what the kernel counts.

use std::{
    collections::BTreeMap,
    fmt,
    net::{Ipv4Addr, SocketAddr},
    ops::BitOr,
    time::Duration,
};

use crate::service::{AddressFamily, ForwardingMethod, Scheduler, ServiceKey, Weight};

/// All virtual services of one network namespace.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Table {
    /// The services by what names them.
    pub services: BTreeMap<ServiceKey, ServiceEntry>,
}

/// A virtual service together with its destinations.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServiceEntry {
    /// The service itself.
    pub service: Service,
    /// Its destinations by address and port.
    pub destinations: BTreeMap<SocketAddr, Destination>,
}

impl ServiceEntry {
    /// A service that has no destinations yet.
    #[must_use]
    pub fn new(service: Service) -> Self {
        Self { service, destinations: BTreeMap::new() }
    }

    /// Whether any destination takes new connections.
    #[must_use]
    pub fn takes_connections(&self) -> bool {
        self.destinations.values().any(|destination| destination.weight.takes_connections())
    }
}

/// A virtual service as the kernel keeps it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Service {
    /// What names it.
    pub key: ServiceKey,
    /// How new connections are spread.
    pub scheduler: SchedulerName,
    /// One-packet scheduling, and what the scheduler makes of its own flags.
    pub flags: ServiceFlags,
    /// Whether and for how long a client stays with its server.
    pub persistence: Option<Persistence>,
    /// What tells clients apart, where it isn't the address: `sip` is the only one that Linux has.
    pub persistence_engine: Option<String>,
}

/// The name of a scheduler, known to this program or not: 1 to 15 bytes, none of them NUL.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SchedulerName(String);

impl SchedulerName {
    /// The longest name, in bytes (`IP_VS_SCHEDNAME_MAXLEN` less the closing NUL).
    pub const LONGEST: usize = 15;

    /// The name as the kernel spells it.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// This can't be the name of a scheduler.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("\"{0}\" can't be the name of a scheduler: it takes 1 to 15 bytes, none of them NUL")]
pub struct InvalidSchedulerName(String);

impl TryFrom<&str> for SchedulerName {
    type Error = InvalidSchedulerName;

    fn try_from(name: &str) -> Result<Self, Self::Error> {
        let fits = (1..=Self::LONGEST).contains(&name.len()) && !name.contains('\0');
        if fits { Ok(Self(name.to_owned())) } else { Err(InvalidSchedulerName(name.to_owned())) }
    }
}

impl From<&Scheduler> for SchedulerName {
    fn from(scheduler: &Scheduler) -> Self {
        Self(scheduler.name().to_owned())
    }
}

impl From<Scheduler> for SchedulerName {
    fn from(scheduler: Scheduler) -> Self {
        Self::from(&scheduler)
    }
}

impl fmt::Display for SchedulerName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// The flags of a service that a user sets, less the one for persistence, which [`Persistence`] stands for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct ServiceFlags(u32);

impl ServiceFlags {
    /// No flag.
    pub const NONE: Self = Self(0);
    /// Every UDP packet is scheduled on its own (`ipvsadm -o`).
    pub const ONE_PACKET: Self = Self(0x04);
    /// `flag-1`; for `sh` and `mh`: fall back to another server when the chosen one is out.
    pub const SCHEDULER_1: Self = Self(0x08);
    /// `flag-2`; for `sh` and `mh`: the source port is hashed as well.
    pub const SCHEDULER_2: Self = Self(0x10);
    /// `flag-3`; no scheduler in Linux uses it.
    pub const SCHEDULER_3: Self = Self(0x20);
    /// All of the above.
    pub const ALL: Self = Self(0x3c);

    /// The flags among `bits` that this type knows.
    #[must_use]
    pub fn from_bits(bits: u32) -> Self {
        Self(bits & Self::ALL.0)
    }

    /// As the kernel has them.
    #[must_use]
    pub fn bits(self) -> u32 {
        self.0
    }
}

impl BitOr for ServiceFlags {
    type Output = Self;

    fn bitor(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }
}

/// For how long clients stay with their server, and which clients are one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Persistence {
    seconds: u32,
    netmask: Netmask,
}

impl Persistence {
    /// `timeout` is rounded up to whole seconds, the kernel knows no others; `netmask` is of the service's IP
    /// version.
    #[must_use]
    pub fn new(timeout: Duration, netmask: Netmask) -> Self {
        let whole = timeout.as_secs().saturating_add(u64::from(timeout.subsec_nanos() > 0));
        Self { seconds: u32::try_from(whole).unwrap_or(u32::MAX), netmask }
    }

    /// How long after its last connection a client is still remembered.
    #[must_use]
    pub fn timeout(&self) -> Duration {
        Duration::from_secs(self.seconds.into())
    }

    /// The same as the kernel has it.
    pub(super) fn seconds(&self) -> u32 {
        self.seconds
    }

    /// The clients that count as one.
    #[must_use]
    pub fn netmask(&self) -> Netmask {
        self.netmask
    }
}

/// How much of a client's address counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Netmask {
    /// The bits of an IPv4 address that count.
    V4(Ipv4Addr),
    /// How many leading bits of an IPv6 address count, 1 to 128.
    V6(u32),
}

impl Netmask {
    /// Every address is a client of its own.
    #[must_use]
    pub fn whole_address(family: AddressFamily) -> Self {
        match family {
            AddressFamily::V4 => Self::V4(Ipv4Addr::BROADCAST),
            AddressFamily::V6 => Self::V6(128),
        }
    }
}

/// A real server in a service, as the kernel keeps it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Destination {
    /// Address and port. The kernel has no scope identifier: it is 0 here.
    pub server: SocketAddr,
    /// How packets reach it.
    pub method: ForwardingMethod,
    /// How they are wrapped; only looked at where the method is [`ForwardingMethod::Tunnel`], but always there.
    pub tunnel: Tunnel,
    /// Its share of new connections.
    pub weight: KernelWeight,
    /// From how many connections on it gets no new ones; 0: no limit.
    pub upper_threshold: u32,
    /// Below how many connections it gets new ones again; 0: three quarters of the upper threshold.
    pub lower_threshold: u32,
}

/// A weight as the kernel has it.
///
/// The kernel refuses to set negative ones but has an `int`, so that every value can be read; [`Weight`] is what
/// this program sets.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct KernelWeight(pub i32);

impl KernelWeight {
    /// Whether a server of that weight gets new connections.
    #[must_use]
    pub fn takes_connections(self) -> bool {
        self.0 > 0
    }
}

impl From<Weight> for KernelWeight {
    fn from(weight: Weight) -> Self {
        Self(weight.0.into())
    }
}

impl fmt::Display for KernelWeight {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// What a tunnelled packet is wrapped in.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Tunnel {
    /// IP in IP: protocol 4 for an inner IPv4 packet, 41 for IPv6.
    #[default]
    Ipip,
    /// Generic UDP encapsulation.
    Gue {
        /// The UDP port on the server, never 0.
        port: u16,
        /// How its checksum is made.
        flags: TunnelFlags,
    },
    /// GRE, protocol 47.
    Gre {
        /// How its checksum is made.
        flags: TunnelFlags,
    },
    /// One that this program doesn't know: passed through as it is.
    Other {
        /// `IPVS_DEST_ATTR_TUN_TYPE`, neither of the above.
        kind: u8,
        /// `IPVS_DEST_ATTR_TUN_PORT`.
        port: u16,
        /// `IPVS_DEST_ATTR_TUN_FLAGS`.
        flags: TunnelFlags,
    },
}

/// How a tunnel's checksum is made (`IP_VS_TUNNEL_ENCAP_FLAG_*`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct TunnelFlags(pub u16);

impl TunnelFlags {
    /// There is none (`--tun-nocsum`).
    pub const NO_CHECKSUM: Self = Self(0);
    /// Over the whole packet (`--tun-csum`).
    pub const CHECKSUM: Self = Self(1);
    /// Remote checksum offload, GUE only (`--tun-remcsum`).
    pub const REMOTE_CHECKSUM: Self = Self(2);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_scheduler_of_the_configuration_has_a_kernel_name() {
        for name in Scheduler::NAMES {
            let scheduler: Scheduler = name.parse().unwrap();
            assert_eq!(SchedulerName::from(scheduler), SchedulerName::try_from(name).unwrap());
        }
    }

    #[test]
    fn names_that_the_kernel_cannot_hold_are_refused() {
        for name in ["", "sixteen-letters!", "r\0r"] {
            assert!(SchedulerName::try_from(name).is_err(), "{name:?}");
        }
    }

    #[test]
    fn persistence_has_whole_seconds() {
        let netmask = Netmask::whole_address(AddressFamily::V4);
        for (given, kept) in [(0, 0), (1, 1), (999, 1), (1000, 1), (1001, 2)] {
            let persistence = Persistence::new(Duration::from_millis(given), netmask);
            assert_eq!(persistence.timeout(), Duration::from_secs(kept), "{given} ms");
        }
        assert_eq!(Persistence::new(Duration::MAX, netmask).seconds(), u32::MAX);
    }

    #[test]
    fn only_a_positive_weight_takes_connections() {
        for (weight, takes) in [(i32::MIN, false), (-1, false), (0, false), (1, true), (i32::MAX, true)] {
            assert_eq!(KernelWeight(weight).takes_connections(), takes, "{weight}");
        }
    }
}
