//! Decides: from results of checks, admin commands and time to the desired table. It has the health of every
//! destination and the pool of every service. Pure: it never reads a clock, sends, edits or logs; the time is an
//! argument.

pub(crate) mod admin;
mod agents;
mod blocked;
pub(crate) mod confirmation;
pub(crate) mod contradiction;
pub(crate) mod correlation;
pub(crate) mod discovery;
mod dry_run;
mod effects;
pub(crate) mod file_name;
mod first_checks;
pub(crate) mod idle;
pub(crate) mod probe_timeout;
pub(crate) mod role;
pub(crate) mod selection;
pub(crate) mod served;
mod service;
mod shared_failures;
mod state_age;
pub(crate) mod status;
pub(crate) mod subscriptions;
pub(crate) mod table;
mod takeover;
#[cfg(test)]
mod tests;
pub(crate) mod vip_path;

pub use self::dry_run::{DryRun, PlannedCheck};
pub(crate) use self::effects::{Cause, Effects, Move};

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    sync::Arc,
    time::{Duration, Instant},
};

use self::{
    admin::{MaintenanceSet, is_maintained},
    agents::Agents,
    blocked::BlockedChecks,
    contradiction::Contradictions,
    service::Service,
    shared_failures::SharedFailures,
    state_age::StateAges,
};
use crate::{
    event::{Event, Subject},
    health::{Health, Sample, State, Transition},
    ipvs::{Wanted, WantedService},
    keyed::KeyMap,
    model::{Check, DestinationKey, RealServer, Reported, Role, ServiceKey, VirtualService, Weight},
    pool::{AdminCommands, AdminState, Decision, Presence, QuorumState},
    probe::Outcome,
};

/// The place of a destination: the index of its service, and its role there.
#[derive(Clone, Copy, Debug)]
struct Place {
    service: usize,
    role: Role,
}

/// The state of a service as a whole.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct ServiceState {
    pub quorum: QuorumState,
    pub alarm: bool,
    /// How many backups are in the desired table.
    pub backups_in: usize,
}

/// All services with the health of their servers.
#[derive(Debug)]
pub(crate) struct Engine {
    services: Vec<Service>,
    places: KeyMap<DestinationKey, Place>,
    shared_failures: SharedFailures,
    by_key: KeyMap<ServiceKey, usize>,
    /// The servers that files in the maintenance directory name.
    maintained: MaintenanceSet,
    /// Destinations that an administrator has set to weight 0 in the kernel's table.
    administered: BTreeSet<DestinationKey>,
    /// The weights in the desired table; no entry: the destination is not to be there.
    weights: KeyMap<DestinationKey, Weight>,
    /// What the agents on servers have said.
    agents: Agents,
    /// Destinations that are out by an administrative state, and since when.
    disabled_since: HashMap<DestinationKey, Instant>,
    /// Since when destinations are in their state, and why.
    state_ages: StateAges,
    /// When weights of a service change with time.
    due: BTreeSet<(Instant, usize)>,
    /// The checks that can't be made, by a fault of this director's own.
    blocked: BlockedChecks,
    /// Servers whose clients fail while their probes succeed.
    contradictions: Contradictions,
    /// What was decided before the first edit; the next [`Engine::decide_all`] returns it.
    begun: Effects,
}

impl Engine {
    /// Nothing is known of the servers yet but their `presence` in the kernel's table.
    #[must_use]
    pub(crate) fn new(services: &[VirtualService], presence: impl Fn(&DestinationKey) -> Presence) -> Self {
        let services: Vec<_> = services.iter().map(|config| Service::new(config, &presence)).collect();
        let places = places(&services);
        Self {
            weights: weights(&services, &places),
            places,
            by_key: by_key(&services),
            shared_failures: SharedFailures::of(&services),
            services,
            maintained: MaintenanceSet::new(),
            administered: BTreeSet::new(),
            agents: Agents::default(),
            disabled_since: HashMap::new(),
            state_ages: StateAges::default(),
            due: BTreeSet::new(),
            blocked: BlockedChecks::default(),
            contradictions: Contradictions::default(),
            begun: Effects::default(),
        }
    }

    /// Decides before the first edit, so that what people ordered holds from the beginning. The effects are those of
    /// the next [`Engine::decide_all`].
    pub(crate) fn begin(&mut self, now: Instant) {
        self.begun = self.decide_all(now);
    }

