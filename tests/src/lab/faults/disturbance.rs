//! Trouble on the clients' side, with which the servers have nothing to do.

use anyhow::Result;

use crate::lab::{
    layout::{Family, client_address, clients_of, network_of},
    namespace::Namespace,
    process,
};

/// A trouble.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Disturbance {
    /// Nothing that is sent to one client network (/24) arrives: SYNs come, handshakes never end.
    BlackHole,
    /// So many of a hundred packets to the clients are lost.
    Loss(u8),
}

/// A trouble that goes on. Dropping it ends it.
#[derive(Debug)]
pub struct ActiveDisturbance {
    clients: Namespace,
}

impl Disturbance {
    /// Lets it begin, on the clients' side of the last cable.
    pub fn begin(self, clients: &Namespace, family: Family) -> Result<ActiveDisturbance> {
        let to = if family == Family::V4 { "ip daddr" } else { "ip6 daddr" };
        let rule = match self {
            Self::BlackHole => format!("{to} {} drop", network_of(client_address(family, 7))),
            Self::Loss(percent) => {
                format!("{to} {} numgen random mod 100 < {percent} drop", clients_of(family))
            }
        };
        let chain = format!("chain input {{ type filter hook input priority 0; {rule}; }};");
        process::run(clients, &["nft", "-f", "-"], &format!("table inet disturbance {{ {chain} }}\n"))?;
        Ok(ActiveDisturbance { clients: clients.clone() })
    }
}

impl Drop for ActiveDisturbance {
    fn drop(&mut self) {
        if let Err(error) =
            process::run(&self.clients, &["nft", "-f", "-"], "delete table inet disturbance\n")
        {
            crate::warn(&format!("cannot end the disturbance: {error:#}"));
        }
    }
}
