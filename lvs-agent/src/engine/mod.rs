//! From results to the wanted table: every destination's health and every service's pool. Pure.

pub(crate) mod admin;
pub(crate) mod confirmation;
pub(crate) mod correlation;
pub(crate) mod discovery;
mod dry_run;
mod effects;
pub(crate) mod probe_timeout;
mod service;
pub(crate) mod status;
pub(crate) mod subscriptions;
pub(crate) mod table;
#[cfg(test)]
mod tests;

pub use self::dry_run::{DryRun, PlannedCheck};
pub(crate) use self::effects::{Cause, Effects, Move};

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    sync::Arc,
    time::Instant,
};

use self::{
    admin::{MaintenanceSet, is_maintained},
    service::Service,
};
use crate::{
    event::{Event, Subject},
    health::{Health, Sample, State, Transition},
    ipvs::{Wanted, WantedService},
    keyed::KeyMap,
    model::{Check, DestinationKey, RealServer, Role, ServiceKey, VirtualService, Weight},
    pool::{AdminCommands, AdminState, Decision, Presence, QuorumState},
    probe::Outcome,
};

/// Where a destination is: the index of its service, and what it is there.
#[derive(Clone, Copy, Debug)]
struct Place {
    service: usize,
    role: Role,
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
    /// The weights in the wanted table, as last told; no entry: it is not to be there.
    weights: KeyMap<DestinationKey, Weight>,
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
        let places = places(&services);
        Self {
            weights: weights(&services, &places),
            places,
            by_key: by_key(&services),
            services,
            maintained: MaintenanceSet::new(),
            administered: BTreeSet::new(),
            held: HashMap::new(),
            due: BTreeSet::new(),
        }
    }

    /// Takes a new list of services, of a configuration that was read again or of a kernel's table that has changed.
    /// Destinations that stay keep what is known of them, how they stand and who holds them out; `found` says how those
    /// stand in the kernel's table that are new.
    pub(crate) fn replace(
        &mut self,
        services: &[VirtualService],
        found: impl Fn(&DestinationKey) -> Presence,
        now: Instant,
    ) -> Effects {
        let (before, weights_before) = (self.wanted(), self.weights.clone());
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
        let effects = self.settle(now);
        let other = Some(self.wanted()).filter(|wanted| *wanted != before);
        let moved = self.moves_since(&weights_before);
        Effects { table_changed: other.is_some(), whole_table: other, moved, ..effects }
    }

    /// Looks at all services.
    pub(crate) fn settle(&mut self, now: Instant) -> Effects {
        self.due.clear();
        let mut effects = Effects::default();
        for index in 0..self.services.len() {
            self.decide(index, now, &mut effects);
        }
        effects
    }

    /// Looks at the services whose weights were to change by now.
    pub(crate) fn passed(&mut self, now: Instant) -> Effects {
        let mut effects = Effects::default();
        while let Some((at, index)) = self.due.pop_first() {
            if at > now {
                self.due.insert((at, index));
                break;
            }
            self.decide(index, now, &mut effects);
        }
        effects
    }

    /// How the weights differ from those before another list of services.
    fn moves_since(&mut self, before: &KeyMap<DestinationKey, Weight>) -> Vec<Move> {
        self.weights = weights(&self.services, &self.places);
        let moves = self.all().filter_map(|(destination, _, role, _)| {
            let (from, to) = (before.get(&destination).copied(), self.weights.get(&destination).copied());
            (from != to && self.role(&destination) == Some(role)).then_some(Move {
                destination,
                role,
                from,
                to,
            })
        });
        moves.collect()
    }

    /// When [`Engine::passed`] is to be asked next.
    #[must_use]
    pub(crate) fn next_change(&self) -> Option<Instant> {
        self.due.first().map(|(at, _)| *at)
    }

    /// Counts one result of one destination, and the weight that the server asks for, if it does.
    pub(crate) fn observe(
        &mut self,
        destination: &DestinationKey,
        sample: Sample,
        asked: Option<Weight>,
        now: Instant,
    ) -> Effects {
        let mut effects = Effects::default();
        let Some(Place { service: index, role }) = self.places.get(destination).copied() else {
            return effects;
        };
        let Some(service) = self.services.get_mut(index) else { return effects };
        let transition = service.health_mut(role).and_then(|health| health.observe(sample, now));
        let other_weight = asked.is_some_and(|weight| service.pool.set_reported_weight(role, weight));
        if transition.is_some() || other_weight {
            // What an administrator holds is never called failed.
            effects.transition = transition.filter(|_| !service.pool.admin_state(role).administrator);
            self.decide(index, now, &mut effects);
        }
        effects
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
    ) -> Option<Effects> {
        let effects =
            self.order(destination, now, |service, role| service.pool.set_admin_state(role, admin_state));
        self.note_admin_states(now);
        effects
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
    ) -> Option<Effects> {
        self.order(destination, now, |service, role| service.pool.set_weight(role, weight))
    }

    /// Takes note of the servers that files in the maintenance folder name; they are out until others are named.
    pub(crate) fn set_maintenance(&mut self, maintained: MaintenanceSet, now: Instant) -> Effects {
        self.maintained = maintained;
        self.apply_admin_states(now);
        self.settle(now)
    }

    /// Takes note of the servers that an administrator holds at weight 0, for the next look at all services.
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
    ) -> Option<Effects> {
        let Place { service: index, role } = *self.places.get(destination)?;
        order(self.services.get_mut(index)?, role);
        let mut effects = Effects::default();
        self.decide(index, now, &mut effects);
        Some(effects)
    }

    fn decide(&mut self, index: usize, now: Instant, effects: &mut Effects) {
        let Some(service) = self.services.get_mut(index) else { return };
        let Decision { moved, retained, events } = service.decide(now);
        let service = &*service;
        for role in moved {
            let Some(destination) = service.config.destination_of(role) else { continue };
            // Of a server that is also a backup the server counts.
            let role = self.places.get(&destination).map_or(role, |place| place.role);
            let to = service.pool.weight(role);
            let from = replace_weight(&mut self.weights, destination, to);
            effects.moved.push(Move { destination, role, from, to });
            effects.table_changed = true;
        }
        let retained = retained.into_iter().filter_map(|index| {
            let destination = service.config.destination_of(Role::Server(index))?;
            Some(Event::Retained { subject: service.subject(destination) })
        });
        effects.events.extend(retained);
        let (name, key) = (&service.name, service.config.key);
        let of_pool = |change| Event::Pool { service: name.clone(), key, change };
        effects.events.extend(events.into_iter().map(of_pool));
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

    /// The name of a destination's service; empty if there is none.
    #[must_use]
    pub(crate) fn service_name(&self, destination: &DestinationKey) -> Arc<str> {
        self.at(destination).map_or_else(|| "".into(), |(service, _)| service.name.clone())
    }

    /// A destination as events name it.
    #[must_use]
    pub(crate) fn subject(&self, destination: &DestinationKey) -> Subject {
        Subject { service: self.service_name(destination), destination: *destination }
    }

    /// Several destinations as events name them.
    #[must_use]
    pub(crate) fn subjects(&self, destinations: &[DestinationKey]) -> Vec<Subject> {
        destinations.iter().map(|destination| self.subject(destination)).collect()
    }

    fn transition_event(
        &self,
        destination: &DestinationKey,
        transition: Transition,
        outcome: &Outcome,
    ) -> Event {
        Event::Transition {
            subject: self.subject(destination),
            transition,
            outcome: outcome.clone(),
            relapses: self.relapses(destination),
        }
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

    /// All destinations that are to be in the table, with their weights.
    pub(crate) fn weights(&self) -> impl Iterator<Item = (DestinationKey, Weight)> {
        self.weights.iter().map(|(destination, weight)| (*destination, *weight))
    }

    /// The weight that it rises to, where it is on its way.
    #[must_use]
    pub(crate) fn rises_to(&self, destination: &DestinationKey) -> Option<Weight> {
        let (service, role) = self.at(destination)?;
        service.pool.full_weight(role).filter(|_| service.pool.is_ramping(role))
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

/// The weights of all destinations that are to be in the table.
fn weights(services: &[Service], places: &KeyMap<DestinationKey, Place>) -> KeyMap<DestinationKey, Weight> {
    let weight = |place: &Place| services.get(place.service)?.pool.weight(place.role);
    places.iter().filter_map(|(key, place)| Some((*key, weight(place)?))).collect()
}

/// Takes note of another weight, and gives the one before.
fn replace_weight(
    weights: &mut KeyMap<DestinationKey, Weight>,
    destination: DestinationKey,
    to: Option<Weight>,
) -> Option<Weight> {
    match to {
        Some(weight) => weights.insert(destination, weight),
        None => weights.remove(&destination),
    }
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
