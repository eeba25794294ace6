//! A whole lab: the network and the real servers in it.

use std::net::SocketAddr;

use anyhow::Result;

use crate::{leftovers, network::Network, server::RealServer};

/// A running lab. Dropping it removes all of it.
#[derive(Debug)]
pub struct Lab {
    /// The real servers, all running. Before the network, so that they end first.
    pub servers: Vec<RealServer>,
    /// The namespaces.
    pub network: Network,
}

impl Lab {
    /// Removes what killed runs left behind and builds a lab with so many real servers.
    pub fn build(servers: u8) -> Result<Self> {
        leftovers::remove_of_dead_runs()?;
        let network = Network::build(servers)?;
        let servers =
            (0..).zip(&network.servers).map(|(number, namespace)| RealServer::start(namespace, number));
        Ok(Self { servers: servers.collect::<Result<_>>()?, network })
    }

    /// The real servers' addresses and ports.
    #[must_use]
    pub fn addresses(&self) -> Vec<SocketAddr> {
        self.servers.iter().map(RealServer::address).collect()
    }
}
