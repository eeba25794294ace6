use std::collections::BTreeMap;

use lvs_common::ServerId;
use proptest::{collection::vec, prelude::*, sample::select};

use super::*;
use crate::model::{AddressFamily, Tunnel, TunnelFlags};

const MAC_A: Mac = [2, 0, 0, 0, 0, 1];
const MAC_B: Mac = [2, 0, 0, 0, 0, 2];
const DEVICE: u32 = 3;

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

fn at(text: &str) -> SocketAddr {
    text.parse().unwrap()
}

fn service(protocol: Protocol, vip: &str) -> ServiceKey {
    ServiceKey::Address { protocol, address: at(vip) }
}

fn mark(mark: u32) -> ServiceKey {
    ServiceKey::Mark { mark, family: AddressFamily::V4 }
}

fn forwarding(service: ServiceKey, server: &str, method: ForwardingMethod) -> Forwarding {
    let destination = DestinationKey { service, server: at(server) };
    Forwarding { destination, method, tunnel: Tunnel::default() }
}

fn masquerade(vip: &str, server: &str) -> Forwarding {
    forwarding(service(Protocol::Tcp, vip), server, ForwardingMethod::Masquerade)
}

fn direct(vip: &str, server: &str) -> Forwarding {
    forwarding(service(Protocol::Tcp, vip), server, ForwardingMethod::DirectRoute)
}

fn tunnel(vip: &str, server: &str, tunnel: Tunnel) -> Forwarding {
    Forwarding { tunnel, ..forwarding(service(Protocol::Tcp, vip), server, ForwardingMethod::Tunnel) }
}

fn link(vip: &str, mac: Mac) -> WireKey {
    WireKey::link(Protocol::Tcp, at(vip), mac)
}

fn through(next_hop: &str) -> PacketPath {
    PacketPath::Out { device: DEVICE, next_hop: ip(next_hop) }
}

/// Gives a server a path on the director's own link.
fn on_link(targets: &mut Targets, server: &str) -> Vec<Change> {
    targets.path(ip(server), Some(through(server)))
}

fn reasons(targets: &Targets) -> Vec<NoSignal> {
    targets.without_signal().into_iter().map(|(_, reason)| reason).collect()
}

fn sorted(mut changes: Vec<Change>) -> Vec<Change> {
    changes.sort_by_key(|change| match change {
        Change::Unwatch(key) => (0, Some(*key), None),
        Change::Reset(id) => (1, None, Some(*id)),
        Change::Watch(key, id) => (2, Some(*key), Some(*id)),
    });
    changes
}

#[test]
fn a_masqueraded_server_in_two_services_is_one_target() {
    let one = masquerade("192.0.2.1:80", "10.0.0.1:8080");
    let two = masquerade("192.0.2.2:80", "10.0.0.1:8080");
    let udp =
        forwarding(service(Protocol::Udp, "192.0.2.1:80"), "10.0.0.1:8080", ForwardingMethod::Masquerade);
    let mut targets = Targets::new([one, two, udp]);
    assert_eq!(targets.all().len(), 2);
    let first = targets.get(ServerId(0)).unwrap();
    assert_eq!(first.destinations, [one.destination, two.destination]);
    assert_eq!(first.visibility(), Visibility::Both);
    let key = |protocol| WireKey::address(protocol, at("10.0.0.1:8080"));
    let both =
        [Change::Watch(key(Protocol::Tcp), ServerId(0)), Change::Watch(key(Protocol::Udp), ServerId(1))];
    assert_eq!(targets.changes(), both);
    assert_eq!(targets.changes(), []);
    assert_eq!(reasons(&targets), []);
}

