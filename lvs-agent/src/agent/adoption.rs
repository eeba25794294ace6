//! Services that are taken from the kernel's table as they are, and as they change.

use std::sync::Arc;

use tokio::sync::{mpsc, oneshot, watch as latest};
use tokio_util::sync::CancellationToken;

use super::messages::{RemovedServices, ServiceUpdate};
use crate::{
    engine::discovery::{Adopted, adopt},
    event::{Event, Publisher},
    ipvs::Snapshot,
    model::Config,
};

/// Brings the services of the kernel's table to the controller.
pub(crate) struct Adoption {
    /// What the controller has.
    adopted: Adopted,
    seen: latest::Receiver<Arc<Snapshot>>,
    in_force: latest::Receiver<Arc<Config>>,
    updates: mpsc::Sender<ServiceUpdate>,
    events: Publisher,
}

impl Adoption {
    /// The controller has `adopted`.
    pub(crate) fn new(
        adopted: Adopted,
        seen: latest::Receiver<Arc<Snapshot>>,
        in_force: latest::Receiver<Arc<Config>>,
        updates: mpsc::Sender<ServiceUpdate>,
        events: Publisher,
    ) -> Self {
        events.publish(adopted_event(&adopted));
        Self { adopted, seen, in_force, updates, events }
    }

    /// Until `shutdown`.
    pub(crate) async fn run(mut self, shutdown: CancellationToken) {
        loop {
            tokio::select! {
                () = shutdown.cancelled() => return,
                Ok(()) = self.seen.changed() => {}
                Ok(()) = self.in_force.changed() => {}
                else => return,
            }
            if !self.follow().await {
                return;
            }
        }
    }

    /// Tells the controller, if it doesn't know; whether it still listens.
    async fn follow(&mut self) -> bool {
        let seen = self.seen.borrow_and_update().clone();
        let config = self.in_force.borrow_and_update().clone();
        let adopted = adopt(&seen.table, &seen.overrides, &config);
        if adopted == self.adopted {
            return true;
        }
        let (reply, replaced) = oneshot::channel();
        let update = ServiceUpdate {
            services: adopted.services.clone(),
            table: Arc::new(seen.table.clone()),
            administered: adopted.administered.clone(),
            dropped: RemovedServices::LeftAlone,
            reply,
        };
        if self.updates.send(update).await.is_err() {
            return false;
        }
        let Ok(replaced) = replaced.await else { return false };
        self.adopted = adopted;
        self.events.publish(Event::AdoptedChange { change: replaced.into() });
        if self.adopted.services.is_empty() {
            self.events.publish(adopted_event(&self.adopted));
        }
        true
    }
}

fn adopted_event(adopted: &Adopted) -> Event {
    Event::Adopted {
        services: adopted.services.len(),
        servers: adopted.services.iter().map(|service| service.servers.len()).sum(),
        administered: adopted.administered.len(),
    }
}
