//! UDP servers that a ping checks, and whose port is closed: no ping knows of ports.
//!
//! Once ICMP has called such a server's port unreachable, an empty datagram asks the port itself. If that fails, too,
//! the port is known to be closed, and from then on each answer to a regular ping leads to another such datagram, whose
//! answer counts in its place: else the next ping would bring the server back. That ends when the server is up.

use std::{collections::BTreeSet, net::SocketAddr};

use super::ProbeRequest;
use crate::{
    engine::Engine,
    model::{Check, CheckKind, DestinationKey, UdpCheck},
    probe::ProbeTarget,
};

/// The destinations whose port was closed when it was last asked.
#[derive(Debug, Default)]
pub(super) struct ClosedPorts {
    destinations: BTreeSet<DestinationKey>,
}

impl ClosedPorts {
    pub(super) fn contains(&self, destination: &DestinationKey) -> bool {
        self.destinations.contains(destination)
    }

    /// A probe has failed: the port is closed of those for whom it asked that.
    pub(super) fn failed(&mut self, request: &ProbeRequest, engine: &Engine) {
        if matches!(*request.question, CheckKind::Udp(_)) {
            let pinged = request.destinations.iter().filter(|destination| is_pinged(engine, destination));
            self.destinations.extend(pinged);
        }
    }

    pub(super) fn remove(&mut self, destination: &DestinationKey) {
        self.destinations.remove(destination);
    }

    /// Forgets destinations that are gone, or are no longer checked by a ping.
    pub(super) fn retain_pinged(&mut self, engine: &Engine) {
        self.destinations.retain(|destination| is_pinged(engine, destination));
    }
}

fn is_pinged(engine: &Engine, destination: &DestinationKey) -> bool {
    engine.check(destination).is_some_and(|check| check.kind == CheckKind::Ping)
}

/// What tells whether the port of a UDP server is open, where `check` is a ping and there is a port: an empty datagram
/// that nobody need answer. Only a closed port does, with ICMP.
///
/// A server may not expect one, so that it is only sent where ICMP has shown that nobody listens.
pub(super) fn question(server: SocketAddr, check: &Check) -> Option<(ProbeTarget, CheckKind)> {
    let target = ProbeTarget { address: server, ..ProbeTarget::of_check(server, check) };
    let datagram = UdpCheck { send: Vec::new(), expect: None, reply: false };
    (check.kind == CheckKind::Ping && server.port() != 0).then_some((target, CheckKind::Udp(datagram)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_where_a_ping_leaves_a_port_unasked_does_a_datagram_ask_it() {
        let ask = |kind, port| {
            let check = Check { kind, ..Check::default() };
            question(([10, 0, 0, 1], port).into(), &check)
                .map(|(target, question)| (target.address, question))
        };
        let datagram = || CheckKind::Udp(UdpCheck { send: Vec::new(), expect: None, reply: false });
        assert_eq!(ask(CheckKind::Ping, 53), Some((([10, 0, 0, 1], 53).into(), datagram())));
        assert_eq!(ask(CheckKind::Ping, 0), None, "no port to ask: a firewall mark");
        assert_eq!(ask(CheckKind::On, 53), None);
        let own = UdpCheck { send: b"?".to_vec(), expect: None, reply: true };
        assert_eq!(ask(CheckKind::Udp(own), 53), None, "it asks the port itself");
    }
}