#[test]
fn a_directly_routed_server_is_watched_once_its_mac_is_known_and_follows_it() {
    for (vip, server) in [("192.0.2.1:80", "10.0.0.1"), ("[2001:db8::1]:80", "2001:db8::a")] {
        let server_port = SocketAddr::new(ip(server), 80).to_string();
        let mut targets = Targets::new([direct(vip, &server_port)]);
        assert_eq!(targets.changes(), []);
        assert_eq!(reasons(&targets), [NoSignal::RouteUnknown]);
        assert_eq!(on_link(&mut targets, server), []);
        assert_eq!(reasons(&targets), [NoSignal::NeighbourUnknown]);
        assert_eq!(targets.neighbour(DEVICE + 1, ip(server), Some(MAC_B)), [], "another device's neighbour");
        let watched = Change::Watch(link(vip, MAC_A), ServerId(0));
        assert_eq!(targets.neighbour(DEVICE, ip(server), Some(MAC_A)), [watched]);
        assert_eq!(targets.neighbour(DEVICE, ip(server), None), [], "a failed neighbour keeps its key");
        assert_eq!(
            targets.neighbour(DEVICE, ip(server), Some(MAC_B)),
            [Change::Unwatch(link(vip, MAC_A)), Change::Watch(link(vip, MAC_B), ServerId(0))]
        );
        assert_eq!(reasons(&targets), []);
        assert_eq!(targets.get(ServerId(0)).unwrap().visibility(), Visibility::ClientOnly);
    }
}

#[test]
fn two_servers_behind_one_mac_get_no_packets_attributed() {
    let mut targets = Targets::new([
        direct("192.0.2.1:80", "10.0.0.1:80"),
        direct("192.0.2.1:80", "10.0.0.2:80"),
        direct("192.0.2.9:80", "10.0.0.2:80"),
    ]);
    on_link(&mut targets, "10.0.0.1");
    on_link(&mut targets, "10.0.0.2");
    let first = targets.neighbour(DEVICE, ip("10.0.0.1"), Some(MAC_A));
    assert_eq!(first, [Change::Watch(link("192.0.2.1:80", MAC_A), ServerId(0))]);
    let both = targets.neighbour(DEVICE, ip("10.0.0.2"), Some(MAC_A));
    assert_eq!(
        both,
        [
            Change::Unwatch(link("192.0.2.1:80", MAC_A)),
            Change::Watch(link("192.0.2.9:80", MAC_A), ServerId(2))
        ],
        "the other service has only one server behind that MAC"
    );
    assert_eq!(
        reasons(&targets),
        [NoSignal::SameMac(at("10.0.0.2:80")), NoSignal::SameMac(at("10.0.0.1:80"))]
    );
    let apart = targets.neighbour(DEVICE, ip("10.0.0.2"), Some(MAC_B));
    assert_eq!(apart.len(), 4, "the two are distinct again, and the third moves: {apart:?}");
    assert_eq!(reasons(&targets), []);
}

#[test]
fn servers_behind_a_router_share_its_mac() {
    let mut targets =
        Targets::new([direct("192.0.2.1:80", "10.1.0.1:80"), direct("192.0.2.1:80", "10.2.0.1:80")]);
    targets.neighbour(DEVICE, ip("10.0.0.254"), Some(MAC_A));
    targets.neighbour(DEVICE, ip("10.0.0.253"), Some(MAC_B));
    let through_one = targets.path(ip("10.1.0.1"), Some(through("10.0.0.254")));
    assert_eq!(through_one, [Change::Watch(link("192.0.2.1:80", MAC_A), ServerId(0))]);
    assert_eq!(
        targets.path(ip("10.2.0.1"), Some(through("10.0.0.254"))),
        [Change::Unwatch(link("192.0.2.1:80", MAC_A))]
    );
    assert_eq!(reasons(&targets).len(), 2);
    // The route moves to another router.
    assert_eq!(targets.path(ip("10.2.0.1"), Some(through("10.0.0.253"))).len(), 2);
    assert_eq!(reasons(&targets), []);
}

