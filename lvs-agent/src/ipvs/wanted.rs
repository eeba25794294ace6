//! What the table should be, as far as this program has a say in it.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::SocketAddr,
};

use super::table::{Destination, SchedulerName, Service, ServiceFlags};
use crate::model::{ForwardingMethod, Persistence, ServiceKey, Tunnel, Weight};

/// The services that are managed, and those that are to go. All others are foreign and left alone.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Wanted {
    /// The managed services.
    pub services: BTreeMap<ServiceKey, WantedService>,
    /// Services that are to be removed; one that is also managed stays.
    pub unwanted: BTreeSet<ServiceKey>,
}

/// A setting that may be left as it is found.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Wish<T> {
    /// What the kernel has stays; on a new entry: the kernel's default.
    #[default]
    Keep,
    /// This and nothing else.
    Set(T),
}

impl<T> Wish<T> {
    /// The value wished for, or else the one found.
    fn or(self, found: T) -> T {
        match self {
            Self::Keep => found,
            Self::Set(value) => value,
        }
    }
}

/// A managed service. Destinations that aren't listed are removed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WantedService {
    /// How new connections are spread.
    pub scheduler: SchedulerName,
    /// One-packet scheduling and the scheduler's own flags.
    pub flags: Wish<ServiceFlags>,
    /// Whether and for how long a client stays with its server.
    pub persistence: Wish<Option<Persistence>>,
    /// What tells clients apart.
    pub persistence_engine: Wish<Option<String>>,
    /// All destinations that it shall have.
    pub destinations: BTreeMap<SocketAddr, WantedDestination>,
    /// Those that it shall not have for now, and the weights that they come back to.
    pub absent: BTreeMap<SocketAddr, Weight>,
}

impl WantedService {
    /// A service without destinations; everything but the scheduler is left as it is found.
    #[must_use]
    pub fn new(scheduler: SchedulerName) -> Self {
        Self {
            scheduler,
            flags: Wish::Keep,
            persistence: Wish::Keep,
            persistence_engine: Wish::Keep,
            destinations: BTreeMap::new(),
            absent: BTreeMap::new(),
        }
    }

    /// The service as it should be, given how it is.
    pub(super) fn resolve(&self, key: ServiceKey, found: Option<&Service>) -> Service {
        let flags = found.map_or(ServiceFlags::NONE, |service| service.flags);
        let persistence = found.and_then(|service| service.persistence);
        let engine = found.and_then(|service| service.persistence_engine.clone());
        Service {
            key,
            scheduler: self.scheduler.clone(),
            flags: self.flags.or(flags),
            persistence: self.persistence.or(persistence),
            persistence_engine: self.persistence_engine.clone().or(engine),
        }
    }
}

/// A destination of a managed service.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WantedDestination {
    /// How packets reach it.
    pub method: ForwardingMethod,
    /// Its share of new connections.
    pub weight: Weight,
    /// The share that it comes back to where that is less.
    pub own: Weight,
    /// What tunnelled packets are wrapped in; new: IP in IP.
    pub tunnel: Wish<Tunnel>,
    /// From how many connections on it gets no new ones; new: no limit.
    pub upper_threshold: Wish<u32>,
    /// Below how many connections it gets new ones again; new: the kernel's choice.
    pub lower_threshold: Wish<u32>,
}

impl WantedDestination {
    /// A destination of which only the method and the weight matter.
    #[must_use]
    pub fn new(method: ForwardingMethod, weight: Weight) -> Self {
        Self {
            method,
            weight,
            own: weight,
            tunnel: Wish::Keep,
            upper_threshold: Wish::Keep,
            lower_threshold: Wish::Keep,
        }
    }

    /// The destination as it should be, given how it is.
    pub(super) fn resolve(&self, server: SocketAddr, found: Option<&Destination>) -> Destination {
        Destination {
            server,
            method: self.method,
            tunnel: self.tunnel.or(found.map_or(Tunnel::default(), |destination| destination.tunnel)),
            weight: self.weight.into(),
            upper_threshold: self
                .upper_threshold
                .or(found.map_or(0, |destination| destination.upper_threshold)),
            lower_threshold: self
                .lower_threshold
                .or(found.map_or(0, |destination| destination.lower_threshold)),
        }
    }
}
