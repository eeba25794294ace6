//! A whole lab: the network and the real servers in it.

use std::net::SocketAddr;

use anyhow::Result;

use crate::{layout::Layout, leftovers, network::Network, server::RealServer};

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
