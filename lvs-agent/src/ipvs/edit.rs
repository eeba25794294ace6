//! One change of the table, and what it does to the table as a value.

use std::{
    collections::btree_map::{Entry, OccupiedEntry},
    fmt,
    net::SocketAddr,
};

use super::table::{Destination, Service, ServiceEntry, Table};
use crate::model::{DestinationKey, ServiceKey};

/// One change of the table: one message to the kernel.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Edit {
    /// A service that isn't there yet, without destinations.
    AddService(Service),
    /// Everything of a service but its destinations.
    SetService(Service),
    /// A service and its destinations.
    DeleteService(ServiceKey),
    /// A destination that isn't there yet.
    AddDestination {
        /// The service that gets it.
        service: ServiceKey,
        /// The whole destination.
        destination: Destination,
    },
    /// Everything of a destination. There is no smaller edit: the kernel resets what isn't sent.
    SetDestination {
        /// The service that it is in.
        service: ServiceKey,
        /// The whole destination.
        destination: Destination,
    },
    /// A destination.
    DeleteDestination(DestinationKey),
}

impl Edit {
    /// The service that is changed.
    #[must_use]
    pub fn service(&self) -> ServiceKey {
        match self {
            Self::AddService(service) | Self::SetService(service) => service.key,
            Self::DeleteService(key) => *key,
            Self::AddDestination { service, .. } | Self::SetDestination { service, .. } => *service,
            Self::DeleteDestination(key) => key.service,
        }
    }

    /// The server that is changed, where it isn't the service itself.
    #[must_use]
    pub fn server(&self) -> Option<SocketAddr> {
        match self {
            Self::AddService(_) | Self::SetService(_) | Self::DeleteService(_) => None,
            Self::AddDestination { destination, .. } | Self::SetDestination { destination, .. } => {
                Some(destination.server)
            }
            Self::DeleteDestination(key) => Some(key.server),
        }
    }
}

impl fmt::Display for Edit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::AddService(service) => write!(f, "add service {}", service.key),
            Self::SetService(service) => write!(f, "set service {}", service.key),
            Self::DeleteService(key) => write!(f, "delete service {key}"),
            Self::AddDestination { service, destination } => {
                write!(f, "add server {service} -> {} weight {}", destination.server, destination.weight)
            }
            Self::SetDestination { service, destination } => {
                write!(f, "set server {service} -> {} weight {}", destination.server, destination.weight)
            }
            Self::DeleteDestination(key) => write!(f, "delete server {key}"),
        }
    }
}

/// The table isn't as an edit takes it to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Conflict {
    /// There is a service of that key already.
    #[error("service {0} is in the kernel's table already")]
    ServiceExists(ServiceKey),
    /// There is no service of that key.
    #[error("service {0} is not in the kernel's table")]
    ServiceMissing(ServiceKey),
    /// The service has that server already.
    #[error("server {0} is in the kernel's table already")]
    DestinationExists(DestinationKey),
    /// The service has no such server.
    #[error("server {0} is not in the kernel's table")]
    DestinationMissing(DestinationKey),
}

impl Table {
    /// Does to this value what the kernel does to its table. On a conflict nothing is changed.
    pub fn apply(&mut self, edit: &Edit) -> Result<(), Conflict> {
        match edit {
            Edit::AddService(service) => match self.services.entry(service.key) {
                Entry::Vacant(place) => {
                    place.insert(ServiceEntry::new(service.clone()));
                }
                Entry::Occupied(_) => return Err(Conflict::ServiceExists(service.key)),
            },
            Edit::SetService(service) => self.entry(service.key)?.get_mut().service = service.clone(),
            Edit::DeleteService(key) => {
                self.entry(*key)?.remove();
            }
            Edit::AddDestination { service, destination } => {
                let key = DestinationKey { service: *service, server: destination.server };
                match self.entry(*service)?.get_mut().destinations.entry(destination.server) {
                    Entry::Vacant(place) => {
                        place.insert(*destination);
                    }
                    Entry::Occupied(_) => return Err(Conflict::DestinationExists(key)),
                }
            }
            Edit::SetDestination { service, destination } => {
                let key = DestinationKey { service: *service, server: destination.server };
                let mut entry = self.entry(*service)?;
                let place = entry.get_mut().destinations.get_mut(&destination.server);
                *place.ok_or(Conflict::DestinationMissing(key))? = *destination;
            }
            Edit::DeleteDestination(key) => {
                let removed = self.entry(key.service)?.get_mut().destinations.remove(&key.server);
                removed.ok_or(Conflict::DestinationMissing(*key))?;
            }
        }
        Ok(())
    }

    fn entry(&mut self, key: ServiceKey) -> Result<OccupiedEntry<'_, ServiceKey, ServiceEntry>, Conflict> {
        match self.services.entry(key) {
            Entry::Occupied(entry) => Ok(entry),
            Entry::Vacant(_) => Err(Conflict::ServiceMissing(key)),
        }
    }
}
