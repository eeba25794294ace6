//! To which address clients had sent the SYNs of servers that several addresses lead to: the kernel's table of
//! connections has it, as long as the entry of the first attempt is there.

use std::{
    collections::{HashMap, HashSet},
    net::SocketAddr,
    time::Duration,
};

use lvs_common::KeptSyn;
use tracing::debug;

use super::{book::Action, packet, ways::To};
use crate::ipvs::connection_table::{ThroughDestination, virtual_addresses};

/// How long the table may be read: a tenth of what a client waits until it tries again itself.
const LIMIT: Duration = Duration::from_millis(100);
/// How many are remembered: more than may be sent again while one server's SYNs are followed.
const MOST: usize = 4096;

/// The addresses that were found. A SYN that is sent a second time has another entry by then.
#[derive(Debug, Default)]
pub(super) struct Origins(HashMap<(ThroughDestination, u32), SocketAddr>);

impl Origins {
    /// Finds the addresses of all SYNs that are about to be sent again, with one reading of the table.
    pub(super) fn find(&mut self, actions: &[Action]) {
        let unknown = actions.iter().filter_map(|action| match action {
            Action::Retry { kept, to: To::ConnectionTable, .. } => Some((connection(kept), kept.sequence)),
            Action::Retry { .. } | Action::Refuse { .. } => None,
        });
        let unknown: Vec<_> = unknown.filter(|syn| !self.0.contains_key(syn)).collect();
        if unknown.is_empty() {
            return;
        }
        if self.0.len() > MOST {
            self.0.clear();
        }
        let wanted: HashSet<_> = unknown.iter().map(|(connection, _)| *connection).collect();
        match virtual_addresses(&wanted, LIMIT) {
            Ok(found) => {
                let known = unknown.into_iter().filter_map(|syn| Some((syn, *found.get(&syn.0)?)));
                self.0.extend(known);
            }
            Err(error) => debug!("the kernel's table of connections can't be read: {error}"),
        }
    }

    /// The address that a SYN's client had sent it to.
    pub(super) fn of(&self, kept: &KeptSyn) -> Option<SocketAddr> {
        self.0.get(&(connection(kept), kept.sequence)).copied()
    }
}

/// The connection of a SYN, as it left the director.
fn connection(kept: &KeptSyn) -> ThroughDestination {
    let port = |at: usize| u16::from_be_bytes([kept.tcp[at], kept.tcp[at + 1]]);
    (SocketAddr::new(packet::client(kept), port(0)), SocketAddr::new(packet::destination(kept), port(2)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::second_chance::testing::kept;

    #[test]
    fn a_syns_connection_is_that_of_its_client_through_its_server() {
        for (client, server) in
            [("198.51.100.7:40000", "10.0.0.1:8080"), ("[2001:db8:7::7]:40000", "[fd00::1]:80")]
        {
            let expected = (client.parse().unwrap(), server.parse().unwrap());
            assert_eq!(connection(&kept(client, server)), expected);
        }
    }
}