#[test]
fn tunnels_in_all_mixes_of_ip_versions() {
    for (vip, server) in [
        ("192.0.2.1:80", "10.0.0.1:80"),
        ("192.0.2.1:80", "[2001:db8::2]:80"),
        ("[2001:db8::1]:80", "10.0.0.1:80"),
        ("[2001:db8::1]:80", "[2001:db8::2]:80"),
    ] {
        let watched = Change::Watch(WireKey::tunnel(Protocol::Tcp, at(vip), at(server).ip()), ServerId(0));
        for kind in [Tunnel::Ipip, Tunnel::Gre { flags: TunnelFlags::CHECKSUM }] {
            assert_eq!(Targets::new([tunnel(vip, server, kind)]).changes(), [watched]);
        }
        let gue = Tunnel::Gue { port: 6080, flags: TunnelFlags::NO_CHECKSUM };
        let mut targets = Targets::new([tunnel(vip, server, gue)]);
        let end = WireKey::gue(SocketAddr::new(at(server).ip(), 6080));
        assert_eq!(sorted(targets.changes()), sorted(vec![watched, Change::Watch(end, ServerId(0))]));
        assert_eq!(reasons(&targets), []);
    }
}

#[test]
fn a_tunnels_end_stays_known_as_long_as_anyone_needs_it() {
    let gue = Tunnel::Gue { port: 6080, flags: TunnelFlags::NO_CHECKSUM };
    let one = tunnel("192.0.2.1:80", "10.0.0.1:80", gue);
    let two = tunnel("192.0.2.2:80", "10.0.0.1:80", gue);
    let mut targets = Targets::new([one, two]);
    assert_eq!(targets.changes().len(), 3);
    let key = WireKey::tunnel(Protocol::Tcp, at("192.0.2.2:80"), ip("10.0.0.1"));
    assert_eq!(targets.update([one]), [Change::Unwatch(key)]);
    assert_eq!(targets.update([]).len(), 2);
}

#[test]
fn services_by_firewall_mark_have_an_endpoint_for_each_protocol() {
    let keys = |forwarding: Forwarding| -> Vec<WireKey> {
        let mut targets = Targets::new([forwarding]);
        targets.neighbour(DEVICE, ip("10.0.0.1"), Some(MAC_A));
        on_link(&mut targets, "10.0.0.1");
        assert_eq!(reasons(&targets), [], "{forwarding:?}");
        assert_eq!(targets.of(&forwarding.destination).count(), 2);
        let keys: Vec<_> = targets.watched.keys().copied().collect();
        assert!(!keys.is_empty());
        keys
    };
    let sorted = |mut keys: Vec<WireKey>| {
        keys.sort_unstable();
        keys
    };
    let both = |key: &dyn Fn(Protocol) -> WireKey| sorted(vec![key(Protocol::Tcp), key(Protocol::Udp)]);
    let (server, family) = (ip("10.0.0.1"), AddressFamily::V4);
    let marked = |method| forwarding(mark(7), "10.0.0.1:0", method);
    let mut routed = Targets::new([marked(ForwardingMethod::Masquerade)]);
    assert_eq!(routed.changes().len(), 4, "requests by mark, answers without, for each protocol");
    for (forwarding, expected) in [
        (
            marked(ForwardingMethod::DirectRoute),
            both(&|protocol| WireKey::link_mark(protocol, 7, family, MAC_A)),
        ),
        (
            marked(ForwardingMethod::Tunnel),
            both(&|protocol| WireKey::tunnel_mark(protocol, 7, family, server)),
        ),
        (
            marked(ForwardingMethod::Masquerade),
            sorted(
                [Protocol::Tcp, Protocol::Udp]
                    .into_iter()
                    .flat_map(|protocol| [7, 0].map(|mark| WireKey::address_mark(protocol, server, mark)))
                    .collect(),
            ),
        ),
        (
            forwarding(mark(7), "10.0.0.1:8080", ForwardingMethod::Masquerade),
            both(&|protocol| WireKey::address(protocol, at("10.0.0.1:8080"))),
        ),
    ] {
        assert_eq!(keys(forwarding), expected, "{forwarding:?}");
    }
}

