//! Reads the whole table, and can do nothing else to it.

use std::{
    collections::{BTreeSet, HashMap},
    net::SocketAddr,
    time::Duration,
};

use nix::errno::Errno;

use super::{
    codec::{self, AttributeList, Command, DecodeError, EncodeError},
    connection::{Connection, Failure, question, unbuilt},
    error::{IpvsError, Operation},
    socket::DUMP,
    statistics::{DestinationStatistics, Statistics, TableStatistics},
    table::{Service, ServiceEntry, Table},
};
use crate::{
    model::{DestinationKey, ServiceKey},
    netlink::NetlinkError,
};

/// How often a list is read in hope of two readings that agree.
const READINGS: u32 = 8;

/// The buffers of the two sockets: the kernel makes datagrams of that size, so that two readings of a long list don't have
/// their seams in the same places.
const BUFFERS: [usize; 2] = [32 << 10, 20 << 10];

/// The table together with what the kernel counted.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Snapshot {
    /// The services and their destinations.
    pub table: Table,
    /// What was counted for them.
    pub statistics: TableStatistics,
}

/// Reads the table of the network namespace of the thread that reads first. It blocks for as long as the kernel takes: to
/// be used where that holds nobody up.
///
/// After a failure it may be used again: it opens new sockets when it must, and notices when the module was loaded anew.
pub struct TableReader {
    connections: [Connection; 2],
    /// Which of them reads a list first.
    turn: usize,
    /// Who was in those long lists that were believed last.
    services: Option<Vec<ServiceKey>>,
    destinations: HashMap<ServiceKey, Vec<SocketAddr>>,
}

/// What a dump has brought.
struct List<T> {
    entries: Vec<T>,
    /// In how many datagrams.
    datagrams: u32,
}

impl TableReader {
    /// The kernel has `timeout` for each answer. Nothing is opened before the first question.
    #[must_use]
    pub fn new(timeout: Duration) -> Self {
        Self {
            connections: BUFFERS.map(|buffer| Connection::new(timeout, buffer)),
            turn: 0,
            services: None,
            destinations: HashMap::new(),
        }
    }

    /// All services and destinations. Entries of a kind that this program has no word for are left out.
    pub fn table(&mut self) -> Result<Table, IpvsError> {
        let mut table = Table::default();
        for (service, _, destinations) in self.all(codec::unpack_destination, |one| one.server)? {
            let mut entry = ServiceEntry::new(service);
            entry.destinations = destinations.into_iter().map(|one| (one.server, one)).collect();
            table.services.insert(entry.service.key, entry);
        }
        Ok(table)
    }

    /// All services and destinations, with what the kernel counted.
    pub fn snapshot(&mut self) -> Result<Snapshot, IpvsError> {
        let mut snapshot = Snapshot::default();
        for (service, statistics, destinations) in self.all(codec::unpack_counted, |(one, _)| one.server)? {
            let key = service.key;
            let mut entry = ServiceEntry::new(service);
            for (destination, counted) in destinations {
                let server = destination.server;
                entry.destinations.insert(server, destination);
                snapshot.statistics.destinations.insert(DestinationKey { service: key, server }, counted);
            }
            snapshot.table.services.insert(key, entry);
            snapshot.statistics.services.insert(key, statistics);
        }
        Ok(snapshot)
    }

    /// What the kernel has counted for a destination; `None` if it isn't in the table.
    pub fn counted(&mut self, key: &DestinationKey) -> Result<Option<DestinationStatistics>, IpvsError> {
        let destinations = self.destinations(key.service, codec::unpack_counted, |(one, _)| one.server)?;
        let found = destinations.into_iter().find(|(destination, _)| destination.server == key.server);
        Ok(found.map(|(_, counted)| counted))
    }

    /// All services, each with its destinations as `unpack` makes them.
    fn all<D>(
        &mut self,
        unpack: fn(&[u8]) -> Result<D, DecodeError>,
        server: fn(&D) -> SocketAddr,
    ) -> Result<Vec<(Service, Statistics, Vec<D>)>, IpvsError> {
        self.turn = (self.turn + 1) % self.connections.len();
        let mut all = Vec::new();
        for (service, statistics) in self.services()? {
            let destinations = self.destinations(service.key, unpack, server)?;
            if !destinations.is_empty() || self.exists(service.key)? {
                all.push((service, statistics, destinations));
            }
        }
        let there: BTreeSet<_> = all.iter().map(|(service, ..)| service.key).collect();
        self.destinations.retain(|service, _| there.contains(service));
        Ok(all)
    }

