//! The kernel's table as a value: virtual services and their destinations, without what the kernel counts.

use std::{collections::BTreeMap, fmt, net::SocketAddr, ops::BitOr};

use crate::model::{ForwardingMethod, Persistence, Scheduler, ServiceKey, Tunnel, Weight};

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

    /// Whether all flags of `other` are among these.
    #[must_use]
    pub fn contains(self, other: Self) -> bool {
        self.0 & other.0 == other.0
    }
}

impl BitOr for ServiceFlags {
    type Output = Self;

    fn bitor(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }
}

/// A real server in a service, as the kernel keeps it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Destination {
    /// Address and port. The kernel has no scope identifier: it is 0 here.
    pub server: SocketAddr,
    /// How packets reach it.
    pub method: ForwardingMethod,
    /// How they are wrapped; only used where the method is [`ForwardingMethod::Tunnel`], but always there.
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
    fn names_too_long_for_the_kernel_are_refused() {
        for name in ["", "sixteen-letters!", "r\0r"] {
            assert!(SchedulerName::try_from(name).is_err(), "{name:?}");
        }
    }

    #[test]
    fn only_a_positive_weight_takes_connections() {
        for (weight, takes) in [(i32::MIN, false), (-1, false), (0, false), (1, true), (i32::MAX, true)] {
            assert_eq!(KernelWeight(weight).takes_connections(), takes, "{weight}");
        }
    }
}
