//! One service: the health of its servers and backups, its pool, and its desired entry in the table. Pure.

use std::{
    net::SocketAddr,
    sync::Arc,
    time::{Duration, Instant},
};

use super::{first_checks::FirstChecks, served::Served};
use crate::{
    event::Subject,
    health::{Health, HealthRules, State, Thresholds},
    ipvs::{ServiceFlags, WantedDestination, WantedService, Wish},
    model::{
        Backup, Check, CheckKind, Combine, DestinationKey, ForwardingMethod, FurtherChecks, RealServer, Role,
        SchedulerFlags, VirtualService, Weight,
    },
    pool::{Decision, Origin, Pool, PoolRules, Presence},
};

/// One service, the health of its servers, and its pool.
#[derive(Debug)]
pub(super) struct Service {
    pub(super) config: VirtualService,
    /// Its name, shared with events.
    pub(super) name: Arc<str>,
    servers: Vec<Health>,
    /// `None`: it isn't checked.
    backups: Vec<Option<Health>>,
    first_checks: FirstChecks,
    pub(super) pool: Pool,
}

impl Service {
    /// Nothing is known of the servers yet but their `presence` in the kernel's table.
    pub(super) fn new(config: &VirtualService, presence: impl Fn(&DestinationKey) -> Presence) -> Self {
        let member = |server: &RealServer| {
            let key = DestinationKey { service: config.key, server: server.address };
            (server.weight, presence(&key))
        };
        let servers = config.servers.iter().map(member);
        // If a server is also a backup, the server counts.
        let backups = config.policy.backups.iter().map(|backup| {
            let weight = backup.server.weight;
            if is_server(config, backup) { (weight, Presence::Absent) } else { member(&backup.server) }
        });
        Self {
            servers: config.servers.iter().map(|server| new_server(config, server)).collect(),
            backups: config.policy.backups.iter().map(|backup| new_backup(config, backup)).collect(),
            first_checks: FirstChecks::default(),
            pool: Pool::new(PoolRules::new(config.on_failure(), &config.policy), servers, backups),
            name: config.name.as_str().into(),
            config: config.clone(),
        }
    }

    /// Replaces the configuration. Servers and backups that stay keep their health, and so does a server that becomes a
    /// backup or the other way round.
    pub(super) fn replace(
        &mut self,
        config: &VirtualService,
        presence: impl Fn(&DestinationKey) -> Presence,
    ) {
        let old_server =
            |address: SocketAddr| self.config.servers.iter().position(|server| server.address == address);
        let old_backup = |address: SocketAddr| {
            self.config.policy.backups.iter().position(|backup| backup.server.address == address)
        };
        let known = |address: SocketAddr| {
            let server = old_server(address).and_then(|index| self.servers.get(index)).cloned();
            server.or_else(|| self.backups.get(old_backup(address)?)?.clone())
        };
        let servers = config.servers.iter().map(|server| {
            let mut health = known(server.address).unwrap_or_else(|| new_server(config, server));
            health.set_rules(&rules(config, config.further_of(server)), config.checks_of(server).count());
            health
        });
        let backups = config.policy.backups.iter().map(|backup| {
            new_backup(config, backup).map(|new| {
                let mut health = known(backup.server.address).unwrap_or(new);
                health.set_rules(&backup_rules(config), 1);
                health
            })
        });
        let (servers, backups) = (servers.collect(), backups.collect());
        let origin = |server: &RealServer, old: Option<usize>| {
            let key = DestinationKey { service: config.key, server: server.address };
            (server.weight, old.map_or_else(|| Origin::New(presence(&key)), Origin::Kept))
        };
        let members = config.servers.iter().map(|server| origin(server, old_server(server.address)));
        let backup_members = config.policy.backups.iter().map(|backup| {
            match (old_backup(backup.server.address), is_server(config, backup)) {
                (None, true) => (backup.server.weight, Origin::New(Presence::Absent)),
                (old, _) => origin(&backup.server, old),
            }
        });
        self.pool.replace(PoolRules::new(config.on_failure(), &config.policy), members, backup_members);
        self.name = config.name.as_str().into();
        (self.servers, self.backups, self.config) = (servers, backups, config.clone());
    }