#[test]
fn answers_that_look_alike_are_attributed_to_no_server() {
    let marked = |number| forwarding(mark(number), "10.0.0.1:0", ForwardingMethod::Masquerade);
    let every_port = masquerade("192.0.2.1:0", "10.0.0.1:0");
    let exact = masquerade("192.0.2.1:80", "10.0.0.1:80");
    for (one, two) in [(marked(1), marked(2)), (marked(1), every_port)] {
        let mut targets = Targets::new([one, exact]);
        assert_eq!(targets.changes().len(), 5);
        assert_eq!(reasons(&targets), []);
        assert!(targets.update([one, two, exact]).iter().any(|change| matches!(change, Change::Unwatch(_))));
        let tcp: Vec<_> = targets.watched.keys().filter(|key| protocol_of(key) == 6).collect();
        let exact_key = WireKey::address(Protocol::Tcp, at("10.0.0.1:80"));
        assert_eq!(tcp, [&exact_key], "the exact port still tells");
        if two == every_port {
            // UDP's answers by mark 1 are still distinct.
            assert_eq!(reasons(&targets), [NoSignal::SameAnswers(one.destination)]);
        } else {
            let of_other = [two, one].map(|other| NoSignal::SameAnswers(other.destination));
            assert_eq!(reasons(&targets), of_other);
        }
    }
}

fn protocol_of(key: &WireKey) -> u8 {
    match key {
        WireKey::V4(key) => key.protocol,
        WireKey::V6(key) => key.protocol,
    }
}

#[test]
fn a_service_without_a_port_has_keys_without_one() {
    let mut targets = Targets::new([
        masquerade("192.0.2.1:0", "10.0.0.1:0"),
        tunnel("192.0.2.2:0", "10.0.0.1:0", Tunnel::Ipip),
    ]);
    let expected = vec![
        Change::Watch(WireKey::address(Protocol::Tcp, at("10.0.0.1:0")), ServerId(0)),
        Change::Watch(WireKey::tunnel(Protocol::Tcp, at("192.0.2.2:0"), ip("10.0.0.1")), ServerId(1)),
    ];
    assert_eq!(sorted(targets.changes()), sorted(expected));
}

#[test]
fn destinations_without_a_signal_are_listed_with_the_reason() {
    let udp = |method| forwarding(service(Protocol::Udp, "192.0.2.1:53"), "10.0.0.1:53", method);
    let sctp = forwarding(service(Protocol::Sctp, "192.0.2.1:1"), "10.0.0.1:1", ForwardingMethod::Masquerade);
    let other = Tunnel::Other { kind: 9, port: 0, flags: TunnelFlags::NO_CHECKSUM };
    // `None`: counted only.
    let cases = [
        (udp(ForwardingMethod::Tunnel), None),
        (sctp, None),
        (udp(ForwardingMethod::Local), Some(NoSignal::Local)),
        (udp(ForwardingMethod::Bypass), Some(NoSignal::Bypass)),
        (tunnel("192.0.2.1:80", "10.0.0.1:80", other), Some(NoSignal::UnknownTunnel(9))),
    ];
    for (forwarding, expected) in cases {
        let targets = Targets::new([forwarding]);
        let without_signal = targets.without_signal();
        let [(destination, reason)] = without_signal.as_slice() else { panic!("{without_signal:?}") };
        assert_eq!(*destination, forwarding.destination);
        match expected {
            Some(expected) => assert_eq!(*reason, expected),
            None => assert!(matches!(reason, NoSignal::CountersOnly(_)), "{reason}"),
        }
    }
    let mut targets =
        Targets::new([udp(ForwardingMethod::Masquerade), masquerade("192.0.2.1:80", "10.0.0.2:80")]);
    assert_eq!(targets.changes().len(), 2);
    assert_eq!(
        targets.path(ip("10.0.0.1"), Some(PacketPath::Local)).len(),
        1,
        "what is local is not watched"
    );
    assert_eq!(reasons(&targets), [NoSignal::Local]);
    on_link(&mut targets, "10.0.0.2");
    targets.device(DEVICE, Some("tun0 is no Ethernet".to_owned()));
    let not_watched = NoSignal::DeviceNotWatched("tun0 is no Ethernet".to_owned());
    assert_eq!(reasons(&targets), [not_watched, NoSignal::Local]);
    targets.device(DEVICE, None);
    assert_eq!(reasons(&targets), [NoSignal::Local]);
}

