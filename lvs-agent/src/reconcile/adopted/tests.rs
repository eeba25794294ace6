use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;
use crate::{
    config,
    engine::discovery::adopt,
    ipvs::{
        Destination, Edit, KernelWeight, Service, ServiceEntry, ServiceFlags, Table, WantedDestination,
        WantedService, overrides::weight_of,
    },
    model::{
        AddressFamily, Check, CheckKind, Config, DestinationKey, ForwardingMethod, Mode, OnFailure, Protocol,
        ServiceKey, Tunnel, VirtualService, Weight,
    },
};

/// A configuration that lists no services.
fn unlisted() -> Config {
    Config::of_table(Mode::Adopt)
}

fn tcp() -> ServiceKey {
    ServiceKey::Address { protocol: Protocol::Tcp, address: "192.0.2.1:80".parse().unwrap() }
}

fn destination(server: &str, weight: i32) -> Destination {
    Destination {
        server: server.parse().unwrap(),
        method: ForwardingMethod::Masquerade,
        tunnel: Tunnel::Ipip,
        weight: KernelWeight(weight),
        upper_threshold: 100,
        lower_threshold: 10,
    }
}

fn entry(key: ServiceKey, destinations: &[Destination]) -> ServiceEntry {
    let service = Service {
        key,
        scheduler: "wlc".try_into().unwrap(),
        flags: ServiceFlags::NONE,
        persistence: None,
        persistence_engine: None,
    };
    let destinations = destinations.iter().map(|destination| (destination.server, *destination)).collect();
    ServiceEntry { service, destinations }
}

fn table(destinations: &[Destination]) -> Table {
    Table { services: BTreeMap::from([(tcp(), entry(tcp(), destinations))]) }
}

/// A service and servers with their desired weights, and the weights that they come back to.
fn wanted(servers: &[(&str, Option<u16>, u16)]) -> WantedService {
    let mut service = WantedService::new("wlc".try_into().unwrap());
    for (server, weight, own) in servers {
        let server = server.parse().unwrap();
        match weight {
            Some(weight) => {
                let mut wanted = WantedDestination::new(ForwardingMethod::Masquerade, Weight(*weight));
                wanted.base_weight = Weight(*own);
                service.destinations.insert(server, wanted);
            }
            None => drop(service.absent.insert(server, Weight(*own))),
        }
    }
    service
}

/// Makes the edits that lead to `wanted`, as the reconciler does.
fn apply(table: &mut Table, overrides: &mut Overrides, wanted: &WantedService) -> Vec<String> {
    let edits = adjust(tcp(), table.services.get(&tcp()), wanted, overrides);
    overrides.expect(&edits, table, Some(wanted), false);
    for edit in &edits {
        table.apply(edit).unwrap();
        overrides.applied(edit);
    }
    edits.iter().map(ToString::to_string).collect()
}

#[test]
fn what_weight_0_does_is_the_tables_scheduler() {
    let adopted = |scheduler: &str, flags, text: &str| {
        let mut table = table(&[destination(A, 1)]);
        let service = &mut table.services.get_mut(&tcp()).unwrap().service;
        (service.scheduler, service.flags) = (scheduler.try_into().unwrap(), flags);
        let settings =
            config::native::read(&format!("[agent]\nmode = \"adopt\"\n{text}"), "test.toml".as_ref());
        adopt(&table, &Overrides::default(), &settings.unwrap()).services[0].on_failure()
    };
    let (none, fallback) = (ServiceFlags::NONE, ServiceFlags::SCHEDULER_1);
    let listed = "[[service]]\naddress = \"192.0.2.1:80\"\nscheduler = \"rr\"\n";
    for text in ["", listed] {
        assert_eq!(adopted("wlc", none, text), OnFailure::Quiesce, "{text}");
        assert_eq!(adopted("sh", fallback, text), OnFailure::Quiesce, "{text}");
        assert_eq!(adopted("sh", none, text), OnFailure::Remove, "{text}");
        assert_eq!(adopted("dh", none, text), OnFailure::Remove, "{text}");
    }
    assert_eq!(adopted("sh", none, "[defaults]\non-failure = \"quiesce\"\n"), OnFailure::Quiesce);
}