    /// One of its destinations as events name it.
    pub(super) fn subject(&self, destination: DestinationKey) -> Subject {
        Subject { service: self.name.clone(), destination }
    }

    /// The health of a server; `None` if it isn't checked or doesn't exist.
    pub(super) fn health(&self, role: Role) -> Option<&Health> {
        match role {
            Role::Server(index) => self.servers.get(index),
            Role::Backup(index) => self.backups.get(index)?.as_ref(),
        }
    }

    pub(super) fn health_mut(&mut self, role: Role) -> Option<&mut Health> {
        match role {
            Role::Server(index) => self.servers.get_mut(index),
            Role::Backup(index) => self.backups.get_mut(index)?.as_mut(),
        }
    }

    pub(super) fn decide(&mut self, now: Instant) -> Decision {
        self.note_first_checks(now);
        let states: Vec<State> = self.servers.iter().map(Health::state).collect();
        for (index, health) in self.servers.iter().enumerate() {
            self.pool.set_warm(index, health.comes_back_warm());
        }
        let backups: Vec<Option<State>> =
            self.backups.iter().map(|health| health.as_ref().map(Health::state)).collect();
        self.pool.decide(&states, &backups, now)
    }

    /// Tells the pool who has still time for its first result.
    fn note_first_checks(&mut self, now: Instant) {
        let mut first_checks = std::mem::take(&mut self.first_checks);
        let is_unknown =
            |role| self.health(role).is_some_and(|health| matches!(health.state(), State::Unknown { .. }));
        let unknown = self.config.roles().filter(|role| is_unknown(*role));
        let unknown = unknown.filter_map(|role| Some((self.server(role)?.address, role, self.checks(role))));
        first_checks.note(unknown, now);
        for role in self.config.roles() {
            if let Some(server) = self.config.server_of(role) {
                self.pool.set_first_check(role, first_checks.of(server.address, role, now));
            }
        }
        self.first_checks = first_checks;
    }

    /// When the next decision is due by time alone.
    pub(super) fn next_change(&self, now: Instant) -> Option<Instant> {
        self.pool.next_change(now).into_iter().chain(self.first_checks.next(now)).min()
    }

    /// Whether a server may be excluded because of what its clients say.
    pub(super) fn may_exclude(&self, role: Role) -> bool {
        let states: Vec<State> = self.servers.iter().map(Health::state).collect();
        self.pool.may_exclude(role, &states)
    }

    /// Whether a server is asked anything: `on` and `off` say nothing about the network. Of one that is also a backup,
    /// the server counts.
    pub(super) fn is_asked(&self, role: Role) -> bool {
        let asks = |check: &Check| !matches!(check.kind, CheckKind::On | CheckKind::Off);
        let backup = match role {
            Role::Server(_) => None,
            Role::Backup(index) => self.config.policy.backups.get(index),
        };
        !backup.is_some_and(|backup| is_server(&self.config, backup)) && self.checks(role).any(asks)
    }

    /// How long the regular checks of a server may take to notice an outage: an interval with its jitter, and the
    /// check.
    pub(super) fn notice_time(&self, role: Role) -> Duration {
        let of_check = |check: &Check| check.interval + check.interval / 8 + check.timeout;
        self.checks(role).map(of_check).max().unwrap_or_default()
    }

    /// Whether more than half of the servers, two at least, fail now or are down.
    pub(super) fn most_fail(&self) -> bool {
        let fails = |health: &&Health| match health.state() {
            State::Suspect { .. } | State::Down { .. } => true,
            State::Unknown { failures } => failures > 0,
            State::Up | State::Recovering { .. } | State::Damped { .. } => false,
        };
        let failing = self.servers.iter().filter(fails).count();
        failing >= 2 && failing * 2 > self.servers.len()
    }

    /// How well it is served, for others.
    pub(super) fn served(&self) -> Served {
        let states: Vec<State> = self.servers.iter().map(Health::state).collect();
        Served {
            name: self.name.clone(),
            key: self.config.key,
            quorum: self.pool.quorum_state(),
            up: self.pool.healthy_weight(&states),
            whole: self.pool.whole_weight(),
            backups_in: self.pool.backups_in(),
        }
    }

