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
    let destinations = destinations.iter().map(|one| (one.server, *one)).collect();
    ServiceEntry { service, destinations }
}

fn table(destinations: &[Destination]) -> Table {
    Table { services: BTreeMap::from([(tcp(), entry(tcp(), destinations))]) }
}

/// A service and servers with the weights that they shall have, and those that they come back to.
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

/// Makes the edits that lead to `wanted`, as the table's task does.
fn carry_out(table: &mut Table, held: &mut Overrides, wanted: &WantedService) -> Vec<String> {
    let edits = adjust(tcp(), table.services.get(&tcp()), wanted, held);
    held.expect(&edits, table, Some(wanted), false);
    for edit in &edits {
        table.apply(edit).unwrap();
        held.applied(edit);
    }
    edits.iter().map(ToString::to_string).collect()
}

const A: &str = "10.0.0.1:80";
const B: &str = "10.0.0.2:80";

#[test]
fn a_server_is_held_at_weight_0_and_gets_its_own_back() {
    let (mut table, mut held) = (table(&[destination(A, 70_000), destination(B, 3)]), Overrides::default());
    let before = table.clone();
    let own = u16::MAX;
    assert_eq!(carry_out(&mut table, &mut held, &wanted(&[(A, Some(own), own), (B, Some(3), 3)])), [""; 0]);
    let down = wanted(&[(A, Some(0), own), (B, Some(3), 3)]);
    assert_eq!(
        carry_out(&mut table, &mut held, &down),
        ["set server tcp 192.0.2.1:80 -> 10.0.0.1:80 weight 0"]
    );
    assert_eq!(carry_out(&mut table, &mut held, &down), [""; 0]);
    assert_eq!(held.iter().count(), 1);
    let adopted = adopt(&table, &held, &unlisted());
    assert_eq!(adopted.services[0].servers[0].weight, Weight(own));
    assert!(adopted.administered.is_empty());
    // A ramp, and back.
    carry_out(&mut table, &mut held, &wanted(&[(A, Some(9), own), (B, Some(3), 3)]));
    assert_eq!(adopt(&table, &held, &unlisted()), adopted);
    carry_out(&mut table, &mut held, &wanted(&[(A, Some(own), own), (B, Some(3), 3)]));
    assert_eq!((table, held), (before, Overrides::default()));
}

#[test]
fn a_server_is_removed_and_comes_back_as_it_was() {
    let (mut table, mut held) = (table(&[destination(A, 5), destination(B, 3)]), Overrides::default());
    let before = table.clone();
    let down = wanted(&[(A, None, 5), (B, Some(3), 3)]);
    assert_eq!(carry_out(&mut table, &mut held, &down), ["delete server tcp 192.0.2.1:80 -> 10.0.0.1:80"]);
    assert_eq!(carry_out(&mut table, &mut held, &down), [""; 0]);
    let adopted = adopt(&table, &held, &unlisted());
    assert_eq!(adopted.services[0].servers.len(), 2, "it is still checked");
    carry_out(&mut table, &mut held, &wanted(&[(A, Some(5), 5), (B, Some(3), 3)]));
    assert_eq!((table, held), (before, Overrides::default()));
}

#[test]
fn what_others_do_is_left_alone() {
    // Weight 0; another weight than was known; gone; new.
    let mut table = table(&[destination(A, 0), destination(B, 7), destination("10.0.0.4:80", 1)]);
    let before = table.clone();
    let wants = wanted(&[(A, Some(5), 5), (B, Some(3), 3), ("10.0.0.3:80", Some(1), 1)]);
    assert_eq!(carry_out(&mut table, &mut Overrides::default(), &wants), [""; 0]);
    // One that is down is taken out, whatever its weight is by now, and that weight is what it gets back.
    let mut held = Overrides::default();
    carry_out(&mut table, &mut held, &wanted(&[(A, Some(0), 0), (B, Some(0), 3)]));
    carry_out(&mut table, &mut held, &wanted(&[(A, Some(0), 0), (B, Some(7), 7)]));
    assert_eq!((table.clone(), held), (before, Overrides::default()));
    let adopted = adopt(&table, &Overrides::default(), &unlisted());
    let administered: Vec<_> = adopted.administered.iter().map(|key| key.server.to_string()).collect();
    assert_eq!(administered, [A]);
    assert_eq!(adjust(tcp(), None, &wants, &Overrides::default()), [], "a service that is gone stays gone");
}