const A: &str = "10.0.0.1:80";
const B: &str = "10.0.0.2:80";

#[test]
fn a_quiesced_server_gets_its_own_weight_back() {
    let (mut table, mut overrides) =
        (table(&[destination(A, 70_000), destination(B, 3)]), Overrides::default());
    let before = table.clone();
    let own = u16::MAX;
    assert_eq!(apply(&mut table, &mut overrides, &wanted(&[(A, Some(own), own), (B, Some(3), 3)])), [""; 0]);
    let down = wanted(&[(A, Some(0), own), (B, Some(3), 3)]);
    assert_eq!(
        apply(&mut table, &mut overrides, &down),
        ["set server tcp 192.0.2.1:80 -> 10.0.0.1:80 weight 0"]
    );
    assert_eq!(apply(&mut table, &mut overrides, &down), [""; 0]);
    assert_eq!(overrides.iter().count(), 1);
    let adopted = adopt(&table, &overrides, &unlisted());
    assert_eq!(adopted.services[0].servers[0].weight, Weight(own));
    assert!(adopted.administered.is_empty());
    // Slow start, and its end.
    apply(&mut table, &mut overrides, &wanted(&[(A, Some(9), own), (B, Some(3), 3)]));
    assert_eq!(adopt(&table, &overrides, &unlisted()), adopted);
    apply(&mut table, &mut overrides, &wanted(&[(A, Some(own), own), (B, Some(3), 3)]));
    assert_eq!((table, overrides), (before, Overrides::default()));
}

#[test]
fn a_removed_server_comes_back_as_it_was() {
    let (mut table, mut overrides) = (table(&[destination(A, 5), destination(B, 3)]), Overrides::default());
    let before = table.clone();
    let down = wanted(&[(A, None, 5), (B, Some(3), 3)]);
    assert_eq!(apply(&mut table, &mut overrides, &down), ["delete server tcp 192.0.2.1:80 -> 10.0.0.1:80"]);
    assert_eq!(apply(&mut table, &mut overrides, &down), [""; 0]);
    let adopted = adopt(&table, &overrides, &unlisted());
    assert_eq!(adopted.services[0].servers.len(), 2, "it is still checked");
    apply(&mut table, &mut overrides, &wanted(&[(A, Some(5), 5), (B, Some(3), 3)]));
    assert_eq!((table, overrides), (before, Overrides::default()));
}

#[test]
fn changes_by_others_are_left_alone() {
    // Weight 0; another weight than the known one; gone; new.
    let mut table = table(&[destination(A, 0), destination(B, 7), destination("10.0.0.4:80", 1)]);
    let before = table.clone();
    let wants = wanted(&[(A, Some(5), 5), (B, Some(3), 3), ("10.0.0.3:80", Some(1), 1)]);
    assert_eq!(apply(&mut table, &mut Overrides::default(), &wants), [""; 0]);
    // A server that is down gets weight 0, whatever its weight was, and gets that weight back.
    let mut overrides = Overrides::default();
    apply(&mut table, &mut overrides, &wanted(&[(A, Some(0), 0), (B, Some(0), 3)]));
    apply(&mut table, &mut overrides, &wanted(&[(A, Some(0), 0), (B, Some(7), 7)]));
    assert_eq!((table.clone(), overrides), (before, Overrides::default()));
    let adopted = adopt(&table, &Overrides::default(), &unlisted());
    let administered: Vec<_> = adopted.administered.iter().map(|key| key.server.to_string()).collect();
    assert_eq!(administered, [A]);
    assert_eq!(adjust(tcp(), None, &wants, &Overrides::default()), [], "a service that is gone stays gone");
}

