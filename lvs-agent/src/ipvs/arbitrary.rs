//! Random tables, for property tests.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::{IpAddr, SocketAddr},
    time::Duration,
};

use proptest::{collection, option, prelude::*, sample::select};

use super::{
    Destination, DestinationStatistics, KernelWeight, SchedulerName, Service, ServiceEntry, ServiceFlags,
    Statistics, Table, Wanted, WantedDestination, WantedService, Wish,
};
use crate::model::{
    AddressFamily, ForwardingMethod, Netmask, Persistence, Protocol, ServiceKey, Tunnel, TunnelFlags, Weight,
};

/// Few enough to meet each other in two tables.
fn key_of_few() -> impl Strategy<Value = ServiceKey> {
    let address =
        |protocol, address: &str| ServiceKey::Address { protocol, address: address.parse().unwrap() };
    select(vec![
        address(Protocol::Tcp, "192.0.2.1:80"),
        address(Protocol::Udp, "192.0.2.1:80"),
        address(Protocol::Sctp, "[2001:db8::1]:80"),
        ServiceKey::Mark { mark: 1, family: AddressFamily::V4 },
        ServiceKey::Mark { mark: 1, family: AddressFamily::V6 },
    ])
}

fn server_of_few() -> impl Strategy<Value = SocketAddr> {
    let servers = ["10.0.0.1:80", "10.0.0.1:81", "10.0.0.2:80", "[2001:db8::2]:80"];
    select(servers.map(|server| server.parse().unwrap()).to_vec())
}

pub(super) fn key() -> impl Strategy<Value = ServiceKey> {
    let protocol = select(vec![Protocol::Tcp, Protocol::Udp, Protocol::Sctp]);
    let family = select(vec![AddressFamily::V4, AddressFamily::V6]);
    prop_oneof![
        (protocol, server()).prop_map(|(protocol, address)| ServiceKey::Address { protocol, address }),
        (1..=u32::MAX, family).prop_map(|(mark, family)| ServiceKey::Mark { mark, family }),
    ]
}

/// Address and port without the parts of an IPv6 socket address that IPVS doesn't have.
fn server() -> impl Strategy<Value = SocketAddr> {
    (any::<IpAddr>(), any::<u16>()).prop_map(SocketAddr::from)
}

fn scheduler() -> impl Strategy<Value = SchedulerName> {
    "[a-z]{1,15}".prop_map(|name| SchedulerName::try_from(name.as_str()).unwrap())
}

fn flags() -> impl Strategy<Value = ServiceFlags> {
    any::<u32>().prop_map(ServiceFlags::from_bits)
}

fn persistence(family: AddressFamily) -> impl Strategy<Value = Persistence> {
    let netmask = match family {
        AddressFamily::V4 => any::<std::net::Ipv4Addr>().prop_map(Netmask::V4).boxed(),
        AddressFamily::V6 => any::<u32>().prop_map(Netmask::V6).boxed(),
    };
    (any::<u32>(), netmask)
        .prop_map(|(seconds, netmask)| Persistence::new(Duration::from_secs(seconds.into()), netmask))
}

fn engine() -> impl Strategy<Value = Option<String>> {
    option::of("[a-z]{1,15}")
}

fn service_of(key: ServiceKey) -> impl Strategy<Value = Service> {
    (scheduler(), flags(), option::of(persistence(key.family())), engine()).prop_map(
        move |(scheduler, flags, persistence, persistence_engine)| Service {
            key,
            scheduler,
            flags,
            persistence,
            persistence_engine,
        },
    )
}

pub(super) fn service() -> impl Strategy<Value = Service> {
    key().prop_flat_map(service_of)
}

fn method() -> impl Strategy<Value = ForwardingMethod> {
    use ForwardingMethod::{Bypass, DirectRoute, Local, Masquerade, Tunnel};
    select(vec![Masquerade, DirectRoute, Tunnel, Local, Bypass])
}

fn tunnel() -> impl Strategy<Value = Tunnel> {
    let flags = || any::<u16>().prop_map(TunnelFlags);
    prop_oneof![
        Just(Tunnel::Ipip),
        (any::<u16>(), flags()).prop_map(|(port, flags)| Tunnel::Gue { port, flags }),
        flags().prop_map(|flags| Tunnel::Gre { flags }),
        (3..=u8::MAX, any::<u16>(), flags()).prop_map(|(kind, port, flags)| Tunnel::Other {
            kind,
            port,
            flags
        }),
    ]
}

/// Often 0 or 1, so that the border between quiescent and not is met.
fn kernel_weight() -> impl Strategy<Value = KernelWeight> {
    prop_oneof![2 => 0..2, 1 => any::<i32>()].prop_map(KernelWeight)
}

