//! Turns the kernel's table into the list of services to check, where the agent adopts them. Pure.

use std::{
    collections::{BTreeSet, HashMap},
    net::SocketAddr,
};

use super::vip_path::is_private;
use crate::{
    ipvs::{
        Destination, Service, ServiceEntry, ServiceFlags, Table,
        overrides::{Overrides, weight_of},
    },
    model::{
        Check, CheckKind, Config, DestinationKey, FurtherChecks, Notifications, RealServer, Scheduler,
        SchedulerFlags, ServiceKey, Unlisted, VirtualService,
    },
};

/// The services in the kernel's table.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Adopted {
    /// The services with their servers, in the table's order, including servers that this agent has removed.
    pub(crate) services: Vec<VirtualService>,
    /// The servers that others have set to weight 0.
    pub(crate) administered: BTreeSet<DestinationKey>,
}

/// The services of `table`, with their configured settings.
pub(crate) fn adopt(table: &Table, overrides: &Overrides, config: &Config) -> Adopted {
    let listed: HashMap<_, _> = config.services.iter().map(|service| (service.key, service)).collect();
    let mut adopted = Adopted::default();
    for (key, entry) in &table.services {
        if is_private(key, entry, config.agent.vip_marks) {
            continue;
        }
        let configured = listed.get(key).copied();
        let mut service =
            configured.map_or_else(|| unlisted(&entry.service, &config.unlisted), without_servers);
        (service.scheduler, service.scheduler_flags) = scheduler(&entry.service);
        let removed =
            overrides.removed(*key).filter(|removed| !entry.destinations.contains_key(&removed.server));
        let mut servers: Vec<_> = destinations(*key, entry, overrides).chain(removed.copied()).collect();
        servers.sort_by_key(|destination| destination.server);
        service.servers =
            servers.iter().map(|destination| server(destination, &service, configured)).collect();
        adopted.administered.extend(administered(*key, entry, overrides));
        adopted.services.push(service);
    }
    adopted
}

/// The destinations of a service with their original weights.
fn destinations(
    service: ServiceKey,
    entry: &ServiceEntry,
    overrides: &Overrides,
) -> impl Iterator<Item = Destination> {
    entry.destinations.values().map(move |destination| {
        let key = DestinationKey { service, server: destination.server };
        let ours = overrides.ours(&key, Some(destination.weight));
        let weight = ours.map_or(destination.weight, |ours| ours.original.weight);
        Destination { weight, ..*destination }
    })
}

/// The scheduler and its flags, which are the table's whatever the configuration says: they tell what weight 0 does.
fn scheduler(service: &Service) -> (Scheduler, Option<SchedulerFlags>) {
    let flag = |flag| service.flags.contains(flag);
    let flags = SchedulerFlags {
        flag_1: flag(ServiceFlags::SCHEDULER_1),
        flag_2: flag(ServiceFlags::SCHEDULER_2),
        flag_3: flag(ServiceFlags::SCHEDULER_3),
    };
    (service.scheduler.as_str().parse().unwrap_or_default(), Some(flags))
}

fn administered(
    service: ServiceKey,
    entry: &ServiceEntry,
    overrides: &Overrides,
) -> impl Iterator<Item = DestinationKey> {
    entry.destinations.values().filter_map(move |destination| {
        let key = DestinationKey { service, server: destination.server };
        let is_administered = !destination.weight.takes_connections()
            && overrides.ours(&key, Some(destination.weight)).is_none();
        is_administered.then_some(key)
    })
}

/// A configured service. Its servers are those of the table; it has no backups, as they would have to be added to a
/// table that others manage.
fn without_servers(service: &VirtualService) -> VirtualService {
    let mut service = service.clone();
    service.servers.clear();
    service.policy.backups.clear();
    service
}

/// A service that isn't configured, without its servers.
fn unlisted(entry: &Service, settings: &Unlisted) -> VirtualService {
    let (check, further) = settings.checks_of(entry.key);
    VirtualService {
        name: entry.key.to_string(),
        key: entry.key,
        scheduler: Scheduler::default(),
        persistence: entry.persistence,
        one_packet: None,
        scheduler_flags: None,
        persistence_engine: None,
        fall: settings.fall,
        rise: settings.rise,
        on_failure: settings.on_failure,
        check,
        further,
        idle_connection: settings.idle_connection,
        second_chance: settings.second_chance,
        servers: Vec::new(),
        policy: settings.policy.clone(),
        notify: Notifications::default(),
        on_exit: None,
        announce: None,
    }
}

fn server(
    destination: &Destination,
    service: &VirtualService,
    configured: Option<&VirtualService>,
) -> RealServer {
    let configured = configured
        .and_then(|service| service.servers.iter().find(|server| server.address == destination.server));
    let mut server = RealServer::new(destination.server, destination.method);
    server.tunnel = destination.tunnel;
    server.weight = weight_of(destination.weight);
    if let Some(configured) = configured {
        (server.check, server.further) = (configured.check.clone(), configured.further.clone());
    }
    if !can_be_checked(service.check_of(&server), destination.server) {
        server.check = Some(Check { kind: CheckKind::Ping, port: None, ..service.check_of(&server).clone() });
        server.further = FurtherChecks::default();
    }
    server
}

/// Whether there is a port to check, if the check needs one.
fn can_be_checked(check: &Check, server: SocketAddr) -> bool {
    check.kind.transport().is_none() || check.port.is_some() || server.port() != 0
}
