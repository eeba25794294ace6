//! Where orders come in: from the control socket to the controller, and back with what has come of them.

use std::time::Duration;

use tokio::{sync::mpsc, task::spawn_blocking};

use super::request::{PATIENCE, ask};
use crate::{
    agent::messages::{AdminRequest, CommandReply},
    control::{Connections, OrderedServer, Reply},
    engine::admin::{AdminCommand, CommandResult, ServerSelector},
    ipvs::{DestinationStatistics, IpvsError, TableReader},
    model::DestinationKey,
    netlink::DEFAULT_TIMEOUT,
};

/// How long whoever has ordered something waits until it is written down.
const WRITTEN: Duration = Duration::from_secs(1);

/// Passes orders on.
#[derive(Clone, Debug)]
pub(crate) struct ControllerHandle {
    pub(crate) controller: mpsc::Sender<AdminRequest>,
}

impl ControllerHandle {
    /// What has come of an order.
    pub(crate) async fn order(&self, order: AdminCommand, selector: ServerSelector) -> Reply {
        match self.ask(order, selector).await {
            Ok(ordered) => Reply::Servers(ordered.iter().map(|one| told(one, None)).collect()),
            Err(message) => Reply::Error(message),
        }
    }

    /// How many connections servers have.
    pub(crate) async fn connections(&self, selector: ServerSelector) -> Reply {
        let counted = async {
            let ordered = self.ask(AdminCommand::Query, selector).await?;
            let keys: Vec<_> = ordered.iter().map(|one| one.destination).collect();
            // The kernel takes its time over a long table.
            let counting = spawn_blocking(move || counted(&keys)).await;
            let counted = counting.map_err(|error| error.to_string())?;
            let counted = counted.map_err(|error| format!("the kernel's table can't be read: {error}"))?;
            Ok(ordered.iter().zip(counted).map(|(one, counted)| told(one, counted)).collect())
        };
        counted.await.map_or_else(Reply::Error, Reply::Servers)
    }

    async fn ask(&self, order: AdminCommand, selector: ServerSelector) -> Result<Vec<CommandResult>, String> {
        let request = |reply| AdminRequest { order, selector, reply };
        let answer = ask("controller", &self.controller, PATIENCE, request).await?;
        let CommandReply { ordered, kept } = answer.map_err(|unknown| unknown.to_string())?;
        if let Some(kept) = kept {
            kept.written(WRITTEN).await;
        }
        Ok(ordered)
    }
}

fn counted(keys: &[DestinationKey]) -> Result<Vec<Option<DestinationStatistics>>, IpvsError> {
    let mut reader = TableReader::new(DEFAULT_TIMEOUT);
    keys.iter().map(|key| reader.counted(key)).collect()
}

fn told(one: &CommandResult, counted: Option<DestinationStatistics>) -> OrderedServer {
    let DestinationStatistics { active, inactive, persistent, .. } = counted.unwrap_or_default();
    OrderedServer {
        service: one.service.to_string(),
        address: one.destination.server,
        weight: one.weight.map(|weight| weight.0),
        held: one.admin_state.reason().map(str::to_owned),
        connections: counted.is_some().then_some(Connections { active, inactive, persistent }),
    }
}
