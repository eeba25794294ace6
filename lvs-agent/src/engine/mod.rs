//! From results to the wanted table: every destination's health and every service's pool. Pure.

pub(crate) mod admin;
pub(crate) mod confirmation;
pub(crate) mod correlation;
pub(crate) mod discovery;
mod dry_run;
pub(crate) mod probe_timeout;
mod service;
pub(crate) mod status;
pub(crate) mod subscriptions;
pub(crate) mod table;
#[cfg(test)]
mod tests;

pub use self::dry_run::{DryRun, PlannedCheck};

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    time::Instant,
};

use self::{
    admin::{MaintenanceSet, is_maintained},
    service::Service,
};
use crate::{
    health::{Health, Sample, State, Transition},
    ipvs::{Wanted, WantedService},
    keyed::KeyMap,
    model::{Check, DestinationKey, RealServer, Role, ServiceKey, VirtualService, Weight},
    pool::{AdminCommands, AdminState, Decision, PoolEvent, Presence, QuorumState},
};

/// Where a destination is: the index of its service, and what it is there.
#[derive(Clone, Copy, Debug)]
struct Place {
    service: usize,
    role: Role,
}

/// What has come of one result.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Consequence {
    /// The destination's change of state.
    pub transition: Option<Transition>,
    /// What follows from it.
    pub changes: Changes,
}

/// What has come of a result, of an order, or of the time that has passed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Changes {
    /// Whether the wanted table is another one now.
    pub table_changed: bool,
    /// The whole table, if there are other services, or other settings of them: more than the weights below.
    pub whole_table: Option<Wanted>,
    /// The destinations whose weight is another one.
    pub moved: Vec<DestinationKey>,
    /// What is news to people.
    pub happenings: Vec<Happening>,
}

/// Something that is news to people.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Happening {
    /// A server is down by the fast path's finding but held in.
    Retained(DestinationKey),
    /// Something about a whole service.
    Service(ServiceKey, PoolEvent),
}

/// How a service stands as a whole.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct ServiceState {
    pub quorum: QuorumState,
    pub alarm: bool,
    /// How many backups are in the table.
    pub backups_in: usize,
}

/// All services.
#[derive(Debug)]
pub(crate) struct Engine {
    services: Vec<Service>,
    places: KeyMap<DestinationKey, Place>,
    by_key: KeyMap<ServiceKey, usize>,
    /// The servers that files in the maintenance folder name.
    maintained: MaintenanceSet,
    /// Those that are at weight 0 in the kernel's table, and not by this agent.
    administered: BTreeSet<DestinationKey>,
    /// Since when people hold a destination out.
    held: HashMap<DestinationKey, Instant>,
    /// When weights of a service change by themselves.
    due: BTreeSet<(Instant, usize)>,
}

impl Engine {
    /// Services of whose servers nothing is known but how they stand in the kernel's table.
    #[must_use]
    pub(crate) fn new(services: &[VirtualService], found: impl Fn(&DestinationKey) -> Presence) -> Self {
        let services: Vec<_> = services.iter().map(|config| Service::new(config, &found)).collect();
        Self {
            places: places(&services),
            by_key: by_key(&services),
            services,
            maintained: MaintenanceSet::new(),
            administered: BTreeSet::new(),
            held: HashMap::new(),
            due: BTreeSet::new(),
        }
    }

    /// Takes a new list of services, of a configuration that was read again or of a kernel's table that has changed.
    /// Destinations that stay keep what is known of them, how they stand and who admin_state them out; `found` says how those
    /// stand in the kernel's table that are new.
    pub(crate) fn replace(
        &mut self,
        services: &[VirtualService],
        found: impl Fn(&DestinationKey) -> Presence,
        now: Instant,
    ) -> Changes {
        let before = self.wanted();
        let mut old: HashMap<ServiceKey, Service> =
            self.services.drain(..).map(|service| (service.config.key, service)).collect();
        let replaced = services.iter().map(|config| match old.remove(&config.key) {
            Some(mut service) => {
                service.replace(config, &found);
                service
            }
            None => Service::new(config, &found),
        });
        self.services = replaced.collect();
        (self.places, self.by_key) = (places(&self.services), by_key(&self.services));
        self.apply_admin_states(now);
        let changes = self.settle(now);
        let other = Some(self.wanted()).filter(|wanted| *wanted != before);
        Changes { table_changed: other.is_some(), whole_table: other, ..changes }
    }

