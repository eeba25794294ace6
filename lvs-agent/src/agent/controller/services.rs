//! Another list of services, while the agent runs.

use std::{
    collections::BTreeSet,
    sync::Arc,
    time::{Duration, Instant},
};

use super::Controller;
use crate::{
    engine::{Cause, idle, subscriptions::ScheduleChange, table::presence},
    event::Event,
    ipvs::Wanted,
    messages::{Counted, RemovedServices, ServiceUpdate, UpdateSummary, WatchedServices},
    model::{DestinationKey, ServiceKey, VirtualService},
    passive::Spread,
};

/// How long a service that is no longer wanted is looked for in the kernel's table. Whoever adds it again later is left
/// alone.
const LEAVE: Duration = Duration::from_secs(30);

/// Who is there under which name, as metrics show it.
struct Known {
    services: BTreeSet<(ServiceKey, String)>,
    destinations: BTreeSet<(DestinationKey, Arc<str>)>,
}

impl Controller {
    /// Decides about these services from now on. What is known of those that stay is kept.
    pub(super) async fn replace(&mut self, update: ServiceUpdate) {
        let ServiceUpdate { services, table, administered, dropped, reply } = update;
        let now = Instant::now();
        self.engine.set_administered(administered, now);
        let (before, lanes_before) = (self.known(), self.engine.private_services());
        let mut effects = self.engine.replace(&services, |key| presence(&table, key), now);
        let after = self.known();
        let some_leave = self.leave(&before, &after, dropped, now);
        self.leave_lanes(&lanes_before, now);
        effects.table_changed |= some_leave;
        if some_leave && effects.whole_table.is_none() {
            effects.whole_table = Some(self.engine.wanted());
        }
        let ScheduleChange { added, removed } = self.checks.replace(&services);
        for id in &removed {
            self.accelerated.remove(id);
        }
        self.confirmations.forget_removed(&self.engine, now);
        // Nobody waits for that.
        drop(self.save_commands());
        // The scheduler takes commands whatever else it does. Once it has ended the agent ends, too.
        self.scheduler.exchange(added, removed).await.ok();
        let services: WatchedServices = services.into();
        self.set_services(services.clone());
        self.idle.replace(idle::wishes(&self.engine));
        self.events.publish(Event::Services { services: services.clone() });
        let table_changed = effects.table_changed;
        self.apply(effects, Cause::Reload);
        let role = self.role.keeper.set_services(&services);
        self.role_changed(role);
        self.show(&before, &after);
        let of = |services: usize, destinations: usize| Counted { services, destinations };
        let replaced = UpdateSummary {
            table_changed,
            added: of(
                after.services.difference(&before.services).count(),
                after.destinations.difference(&before.destinations).count(),
            ),
            removed: of(
                before.services.difference(&after.services).count(),
                before.destinations.difference(&after.destinations).count(),
            ),
        };
        // Whoever asked may have gone.
        reply.send(replaced).ok();
    }

    /// Has the whole table made so, without the services that are to go.
    pub(super) fn want(&self, wanted: Wanted) {
        self.desired.replace(self.without_leaving(wanted));
    }

    fn without_leaving(&self, mut wanted: Wanted) -> Wanted {
        wanted.unwanted.extend(self.leaving.keys());
        wanted
    }

    /// Stops looking for services that are to go.
    pub(super) fn let_go(&mut self, now: Instant) {
        let before = self.leaving.len();
        self.leaving.retain(|_, until| *until > now);
        if self.leaving.len() != before {
            self.want(self.engine.wanted());
        }
    }

    /// Notes which services are to go; whether there are others than before.
    fn leave(&mut self, before: &Known, after: &Known, dropped: RemovedServices, now: Instant) -> bool {
        let keys = |known: &Known| known.services.iter().map(|(key, _)| *key).collect::<BTreeSet<_>>();
        let (before, after) = (keys(before), keys(after));
        self.leaving.retain(|key, _| !after.contains(key));
        let gone: Vec<_> =
            before.difference(&after).filter(|_| dropped == RemovedServices::Deleted).copied().collect();
        let any = !gone.is_empty();
        self.leaving.extend(gone.into_iter().map(|key| (key, now + LEAVE)));
        any
    }

    /// Notes which private services are to go. That the desired table has changed is known without them.
    fn leave_lanes(&mut self, before: &BTreeSet<ServiceKey>, now: Instant) {
        let after = self.engine.private_services();
        self.leaving.retain(|key, _| !after.contains(key));
        self.leaving.extend(before.difference(&after).map(|key| (*key, now + LEAVE)));
    }

    /// Tells the passive side whom to watch, if these are not the ones that it does.
    fn set_services(&self, watched: WatchedServices) {
        self.watched.send_if_modified(|known| {
            let others = !watched_by(known).eq(watched_by(&watched));
            if others {
                *known = watched;
            }
            others
        });
    }

    fn known(&self) -> Known {
        let name = |destination: DestinationKey| (destination, self.engine.service_name(&destination));
        Known {
            services: self.engine.services().map(|(one, _)| (one.key, one.name.clone())).collect(),
            destinations: self.engine.destinations().map(|(destination, ..)| name(destination)).collect(),
        }
    }

    /// Shows who is new, and that others are no longer there.
    fn show(&mut self, before: &Known, after: &Known) {
        for (key, _) in before.services.difference(&after.services) {
            self.shown.retire_service(key);
        }
        for (destination, _) in before.destinations.difference(&after.destinations) {
            self.shown.retire_destination(destination);
        }
        for (destination, _) in after.destinations.difference(&before.destinations) {
            self.shown.show_destination(&self.engine, destination);
        }
        for (key, _) in after.services.difference(&before.services) {
            self.shown.show_service(&self.engine, key);
        }
    }
}

/// What the passive side makes use of.
fn watched_by(services: &[VirtualService]) -> impl Iterator<Item = impl PartialEq> {
    services.iter().map(|service| {
        let servers = service.servers.iter().map(|server| (server.address, server.method, server.tunnel));
        (service.key, service.name.clone(), Spread::of(service), servers.collect::<Vec<_>>())
    })
}

#[cfg(test)]
mod tests;
