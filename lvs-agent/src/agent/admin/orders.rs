//! Where orders come in: from the control socket to the judge, and back with what has come of them.

use std::time::Duration;

use tokio::{sync::mpsc, task::spawn_blocking};

use super::request::{PATIENCE, ask};
use crate::{
    agent::messages::{CarriedOut, OrderInquiry},
    control::{Connections, OrderedServer, Reply},
    engine::admin::{Meant, Order, Ordered},
    ipvs::{DestinationStatistics, IpvsError, TableReader},
    model::DestinationKey,
    netlink::DEFAULT_TIMEOUT,
};

/// How long whoever has ordered something waits until it is written down.
const WRITTEN: Duration = Duration::from_secs(1);

/// Passes orders on.
#[derive(Clone, Debug)]
pub(crate) struct OrderDesk {
    pub(crate) judge: mpsc::Sender<OrderInquiry>,
}

impl OrderDesk {
    /// What has come of an order.
    pub(crate) async fn order(&self, order: Order, meant: Meant) -> Reply {
        match self.ask(order, meant).await {
            Ok(ordered) => Reply::Servers(ordered.iter().map(|one| told(one, None)).collect()),
            Err(message) => Reply::Error(message),
        }
    }

    /// How many connections servers have.
    pub(crate) async fn connections(&self, meant: Meant) -> Reply {
        let counted = async {
            let ordered = self.ask(Order::Look, meant).await?;
            let keys: Vec<_> = ordered.iter().map(|one| one.destination).collect();
            // The kernel takes its time over a long table.
            let counting = spawn_blocking(move || counted(&keys)).await;
            let counted = counting.map_err(|error| error.to_string())?;
            let counted = counted.map_err(|error| format!("the kernel's table can't be read: {error}"))?;
            Ok(ordered.iter().zip(counted).map(|(one, counted)| told(one, counted)).collect())
        };
        counted.await.map_or_else(Reply::Error, Reply::Servers)
    }

    async fn ask(&self, order: Order, meant: Meant) -> Result<Vec<Ordered>, String> {
        let inquiry = |reply| OrderInquiry { order, meant, reply };
        let answer = ask("the task that decides", &self.judge, PATIENCE, inquiry).await?;
        let CarriedOut { ordered, kept } = answer.map_err(|unknown| unknown.to_string())?;
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

fn told(one: &Ordered, counted: Option<DestinationStatistics>) -> OrderedServer {
    let DestinationStatistics { active, inactive, persistent, .. } = counted.unwrap_or_default();
    OrderedServer {
        service: one.service.clone(),
        address: one.destination.server,
        weight: one.weight.map(|weight| weight.0),
        held: one.holds.reason().map(str::to_owned),
        connections: counted.is_some().then_some(Connections { active, inactive, persistent }),
    }
}