    fn services(&mut self) -> Result<Vec<(Service, Statistics)>, IpvsError> {
        let operation = Operation::ReadServices;
        let question = question(Command::GetService, AttributeList::new());
        let question = question.map_err(unbuilt(&operation))?;
        let known = self.services.take();
        let (entries, known) =
            self.steadily(&operation, &question, codec::unpack_service, |(service, _)| service.key, known)?;
        self.services = known;
        Ok(entries)
    }

    fn destinations<D>(
        &mut self,
        service: ServiceKey,
        unpack: fn(&[u8]) -> Result<D, DecodeError>,
        server: fn(&D) -> SocketAddr,
    ) -> Result<Vec<D>, IpvsError> {
        let operation = Operation::ReadDestinations(service);
        let question = about(Command::GetDest, &service).map_err(unbuilt(&operation))?;
        let known = self.destinations.remove(&service);
        let (entries, known) = self.steadily(&operation, &question, unpack, server, known)?;
        self.destinations.extend(known.map(|known| (service, known)));
        Ok(entries)
    }

    /// Whether a service is there. The kernel answers a dump of the destinations of one that isn't with an empty list.
    fn exists(&mut self, service: ServiceKey) -> Result<bool, IpvsError> {
        let operation = Operation::ReadDestinations(service);
        let question = about(Command::GetService, &service).map_err(unbuilt(&operation))?;
        match self.connections[0].ask(0, &question, |_| {}) {
            Ok(_) => Ok(true),
            Err(Failure::Netlink(NetlinkError::Kernel(Errno::ESRCH))) => Ok(false),
            Err(failure) => Err(failure.of(operation)),
        }
    }

    /// A dump in which no entry is missing, and who is in it, in order, where that is to be known for the next time. The
    /// entries of a long one are in order as well.
    ///
    /// The kernel lets go of the table between two datagrams and goes on by number: where an entry goes meanwhile, the
    /// next datagram begins one too late. So a dump of several datagrams is believed only once two in a row have the same
    /// entries, each once. The first of the two may be that of the last time, which was read with other seams.
    fn steadily<T, K: Ord>(
        &mut self,
        operation: &Operation,
        question: &[u8],
        unpack: fn(&[u8]) -> Result<T, DecodeError>,
        key: fn(&T) -> K,
        known: Option<Vec<K>>,
    ) -> Result<(Vec<T>, Option<Vec<K>>), IpvsError> {
        let mut before = known;
        for reading in 0..READINGS {
            let which = (self.turn + reading as usize) % self.connections.len();
            let List { mut entries, datagrams } = match self.listed(which, question, operation, unpack) {
                Err(IpvsError::Unsteady(_)) => continue,
                other => other?,
            };
            if datagrams <= 1 {
                return Ok((entries, None));
            }
            entries.sort_unstable_by_key(key);
            let now: Vec<K> = entries.iter().map(key).collect();
            let once = now.is_sorted_by(|one, next| one < next);
            if once && before.as_ref() == Some(&now) {
                return Ok((entries, before));
            }
            before = once.then_some(now);
        }
        Err(IpvsError::Unsteady(operation.clone()))
    }

    fn listed<T>(
        &mut self,
        which: usize,
        question: &[u8],
        operation: &Operation,
        unpack: fn(&[u8]) -> Result<T, DecodeError>,
    ) -> Result<List<T>, IpvsError> {
        let (mut entries, mut fault) = (Vec::new(), None);
        let datagrams = self.connections[which]
            .ask(DUMP, question, |attributes| match unpack(codec::first_payload(attributes)) {
                Ok(entry) => entries.push(entry),
                // Whatever it is, this program didn't make it, and it must not keep others from being read.
                Err(error @ DecodeError::Unknown { .. }) => {
                    tracing::debug!(%operation, %error, "entry left out");
                }
                Err(error) => drop(fault.get_or_insert(error)),
            })
            .map_err(|failure| failure.of(operation.clone()))?;
        match fault {
            Some(source) => Err(IpvsError::Answer { operation: operation.clone(), source }),
            None => Ok(List { entries, datagrams }),
        }
    }
}

/// A question about a service.
fn about(command: Command, service: &ServiceKey) -> Result<Vec<u8>, EncodeError> {
    question(command, [codec::pack_service_key(service)?].into_iter().collect())
}
