//! Where a probe is sent.

use std::net::SocketAddr;

use lvs_common::PROBE_MARK;

use crate::model::{Check, Via};

/// Where a probe is sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct ProbeTarget {
    /// Address and port; port 0 where there is none, as for a ping.
    pub address: SocketAddr,
    /// Source, device and mark of the packets, and how long each step may take.
    pub via: Via,
    /// The firewall mark of the packets where `via` names none: the agent's own.
    pub own_mark: u32,
}

impl ProbeTarget {
    /// The server at `address`, by the routing tables.
    #[must_use]
    pub fn at(address: SocketAddr) -> Self {
        Self::by(address, Via::default())
    }

    /// The target of `check` for the real server at `server`: the server itself, or another port or address that the
    /// check names. A ping has no port, so that one check serves all services of a server. Where the check goes to the
    /// VIP, that is the target.
    #[must_use]
    pub fn of_check(server: SocketAddr, check: &Check) -> Self {
        let address = check.via.lane.map_or_else(|| check.asked(server), |lane| lane.vip);
        Self::by(address, check.via)
    }

    /// The same without the VIP.
    #[must_use]
    pub fn of_server(server: SocketAddr, check: &Check) -> Self {
        Self::by(check.asked(server), check.via.directly())
    }

    /// The host that answers: where the VIP is asked, the server behind it.
    #[must_use]
    pub fn host(self) -> Self {
        let Some(lane) = self.via.lane else { return self };
        Self { address: lane.server, via: Via { source: None, ..self.via.directly() }, ..self }
    }

    /// The server at `address`, asked by that way.
    #[must_use]
    pub fn by(address: SocketAddr, via: Via) -> Self {
        Self { address, via, own_mark: PROBE_MARK }
    }
}
