//! Reads the whole table, and can do nothing else to it.

use std::{
    collections::{BTreeSet, HashMap},
    net::SocketAddr,
    time::Duration,
};

use nix::errno::Errno;

use super::{
    codec::{self, AttributeList, Command, DecodeError, EncodeError},
    connection::{Connection, Failure, List, unbuilt},
    error::{IpvsError, Operation},
    statistics::{DestinationStatistics, Statistics, TableStatistics},
    table::{Service, ServiceEntry, Table},
};
use crate::{
    model::{DestinationKey, ServiceKey},
    netlink::NetlinkError,
};

/// How often a list is read in hope of two readings that agree.
const READINGS: u32 = 8;

/// The buffers of the two sockets: the kernel makes datagrams of that size, so that two readings of a long list don't
/// have their seams in the same places.
const BUFFERS: [usize; 2] = [32 << 10, 20 << 10];

/// The table together with the kernel's counters.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CountedTable {
    /// The services and their destinations.
    pub table: Table,
    /// What was counted for them.
    pub statistics: TableStatistics,
}

/// Reads the table of the network namespace of the thread that reads first. It blocks for as long as the kernel takes:
/// not for threads of the runtime.
///
/// After a failure it can be used again: it opens new sockets when it must, and notices when the module was loaded
/// anew.
pub struct TableReader {
    connections: [Connection; 2],
    /// Which of them reads a list first.
    turn: usize,
    /// The entries of those long lists that were believed last.
    services: Option<Vec<ServiceKey>>,
    destinations: HashMap<ServiceKey, Vec<SocketAddr>>,
}

impl TableReader {
    /// The kernel has `timeout` for each answer. Nothing is opened before the first request.
    #[must_use]
    pub fn new(timeout: Duration) -> Self {
        Self {
            connections: BUFFERS.map(|buffer| Connection::new(timeout, buffer)),
            turn: 0,
            services: None,
            destinations: HashMap::new(),
        }
    }

    /// All services and destinations. Entries of a kind that this program doesn't know are left out.
    pub fn table(&mut self) -> Result<Table, IpvsError> {
        let mut table = Table::default();
        for (service, _, destinations) in self.all(codec::unpack_destination, |one| one.server)? {
            let mut entry = ServiceEntry::new(service);
            entry.destinations = destinations.into_iter().map(|one| (one.server, one)).collect();
            table.services.insert(entry.service.key, entry);
        }
        Ok(table)
    }

    /// All services and destinations, with the kernel's counters.
    pub fn counted_table(&mut self) -> Result<CountedTable, IpvsError> {
        let mut all = CountedTable::default();
        for (service, statistics, destinations) in self.all(codec::unpack_counted, |(one, _)| one.server)? {
            let key = service.key;
            let mut entry = ServiceEntry::new(service);
            for (destination, counted) in destinations {
                let server = destination.server;
                entry.destinations.insert(server, destination);
                all.statistics.destinations.insert(DestinationKey { service: key, server }, counted);
            }
            all.table.services.insert(key, entry);
            all.statistics.services.insert(key, statistics);
        }
        Ok(all)
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
        let request = codec::request(Command::GetService, AttributeList::new());
        let request = request.map_err(unbuilt(&operation))?;
        let known = self.services.take();
        let (entries, known) =
            self.steadily(&operation, &request, codec::unpack_service, |(service, _)| service.key, known)?;
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
        let request = about(Command::GetDest, &service).map_err(unbuilt(&operation))?;
        let known = self.destinations.remove(&service);
        let (entries, known) = self.steadily(&operation, &request, unpack, server, known)?;
        self.destinations.extend(known.map(|known| (service, known)));
        Ok(entries)
    }

    /// Whether a service is there. The kernel answers a dump of the destinations of one that isn't with an empty list.
    fn exists(&mut self, service: ServiceKey) -> Result<bool, IpvsError> {
        let operation = Operation::ReadDestinations(service);
        let request = about(Command::GetService, &service).map_err(unbuilt(&operation))?;
        match self.connections[0].exchange(0, &request, |_| {}) {
            Ok(_) => Ok(true),
            Err(Failure::Netlink(NetlinkError::Kernel(Errno::ESRCH))) => Ok(false),
            Err(failure) => Err(failure.of(operation)),
        }
    }

    /// A dump in which no entry is missing. If it is a long one, its entries are sorted, and their keys are returned as
    /// well: they are `known` to the next reading.
    ///
    /// The kernel unlocks the table between two datagrams and goes on by number: if an entry is deleted meanwhile, the
    /// next datagram begins one too late. So a dump of several datagrams is believed only once two in a row have the
    /// same entries, each once. The first of the two may be the dump of the last time, which was read with other seams.
    fn steadily<T, K: Ord>(
        &mut self,
        operation: &Operation,
        request: &[u8],
        unpack: fn(&[u8]) -> Result<T, DecodeError>,
        key: fn(&T) -> K,
        known: Option<Vec<K>>,
    ) -> Result<(Vec<T>, Option<Vec<K>>), IpvsError> {
        let mut before = known;
        for reading in 0..READINGS {
            let which = (self.turn + reading as usize) % self.connections.len();
            let List { mut entries, datagrams } =
                match self.connections[which].dump(request, operation, unpack) {
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
}

/// A request about a service.
fn about(command: Command, service: &ServiceKey) -> Result<Vec<u8>, EncodeError> {
    codec::request(command, [codec::pack_service_key(service)?].into_iter().collect())
}