#[test]
fn a_change_by_others_ends_an_override() {
    let (mut table, mut overrides) = (table(&[destination(A, 5), destination(B, 3)]), Overrides::default());
    apply(&mut table, &mut overrides, &wanted(&[(A, Some(0), 5), (B, None, 3)]));
    let key = |server: &str| DestinationKey { service: tcp(), server: server.parse().unwrap() };
    assert!(!overrides.reconcile(tcp(), table.services.get(&tcp())));
    // Another agent starts here.
    let raised = entry(tcp(), &[destination(A, 2)]);
    assert!(overrides.reconcile(tcp(), Some(&raised)));
    assert_eq!(overrides.iter().map(|(key, _)| *key).collect::<Vec<_>>(), [key(B)]);
    let added = entry(tcp(), &[destination(A, 2), destination(B, 0)]);
    assert!(overrides.reconcile(tcp(), Some(&added)));
    assert_eq!(overrides, Overrides::default());
}

#[test]
fn an_edit_with_an_unknown_outcome_is_ours_with_either_weight() {
    let table = table(&[destination(A, 5)]);
    let wanted = wanted(&[(A, Some(0), 5)]);
    let edits = adjust(tcp(), table.services.get(&tcp()), &wanted, &Overrides::default());
    let mut overrides = Overrides::default();
    assert!(overrides.expect(&edits, &table, Some(&wanted), false));
    let key = DestinationKey { service: tcp(), server: A.parse().unwrap() };
    for weight in [0, 5] {
        let ours = overrides.ours(&key, Some(KernelWeight(weight))).unwrap();
        assert_eq!(ours.original.weight, KernelWeight(5));
    }
    assert_eq!(overrides.ours(&key, Some(KernelWeight(4))), None);
}

#[test]
fn a_server_goes_back_to_its_configured_weight() {
    let mut overrides = Overrides::default();
    let added = Edit::AddDestination { service: tcp(), destination: destination(A, 0) };
    let wants = wanted(&[(A, Some(0), 5)]);
    assert!(overrides.expect(std::slice::from_ref(&added), &table(&[]), Some(&wants), true));
    overrides.applied(&added);
    let ours = overrides.iter().next().unwrap().1;
    assert_eq!(
        (ours.original.weight, ours.current, ours.previous),
        (KernelWeight(5), Some(KernelWeight(0)), None)
    );
    // The server leaves the configuration.
    let key = DestinationKey { service: tcp(), server: A.parse().unwrap() };
    assert!(overrides.expect(
        &[Edit::DeleteDestination(key)],
        &table(&[destination(A, 0)]),
        Some(&wanted(&[])),
        true
    ));
    assert_eq!(overrides, Overrides::default());
}

#[test]
fn services_have_configured_checks_or_those_that_their_protocol_allows() {
    let udp = ServiceKey::Address { protocol: Protocol::Udp, address: "192.0.2.1:53".parse().unwrap() };
    let mark = ServiceKey::Mark { mark: 7, family: AddressFamily::V4 };
    let services = [
        (tcp(), entry(tcp(), &[destination(A, 1)])),
        (udp, entry(udp, &[destination("10.0.0.1:53", 1)])),
        (mark, entry(mark, &[destination("10.0.0.1:0", 1), destination("10.0.0.2:80", 1)])),
    ];
    let table = Table { services: services.into_iter().collect() };
    let checks = |services: &[VirtualService], key: ServiceKey| {
        let service = services.iter().find(|service| service.key == key).unwrap();
        let kind = |check: &Check| format!("{:?}", check.kind).split('(').next().unwrap().to_owned();
        service.servers.iter().map(|server| kind(service.check_of(server))).collect::<Vec<_>>().join(" ")
    };
    let adopted = adopt(&table, &Overrides::default(), &unlisted()).services;
    assert_eq!(checks(&adopted, tcp()), "Connect");
    assert_eq!(checks(&adopted, udp), "Ping");
    assert_eq!(checks(&adopted, mark), "Ping Connect");
    assert_eq!(adopted[0].name, "tcp 192.0.2.1:80");

    let text = r#"
        [agent]
        mode = "adopt"
        [[service]]
        name = "web"
        address = "192.0.2.1:80"
        on-failure = "remove"
        fall = 7
        check = { type = "http", path = "/" }
        [[service]]
        name = "elsewhere"
        address = "192.0.2.9:80"
    "#;
    let settings = config::native::read(text, "test.toml".as_ref()).unwrap();
    let adopted = adopt(&table, &Overrides::default(), &settings).services;
    assert_eq!(adopted.len(), 3, "a service that isn't there is none");
    let web = adopted.iter().find(|service| service.key == tcp()).unwrap();
    assert_eq!((web.name.as_str(), web.fall.get(), web.on_failure()), ("web", 7, OnFailure::Remove));
    assert_eq!(checks(&adopted, tcp()), "Http");
    assert!(!matches!(web.check.kind, CheckKind::Connect));

    // The defaults apply to services that aren't listed, as far as they can be checked so.
    let defaults = r#"
        [agent]
        mode = "adopt"
        [defaults]
        fall = 9
        slow-start = "10s"
        check = [{ type = "http", path = "/", interval = "7s" }, { type = "ping" }]
        [[service]]
        address = "192.0.2.1:80"
        fall = 4
        check = { type = "connect" }
    "#;
    let settings = config::native::read(defaults, "test.toml".as_ref()).unwrap();
    let adopted = adopt(&table, &Overrides::default(), &settings).services;
    assert_eq!((checks(&adopted, tcp()), checks(&adopted, udp)), ("Connect".to_owned(), "Ping".to_owned()));
    assert_eq!(checks(&adopted, mark), "Ping Http");
    let falls: Vec<_> = adopted.iter().map(|service| service.fall.get()).collect();
    assert_eq!(falls, [4, 9, 9]);
    for service in &adopted[1..] {
        assert_eq!(service.check.interval.as_secs(), 7);
        assert_eq!(service.further.checks.len(), 1);
        assert!(service.policy.slow_start.is_some());
    }
}

