//! Real servers and backups, as an operator describes them.

use std::net::SocketAddr;

use super::{Check, ForwardingMethod, Tunnel, Weight};

/// A real server in a service.
#[derive(Clone, Debug, PartialEq)]
pub struct RealServer {
    /// Address and port; under direct route and tunnel the port is the service's. Port 0 where the service has none and
    /// the client's is kept.
    pub address: SocketAddr,
    /// How packets reach it.
    pub method: ForwardingMethod,
    /// How they are wrapped; only used where the method is a tunnel.
    pub tunnel: Tunnel,
    /// Its weight when it is healthy.
    pub weight: Weight,
    /// From how many connections on it gets no new ones; 0: no limit. `None`: as it is found in the kernel's table.
    pub upper_threshold: Option<u32>,
    /// Below how many it gets new ones again; 0: three quarters of the upper one.
    pub lower_threshold: Option<u32>,
    /// Its own check, where it isn't the service's.
    pub check: Option<Check>,
    /// Its further checks; only used where it has a check of its own.
    pub further: FurtherChecks,
}

impl RealServer {
    /// A server of which only that is said what must be.
    #[must_use]
    pub fn new(address: SocketAddr, method: ForwardingMethod) -> Self {
        Self {
            address,
            method,
            tunnel: Tunnel::default(),
            weight: Weight(1),
            upper_threshold: None,
            lower_threshold: None,
            check: None,
            further: FurtherChecks::default(),
        }
    }
}

/// A server that helps out: a sorry server or one of a backup pool.
#[derive(Clone, Debug, PartialEq)]
pub struct Backup {
    /// Where it is, how packets reach it, and its weight.
    pub server: RealServer,
    /// The check that it must pass before it is used; `None`: it always counts as healthy.
    pub check: Option<Check>,
}

/// Checks beside the first one.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FurtherChecks {
    /// The checks; each counts its own failures and successes.
    pub checks: Vec<Check>,
    /// What they and the first one together mean.
    pub combine: Combine,
}

/// When a server with several checks is healthy.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Combine {
    /// When all of them say so.
    #[default]
    All,
    /// When at least one of them says so.
    Any,
}
