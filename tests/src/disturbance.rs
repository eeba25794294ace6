//! Trouble on the clients' side, with which the servers have nothing to do.

use anyhow::Result;

use crate::{
    namespace::Namespace,
    network::{CLIENTS, client_address},
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
pub struct Disturbed {
    clients: Namespace,
}

impl Disturbance {
    /// Lets it begin, on the clients' side of the last cable.
    pub fn begin(self, clients: &Namespace) -> Result<Disturbed> {
        let rule = match self {
            Self::BlackHole => format!("ip daddr {}/24 drop", client_address(7)),
            Self::Loss(percent) => format!("ip daddr {CLIENTS} numgen random mod 100 < {percent} drop"),
        };
        let chain = format!("chain input {{ type filter hook input priority 0; {rule}; }};");
        process::run(clients, &["nft", "-f", "-"], &format!("table ip disturbance {{ {chain} }}\n"))?;
        Ok(Disturbed { clients: clients.clone() })
    }
}

impl Drop for Disturbed {
    fn drop(&mut self) {
        if let Err(error) = process::run(&self.clients, &["nft", "-f", "-"], "delete table ip disturbance\n")
        {
            crate::warn(&format!("cannot end the disturbance: {error:#}"));
        }
    }
}
