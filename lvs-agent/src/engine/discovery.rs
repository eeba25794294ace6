//! The kernel's table as a list of services to check. Pure.

use std::{
    collections::{BTreeSet, HashMap},
    net::SocketAddr,
};

use crate::{
    ipvs::{
        Destination, Service, ServiceEntry, Table,
        overrides::{Overrides, weight_of},
    },
    model::{
        Check, CheckKind, Config, DestinationKey, FurtherChecks, Notifications, RealServer, ServiceKey,
        Unlisted, VirtualService,
    },
};

/// Services that were found in the kernel's table.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Adopted {
    /// The services with their servers, in the table's order, those that are out by this agent's doing included.
    pub(crate) services: Vec<VirtualService>,
    /// The servers that others ours at weight 0.
    pub(crate) administered: BTreeSet<DestinationKey>,
}

/// The services of `table`, with the settings that the configuration has for them.
pub(crate) fn adopt(table: &Table, overrides: &Overrides, config: &Config) -> Adopted {
    let listed: HashMap<_, _> = config.services.iter().map(|service| (service.key, service)).collect();
    let mut adopted = Adopted::default();
    for (key, entry) in &table.services {
        let configured = listed.get(key).copied();
        let mut service =
            configured.map_or_else(|| unlisted(&entry.service, &config.unlisted), without_servers);
        let out = overrides.removed(*key).filter(|removed| !entry.destinations.contains_key(&removed.server));
        let mut servers: Vec<_> = found(*key, entry, overrides).chain(out.copied()).collect();
        servers.sort_by_key(|destination| destination.server);
        service.servers =
            servers.iter().map(|destination| server(destination, &service, configured)).collect();
        adopted.administered.extend(administered(*key, entry, overrides));
        adopted.services.push(service);
    }
    adopted
}

/// The destinations of a service with their own weights.
fn found(
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

fn administered(
    service: ServiceKey,
    entry: &ServiceEntry,
    overrides: &Overrides,
) -> impl Iterator<Item = DestinationKey> {
    entry.destinations.values().filter_map(move |destination| {
        let key = DestinationKey { service, server: destination.server };
        let theirs = !destination.weight.takes_connections()
            && overrides.ours(&key, Some(destination.weight)).is_none();
        theirs.then_some(key)
    })
}

/// A service that is listed. Its servers are the table's; backups would have to be added to a table that is somebody else's.
fn without_servers(service: &VirtualService) -> VirtualService {
    let mut service = service.clone();
    service.servers.clear();
    service.policy.backups.clear();
    service
}

/// A service that is in the table only, without servers.
fn unlisted(found: &Service, settings: &Unlisted) -> VirtualService {
    let (check, further) = settings.checks_of(found.key);
    VirtualService {
        name: found.key.to_string(),
        key: found.key,
        scheduler: found.scheduler.as_str().parse().unwrap_or_default(),
        persistence: found.persistence,
        one_packet: None,
        scheduler_flags: None,
        persistence_engine: None,
        fall: settings.fall,
        rise: settings.rise,
        on_failure: settings.on_failure,
        check,
        further,
        servers: Vec::new(),
        policy: settings.policy.clone(),
        notify: Notifications::default(),
        on_exit: None,
    }
}

fn server(found: &Destination, service: &VirtualService, configured: Option<&VirtualService>) -> RealServer {
    let own = configured.and_then(|service| service.servers.iter().find(|one| one.address == found.server));
    let mut server = RealServer::new(found.server, found.method);
    server.tunnel = found.tunnel;
    server.weight = weight_of(found.weight);
    if let Some(own) = own {
        (server.check, server.further) = (own.check.clone(), own.further.clone());
    }
    if !can_be_asked(service.check_of(&server), found.server) {
        server.check = Some(Check { kind: CheckKind::Ping, port: None, ..service.check_of(&server).clone() });
        server.further = FurtherChecks::default();
    }
    server
}

/// Whether there is a port to ask, if it takes one.
fn can_be_asked(check: &Check, server: SocketAddr) -> bool {
    check.kind.transport().is_none() || check.port.is_some() || server.port() != 0
}
