//! What the kernel counts. Read-only, refreshed every two seconds, frozen while `net.ipv4.vs.run_estimation` is 0:
//! good for display, no good as a signal.

use std::collections::BTreeMap;

use crate::model::{DestinationKey, ServiceKey};

/// Traffic of a service or destination since it was added or zeroed.
///
/// Over direct route and tunnels the director doesn't see the answers: the outgoing side stays 0.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Statistics {
    /// Connections scheduled.
    pub connections: u64,
    /// Packets from clients.
    pub packets_in: u64,
    /// Packets to clients.
    pub packets_out: u64,
    /// Bytes from clients.
    pub bytes_in: u64,
    /// Bytes to clients.
    pub bytes_out: u64,
    /// Connections a second.
    pub connection_rate: u64,
    /// Packets from clients a second.
    pub packet_rate_in: u64,
    /// Packets to clients a second.
    pub packet_rate_out: u64,
    /// Bytes from clients a second.
    pub byte_rate_in: u64,
    /// Bytes to clients a second.
    pub byte_rate_out: u64,
}

/// What is counted for a destination.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct DestinationStatistics {
    /// Connections under way, half-opened ones included.
    pub active: u32,
    /// Connections that are closing or closed but still remembered.
    pub inactive: u32,
    /// Persistence templates: clients that stay with this server.
    pub persistent: u32,
    /// Its traffic.
    pub traffic: Statistics,
}

/// The statistics of a whole table.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TableStatistics {
    /// Of each service.
    pub services: BTreeMap<ServiceKey, Statistics>,
    /// Of each destination.
    pub destinations: BTreeMap<DestinationKey, DestinationStatistics>,
}
