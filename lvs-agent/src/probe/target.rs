//! Where a probe is sent.

use std::net::SocketAddr;

use crate::model::{Check, Via};

/// Where a probe is sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct ProbeTarget {
    /// Address and port; port 0 where there is none, as for a ping.
    pub address: SocketAddr,
    /// Source, device and mark of the packets, and how long each step may take.
    pub via: Via,
}

impl ProbeTarget {
    /// The server at `address`, by the routing tables.
    #[must_use]
    pub fn at(address: SocketAddr) -> Self {
        Self { address, via: Via::default() }
    }

    /// The target of `check` for the real server at `server`: the server itself, or another port or address that the
    /// check names. A ping has no port, so that one check serves all services of a server.
    #[must_use]
    pub fn of_check(server: SocketAddr, check: &Check) -> Self {
        Self { address: check.asked(server), via: check.via }
    }
}