/// One step in the history of a server.
#[derive(Clone, Copy, Debug)]
enum Step {
    /// Its health changes.
    Wanted(Health),
    /// Others set its weight.
    Others(i32),
    /// The controller gets the table.
    Adopted,
}

#[derive(Clone, Copy, Debug)]
enum Health {
    Up,
    Quiesced,
    Removed,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        Just(Step::Wanted(Health::Up)),
        Just(Step::Wanted(Health::Quiesced)),
        Just(Step::Wanted(Health::Removed)),
        (0_i32..4).prop_map(Step::Others),
        Just(Step::Adopted),
    ]
}

proptest! {
    /// After any history, once the controller has the latest table and the server is up, it has the weight that others
    /// gave it last.
    #[test]
    fn in_the_end_a_healthy_server_has_the_weight_that_others_set(
        first in 0_i32..4,
        steps in proptest::collection::vec(step(), 0..12),
    ) {
        let mut table = table(&[destination(A, first)]);
        let (mut overrides, mut health) = (Overrides::default(), Health::Up);
        let (mut theirs, mut known) = (first, first);
        let settled = [Step::Adopted, Step::Wanted(Health::Up), Step::Adopted, Step::Wanted(Health::Up)];
        for step in steps.into_iter().chain(settled) {
            match step {
                Step::Wanted(now) => health = now,
                // A 0 by others can't be distinguished from ours: that is no change.
                Step::Others(weight) => {
                    let destinations = &mut table.services.get_mut(&tcp()).unwrap().destinations;
                    let before = destinations.get(&A.parse().unwrap()).map(|destination| destination.weight.0);
                    if before != Some(weight) {
                        destinations.insert(A.parse().unwrap(), destination(A, weight));
                        theirs = weight;
                    }
                    overrides.reconcile(tcp(), table.services.get(&tcp()));
                }
                Step::Adopted => {
                    let adopted = adopt(&table, &overrides, &unlisted());
                    known = adopted.services[0].servers.first().map_or(0, |server| server.weight.0.into());
                }
            }
            let own = weight_of(KernelWeight(known)).0;
            let wants = match health {
                Health::Up => Some(own),
                Health::Quiesced => Some(0),
                // A server that an administrator has set to weight 0 is never removed.
                Health::Removed => (own == 0).then_some(0),
            };
            apply(&mut table, &mut overrides, &wanted(&[(A, wants, own)]));
        }
        prop_assert_eq!(table.services[&tcp()].destinations[&A.parse().unwrap()].weight.0, theirs);
        prop_assert_eq!(overrides, Overrides::default());
    }
}
