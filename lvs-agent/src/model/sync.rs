//! The kernel's synchronisation daemons, which carry connections from one director to another.
//!
//! Facts are from `ip_vs_sync.c` of Linux 6.1 and its `Documentation/networking/ipvs-sysctl.rst`.

use std::{
    fmt,
    net::{IpAddr, Ipv4Addr},
    num::{NonZeroU8, NonZeroU16},
    time::Duration,
};

/// What `[sync]` says: the daemons that run, and the sysctls that belong to them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SyncSettings {
    /// Which daemons run.
    pub role: SyncRole,
    /// The device that messages leave and come by.
    pub interface: String,
    /// Directors with the same number belong together; a backup with 0 listens to all.
    pub id: u8,
    /// The multicast group.
    pub group: SyncGroup,
    /// The UDP port; with several threads those after it as well.
    pub port: NonZeroU16,
    /// The messages' time to live.
    pub ttl: NonZeroU8,
    /// The longest message in bytes, without headers; `None`: what the kernel takes from the device's MTU.
    pub maxlen: Option<SyncLength>,
    /// What the kernel is told besides.
    pub sysctls: SyncSysctls,
}

impl SyncSettings {
    /// What holds where only the device is said: both daemons with the kernel's own settings.
    #[must_use]
    pub fn on(interface: impl Into<String>) -> Self {
        Self {
            role: SyncRole::Both,
            interface: interface.into(),
            id: 0,
            group: SyncGroup::USUAL,
            port: USUAL_PORT,
            ttl: NonZeroU8::MIN,
            maxlen: None,
            sysctls: SyncSysctls::default(),
        }
    }
}

/// `IP_VS_SYNC_PORT`.
const USUAL_PORT: NonZeroU16 = NonZeroU16::new(8848).unwrap();

/// Which of the two daemons run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SyncRole {
    /// The one that tells others of this director's connections.
    Master,
    /// The one that learns of the others'.
    Backup,
    /// Both: whoever has the traffic tells the other.
    Both,
}

/// A multicast address, which is all that the kernel sends to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SyncGroup(IpAddr);

impl SyncGroup {
    /// `IP_VS_SYNC_GROUP`: 224.0.0.81, which IANA has reserved for it.
    pub const USUAL: Self = Self(IpAddr::V4(Ipv4Addr::new(224, 0, 0, 81)));

    /// The group of that address; `None`: it is no multicast address.
    #[must_use]
    pub fn new(address: IpAddr) -> Option<Self> {
        address.is_multicast().then_some(Self(address))
    }

    /// Its address.
    #[must_use]
    pub fn address(self) -> IpAddr {
        self.0
    }
}

impl fmt::Display for SyncGroup {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// The length of a message that the kernel takes for both daemons and both IP versions as it is: beyond these bounds it
/// would take another one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SyncLength(u16);

impl SyncLength {
    /// The least that a backup has room for.
    pub const MIN: u16 = 1024;
    /// What the headers of IPv6 and UDP leave of the longest packet.
    pub const MAX: u16 = u16::MAX - 48;

    /// That many bytes, if they are within the bounds.
    #[must_use]
    pub fn new(bytes: u16) -> Option<Self> {
        (Self::MIN..=Self::MAX).contains(&bytes).then_some(Self(bytes))
    }

    /// How many bytes.
    #[must_use]
    pub fn bytes(self) -> u16 {
        self.0
    }
}

/// Sysctls of `net.ipv4.vs` about synchronisation; `None` leaves one as it is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SyncSysctls {
    /// `sync_threshold`, first number: with which packet a connection is told of first.
    pub threshold: Option<u16>,
    /// `sync_threshold`, second number: how many packets later again; 0: never by number.
    pub period: Option<u16>,
    /// `sync_refresh_period`: how much a connection's timeout must differ to be told again; whole seconds.
    pub refresh: Option<Duration>,
    /// `sync_retries`: how often it is repeated within the refresh period; up to 3.
    pub retries: Option<u8>,
    /// `sync_ports`: threads of each daemon, each with a port of its own.
    pub ports: Option<SyncPorts>,
    /// `sync_persist_mode`: of persistent clients only the template is told of, not each connection.
    pub templates_only: Option<bool>,
    /// `backup_only`: this director balances nothing while a backup daemon runs.
    pub backup_only: Option<bool>,
}

/// How many threads a daemon has: a power of two, up to `IPVS_SYNC_PORTS_MAX`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SyncPorts(u8);

impl SyncPorts {
    /// The most.
    pub const MAX: u8 = 64;

    /// That many, if the kernel takes them.
    #[must_use]
    pub fn new(number: u8) -> Option<Self> {
        (number.is_power_of_two() && number <= Self::MAX).then_some(Self(number))
    }

    /// How many.
    #[must_use]
    pub fn number(self) -> u8 {
        self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_the_kernel_takes_as_it_is_can_be_made() {
        let group = |text: &str| SyncGroup::new(text.parse().unwrap()).is_some();
        assert!(group("224.0.0.81") && group("239.1.2.3") && group("ff02::81"));
        assert!(!group("10.0.0.1") && !group("fd00::1") && !group("0.0.0.0"));
        let lengths = [1023, 1024, 1472, 65487, 65488].map(|bytes| SyncLength::new(bytes).is_some());
        assert_eq!(lengths, [false, true, true, true, false]);
        let ports: Vec<u8> = (0..=u8::MAX).filter(|number| SyncPorts::new(*number).is_some()).collect();
        assert_eq!(ports, [1, 2, 4, 8, 16, 32, 64]);
    }
}