#[test]
fn a_reused_id_is_the_one_free_for_longest_and_is_reset_first() {
    let server = |number: u8| masquerade("192.0.2.1:80", &format!("10.0.0.{number}:80"));
    let key = |number: u8| WireKey::address(Protocol::Tcp, at(&format!("10.0.0.{number}:80")));
    let mut targets = Targets::new([server(1), server(2)]);
    targets.limit(3);
    assert_eq!(targets.changes().len(), 2);
    assert_eq!(
        targets.update([server(2), server(3)]),
        [Change::Unwatch(key(1)), Change::Watch(key(3), ServerId(2))],
        "a new id as long as there are any"
    );
    assert_eq!(
        targets.update([server(2), server(3), server(4)]),
        [Change::Reset(ServerId(0)), Change::Watch(key(4), ServerId(0))]
    );
    let full = targets.update([server(2), server(3), server(5)]);
    assert_eq!(full, [Change::Unwatch(key(4))], "what has just become free is not given at once");
    assert_eq!(reasons(&targets), [NoSignal::NoRoom]);
    assert_eq!(
        targets.update([server(2), server(3), server(5)]),
        [Change::Reset(ServerId(0)), Change::Watch(key(5), ServerId(0))]
    );
    assert_eq!(targets.get(ServerId(1)).unwrap().destinations, [server(2).destination], "it has kept its id");
}

/// One of few services and servers, so that they collide.
fn any_forwarding() -> impl Strategy<Value = Forwarding> {
    let services = vec![
        service(Protocol::Tcp, "192.0.2.1:80"),
        service(Protocol::Udp, "192.0.2.1:80"),
        service(Protocol::Tcp, "192.0.2.1:0"),
        mark(1),
        mark(2),
    ];
    let methods = [
        ForwardingMethod::Masquerade,
        ForwardingMethod::DirectRoute,
        ForwardingMethod::Tunnel,
        ForwardingMethod::Local,
    ];
    let tunnels = [
        Tunnel::Ipip,
        Tunnel::Gue { port: 6080, flags: TunnelFlags::NO_CHECKSUM },
        Tunnel::Other { kind: 9, port: 0, flags: TunnelFlags::NO_CHECKSUM },
    ];
    (select(services), 1..5_u8, select(&[0, 80][..]), select(methods.to_vec()), select(tunnels.to_vec()))
        .prop_map(|(service, host, port, method, tunnel)| {
            let server = SocketAddr::from(([10, 0, 0, host], port));
            Forwarding { destination: DestinationKey { service, server }, method, tunnel }
        })
}

#[derive(Clone, Debug)]
enum Event {
    Update(Vec<Forwarding>),
    PacketPath(IpAddr, Option<PacketPath>),
    Neighbour(IpAddr, Option<Mac>),
}

fn any_event() -> impl Strategy<Value = Event> {
    let host = || (1..6_u8).prop_map(|host| IpAddr::from([10, 0, 0, host]));
    let path = prop_oneof![
        Just(None),
        Just(Some(PacketPath::Local)),
        host().prop_map(|next_hop| Some(PacketPath::Out { device: DEVICE, next_hop })),
    ];
    prop_oneof![
        some_forwardings().prop_map(Event::Update),
        (host(), path).prop_map(|(server, path)| Event::PacketPath(server, path)),
        (host(), select(vec![None, Some(MAC_A), Some(MAC_B)]))
            .prop_map(|(host, mac)| Event::Neighbour(host, mac)),
    ]
}

/// As in a table: each destination once.
fn some_forwardings() -> impl Strategy<Value = Vec<Forwarding>> {
    vec(any_forwarding(), 0..8).prop_map(|forwardings| {
        let once: BTreeMap<_, _> = forwardings.into_iter().map(|one| (one.destination, one)).collect();
        once.into_values().collect()
    })
}

/// The endpoint map, and the owner of each id when it was last reset or first used.
#[derive(Default)]
struct Kernel {
    map: BTreeMap<WireKey, ServerId>,
    owners: BTreeMap<ServerId, EndpointSignature>,
}

