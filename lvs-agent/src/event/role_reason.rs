//! Why a director is active or standby.

use std::fmt;

use crate::model::DirectorRole;

/// Why a director has its role.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum RoleReason {
    /// The configuration says so.
    Configured,
    /// Somebody has ordered it.
    Ordered,
    /// So many of the services' addresses are this host's own.
    AddressesHere(usize),
    /// None of them is.
    NoAddressHere,
    /// No service has an address: all of them are by firewall mark.
    NoAddresses,
    /// This host's addresses are not known (yet).
    Unknown,
}

impl RoleReason {
    /// Its name for programs.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Configured => "configured",
            Self::Ordered => "ordered",
            Self::AddressesHere(_) => "vip-here",
            Self::NoAddressHere => "no-vip-here",
            Self::NoAddresses => "no-vips",
            Self::Unknown => "unknown",
        }
    }
}

impl fmt::Display for RoleReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Configured => f.write_str("as configured"),
            Self::Ordered => f.write_str("by command"),
            Self::AddressesHere(1) => f.write_str("an address of its services is this host's own"),
            Self::AddressesHere(count) => write!(f, "{count} addresses of its services are this host's own"),
            Self::NoAddressHere => f.write_str("no address of its services is this host's own"),
            Self::NoAddresses => f.write_str("its services have no addresses"),
            Self::Unknown => f.write_str("this host's addresses are not known"),
        }
    }
}

/// What a director finds as it becomes active.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Takeover {
    pub(crate) services: usize,
    pub(crate) servers: usize,
    /// Servers that are down.
    pub(crate) down: usize,
    /// Servers that are asked at once because their state is in doubt.
    pub(crate) asked: usize,
}

/// The role, and why.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct RoleState {
    pub(crate) role: DirectorRole,
    pub(crate) reason: RoleReason,
}

impl RoleState {
    /// Whether this director may lead traffic to itself. A standby that people or the configuration made one may not.
    /// One that merely has no VIP may: it would never get one where it is the agent that announces them.
    pub(crate) fn may_announce(self) -> bool {
        let is_told = matches!(self.reason, RoleReason::Configured | RoleReason::Ordered);
        self.role.is_active() || !is_told
    }
}
