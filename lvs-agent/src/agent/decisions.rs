//! From results to the wanted table: every destination's health and every service's pool. Pure.

use std::{collections::HashMap, net::SocketAddr};

use crate::{
    config::{Check, RealServer, VirtualService},
    health::{Health, Source, State, Thresholds, Transition},
    ipvs::{ServiceFlags, Wanted, WantedDestination, WantedService, Wish},
    passive::Forwarding,
    pool::{Decision, Pool, Presence},
    service::{DestinationKey, ForwardingMethod, Weight},
};

/// One service, the health of its servers and how they stand.
#[derive(Debug)]
struct Service {
    config: VirtualService,
    healths: Vec<Health>,
    pool: Pool,
}

/// Where a destination is: indices of its service and of the server in it.
#[derive(Clone, Copy, Debug)]
struct Place {
    service: usize,
    server: usize,
}

/// What has come of one result.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Consequence {
    /// The destination's change of state.
    pub transition: Transition,
    /// Whether the wanted table is another one now.
    pub table_changed: bool,
    /// Servers of the service that are down by the fast path's finding but held in.
    pub held: Vec<DestinationKey>,
}

/// All services.
#[derive(Debug)]
pub(super) struct Decisions {
    services: Vec<Service>,
    places: HashMap<DestinationKey, Place>,
}

impl Decisions {
    /// Services of whose servers nothing is known but how they stand in the kernel's table.
    #[must_use]
    pub(super) fn new(services: &[VirtualService], found: impl Fn(&DestinationKey) -> Presence) -> Self {
        let places = services
            .iter()
            .enumerate()
            .flat_map(|(index, service)| {
                destinations(service)
                    .enumerate()
                    .map(move |(server, key)| (key, Place { service: index, server }))
            })
            .collect();
        let services = services
            .iter()
            .map(|config| {
                let thresholds = Thresholds { fall: config.fall, rise: config.rise };
                let standing = config.servers.iter().map(|server| server.weight);
                let standing = standing.zip(destinations(config).map(|key| found(&key)));
                Service {
                    healths: vec![Health::new(thresholds); config.servers.len()],
                    pool: Pool::new(config.on_failure, standing),
                    config: config.clone(),
                }
            })
            .collect();
        Self { services, places }
    }

    /// Takes in one result of one destination; says what came of it, if anything did.
    pub(super) fn observe(
        &mut self,
        destination: &DestinationKey,
        success: bool,
        source: Source,
    ) -> Option<Consequence> {
        let place = *self.places.get(destination)?;
        let service = self.services.get_mut(place.service)?;
        let transition = service.healths.get_mut(place.server)?.observe(success, source)?;
        let states: Vec<State> = service.healths.iter().map(Health::state).collect();
        let Decision { changed, held } = service.pool.decide(&states);
        let held = held.into_iter().map(|server| destination_key(&service.config, server)).collect();
        Some(Consequence { transition, table_changed: !changed.is_empty(), held })
    }

    /// What is known of a destination.
    #[must_use]
    pub(super) fn state(&self, destination: &DestinationKey) -> Option<State> {
        self.health(destination).map(Health::state)
    }

    /// How many more failures in a row would take a destination down.
    #[must_use]
    pub(super) fn failures_to_fall(&self, destination: &DestinationKey) -> u32 {
        self.health(destination).map_or(0, Health::failures_to_fall)
    }

    /// The name of a destination's service.
    #[must_use]
    pub(super) fn service_name(&self, destination: &DestinationKey) -> &str {
        self.at(destination).map_or("", |(service, _)| &service.config.name)
    }

    /// What a destination is asked.
    #[must_use]
    pub(super) fn check(&self, destination: &DestinationKey) -> Option<&Check> {
        let (Service { config, .. }, server) = self.at(destination)?;
        Some(config.check_of(config.servers.get(server)?))
    }

    /// A destination's weight in the wanted table, or `None` if it shall not be there.
    #[must_use]
    pub(super) fn weight(&self, destination: &DestinationKey) -> Option<Weight> {
        let (service, server) = self.at(destination)?;
        service.pool.weight(server)
    }

    /// All destinations with their configuration, in its order.
    pub(super) fn all(&self) -> impl Iterator<Item = (DestinationKey, &VirtualService, &RealServer)> {
        self.services.iter().flat_map(|service| {
            let config = &service.config;
            destinations(config).zip(&config.servers).map(move |(key, server)| (key, config, server))
        })
    }

    /// What the table should be.
    #[must_use]
    pub(super) fn wanted(&self) -> Wanted {
        let services = self.services.iter().map(|service| (service.config.key, service.wanted())).collect();
        Wanted { services, ..Wanted::default() }
    }