    /// Replaces the list of services, after a reload or a change of the kernel's table. Destinations that stay keep
    /// their health, their weight and their administrative state; `presence` is that of new ones in the kernel's table.
    /// A server that becomes a backup, or the other way round, serves on if it did.
    pub(crate) fn replace(
        &mut self,
        services: &[VirtualService],
        presence: impl Fn(&DestinationKey) -> Presence,
        now: Instant,
    ) -> Effects {
        let (before, weights_before) = (self.wanted(), self.weights.clone());
        let commands = self.commands();
        let known = std::mem::take(&mut self.places);
        let presence = |key: &DestinationKey| {
            let own = || Presence::in_table(weights_before.get(key).map(|weight| !weight.is_quiescent()));
            if known.contains_key(key) { own() } else { presence(key) }
        };
        let mut old: HashMap<ServiceKey, Service> =
            self.services.drain(..).map(|service| (service.config.key, service)).collect();
        let replaced = services.iter().map(|config| match old.remove(&config.key) {
            Some(mut service) => {
                service.replace(config, presence);
                service
            }
            None => Service::new(config, presence),
        });
        self.services = replaced.collect();
        (self.places, self.by_key) = (places(&self.services), by_key(&self.services));
        self.forget_blocked();
        self.forget_agents();
        self.shared_failures = SharedFailures::of(&self.services);
        self.state_ages.retain(|destination| self.places.contains_key(destination));
        // Those of a server in another role have gone with the old one.
        drop(self.restore_commands(&commands, now));
        self.apply_admin_states(now);
        let mut effects = Effects { events: self.retain_contradictions(now), ..Effects::default() };
        effects.extend(self.decide_all(now));
        let changed = Some(self.wanted()).filter(|wanted| *wanted != before);
        let moved = self.moves_since(&weights_before);
        Effects { table_changed: changed.is_some(), whole_table: changed, moved, ..effects }
    }

    /// Decides about all services.
    pub(crate) fn decide_all(&mut self, now: Instant) -> Effects {
        self.due.clear();
        let mut effects = std::mem::take(&mut self.begun);
        for index in 0..self.services.len() {
            self.decide(index, now, &mut effects);
        }
        effects
    }

    /// Decides about the services whose weights were to change by `now`.
    pub(crate) fn advance(&mut self, now: Instant) -> Effects {
        let mut effects = Effects::default();
        while let Some((at, index)) = self.due.pop_first() {
            if at > now {
                self.due.insert((at, index));
                break;
            }
            self.decide(index, now, &mut effects);
        }
        self.start_trials(now, &mut effects);
        effects
    }