    /// A server's or a backup's configuration.
    pub(super) fn server(&self, role: Role) -> Option<&RealServer> {
        self.config.server_of(role)
    }

    /// A server's checks in their order.
    pub(super) fn checks(&self, role: Role) -> impl Iterator<Item = &Check> {
        self.config.checks_of_role(role)
    }

    /// Whether it takes the failure of more than one check to declare a server dead.
    pub(super) fn takes_several(&self, role: Role) -> bool {
        let Role::Server(index) = role else { return false };
        self.config.servers.get(index).is_some_and(|server| {
            let further = self.config.further_of(server);
            further.combine == Combine::Any && !further.checks.is_empty()
        })
    }

    pub(super) fn wanted(&self) -> WantedService {
        let config = &self.config;
        let mut wanted = WantedService::new((&config.scheduler).into());
        wanted.persistence = Wish::Set(config.persistence);
        wanted.flags = flags(config);
        if config.adds_fallback() {
            wanted.extra_flags = ServiceFlags::SCHEDULER_1;
        }
        if let Some(engine) = &config.persistence_engine {
            wanted.persistence_engine = Wish::Set(Some(engine.clone()));
        }
        // If a server is also a backup, the server counts.
        let (servers, backups) = (config.servers(), config.backups());
        let roles = backups.chain(servers.clone());
        wanted.destinations = roles.filter_map(|role| self.destination(role)).collect();
        wanted.absent = servers.filter_map(|role| self.absent(role)).collect();
        wanted
    }

    fn destination(&self, role: Role) -> Option<(SocketAddr, WantedDestination)> {
        let (server, weight) = (self.server(role)?, self.pool.weight(role)?);
        let mut wanted = WantedDestination::new(server.method, weight);
        wanted.base_weight = self.pool.base_weight(role)?;
        if server.method == ForwardingMethod::Tunnel {
            wanted.tunnel = Wish::Set(server.tunnel);
        }
        wanted.upper_threshold = server.upper_threshold.map_or(Wish::Keep, Wish::Set);
        wanted.lower_threshold = server.lower_threshold.map_or(Wish::Keep, Wish::Set);
        Some((server.address, wanted))
    }

    /// A server that is not to be in the table, and the weight that it comes back to.
    fn absent(&self, role: Role) -> Option<(SocketAddr, Weight)> {
        let (server, own) = (self.server(role)?, self.pool.base_weight(role)?);
        self.pool.weight(role).is_none().then_some((server.address, own))
    }
}

/// The configured flags; if none is, those that are there stay.
fn flags(config: &VirtualService) -> Wish<ServiceFlags> {
    if config.one_packet.is_none() && config.scheduler_flags.is_none() {
        return Wish::Keep;
    }
    let SchedulerFlags { flag_1, flag_2, flag_3 } = config.scheduler_flags.unwrap_or_default();
    let flags = [
        (config.one_packet.unwrap_or_default(), ServiceFlags::ONE_PACKET),
        (flag_1, ServiceFlags::SCHEDULER_1),
        (flag_2, ServiceFlags::SCHEDULER_2),
        (flag_3, ServiceFlags::SCHEDULER_3),
    ];
    let set = flags.into_iter().filter(|(set, _)| *set);
    Wish::Set(set.fold(ServiceFlags::NONE, |flags, (_, flag)| flags | flag))
}

/// Whether a backup is also one of the servers.
fn is_server(config: &VirtualService, backup: &Backup) -> bool {
    config.servers.iter().any(|server| server.address == backup.server.address)
}

fn new_server(config: &VirtualService, server: &RealServer) -> Health {
    Health::new(&rules(config, config.further_of(server)), config.checks_of(server).count())
}

fn new_backup(config: &VirtualService, backup: &Backup) -> Option<Health> {
    backup.check.is_some().then(|| Health::new(&backup_rules(config), 1))
}

fn rules(config: &VirtualService, further: &FurtherChecks) -> HealthRules {
    HealthRules {
        thresholds: Thresholds { fall: config.fall, rise: config.rise },
        combine: further.combine,
        damping: config.policy.flap,
    }
}

/// A backup has one check.
fn backup_rules(config: &VirtualService) -> HealthRules {
    rules(config, &FurtherChecks::default())
}