    /// A destination's service and its server's index in it.
    fn at(&self, destination: &DestinationKey) -> Option<(&Service, usize)> {
        let place = self.places.get(destination)?;
        Some((self.services.get(place.service)?, place.server))
    }

    fn health(&self, destination: &DestinationKey) -> Option<&Health> {
        let (service, server) = self.at(destination)?;
        service.healths.get(server)
    }
}

impl Service {
    fn wanted(&self) -> WantedService {
        let config = &self.config;
        let mut wanted = WantedService::new((&config.scheduler).into());
        wanted.persistence = Wish::Set(config.persistence);
        wanted.flags = config.one_packet.map_or(Wish::Keep, |one_packet| {
            Wish::Set(if one_packet { ServiceFlags::ONE_PACKET } else { ServiceFlags::NONE })
        });
        wanted.destinations = self.destinations().collect();
        wanted
    }

    fn destinations(&self) -> impl Iterator<Item = (SocketAddr, WantedDestination)> {
        self.config.servers.iter().enumerate().filter_map(|(index, server)| {
            let weight = self.pool.weight(index)?;
            let mut wanted = WantedDestination::new(server.method, weight);
            if server.method == ForwardingMethod::Tunnel {
                wanted.tunnel = Wish::Set(server.tunnel);
            }
            Some((server.address, wanted))
        })
    }
}

/// The destinations of a service, in the order of its servers.
pub(super) fn destinations(service: &VirtualService) -> impl Iterator<Item = DestinationKey> {
    (0..service.servers.len()).map(|index| destination_key(service, index))
}

/// The same, and how packets get there.
pub(super) fn forwardings(service: &VirtualService) -> impl Iterator<Item = Forwarding> {
    destinations(service).zip(&service.servers).map(|(destination, server)| Forwarding {
        destination,
        method: server.method,
        tunnel: server.tunnel,
    })
}

fn destination_key(service: &VirtualService, index: usize) -> DestinationKey {
    DestinationKey { service: service.key, server: service.servers[index].address }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::service::{Netmask, Persistence, ServiceKey, Tunnel, TunnelFlags};

    fn wanted(text: &str) -> Wanted {
        let config = crate::config::native::read(text, "test.toml".as_ref()).expect("it is a configuration");
        Decisions::new(&config.services, |_| Presence::of_found(Some(true))).wanted()
    }

    /// The only service of a configuration, and its servers.
    fn service(text: &str) -> (ServiceKey, WantedService) {
        wanted(text).services.into_iter().next().expect("there is a service")
    }

    #[test]
    fn what_is_written_is_wanted() {
        let (key, udp) = service(
            r#"
            [[service]]
            address = "[2001:db8::53]:53"
            protocol = "udp"
            persistent = "90s"
            persistent-netmask = 64
            one-packet = true
            forward = "tunnel"
            tunnel = { type = "gue", port = 6080, checksum = "full" }
            [[service.server]]
            address = "10.0.0.1"
            [[service.server]]
            address = "2001:db8::1"
            forward = "masquerade"
            "#,
        );
        assert_eq!(key.to_string(), "udp [2001:db8::53]:53");
        let persistence = Persistence::new(std::time::Duration::from_secs(90), Netmask::V6(64));
        assert_eq!(udp.persistence, Wish::Set(Some(persistence)));
        assert_eq!(udp.flags, Wish::Set(ServiceFlags::ONE_PACKET));
        let gue = Tunnel::Gue { port: 6080, flags: TunnelFlags::CHECKSUM };
        let destination = |server: &str| udp.destinations[&server.parse().expect("it is an address")];
        let tunnelled = destination("10.0.0.1:53");
        assert_eq!((tunnelled.method, tunnelled.tunnel), (ForwardingMethod::Tunnel, Wish::Set(gue)));
        let masqueraded = destination("[2001:db8::1]:53");
        assert_eq!((masqueraded.method, masqueraded.tunnel), (ForwardingMethod::Masquerade, Wish::Keep));
    }

    #[test]
    fn what_is_not_written_is_plain() {
        let (key, marked) = service(
            r#"
            [[service]]
            mark = 7
            family = "ipv6"
            forward = "tunnel"
            [[service.server]]
            address = "10.0.0.1"
            "#,
        );
        assert_eq!(key.to_string(), "mark 7 (IPv6)");
        assert_eq!(marked.persistence, Wish::Set(None));
        assert_eq!(marked.flags, Wish::Keep, "the scheduler's own flags may be among them");
        let (server, tunnelled) = marked.destinations.first_key_value().expect("there is a server");
        assert_eq!(server.to_string(), "10.0.0.1:0");
        assert_eq!(tunnelled.tunnel, Wish::Set(Tunnel::Ipip));
    }
}
