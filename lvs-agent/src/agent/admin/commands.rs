//! Admin commands from the control socket: sends them to the controller, and answers with their results.

use std::time::Duration;

use tokio::{sync::mpsc, task::spawn_blocking};

use super::request::{TIMEOUT, request};
use crate::{
    agent::messages::{AdminRequest, CommandReply},
    control::{AffectedServer, Connections, Reply},
    engine::admin::{AdminCommand, CommandResult, ServerSelector},
    ipvs::{DestinationStatistics, IpvsError, TableReader},
    model::DestinationKey,
    netlink::DEFAULT_TIMEOUT,
};

/// How long a reply waits until the command is saved.
const SAVE_TIMEOUT: Duration = Duration::from_secs(1);

/// Sends commands to the controller.
#[derive(Clone, Debug)]
pub(crate) struct ControllerHandle {
    pub(crate) controller: mpsc::Sender<AdminRequest>,
    /// Nothing is written to the kernel's table.
    pub(crate) is_observing: bool,
}

impl ControllerHandle {
    /// Runs a command; the reply has its servers.
    pub(crate) async fn run(&self, command: AdminCommand, selector: ServerSelector) -> Reply {
        match self.send(command, selector).await {
            Ok(results) => Reply::Servers(results.iter().map(|result| self.row(result, None)).collect()),
            Err(message) => Reply::Error(message),
        }
    }

    /// The numbers of connections of servers.
    pub(crate) async fn connections(&self, selector: ServerSelector) -> Reply {
        let reply = async {
            let results = self.send(AdminCommand::Query, selector).await?;
            let keys: Vec<_> = results.iter().map(|result| result.destination).collect();
            // The kernel takes its time over a long table.
            let counting = spawn_blocking(move || statistics(&keys)).await;
            let statistics = counting.map_err(|error| error.to_string())?;
            let statistics =
                statistics.map_err(|error| format!("the kernel's table can't be read: {error}"))?;
            let rows =
                results.iter().zip(statistics).map(|(result, statistics)| self.row(result, statistics));
            Ok(rows.collect())
        };
        reply.await.map_or_else(Reply::Error, Reply::Servers)
    }

    /// A server in the reply.
    fn row(&self, result: &CommandResult, statistics: Option<DestinationStatistics>) -> AffectedServer {
        let DestinationStatistics { active, inactive, persistent, .. } = statistics.unwrap_or_default();
        AffectedServer {
            service: result.service.to_string(),
            address: result.destination.server,
            weight: result.weight.map(|weight| weight.0),
            held: result.held(),
            observed: self.is_observing,
            connections: statistics.is_some().then_some(Connections { active, inactive, persistent }),
        }
    }

    async fn send(
        &self,
        command: AdminCommand,
        selector: ServerSelector,
    ) -> Result<Vec<CommandResult>, String> {
        let compose = |reply| AdminRequest { command, selector, reply };
        let answer = request(&self.controller, TIMEOUT, compose).await?;
        let CommandReply { results, saved } = answer.map_err(|unknown| unknown.to_string())?;
        if let Some(receipt) = saved {
            receipt.written(SAVE_TIMEOUT).await;
        }
        Ok(results)
    }
}

fn statistics(keys: &[DestinationKey]) -> Result<Vec<Option<DestinationStatistics>>, IpvsError> {
    let mut reader = TableReader::new(DEFAULT_TIMEOUT);
    keys.iter().map(|key| reader.counted(key)).collect()
}