fn weight() -> impl Strategy<Value = Weight> {
    prop_oneof![2 => 0..2_u16, 1 => any::<u16>()].prop_map(Weight)
}

fn destination_of(server: impl Strategy<Value = SocketAddr>) -> impl Strategy<Value = Destination> {
    (server, method(), tunnel(), kernel_weight(), any::<u32>(), any::<u32>()).prop_map(
        |(server, method, tunnel, weight, upper_threshold, lower_threshold)| Destination {
            server,
            method,
            tunnel,
            weight,
            upper_threshold,
            lower_threshold,
        },
    )
}

pub(super) fn destination() -> impl Strategy<Value = Destination> {
    destination_of(server())
}

pub(super) fn statistics() -> impl Strategy<Value = Statistics> {
    any::<[u64; 10]>().prop_map(|values| {
        let [connections, packets_in, packets_out, bytes_in, bytes_out, values @ ..] = values;
        let [connection_rate, packet_rate_in, packet_rate_out, byte_rate_in, byte_rate_out] = values;
        Statistics {
            connections,
            packets_in,
            packets_out,
            bytes_in,
            bytes_out,
            connection_rate,
            packet_rate_in,
            packet_rate_out,
            byte_rate_in,
            byte_rate_out,
        }
    })
}

pub(super) fn destination_statistics() -> impl Strategy<Value = DestinationStatistics> {
    (any::<[u32; 3]>(), statistics()).prop_map(|([active, inactive, persistent], traffic)| {
        DestinationStatistics { active, inactive, persistent, traffic }
    })
}

fn table() -> impl Strategy<Value = Table> {
    let destinations = collection::vec(destination_of(server_of_few()), 0..4)
        .prop_map(|list| list.into_iter().map(|one| (one.server, one)).collect::<BTreeMap<_, _>>());
    let entry = (key_of_few().prop_flat_map(service_of), destinations)
        .prop_map(|(service, destinations)| ServiceEntry { service, destinations });
    collection::vec(entry, 0..5).prop_map(|entries| Table {
        services: entries.into_iter().map(|entry| (entry.service.key, entry)).collect(),
    })
}

fn wish<T: Clone + std::fmt::Debug>(value: impl Strategy<Value = T>) -> impl Strategy<Value = Wish<T>> {
    option::of(value).prop_map(|value| value.map_or(Wish::Keep, Wish::Set))
}

fn wanted_destination() -> impl Strategy<Value = WantedDestination> {
    (method(), weight(), wish(tunnel()), wish(any::<u32>()), wish(any::<u32>())).prop_map(
        |(method, weight, tunnel, upper_threshold, lower_threshold)| WantedDestination {
            method,
            weight,
            base_weight: weight,
            tunnel,
            upper_threshold,
            lower_threshold,
        },
    )
}

fn wanted_service(family: AddressFamily) -> impl Strategy<Value = WantedService> {
    let destinations = collection::btree_map(server_of_few(), wanted_destination(), 0..4);
    let flags = (wish(flags()), flags());
    (scheduler(), flags, wish(option::of(persistence(family))), wish(engine()), destinations).prop_map(
        |(scheduler, (flags, extra_flags), persistence, persistence_engine, destinations)| WantedService {
            scheduler,
            flags,
            extra_flags,
            persistence,
            persistence_engine,
            destinations,
            absent: BTreeMap::new(),
        },
    )
}

/// A wish that agrees with part of the table, as one does that was fulfilled once.
fn agreeing(table: &Table, mut wanted: Wanted, agree: &BTreeSet<ServiceKey>) -> Wanted {
    for (key, entry) in table.services.iter().filter(|(key, _)| agree.contains(key)) {
        let mut service = WantedService::new(entry.service.scheduler.clone());
        service.destinations = entry
            .destinations
            .iter()
            .filter_map(|(server, destination)| {
                let weight = Weight(u16::try_from(destination.weight.0).ok()?);
                Some((*server, WantedDestination::new(destination.method, weight)))
            })
            .collect();
        wanted.services.insert(*key, service);
    }
    wanted
}

pub(crate) fn table_and_wanted() -> impl Strategy<Value = (Table, Wanted)> {
    let service = key_of_few().prop_flat_map(|key| (Just(key), wanted_service(key.family())));
    let unwanted = collection::btree_set(key_of_few(), 0..3);
    let wanted = (collection::vec(service, 0..5), unwanted)
        .prop_map(|(services, unwanted)| Wanted { services: services.into_iter().collect(), unwanted });
    (table(), wanted, collection::btree_set(key_of_few(), 0..3)).prop_map(|(table, wanted, agree)| {
        let wanted = agreeing(&table, wanted, &agree);
        (table, wanted)
    })
}
