//! The table as this program wants it, as far as it is concerned.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::SocketAddr,
};

use super::table::{Destination, SchedulerName, Service, ServiceFlags};
use crate::model::{ForwardingMethod, Persistence, ServiceKey, Tunnel, Weight};

/// The managed services, and those to be removed. All others are foreign and left alone.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Wanted {
    /// The managed services.
    pub services: BTreeMap<ServiceKey, WantedService>,
    /// Services that are to be removed; one that is also managed stays.
    pub unwanted: BTreeSet<ServiceKey>,
}

/// A setting that may be left as it is in the kernel.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Wish<T> {
    /// What the kernel has stays; on a new entry: the kernel's default.
    #[default]
    Keep,
    /// This and nothing else.
    Set(T),
}

impl<T> Wish<T> {
    /// The value wished for, or else the kernel's.
    fn or(self, current: T) -> T {
        match self {
            Self::Keep => current,
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
    /// Flags that are set in any case, beside those that are wished for or kept.
    pub extra_flags: ServiceFlags,
    /// Whether and for how long a client stays with its server.
    pub persistence: Wish<Option<Persistence>>,
    /// What tells clients apart.
    pub persistence_engine: Wish<Option<String>>,
    /// Its destinations; the kernel's others are removed.
    pub destinations: BTreeMap<SocketAddr, WantedDestination>,
    /// Its destinations that are out of the table for now, and the weights that they go back to.
    pub absent: BTreeMap<SocketAddr, Weight>,
}

impl WantedService {
    /// A service without destinations; everything but the scheduler is left as it is in the kernel.
    #[must_use]
    pub fn new(scheduler: SchedulerName) -> Self {
        Self {
            scheduler,
            flags: Wish::Keep,
            extra_flags: ServiceFlags::NONE,
            persistence: Wish::Keep,
            persistence_engine: Wish::Keep,
            destinations: BTreeMap::new(),
            absent: BTreeMap::new(),
        }
    }

    /// The whole service as wanted, where the kernel has `current`.
    pub(super) fn resolve(&self, key: ServiceKey, current: Option<&Service>) -> Service {
        let flags = current.map_or(ServiceFlags::NONE, |service| service.flags);
        let persistence = current.and_then(|service| service.persistence);
        let engine = current.and_then(|service| service.persistence_engine.clone());
        Service {
            key,
            scheduler: self.scheduler.clone(),
            flags: self.flags.or(flags) | self.extra_flags,
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
    /// The weight by the configuration, or by the kernel's table where services are adopted: what it goes back to where
    /// `weight` is another one.
    pub base_weight: Weight,
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
            base_weight: weight,
            tunnel: Wish::Keep,
            upper_threshold: Wish::Keep,
            lower_threshold: Wish::Keep,
        }
    }

    /// The whole destination as wanted, where the kernel has `current`.
    pub(super) fn resolve(&self, server: SocketAddr, current: Option<&Destination>) -> Destination {
        Destination {
            server,
            method: self.method,
            tunnel: self.tunnel.or(current.map_or(Tunnel::default(), |destination| destination.tunnel)),
            weight: self.weight.into(),
            upper_threshold: self
                .upper_threshold
                .or(current.map_or(0, |destination| destination.upper_threshold)),
            lower_threshold: self
                .lower_threshold
                .or(current.map_or(0, |destination| destination.lower_threshold)),
        }
    }
}