    /// The differences from the weights `before` another list of services.
    fn moves_since(&mut self, before: &KeyMap<DestinationKey, Weight>) -> Vec<Move> {
        self.weights = weights(&self.services, &self.places);
        let moves = self.destinations().filter_map(|(destination, _, role, _)| {
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

    /// When [`Engine::advance`] is to be called next.
    #[must_use]
    pub(crate) fn next_change(&self) -> Option<Instant> {
        self.due.first().map(|(at, _)| *at).into_iter().chain(self.contradictions.next_trial()).min()
    }

    /// Counts one result of one destination, and what the check reports besides, if anything.
    pub(crate) fn observe(
        &mut self,
        destination: &DestinationKey,
        sample: Sample,
        requested: Option<Reported>,
        now: Instant,
    ) -> Effects {
        let mut effects = Effects::default();
        let Some(place) = self.places.get(destination).copied() else { return effects };
        let Place { service: index, role } = place;
        let (sample, requested, ordered) = self.heed(destination, sample, requested);
        let Some(service) = self.services.get_mut(index) else { return effects };
        let Some(health) = service.health_mut(role) else { return effects };
        // Its first results may end what was done for want of any.
        let was_unknown = matches!(health.state(), State::Unknown { .. });
        let failed = health.failing_since().is_some();
        let transition = health.observe(sample, now);
        let fails = health.failing_since().is_some();
        if fails != failed {
            self.share_failure(destination, place, fails, now);
        }
        let Some(service) = self.services.get_mut(index) else { return effects };
        let weight_changed = requested.is_some_and(|weight| service.pool.set_reported_weight(role, weight));
        let contradiction_over = self.note_probe(destination, sample, now);
        if was_unknown || transition.is_some() || weight_changed || ordered || contradiction_over.is_some() {
            effects.events.extend(contradiction_over);
            let Some(service) = self.services.get(index) else { return effects };
            // A destination that an administrator has set to weight 0 is never reported as failed.
            effects.transition = transition.filter(|_| !service.pool.admin_state(role).administrator);
            self.decide(index, now, &mut effects);
        }
        if ordered {
            self.update_disabled_since(now);
        }
        effects
    }

    /// The administrative state of a destination.
    #[must_use]
    pub(crate) fn admin_state(&self, destination: &DestinationKey) -> AdminState {
        self.at(destination).map(|(service, role)| service.pool.admin_state(role)).unwrap_or_default()
    }

    /// Since when a destination is out by its administrative state.
    #[must_use]
    pub(crate) fn disabled_since(&self, destination: &DestinationKey) -> Option<Instant> {
        self.disabled_since.get(destination).copied()
    }

    /// Changes the administrative state of a destination; `None` if there is no such destination.
    pub(crate) fn set_admin_state(
        &mut self,
        destination: &DestinationKey,
        admin_state: AdminState,
        now: Instant,
    ) -> Option<Effects> {
        let effects =
            self.change(destination, now, |service, role| service.pool.set_admin_state(role, admin_state));
        self.update_disabled_since(now);
        effects
    }

    /// The admin commands in effect, by destination.
    #[must_use]
    pub(crate) fn commands(&self) -> BTreeMap<DestinationKey, AdminCommands> {
        let of = |key: &DestinationKey| (*key, self.admin_state(key).commands);
        self.places.keys().map(of).filter(|(_, commands)| *commands != AdminCommands::default()).collect()
    }

    /// Restores the admin commands from before this agent was started; [`Engine::decide_all`] applies them. Returns the
    /// destinations that no longer exist.
    pub(crate) fn restore_commands(
        &mut self,
        commands: &BTreeMap<DestinationKey, AdminCommands>,
        now: Instant,
    ) -> Vec<DestinationKey> {
        let mut gone = Vec::new();
        for (key, commands) in commands {
            let place = self.places.get(key).copied();
            let server = place.and_then(|place| Some((self.services.get_mut(place.service)?, place.role)));
            match server {
                Some((service, role)) => {
                    let admin_state = AdminState { commands: *commands, ..service.pool.admin_state(role) };
                    service.pool.set_admin_state(role, admin_state);
                }
                None => gone.push(*key),
            }
        }
        self.update_disabled_since(now);
        gone
    }

    /// Sets the servers that an administrator has set to weight 0; [`Engine::decide_all`] applies it.
    pub(crate) fn set_administered(&mut self, administered: BTreeSet<DestinationKey>, now: Instant) {
        self.administered = administered;
        self.apply_admin_states(now);
    }

    fn apply_admin_states(&mut self, now: Instant) {
        for service in &mut self.services {
            for role in service.config.roles() {
                let Some(server) = service.server(role).map(|server| server.address) else { continue };
                let maintenance_file = is_maintained(&self.maintained, server);
                let key = DestinationKey { service: service.config.key, server };
                let administrator = self.administered.contains(&key);
                let admin_state = service.pool.admin_state(role);
                service
                    .pool
                    .set_admin_state(role, AdminState { maintenance_file, administrator, ..admin_state });
            }
        }
        self.update_disabled_since(now);
    }

    /// Updates since when destinations are out by their administrative state.
    fn update_disabled_since(&mut self, now: Instant) {
        let mut before = std::mem::take(&mut self.disabled_since);
        let disabled = self.places.iter().filter(|(_, place)| {
            let service = self.services.get(place.service);
            service.is_some_and(|service| !service.pool.admin_state(place.role).is_enabled())
        });
        self.disabled_since = disabled.map(|(key, _)| (*key, before.remove(key).unwrap_or(now))).collect();
    }

    fn change(
        &mut self,
        destination: &DestinationKey,
        now: Instant,
        change: impl FnOnce(&mut Service, Role),
    ) -> Option<Effects> {
        let Place { service: index, role } = *self.places.get(destination)?;
        change(self.services.get_mut(index)?, role);
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
            // If a server is also a backup, the server counts.
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
        let pool_event = |change| Event::Pool { service: name.clone(), key, change };
        effects.events.extend(events.into_iter().map(pool_event));
        let next = service.next_change(now);
        self.due.retain(|(_, other)| *other != index);
        self.due.extend(next.map(|at| (at, index)));
    }

    /// The scheduler of a destination's service, if the kernel refuses the clients of servers at weight 0 under it.
    #[must_use]
    pub(crate) fn refused_by(&self, destination: &DestinationKey) -> Option<&'static str> {
        let (service, _) = self.at(destination)?;
        service.config.refuses_at_weight_0().then(|| service.config.scheduler.name())
    }

    /// The health of a destination; `None` for a backup that isn't checked.
    #[must_use]
    pub(crate) fn state(&self, destination: &DestinationKey) -> Option<State> {
        self.health(destination).map(Health::state)
    }

    /// The state that one of its checks alone gives.
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

    /// A service's configuration and its state as a whole.
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

    /// All services and their states, in the configuration's order.
    pub(crate) fn services(&self) -> impl Iterator<Item = (&VirtualService, ServiceState)> {
        self.services.iter().map(|service| (&service.config, status(service)))
    }

    /// The first check of a destination.
    #[must_use]
    pub(crate) fn check(&self, destination: &DestinationKey) -> Option<&Check> {
        let (service, role) = self.at(destination)?;
        service.checks(role).next()
    }

    /// All checks of a destination, and their indices.
    pub(crate) fn checks(
        &self,
        destination: &DestinationKey,
    ) -> impl Iterator<Item = (usize, &Check)> + use<'_> {
        self.at(destination).into_iter().flat_map(|(service, role)| service.checks(role).enumerate())
    }

    /// How long an application may take to refute a suspicion, where that isn't its check's timeout.
    #[must_use]
    pub(crate) fn confirm_timeout(&self, destination: &DestinationKey) -> Option<Duration> {
        self.at(destination)?.0.config.policy.confirm_timeout
    }

    /// The first of a destination's checks that tests the application, and its index; `None` where one failed check
    /// doesn't mean that the server is dead.
    #[must_use]
    pub(crate) fn application_check(&self, destination: &DestinationKey) -> Option<(usize, &Check)> {
        let (service, role) = self.at(destination)?;
        if service.takes_several(role) {
            return None;
        }
        service.checks(role).enumerate().find(|(_, check)| check.kind.asks_application())
    }

    /// A destination's weight in the desired table; `None`: it is not to be there.
    #[must_use]
    pub(crate) fn weight(&self, destination: &DestinationKey) -> Option<Weight> {
        let (service, role) = self.at(destination)?;
        service.pool.weight(role)
    }

    /// All destinations in the desired table, with their weights.
    pub(crate) fn weights(&self) -> impl Iterator<Item = (DestinationKey, Weight)> {
        self.weights.iter().map(|(destination, weight)| (*destination, *weight))
    }

    /// The weight that a destination in slow start rises to; `None` for all others.
    #[must_use]
    pub(crate) fn rises_to(&self, destination: &DestinationKey) -> Option<Weight> {
        let (service, role) = self.at(destination)?;
        service.pool.full_weight(role).filter(|_| service.pool.is_ramping(role))
    }

    /// A destination's role in its service.
    #[must_use]
    pub(crate) fn role(&self, destination: &DestinationKey) -> Option<Role> {
        self.places.get(destination).map(|place| place.role)
    }

    /// All destinations with their configuration, in its order: the servers of each service, then its backups.
    pub(crate) fn destinations(
        &self,
    ) -> impl Iterator<Item = (DestinationKey, &VirtualService, Role, &RealServer)> {
        self.services.iter().flat_map(|service| {
            let config = &service.config;
            config.roles().filter_map(move |role| {
                Some((config.destination_of(role)?, config, role, config.server_of(role)?))
            })
        })
    }

    /// The desired table.
    #[must_use]
    pub(crate) fn wanted(&self) -> Wanted {
        let own = self.services.iter().map(|service| (service.config.key, service.wanted()));
        let private = self.services.iter().flat_map(|service| vip_path::wanted_by(&service.config));
        Wanted { services: own.chain(private).collect(), ..Wanted::default() }
    }

    /// One service of the desired table.
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

/// The weights of all destinations in the desired table.
fn weights(services: &[Service], places: &KeyMap<DestinationKey, Place>) -> KeyMap<DestinationKey, Weight> {
    let weight = |place: &Place| services.get(place.service)?.pool.weight(place.role);
    places.iter().filter_map(|(key, place)| Some((*key, weight(place)?))).collect()
}

/// Sets a weight and returns the previous one.
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

/// The index of each service.
fn by_key(services: &[Service]) -> KeyMap<ServiceKey, usize> {
    services.iter().enumerate().map(|(index, service)| (service.config.key, index)).collect()
}

/// The place of each destination. If a server is also a backup, the server counts.
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