impl Kernel {
    fn apply(&mut self, changes: &[Change], targets: &Targets) {
        for change in changes {
            match change {
                Change::Unwatch(key) => assert!(self.map.remove(key).is_some(), "unwatched twice"),
                Change::Reset(id) => {
                    assert!(
                        !self.map.iter().any(|(key, owner)| owner == id && !is_gue(key)),
                        "reset while watched"
                    );
                    self.owners.remove(id);
                }
                Change::Watch(key, id) => {
                    assert_ne!(self.map.insert(*key, *id), Some(*id), "watched twice");
                    if !is_gue(key) {
                        let signature = targets.get(*id).unwrap().signature;
                        assert_eq!(
                            *self.owners.entry(*id).or_insert(signature),
                            signature,
                            "counts of another server"
                        );
                    }
                }
            }
        }
    }
}

fn is_gue(key: &WireKey) -> bool {
    key.kind() == Some(lvs_common::EndpointKind::Gue)
}

proptest! {
    /// After any events the map is the one that a fresh start with the same facts would give.
    #[test]
    fn changes_applied_in_order_lead_where_a_fresh_start_does(
        first in some_forwardings(),
        events in vec(any_event(), 0..20),
    ) {
        let mut targets = Targets::new(first.clone());
        targets.limit(12);
        let mut kernel = Kernel::default();
        kernel.apply(&targets.changes(), &targets);
        let mut list = first;
        let mut facts = Vec::new();
        for event in events {
            let changes = match &event {
                Event::Update(forwardings) => {
                    list.clone_from(forwardings);
                    targets.update(forwardings.clone())
                }
                Event::PacketPath(server, path) => targets.path(*server, *path),
                Event::Neighbour(host, mac) => targets.neighbour(DEVICE, *host, *mac),
            };
            kernel.apply(&changes, &targets);
            facts.push(event);

            let mut fresh = Targets::new(list.clone());
            fresh.paths.clone_from(&targets.paths);
            fresh.macs.clone_from(&targets.macs);
            drop(fresh.changes());
            prop_assert_eq!(&kernel.map, &targets.watched);
            let by_shape = |targets: &Targets| -> BTreeMap<WireKey, Option<EndpointSignature>> {
                let signature = |(key, id): (&WireKey, &ServerId)| {
                    (*key, targets.get(*id).filter(|_| !is_gue(key)).map(|target| target.signature))
                };
                targets.watched.iter().map(signature).collect()
            };
            if targets.all().len() == fresh.all().len() {
                prop_assert_eq!(by_shape(&targets), by_shape(&fresh));
            }
            // No two endpoints share a key, and every destination has a signal or a reason for none.
            for (key, id) in targets.watched.iter().filter(|(key, _)| !is_gue(key)) {
                let owners = targets.all().filter(|target| {
                    targets.key(target).as_ref() == Ok(key) || target.signature.answer_key().as_ref() == Some(key)
                });
                prop_assert_eq!(owners.map(|target| target.id).collect::<Vec<_>>(), vec![*id]);
            }
            let silent = targets.without_signal();
            let ids = |found: &mut dyn Iterator<Item = &Target>| found.map(|one| one.id).collect::<Vec<_>>();
            for forwarding in &list {
                let destination = &forwarding.destination;
                let serving = &mut targets.all().filter(|target| target.destinations.contains(destination));
                prop_assert_eq!(ids(&mut targets.of(destination)), ids(serving));
                for protocol in [Protocol::Tcp, Protocol::Udp, Protocol::Sctp] {
                    let of_service = &mut targets.all().filter(|target| {
                        let mut services = target.destinations.iter().map(|one| one.service);
                        target.protocol() == protocol && services.any(|one| one == destination.service)
                    });
                    prop_assert_eq!(ids(&mut targets.of_service(&destination.service, protocol)), ids(of_service));
                }
                let heard = targets.of(destination).any(|target| {
                    targets.watched.iter().any(|(key, id)| *id == target.id && !is_gue(key))
                        && !matches!(target.visibility(), Visibility::CountersOnly(_))
                });
                let reasons = silent.iter().filter(|(one, _)| one == destination).count();
                prop_assert_eq!(reasons, usize::from(!heard), "{}", destination);
            }
        }
    }
}