    /// Looks at all services.
    pub(crate) fn settle(&mut self, now: Instant) -> Changes {
        self.due.clear();
        let mut changes = Changes::default();
        for index in 0..self.services.len() {
            self.decide(index, now, &mut changes);
        }
        changes
    }

    /// Looks at the services whose weights were to change by now.
    pub(crate) fn passed(&mut self, now: Instant) -> Changes {
        let mut changes = Changes::default();
        while let Some((at, index)) = self.due.pop_first() {
            if at > now {
                self.due.insert((at, index));
                break;
            }
            self.decide(index, now, &mut changes);
        }
        changes
    }

    /// When [`Engine::passed`] is to be asked next.
    #[must_use]
    pub(crate) fn next_change(&self) -> Option<Instant> {
        self.due.first().map(|(at, _)| *at)
    }

    /// Takes in one result of one destination, and the weight that the server asks for, if it does; says what came of it.
    pub(crate) fn observe(
        &mut self,
        destination: &DestinationKey,
        sample: Sample,
        asked: Option<Weight>,
        now: Instant,
    ) -> Consequence {
        let mut consequence = Consequence::default();
        let Some(Place { service: index, role }) = self.places.get(destination).copied() else {
            return consequence;
        };
        let Some(service) = self.services.get_mut(index) else { return consequence };
        let transition = service.health_mut(role).and_then(|health| health.observe(sample, now));
        let other_weight = asked.is_some_and(|weight| service.pool.set_asked(role, weight));
        if transition.is_some() || other_weight {
            // What an administrator admin_state is never called failed.
            consequence.transition = transition.filter(|_| !service.pool.admin_state(role).administrator);
            self.decide(index, now, &mut consequence.changes);
        }
        consequence
    }

    /// What was ordered about a destination.
    #[must_use]
    pub(crate) fn admin_state(&self, destination: &DestinationKey) -> AdminState {
        self.at(destination).map(|(service, role)| service.pool.admin_state(role)).unwrap_or_default()
    }

    /// Since when people hold a destination out, whoever it is and for whatever reason.
    #[must_use]
    pub(crate) fn disabled_since(&self, destination: &DestinationKey) -> Option<Instant> {
        self.held.get(destination).copied()
    }

    /// Orders something about a destination, or takes it back; `None` if there is no such destination.
    pub(crate) fn set_admin_state(
        &mut self,
        destination: &DestinationKey,
        admin_state: AdminState,
        now: Instant,
    ) -> Option<Changes> {
        let changes =
            self.order(destination, now, |service, role| service.pool.set_admin_state(role, admin_state));
        self.note_admin_states(now);
        changes
    }

    /// What was ordered by command, of all destinations of which anything was.
    #[must_use]
    pub(crate) fn commands(&self) -> BTreeMap<DestinationKey, AdminCommands> {
        let of = |key: &DestinationKey| (*key, self.admin_state(key).commands);
        self.places.keys().map(of).filter(|(_, commands)| *commands != AdminCommands::default()).collect()
    }

    /// Takes note of what was ordered before this agent was started, for the next look at all services. Gives those that
    /// are not there any more.
    pub(crate) fn recall_commands(
        &mut self,
        commands: &BTreeMap<DestinationKey, AdminCommands>,
        now: Instant,
    ) -> Vec<DestinationKey> {
        let mut gone = Vec::new();
        for (key, commands) in commands {
            let place = self.places.get(key).copied();
            let found = place.and_then(|place| Some((self.services.get_mut(place.service)?, place.role)));
            match found {
                Some((service, role)) => {
                    let admin_state = AdminState { commands: *commands, ..service.pool.admin_state(role) };
                    service.pool.set_admin_state(role, admin_state);
                }
                None => gone.push(*key),
            }
        }
        self.note_admin_states(now);
        gone
    }

    /// Gives a destination another weight than the configured one, until the next list of services; `None` if there is no
    /// such destination.
    #[cfg_attr(not(test), expect(dead_code, reason = "for reloads and commands, which are wired elsewhere"))]
    pub(crate) fn set_weight(
        &mut self,
        destination: &DestinationKey,
        weight: Weight,
        now: Instant,
    ) -> Option<Changes> {
        self.order(destination, now, |service, role| service.pool.set_weight(role, weight))
    }

