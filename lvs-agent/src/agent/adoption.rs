//! Services that are taken from the kernel's table as they are, and as they change.

use std::sync::Arc;

use tokio::sync::{mpsc, oneshot, watch as latest};
use tokio_util::sync::CancellationToken;
use tracing::info;

use super::messages::{RemovedServices, ServiceUpdate, UpdateSummary};
use crate::{
    clock::monotonic_ns,
    engine::discovery::{Adopted, adopt},
    ipvs::Snapshot,
    model::{Config, VirtualService},
};

/// Brings the services of the kernel's table to the controller.
pub(crate) struct Adoption {
    /// What the controller has.
    adopted: Adopted,
    seen: latest::Receiver<Arc<Snapshot>>,
    in_force: latest::Receiver<Arc<Config>>,
    updates: mpsc::Sender<ServiceUpdate>,
}

impl Adoption {
    /// The controller has `adopted`.
    pub(crate) fn new(
        adopted: Adopted,
        seen: latest::Receiver<Arc<Snapshot>>,
        in_force: latest::Receiver<Arc<Config>>,
        updates: mpsc::Sender<ServiceUpdate>,
    ) -> Self {
        tell(&adopted);
        Self { adopted, seen, in_force, updates }
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
        tell_of_change(&replaced);
        if self.adopted.services.is_empty() {
            tell(&self.adopted);
        }
        true
    }
}

fn tell(adopted: &Adopted) {
    let (at_ns, services) = (monotonic_ns(), adopted.services.len());
    if services == 0 {
        info!(at_ns, event = "adopted", services, "the kernel's table has no services: waiting for some");
        return;
    }
    let servers: usize = adopted.services.iter().map(|service: &VirtualService| service.servers.len()).sum();
    let administered = adopted.administered.len();
    info!(
        at_ns,
        event = "adopted",
        services,
        servers,
        administered,
        "the kernel's table has {services} services with {servers} servers; {administered} of them have weight 0 and \
         keep it"
    );
}

fn tell_of_change(replaced: &UpdateSummary) {
    let UpdateSummary { added, removed, .. } = replaced;
    info!(
        at_ns = monotonic_ns(),
        event = "adopted-change",
        services_added = added.services,
        services_removed = removed.services,
        servers_added = added.destinations,
        servers_removed = removed.destinations,
        "others have changed the kernel's table: {} services and {} servers are new, {} services and {} servers are gone; \
         all other changes are of weights or settings",
        added.services,
        added.destinations,
        removed.services,
        removed.destinations,
    );
}