#[test]
fn what_others_have_changed_is_no_longer_held() {
    let (mut table, mut held) = (table(&[destination(A, 5), destination(B, 3)]), Overrides::default());
    carry_out(&mut table, &mut held, &wanted(&[(A, Some(0), 5), (B, None, 3)]));
    let key = |server: &str| DestinationKey { service: tcp(), server: server.parse().unwrap() };
    assert!(!held.reconcile(tcp(), table.services.get(&tcp())));
    // Another agent starts here.
    let raised = entry(tcp(), &[destination(A, 2)]);
    assert!(held.reconcile(tcp(), Some(&raised)));
    assert_eq!(held.iter().map(|(key, _)| *key).collect::<Vec<_>>(), [key(B)]);
    let added = entry(tcp(), &[destination(A, 2), destination(B, 0)]);
    assert!(held.reconcile(tcp(), Some(&added)));
    assert_eq!(held, Overrides::default());
}

#[test]
fn an_edit_of_which_nothing_is_known_is_explained_both_ways() {
    let table = table(&[destination(A, 5)]);
    let wanted = wanted(&[(A, Some(0), 5)]);
    let edits = adjust(tcp(), table.services.get(&tcp()), &wanted, &Overrides::default());
    let mut held = Overrides::default();
    assert!(held.expect(&edits, &table, Some(&wanted), false));
    let key = DestinationKey { service: tcp(), server: A.parse().unwrap() };
    for weight in [0, 5] {
        let ours = held.ours(&key, Some(KernelWeight(weight))).unwrap();
        assert_eq!(ours.original.weight, KernelWeight(5));
    }
    assert_eq!(held.ours(&key, Some(KernelWeight(4))), None);
}

#[test]
fn a_configured_weight_is_what_a_server_goes_back_to() {
    let mut held = Overrides::default();
    let added = Edit::AddDestination { service: tcp(), destination: destination(A, 0) };
    let wants = wanted(&[(A, Some(0), 5)]);
    assert!(held.expect(std::slice::from_ref(&added), &table(&[]), Some(&wants), true));
    held.applied(&added);
    let ours = held.iter().next().unwrap().1;
    assert_eq!(
        (ours.original.weight, ours.current, ours.previous),
        (KernelWeight(5), Some(KernelWeight(0)), None)
    );
    // It leaves the configuration.
    let key = DestinationKey { service: tcp(), server: A.parse().unwrap() };
    assert!(held.expect(
        &[Edit::DeleteDestination(key)],
        &table(&[destination(A, 0)]),
        Some(&wanted(&[])),
        true
    ));
    assert_eq!(held, Overrides::default());
}