    /// Takes note of the servers that files in the maintenance folder name; they are out until others are named.
    pub(crate) fn set_maintenance(&mut self, maintained: MaintenanceSet, now: Instant) -> Changes {
        self.maintained = maintained;
        self.apply_admin_states(now);
        self.settle(now)
    }

    /// Takes note of the servers that an administrator admin_state at weight 0, for the next look at all services.
    pub(crate) fn set_administered(&mut self, administered: BTreeSet<DestinationKey>, now: Instant) {
        self.administered = administered;
        self.apply_admin_states(now);
    }

    fn apply_admin_states(&mut self, now: Instant) {
        for service in &mut self.services {
            for role in service.config.roles() {
                let Some(server) = service.server(role).map(|server| server.address) else { continue };
                let folder = is_maintained(&self.maintained, server);
                let key = DestinationKey { service: service.config.key, server };
                let administrator = self.administered.contains(&key);
                let admin_state = service.pool.admin_state(role);
                service.pool.set_admin_state(role, AdminState { folder, administrator, ..admin_state });
            }
        }
        self.note_admin_states(now);
    }

    /// Notes who is held out, and that others are no longer.
    fn note_admin_states(&mut self, now: Instant) {
        let mut before = std::mem::take(&mut self.held);
        let held = self.places.iter().filter(|(_, place)| {
            let service = self.services.get(place.service);
            service.is_some_and(|service| !service.pool.admin_state(place.role).is_enabled())
        });
        self.held = held.map(|(key, _)| (*key, before.remove(key).unwrap_or(now))).collect();
    }

    fn order(
        &mut self,
        destination: &DestinationKey,
        now: Instant,
        order: impl FnOnce(&mut Service, Role),
    ) -> Option<Changes> {
        let Place { service: index, role } = *self.places.get(destination)?;
        order(self.services.get_mut(index)?, role);
        let mut changes = Changes::default();
        self.decide(index, now, &mut changes);
        Some(changes)
    }

    fn decide(&mut self, index: usize, now: Instant, changes: &mut Changes) {
        let Some(service) = self.services.get_mut(index) else { return };
        let key = service.config.key;
        let Decision { moved, retained, events } = service.decide(now);
        changes.table_changed |= !moved.is_empty();
        changes.moved.extend(moved.into_iter().filter_map(|role| service.config.destination_of(role)));
        let retained =
            retained.into_iter().filter_map(|index| service.config.destination_of(Role::Server(index)));
        changes.happenings.extend(retained.map(Happening::Retained));
        changes.happenings.extend(events.into_iter().map(|event| Happening::Service(key, event)));
        let next = service.pool.next_change(now);
        self.due.retain(|(_, other)| *other != index);
        self.due.extend(next.map(|at| (at, index)));
    }

    /// What is known of a destination; of a backup that isn't checked: nothing.
    #[must_use]
    pub(crate) fn state(&self, destination: &DestinationKey) -> Option<State> {
        self.health(destination).map(Health::state)
    }

    /// What one of its checks alone has found.
    #[must_use]
    pub(crate) fn state_of_check(&self, destination: &DestinationKey, check: usize) -> Option<State> {
        self.health(destination)?.state_of(check)
    }

    /// How often a destination went down soon after it had come back.
    #[must_use]
    pub(crate) fn relapses(&self, destination: &DestinationKey) -> u32 {
        self.health(destination).map_or(0, Health::relapses)
    }

    /// How many more failures in a row would take a destination down.
    #[must_use]
    pub(crate) fn failures_to_fall(&self, destination: &DestinationKey) -> u32 {
        self.health(destination).map_or(0, Health::failures_to_fall)
    }

    /// The name of a destination's service.
    #[must_use]
    pub(crate) fn service_name(&self, destination: &DestinationKey) -> &str {
        self.at(destination).map_or("", |(service, _)| &service.config.name)
    }

    /// A service's configuration and how it stands as a whole.
    #[must_use]
    pub(crate) fn service(&self, key: &ServiceKey) -> Option<(&VirtualService, ServiceState)> {
        let service = self.services.get(*self.by_key.get(key)?)?;
        Some((&service.config, status(service)))
    }

