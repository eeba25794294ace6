//! The kernel's table as a list of services to check. Pure.

use std::{collections::BTreeSet, net::SocketAddr};

use super::held::{Held, weight_of};
use crate::{
    config::{
        Check, FurtherChecks, Notifications, OnFailure, PoolPolicy, Question, RealServer, VirtualService,
        defaults,
    },
    ipvs::{Destination, Service, ServiceEntry, Table},
    service::{DestinationKey, Protocol, ServiceKey},
};

/// Services that were found in the kernel's table.
#[derive(Clone, Debug, Default, PartialEq)]
pub(in super::super) struct Adopted {
    /// The services with their servers, in the table's order, those that are out by this agent's doing included.
    pub(in super::super) services: Vec<VirtualService>,
    /// The servers that others hold at weight 0.
    pub(in super::super) administered: BTreeSet<DestinationKey>,
}

/// The services of `table`, with the settings that the configuration has for some of them.
pub(in super::super) fn adopt(table: &Table, held: &Held, settings: &[VirtualService]) -> Adopted {
    let mut adopted = Adopted::default();
    for (key, entry) in &table.services {
        let configured = settings.iter().find(|service| service.key == *key);
        let mut service = service(&entry.service, configured);
        let out = held.removed(*key).filter(|removed| !entry.destinations.contains_key(&removed.server));
        let mut servers: Vec<_> = found(*key, entry, held).chain(out.copied()).collect();
        servers.sort_by_key(|destination| destination.server);
        service.servers =
            servers.iter().map(|destination| server(destination, &service, configured)).collect();
        adopted.administered.extend(administered(*key, entry, held));
        adopted.services.push(service);
    }
    adopted
}

/// The destinations of a service with their own weights.
fn found(service: ServiceKey, entry: &ServiceEntry, held: &Held) -> impl Iterator<Item = Destination> {
    entry.destinations.values().map(move |destination| {
        let key = DestinationKey { service, server: destination.server };
        let hold = held.explains(&key, Some(destination.weight));
        let weight = hold.map_or(destination.weight, |hold| hold.original.weight);
        Destination { weight, ..*destination }
    })
}

fn administered(
    service: ServiceKey,
    entry: &ServiceEntry,
    held: &Held,
) -> impl Iterator<Item = DestinationKey> {
    entry.destinations.values().filter_map(move |destination| {
        let key = DestinationKey { service, server: destination.server };
        let theirs = !destination.weight.takes_connections()
            && held.explains(&key, Some(destination.weight)).is_none();
        theirs.then_some(key)
    })
}

/// A service without servers.
fn service(found: &Service, configured: Option<&VirtualService>) -> VirtualService {
    let mut service = configured.cloned().unwrap_or_else(|| VirtualService {
        name: found.key.to_string(),
        key: found.key,
        scheduler: found.scheduler.as_str().parse().unwrap_or_default(),
        persistence: found.persistence,
        one_packet: None,
        scheduler_flags: None,
        persistence_engine: None,
        fall: defaults::FALL,
        rise: defaults::RISE,
        on_failure: OnFailure::default(),
        check: usual_check(found.key),
        further: FurtherChecks::default(),
        servers: Vec::new(),
        policy: PoolPolicy::default(),
        notify: Notifications::default(),
        on_exit: None,
    });
    service.servers.clear();
    // They would have to be added to a table that is somebody else's.
    service.policy.backups.clear();
    service
}

/// What servers are asked where nobody says it: a connection where clients make some.
fn usual_check(key: ServiceKey) -> Check {
    let connects = match key {
        ServiceKey::Address { protocol, .. } => protocol == Protocol::Tcp,
        ServiceKey::Mark { .. } => true,
    };
    let question = if connects { Question::Connect } else { Question::Ping };
    Check { question, ..Check::default() }
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
        server.check =
            Some(Check { question: Question::Ping, port: None, ..service.check_of(&server).clone() });
        server.further = FurtherChecks::default();
    }
    server
}

/// Whether there is a port to ask, if it takes one.
fn can_be_asked(check: &Check, server: SocketAddr) -> bool {
    check.question.transport().is_none() || check.port.is_some() || server.port() != 0
}