#[test]
fn services_are_checked_as_suits_them_or_as_is_written() {
    let udp = ServiceKey::Address { protocol: Protocol::Udp, address: "192.0.2.1:53".parse().unwrap() };
    let mark = ServiceKey::Mark { mark: 7, family: AddressFamily::V4 };
    let services = [
        (tcp(), entry(tcp(), &[destination(A, 1)])),
        (udp, entry(udp, &[destination("10.0.0.1:53", 1)])),
        (mark, entry(mark, &[destination("10.0.0.1:0", 1), destination("10.0.0.2:80", 1)])),
    ];
    let table = Table { services: services.into_iter().collect() };
    let asked = |services: &[VirtualService], key: ServiceKey| {
        let service = services.iter().find(|service| service.key == key).unwrap();
        let question = |check: &Check| format!("{:?}", check.kind).split('(').next().unwrap().to_owned();
        service.servers.iter().map(|one| question(service.check_of(one))).collect::<Vec<_>>().join(" ")
    };
    let adopted = adopt(&table, &Overrides::default(), &unlisted()).services;
    assert_eq!(asked(&adopted, tcp()), "Connect");
    assert_eq!(asked(&adopted, udp), "Ping");
    assert_eq!(asked(&adopted, mark), "Ping Connect");
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
    assert_eq!((web.name.as_str(), web.fall.get(), web.on_failure), ("web", 7, OnFailure::Remove));
    assert_eq!(asked(&adopted, tcp()), "Http");
    assert!(!matches!(web.check.kind, CheckKind::Connect));

    // What holds for all services holds for those that aren't listed, as far as they can be asked.
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
    assert_eq!((asked(&adopted, tcp()), asked(&adopted, udp)), ("Connect".to_owned(), "Ping".to_owned()));
    assert_eq!(asked(&adopted, mark), "Ping Http");
    let falls: Vec<_> = adopted.iter().map(|service| service.fall.get()).collect();
    assert_eq!(falls, [4, 9, 9]);
    for service in &adopted[1..] {
        assert_eq!(service.check.interval.as_secs(), 7);
        assert_eq!(service.further.checks.len(), 1);
        assert!(service.policy.slow_start.is_some());
    }
}

/// What happens to one server, one thing after the other.
#[derive(Clone, Copy, Debug)]
enum Happens {
    /// It is wanted so by its health.
    Wanted(Health),
    /// Others set its weight.
    Others(i32),
    /// The controller hears of the table.
    Adopted,
}

#[derive(Clone, Copy, Debug)]
enum Health {
    Up,
    Quiesced,
    Removed,
}

fn happens() -> impl Strategy<Value = Happens> {
    prop_oneof![
        Just(Happens::Wanted(Health::Up)),
        Just(Happens::Wanted(Health::Quiesced)),
        Just(Happens::Wanted(Health::Removed)),
        (0_i32..4).prop_map(Happens::Others),
        Just(Happens::Adopted),
    ]
}

proptest! {
    /// Whatever happens: once everybody has heard of everything and the server is well, it has the weight that others gave
    /// it last.
    #[test]
    fn at_the_end_it_is_as_others_want_it(first in 0_i32..4, story in proptest::collection::vec(happens(), 0..12)) {
        let mut table = table(&[destination(A, first)]);
        let (mut held, mut health) = (Overrides::default(), Health::Up);
        let (mut theirs, mut known) = (first, first);
        let settled = [Happens::Adopted, Happens::Wanted(Health::Up), Happens::Adopted, Happens::Wanted(Health::Up)];
        for happens in story.into_iter().chain(settled) {
            match happens {
                Happens::Wanted(now) => health = now,
                // Others can't tell their own 0 from ours, nor can we: that is no change.
                Happens::Others(weight) => {
                    let found = &mut table.services.get_mut(&tcp()).unwrap().destinations;
                    let before = found.get(&A.parse().unwrap()).map(|one| one.weight.0);
                    if before != Some(weight) {
                        found.insert(A.parse().unwrap(), destination(A, weight));
                        theirs = weight;
                    }
                    held.reconcile(tcp(), table.services.get(&tcp()));
                }
                Happens::Adopted => {
                    let adopted = adopt(&table, &held, &unlisted());
                    known = adopted.services[0].servers.first().map_or(0, |one| one.weight.0.into());
                }
            }
            let own = weight_of(KernelWeight(known)).0;
            let wants = match health {
                Health::Up => Some(own),
                Health::Quiesced => Some(0),
                // What an administrator holds is never removed.
                Health::Removed => (own == 0).then_some(0),
            };
            carry_out(&mut table, &mut held, &wanted(&[(A, wants, own)]));
        }
        prop_assert_eq!(table.services[&tcp()].destinations[&A.parse().unwrap()].weight.0, theirs);
        prop_assert_eq!(held, Overrides::default());
    }
}