    /// Whether more than half of a service's servers, two at least, fail now or are down.
    #[must_use]
    pub(crate) fn most_fail(&self, key: &ServiceKey) -> bool {
        let service = self.by_key.get(key).and_then(|index| self.services.get(*index));
        service.is_some_and(Service::most_fail)
    }

    /// The destinations of a service: its servers, then its backups.
    pub(crate) fn destinations_of(&self, key: &ServiceKey) -> impl Iterator<Item = DestinationKey> {
        let service = self.by_key.get(key).and_then(|index| self.services.get(*index));
        service.into_iter().flat_map(|service| {
            let config = &service.config;
            config.roles().filter_map(move |role| config.destination_of(role))
        })
    }

    /// All services and how they stand, in the configuration's order.
    pub(crate) fn services(&self) -> impl Iterator<Item = (&VirtualService, ServiceState)> {
        self.services.iter().map(|service| (&service.config, status(service)))
    }

    /// What a destination is asked first of all.
    #[must_use]
    pub(crate) fn check(&self, destination: &DestinationKey) -> Option<&Check> {
        let (service, role) = self.at(destination)?;
        service.checks(role).next()
    }

    /// The first of a destination's checks that asks the application, and its index; none where one failed check doesn't say
    /// that the server is dead.
    #[must_use]
    pub(crate) fn application_check(&self, destination: &DestinationKey) -> Option<(usize, &Check)> {
        let (service, role) = self.at(destination)?;
        if service.takes_several(role) {
            return None;
        }
        service.checks(role).enumerate().find(|(_, check)| check.kind.asks_application())
    }

    /// A destination's weight in the wanted table, or `None` if it shall not be there.
    #[must_use]
    pub(crate) fn weight(&self, destination: &DestinationKey) -> Option<Weight> {
        let (service, role) = self.at(destination)?;
        service.pool.weight(role)
    }

    /// The weight that it rises to, where it is on its way.
    #[must_use]
    pub(crate) fn rises_to(&self, destination: &DestinationKey) -> Option<Weight> {
        let (service, role) = self.at(destination)?;
        service.pool.own_weight(role).filter(|_| service.pool.is_ramping(role))
    }

    /// What a destination is in its service.
    #[must_use]
    pub(crate) fn role(&self, destination: &DestinationKey) -> Option<Role> {
        self.places.get(destination).map(|place| place.role)
    }

    /// All destinations with their configuration, in its order: the servers of each service, then its backups.
    pub(crate) fn all(&self) -> impl Iterator<Item = (DestinationKey, &VirtualService, Role, &RealServer)> {
        self.services.iter().flat_map(|service| {
            let config = &service.config;
            config.roles().filter_map(move |role| {
                Some((config.destination_of(role)?, config, role, config.server_of(role)?))
            })
        })
    }

    /// What the table should be.
    #[must_use]
    pub(crate) fn wanted(&self) -> Wanted {
        let services = self.services.iter().map(|service| (service.config.key, service.wanted())).collect();
        Wanted { services, ..Wanted::default() }
    }

    /// What one of its services should be.
    #[must_use]
    pub(crate) fn wanted_service(&self, key: &ServiceKey) -> Option<WantedService> {
        Some(self.services.get(*self.by_key.get(key)?)?.wanted())
    }

    fn at(&self, destination: &DestinationKey) -> Option<(&Service, Role)> {
        let place = self.places.get(destination)?;
        Some((self.services.get(place.service)?, place.role))
    }

    fn health(&self, destination: &DestinationKey) -> Option<&Health> {
        let (service, role) = self.at(destination)?;
        service.health(role)
    }
}

fn status(service: &Service) -> ServiceState {
    let pool = &service.pool;
    ServiceState { quorum: pool.quorum_state(), alarm: pool.alarm(), backups_in: pool.backups_in() }
}

/// Where each service is.
fn by_key(services: &[Service]) -> KeyMap<ServiceKey, usize> {
    services.iter().enumerate().map(|(index, service)| (service.config.key, index)).collect()
}

/// Where each destination is. Of a server that is also a backup the server counts.
fn places(services: &[Service]) -> KeyMap<DestinationKey, Place> {
    let mut places = KeyMap::default();
    for (service, config) in services.iter().map(|service| &service.config).enumerate() {
        for role in config.roles() {
            if let Some(key) = config.destination_of(role) {
                places.entry(key).or_insert(Place { service, role });
            }
        }
    }
    places
}
