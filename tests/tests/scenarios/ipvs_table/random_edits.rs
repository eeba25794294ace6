//! Edits between random tables, made in the kernel: they lead to what is wanted, and keep services served on the way.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::SocketAddr,
    time::Duration,
};

use lvs_agent::{
    ipvs::{
        Destination, Edit, KernelWeight, SchedulerName, Service, ServiceEntry, ServiceFlags, Table, Wanted,
        WantedDestination, WantedService, Wish, difference,
    },
    model::{
        AddressFamily, ForwardingMethod, Netmask, Persistence, Protocol, ServiceKey, Tunnel, TunnelFlags,
        Weight,
    },
};
use proptest::{
    collection::{btree_set, vec},
    option,
    prelude::*,
    sample::select,
    strategy::ValueTree as _,
    test_runner::TestRunner,
};

use crate::ipvs_table::{connect, in_namespace, ipvsadm};

/// So many pairs of tables are tried.
const CASES: usize = 150;

fn key() -> impl Strategy<Value = ServiceKey> {
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

fn scheduler() -> impl Strategy<Value = SchedulerName> {
    select(vec!["rr", "wrr", "wlc", "sh"]).prop_map(|name| SchedulerName::try_from(name).unwrap())
}

fn flags() -> impl Strategy<Value = ServiceFlags> {
    select(vec![ServiceFlags::NONE, ServiceFlags::SCHEDULER_1, ServiceFlags::SCHEDULER_2])
}

fn persistence(family: AddressFamily) -> impl Strategy<Value = Option<Persistence>> {
    let netmask = Netmask::whole_address(family);
    option::of((1_u64..1000).prop_map(move |seconds| Persistence::new(Duration::from_secs(seconds), netmask)))
}

/// Whom a service of this family can have, and how: servers of the other IP version are reached by tunnel only.
fn way(family: AddressFamily) -> impl Strategy<Value = (SocketAddr, ForwardingMethod)> {
    let servers = ["10.0.0.1:80", "10.0.0.2:80", "10.0.0.3:80", "[2001:db8::2]:80", "[2001:db8::3]:80"];
    let methods = [ForwardingMethod::Masquerade, ForwardingMethod::DirectRoute, ForwardingMethod::Tunnel];
    let server = select(servers.map(|server| server.parse::<SocketAddr>().unwrap()).to_vec());
    (server, select(methods.to_vec())).prop_map(move |(server, method)| {
        let across = server.is_ipv4() != (family == AddressFamily::V4);
        (server, if across { ForwardingMethod::Tunnel } else { method })
    })
}

fn tunnel() -> impl Strategy<Value = Tunnel> {
    select(vec![
        Tunnel::Ipip,
        Tunnel::Gue { port: 6080, flags: TunnelFlags::CHECKSUM },
        Tunnel::Gre { flags: TunnelFlags::NO_CHECKSUM },
    ])
}

fn weight() -> impl Strategy<Value = u16> {
    select(vec![0, 1, 1, 7, u16::MAX])
}

fn thresholds() -> impl Strategy<Value = (u32, u32)> {
    select(vec![(0, 0), (100, 0), (100, 50)])
}

fn entry(key: ServiceKey) -> impl Strategy<Value = (ServiceKey, ServiceEntry)> {
    let family = key.family();
    let destination = (way(family), tunnel(), weight(), thresholds()).prop_map(
        |((server, method), tunnel, weight, (upper_threshold, lower_threshold))| {
            let weight = KernelWeight(weight.into());
            (server, Destination { server, method, tunnel, weight, upper_threshold, lower_threshold })
        },
    );
    (scheduler(), flags(), persistence(family), vec(destination, 0..5)).prop_map(
        move |(scheduler, flags, persistence, destinations)| {
            let service = Service { key, scheduler, flags, persistence, persistence_engine: None };
            (key, ServiceEntry { service, destinations: destinations.into_iter().collect() })
        },
    )
}

fn table() -> impl Strategy<Value = Table> {
    vec(key().prop_flat_map(entry), 0..5)
        .prop_map(|services| Table { services: services.into_iter().collect() })
}

fn wish<T: Clone + std::fmt::Debug>(value: impl Strategy<Value = T>) -> impl Strategy<Value = Wish<T>> {
    option::of(value).prop_map(|value| value.map_or(Wish::Keep, Wish::Set))
}

fn wanted_service(key: ServiceKey) -> impl Strategy<Value = (ServiceKey, WantedService)> {
    let family = key.family();
    let destination = (way(family), wish(tunnel()), weight(), option::of(thresholds())).prop_map(
        |((server, method), tunnel, weight, thresholds)| {
            let mut wanted = WantedDestination::new(method, Weight(weight));
            wanted.tunnel = tunnel;
            if let Some((upper, lower)) = thresholds {
                (wanted.upper_threshold, wanted.lower_threshold) = (Wish::Set(upper), Wish::Set(lower));
            }
            (server, wanted)
        },
    );
    (scheduler(), wish(flags()), wish(persistence(family)), vec(destination, 0..5)).prop_map(
        move |(scheduler, flags, persistence, destinations)| {
            let mut service = WantedService::new(scheduler);
            (service.flags, service.persistence) = (flags, persistence);
            service.destinations = destinations.into_iter().collect();
            (key, service)
        },
    )
}

fn wanted() -> impl Strategy<Value = Wanted> {
    (vec(key().prop_flat_map(wanted_service), 0..5), btree_set(key(), 0..2))
        .prop_map(|(services, unwanted)| Wanted { services: services.into_iter().collect(), unwanted })
}

/// The services that have a server which takes connections now and shall go on taking them.
fn served(before: &Table, wanted: &Wanted) -> BTreeSet<ServiceKey> {
    let stays = |(key, entry): (&ServiceKey, &ServiceEntry)| {
        let service = wanted.services.get(key)?;
        let mut servers = entry.destinations.values().filter(|one| one.weight.takes_connections());
        servers
            .any(|one| service.destinations.get(&one.server).is_some_and(|wish| !wish.weight.is_quiescent()))
            .then_some(*key)
    };
    before.services.iter().filter_map(stays).collect()
}

#[test]
fn random_edits_lead_the_kernel_to_the_wanted_table() {
    in_namespace(|| async {
        let mut client = connect().await;
        let mut runner = TestRunner::deterministic();
        let (mut edits_made, mut kept) = (0, 0);
        for number in 0..CASES {
            let (before, wanted) = (table(), wanted()).new_tree(&mut runner).unwrap().current();
            let about = format!("case {number}: from {before:#?} to {wanted:#?}");
            for edit in difference(&Table::default(), &exactly(&before)) {
                client.apply(&edit).await.expect(&about);
            }
            assert_eq!(client.table().await.unwrap(), before, "{about}");
            let served = served(&before, &wanted);
            kept += served.len();
            let mut model = before.clone();
            for edit in difference(&before, &wanted) {
                client.apply(&edit).await.unwrap_or_else(|error| panic_at(&edit, &error.to_string(), &about));
                model.apply(&edit).unwrap();
                edits_made += 1;
                let table = client.table().await.unwrap();
                for key in &served {
                    assert!(table.services[key].takes_connections(), "{key} after {edit}; {about}");
                }
            }
            let table = client.table().await.unwrap();
            assert_eq!(table, model, "{about}");
            assert_eq!(difference(&table, &wanted), vec![], "{about}");
            ipvsadm("-C");
        }
        println!("{CASES} pairs of tables, {edits_made} edits, {kept} services to be served on the way");
        assert!(kept > CASES / 10, "too few services were served: this tested nothing");
    });
}

fn panic_at(edit: &Edit, error: &str, about: &str) {
    assert_eq!(error, "", "{edit}; {about}");
}

/// The wish for exactly this table.
fn exactly(table: &Table) -> Wanted {
    let services = table.services.iter().map(|(key, entry)| {
        let mut service = WantedService::new(entry.service.scheduler.clone());
        service.flags = Wish::Set(entry.service.flags);
        service.persistence = Wish::Set(entry.service.persistence);
        service.destinations = entry
            .destinations
            .iter()
            .map(|(server, one)| {
                let weight = u16::try_from(one.weight.0).unwrap();
                let mut wanted = WantedDestination::new(one.method, Weight(weight));
                wanted.tunnel = Wish::Set(one.tunnel);
                wanted.upper_threshold = Wish::Set(one.upper_threshold);
                wanted.lower_threshold = Wish::Set(one.lower_threshold);
                (*server, wanted)
            })
            .collect::<BTreeMap<_, _>>();
        (*key, service)
    });
    Wanted { services: services.collect(), ..Wanted::default() }
}
