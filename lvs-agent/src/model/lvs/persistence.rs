//! Persistence: a client's later connections go where its first one went.

use std::{net::Ipv4Addr, time::Duration};

use crate::model::AddressFamily;

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
    pub(crate) fn seconds(&self) -> u32 {
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn persistence_has_whole_seconds() {
        let netmask = Netmask::whole_address(AddressFamily::V4);
        for (given, kept) in [(0, 0), (1, 1), (999, 1), (1000, 1), (1001, 2)] {
            let persistence = Persistence::new(Duration::from_millis(given), netmask);
            assert_eq!(persistence.timeout(), Duration::from_secs(kept), "{given} ms");
        }
        assert_eq!(Persistence::new(Duration::MAX, netmask).seconds(), u32::MAX);
    }
}
