//! The status, from what the controller, the monitor and the kernel know.

use std::collections::HashMap;

use crate::{
    control::{Health, ServiceStatus, SignalStatus, Traffic},
    engine::status::ServiceSummary,
    ipvs::{CountedTable, DestinationStatistics, Statistics},
    model::{DestinationKey, ServiceKey},
};

/// The passive signals of the destinations.
pub(super) enum Signals {
    Known(HashMap<DestinationKey, SignalStatus>),
    None(String),
}

impl Signals {
    fn of(&self, destination: &DestinationKey, is_backup: bool) -> SignalStatus {
        match self {
            _ if is_backup => SignalStatus::none("backups have no passive detection"),
            Self::None(reason) => SignalStatus::none(reason.clone()),
            Self::Known(known) => known
                .get(destination)
                .cloned()
                .unwrap_or_else(|| SignalStatus::none("passive detection does not watch it (yet)")),
        }
    }
}

/// The services with all that is known of them. `table`: the kernel's, if it can be read.
pub(super) fn compose(
    summaries: Vec<ServiceSummary>,
    signals: &Signals,
    table: Option<&CountedTable>,
) -> Vec<ServiceStatus> {
    summaries.into_iter().map(|summary| service(summary, signals, table)).collect()
}

/// The worst of them.
pub(super) fn worst(services: &[ServiceStatus]) -> Health {
    services.iter().map(|service| service.health).max().unwrap_or_default()
}

fn service(summary: ServiceSummary, signals: &Signals, table: Option<&CountedTable>) -> ServiceStatus {
    let ServiceSummary { key, status, destinations } = summary;
    let servers = destinations.into_iter().map(|one| {
        let (destination, signal) = (one.destination, signals.of(&one.destination, one.is_backup));
        let mut server = one.with_signal(signal);
        if let Some(table) = table {
            let entry = table.table.services.get(&key);
            let found = entry.and_then(|entry| entry.destinations.get(&destination.server));
            server.table_weight = found.map(|found| found.weight.0);
            server.traffic = table.statistics.destinations.get(&destination).map(of_destination);
        }
        server
    });
    let servers: Vec<_> = servers.collect();
    let traffic = table.and_then(|table| of_service(table, &key));
    ServiceStatus { traffic, servers, ..status }
}

fn of_destination(counted: &DestinationStatistics) -> Traffic {
    let DestinationStatistics { active, inactive, persistent, traffic } = *counted;
    Traffic { active, inactive, persistent, ..of(&traffic) }
}

/// The kernel keeps no sum of the connections under way.
fn of_service(table: &CountedTable, key: &ServiceKey) -> Option<Traffic> {
    let mut sum = of(table.statistics.services.get(key)?);
    let entry = table.table.services.get(key)?;
    let keys = entry.destinations.keys().map(|server| DestinationKey { service: *key, server: *server });
    for counted in keys.filter_map(|destination| table.statistics.destinations.get(&destination)) {
        sum.active = sum.active.saturating_add(counted.active);
        sum.inactive = sum.inactive.saturating_add(counted.inactive);
        sum.persistent = sum.persistent.saturating_add(counted.persistent);
    }
    Some(sum)
}

fn of(statistics: &Statistics) -> Traffic {
    Traffic {
        connections: statistics.connections,
        connections_per_s: statistics.connection_rate,
        packets_in_per_s: statistics.packet_rate_in,
        packets_out_per_s: statistics.packet_rate_out,
        bytes_in_per_s: statistics.byte_rate_in,
        bytes_out_per_s: statistics.byte_rate_out,
        ..Traffic::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        ipvs::{Destination, KernelWeight, Service, ServiceEntry, ServiceFlags},
        model::{ForwardingMethod, Protocol, Scheduler, Tunnel},
    };

    /// A table with two servers of one service, and what was counted for them.
    fn table(key: ServiceKey) -> CountedTable {
        let mut all = CountedTable::default();
        let mut entry = ServiceEntry::new(Service {
            key,
            scheduler: "wlc".parse::<Scheduler>().unwrap().into(),
            flags: ServiceFlags::NONE,
            persistence: None,
            persistence_engine: None,
        });
        for (host, active) in [(1_u8, 3), (2, 4)] {
            let server = ([10, 0, 0, host], 80).into();
            let destination = Destination {
                server,
                method: ForwardingMethod::Masquerade,
                tunnel: Tunnel::default(),
                weight: KernelWeight(i32::from(host)),
                upper_threshold: 0,
                lower_threshold: 0,
            };
            entry.destinations.insert(server, destination);
            let traffic = Statistics { connections: 70, connection_rate: 5, ..Statistics::default() };
            let counted = DestinationStatistics { active, inactive: 1, persistent: 0, traffic };
            all.statistics.destinations.insert(DestinationKey { service: key, server }, counted);
        }
        all.table.services.insert(key, entry);
        let traffic = Statistics { connections: 140, byte_rate_in: 900, ..Statistics::default() };
        all.statistics.services.insert(key, traffic);
        all
    }

    #[test]
    fn a_service_has_the_kernels_counters_and_the_sum_of_its_connections() {
        let address = ([192, 0, 2, 1], 80).into();
        let key = ServiceKey::Address { protocol: Protocol::Tcp, address };
        let summary = || ServiceSummary { key, status: ServiceStatus::default(), destinations: Vec::new() };
        let signals = Signals::None("off".to_owned());
        let services = compose(vec![summary()], &signals, Some(&table(key)));
        let expected =
            Traffic { active: 7, inactive: 2, connections: 140, bytes_in_per_s: 900, ..Traffic::default() };
        assert_eq!(services[0].traffic, Some(expected));
        let unknown = compose(vec![summary()], &signals, Some(&CountedTable::default()));
        assert_eq!(unknown[0].traffic, None, "the kernel doesn't have it");
        assert_eq!(compose(vec![summary()], &signals, None)[0].traffic, None);
    }
}
