//! Follows the services in the kernel's table, where the agent adopts them, and sends each change to the controller. It
//! never edits the table.

use std::sync::Arc;

use tokio::sync::{mpsc, oneshot, watch as latest};
use tokio_util::sync::CancellationToken;

use crate::messages::{RemovedServices, ServiceUpdate};
use crate::{
    engine::discovery::{Adopted, adopt},
    event::{Event, Publisher},
    ipvs::Snapshot,
    model::Config,
    supervision::Restartable,
};

/// Sends the services of the kernel's table to the controller.
pub(crate) struct Adoption {
    /// The services that the controller has.
    adopted: Adopted,
    snapshots: latest::Receiver<Arc<Snapshot>>,
    in_force: latest::Receiver<Arc<Config>>,
    updates: mpsc::Sender<ServiceUpdate>,
    events: Publisher,
}

impl Adoption {
    /// The controller has the services `adopted`.
    pub(crate) fn new(
        adopted: Adopted,
        snapshots: latest::Receiver<Arc<Snapshot>>,
        in_force: latest::Receiver<Arc<Config>>,
        updates: mpsc::Sender<ServiceUpdate>,
        events: Publisher,
    ) -> Self {
        events.publish(adopted_event(&adopted));
        Self { adopted, snapshots, in_force, updates, events }
    }

    /// Sends the services to the controller, if they have changed. `false`: the controller has ended.
    async fn update(&mut self) -> bool {
        let snapshot = self.snapshots.borrow_and_update().clone();
        let config = self.in_force.borrow_and_update().clone();
        let adopted = adopt(&snapshot.table, &snapshot.overrides, &config);
        if adopted == self.adopted {
            return true;
        }
        let (reply, summary) = oneshot::channel();
        let update = ServiceUpdate {
            services: adopted.services.clone(),
            table: Arc::new(snapshot.table.clone()),
            administered: adopted.administered.clone(),
            dropped: RemovedServices::LeftAlone,
            reply,
        };
        if self.updates.send(update).await.is_err() {
            return false;
        }
        let Ok(summary) = summary.await else { return false };
        self.adopted = adopted;
        self.events.publish(Event::AdoptedChange { change: summary.into() });
        if self.adopted.services.is_empty() {
            self.events.publish(adopted_event(&self.adopted));
        }
        true
    }
}

impl Restartable for Adoption {
    async fn run(&mut self, shutdown: &CancellationToken) {
        loop {
            tokio::select! {
                () = shutdown.cancelled() => return,
                Ok(()) = self.snapshots.changed() => {}
                Ok(()) = self.in_force.changed() => {}
                else => return,
            }
            if !self.update().await {
                return;
            }
        }
    }
}

fn adopted_event(adopted: &Adopted) -> Event {
    Event::Adopted {
        services: adopted.services.len(),
        servers: adopted.services.iter().map(|service| service.servers.len()).sum(),
        administered: adopted.administered.len(),
    }
}
