//! Admin commands from the control socket: sends them to the controller, and answers with their results.

use std::time::Duration;

use tokio::{sync::mpsc, task::spawn_blocking};

use super::request::{TIMEOUT, request};
use crate::{
    control::{AffectedServer, Connections, Reply},
    engine::{
        admin::{AdminCommand, CommandResult},
        selection::ServerSelector,
    },
    ipvs::{DestinationStatistics, IpvsError, TableReader},
    messages::{AdminRequest, CommandReply},
    model::DestinationKey,
    netlink::DEFAULT_TIMEOUT,
    state_file::Kept,
};

/// How long a reply waits until the command is saved.
pub(super) const SAVE_TIMEOUT: Duration = Duration::from_secs(1);

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
            Ok((results, not_kept)) => {
                let row = |result| AffectedServer { not_kept: not_kept.clone(), ..self.row(result, None) };
                Reply::Servers(results.iter().map(row).collect())
            }
            Err(message) => Reply::Error(message),
        }
    }

    /// The numbers of connections of servers.
    pub(crate) async fn connections(&self, selector: ServerSelector) -> Reply {
        let reply = async {
            let (results, _) = self.send(AdminCommand::Query, selector).await?;
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
            not_kept: None,
            connections: statistics.is_some().then_some(Connections { active, inactive, persistent }),
        }
    }

    /// The servers, and why the next agent will know nothing of the command, if so.
    async fn send(
        &self,
        command: AdminCommand,
        selector: ServerSelector,
    ) -> Result<(Vec<CommandResult>, Option<String>), String> {
        let compose = |reply| AdminRequest { command, selector, reply };
        let answer = request(&self.controller, TIMEOUT, compose).await?;
        let CommandReply { results, saved } = answer.map_err(|unknown| unknown.to_string())?;
        let not_kept = match saved {
            None => Some("there is no state file".to_owned()),
            Some(receipt) => match receipt.written(SAVE_TIMEOUT).await {
                Kept::Written => None,
                Kept::Failed(reason) => Some(format!("the state file can't be written: {reason}")),
                Kept::Pending => {
                    Some(format!("the state file took longer than {} s", SAVE_TIMEOUT.as_secs()))
                }
            },
        };
        Ok((results, not_kept))
    }
}

fn statistics(keys: &[DestinationKey]) -> Result<Vec<Option<DestinationStatistics>>, IpvsError> {
    let mut reader = TableReader::new(DEFAULT_TIMEOUT);
    keys.iter().map(|key| reader.counted(key)).collect()
}
