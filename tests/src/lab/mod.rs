//! A lab: clients, a director and real servers, each in a network namespace of its own.
//!
//! ```text
//!   clients ──── wan ──── director ──── lan ──┐
//!   10.20.x.y             VIP 192.0.2.80      │
//!      │                                   switch ──── rs1, rs2, rs3
//!      └───────────────── lan ────────────────┘        10.0.0.1 …
//! ```
//!
//! Every box is a network namespace. Requests go through the director. Masqueraded servers answer through the
//! director, directly routed and tunnelled ones straight to the clients' leg on the switch. A [`layout::Layout`] says
//! what differs from lab to lab.

pub mod agent;
pub mod bird;
pub mod clients;
pub mod clock;
pub mod crowd;
pub mod daemon;
pub mod director;
pub mod dns_server;
pub mod faults;
pub mod http;
pub mod keepalived;
pub mod layout;
pub mod leftovers;
pub mod namespace;
pub mod network;
pub mod pair;
pub mod process;
pub mod servers;
pub mod wait;

use std::net::SocketAddr;

use anyhow::Result;

use self::{layout::Layout, network::Network, servers::RealServer};

/// A running lab. Dropping it removes all of it.
#[derive(Debug)]
pub struct Lab {
    /// The real servers, all running. Before the network, so that they end first.
    pub servers: Vec<RealServer>,
    /// The namespaces.
    pub network: Network,
}

impl Lab {
    /// Removes what killed runs left behind and builds a lab.
    pub fn build(layout: &Layout) -> Result<Self> {
        leftovers::remove_of_dead_runs()?;
        let network = Network::build(layout)?;
        let servers = (0..layout.servers).map(|number| RealServer::start(&network, number));
        Ok(Self { servers: servers.collect::<Result<_>>()?, network })
    }

    /// The real servers' addresses and ports.
    #[must_use]
    pub fn addresses(&self) -> Vec<SocketAddr> {
        self.servers.iter().map(RealServer::address).collect()
    }
}
