//! SYNs that are kept for a second chance, and RSTs that are held back.

use std::{
    collections::HashSet,
    net::{IpAddr, SocketAddr},
};

use lvs_agent::{clock::monotonic_ns, model::SecondChance, passive::KeptSyns};
use lvs_common::{KeptSyn, ServerId, chance};
use lvs_tests::packets::{
    attribution::Direction,
    builder::{ACK, Extension, Frame, RST, SYN, protocol, tcp},
};

use crate::{
    fixture::{
        Fixture, MAC, MASQUERADED, MASQUERADED6, ROUTED, TUNNELLED, client, client6, far, near, server,
        server6, socket, vip,
    },
    harness::{Harness, OUT, PASS},
};

/// `TC_ACT_SHOT`.
const DROP: u32 = 2;

/// What follows a client's SYN.
type Next = Box<dyn Fn(SocketAddr) -> (Direction, Frame)>;

struct Bench {
    harness: Harness,
    kept: KeptSyns,
}

impl Bench {
    fn new(chance: u64) -> Self {
        let mut harness = Harness::with(&Fixture::default(), SecondChance::On);
        let mut kept = harness.kernel.take_kept_syns().unwrap().expect("loaded with second chance");
        for id in [MASQUERADED, MASQUERADED6, ROUTED, TUNNELLED] {
            kept.set_chance(ServerId(id), chance);
        }
        kept.show_life(monotonic_ns(), 2);
        Self { harness, kept }
    }

    fn all(&self) -> Vec<KeptSyn> {
        self.kept.briefs_since(0).filter_map(|(place, _)| self.kept.get(place)).collect()
    }

    /// Those of one client: loading the programs takes a VM seconds, so that the rows of a table share them.
    fn of(&self, client: SocketAddr) -> Vec<KeptSyn> {
        let address = words(client.ip());
        self.all().into_iter().filter(|kept| kept.client == address).collect()
    }

    fn open(&self) -> usize {
        self.all().iter().filter(|kept| is_open(kept)).count()
    }

    fn announce(&mut self) {
        let (place, _) = self.kept.briefs_since(0).next().expect("a SYN is kept");
        self.kept.announce(place, monotonic_ns());
    }
}

fn is_open(kept: &KeptSyn) -> bool {
    kept.ended_ns == 0 && kept.flags & KeptSyn::ANSWERED == 0
}

/// An address as the programs keep it: in the order of the wire, IPv4 mapped.
fn words(address: IpAddr) -> [u32; 4] {
    let bytes = match address {
        IpAddr::V4(address) => address.to_ipv6_mapped().octets(),
        IpAddr::V6(address) => address.octets(),
    };
    bytemuck::cast(bytes)
}

/// A client of its own for each row of a table.
fn client_number(number: usize) -> SocketAddr {
    let host = u8::try_from(number).expect("few rows") + 100;
    SocketAddr::from(([198, 51, 100, host], 40_000))
}

fn syn() -> Frame {
    tcp(client(), server(), SYN).sequence(100).frame()
}

fn refusal() -> Frame {
    tcp(server(), client(), RST | ACK).acknowledging(101).frame()
}

#[test]
fn syns_are_kept_as_they_left_whatever_the_way() {
    let from = [0, 1, 2].map(client_number);
    let direct = tcp(from[1], vip(), SYN).sequence(100).frame().to_mac(MAC);
    let tunnelled = tcp(from[2], vip(), SYN).sequence(100).packet().ipip(near(), far()).frame();
    let extended6 = socket("[2001:db8:7::8]:40000");
    let options = [Extension::Options(protocol::HOP_BY_HOP, 0), Extension::Options(protocol::DESTINATION, 2)];
    let extended = tcp(extended6, server6(), SYN).sequence(100).packet().extensions(&options).frame();
    let cases = [
        ("masquerade", MASQUERADED, from[0], tcp(from[0], server(), SYN).sequence(100).frame()),
        ("IPv6", MASQUERADED6, client6(), tcp(client6(), server6(), SYN).sequence(100).frame()),
        ("IPv6, extension headers", MASQUERADED6, extended6, extended),
        ("direct route", ROUTED, from[1], direct),
        ("tunnel", TUNNELLED, from[2], tunnelled),
    ];
    let mut bench = Bench::new(chance::KEEP);
    for (name, id, from, frame) in cases {
        bench.harness.run(OUT, &frame);
        let [kept] = bench.of(from)[..] else { panic!("{name}: not one SYN: {:?}", bench.all()) };
        assert_eq!((kept.server.0, kept.sequence, kept.length), (id, 100, 20), "{name}");
        assert_eq!(kept.flags & KeptSyn::IPV6 != 0, name.starts_with("IPv6"), "{name}");
        let header = usize::from(kept.length);
        assert!(frame.bytes.ends_with(&kept.tcp[..header]), "{name}: the header is the client's");
        let again = bench.harness.counters(id).syn_again;
        bench.harness.run(OUT, &frame);
        assert_eq!(bench.of(from), [kept], "{name}: again");
        assert_eq!(bench.harness.counters(id).syn_again, again + 1, "{name}: again");
    }
}

#[test]
fn a_handshake_that_goes_on_is_not_open() {
    let says = |flags| move |from| (OUT, tcp(from, server(), flags).sequence(101).frame());
    let hears = |flags, acknowledged| {
        move |from| (Direction::In, tcp(server(), from, flags).acknowledging(acknowledged).frame())
    };
    let cases: [(&str, Option<Next>, usize); 6] = [
        ("the SYN alone", None, 1),
        ("the client's ACK", Some(Box::new(says(ACK))), 0),
        ("the client's RST", Some(Box::new(says(RST))), 0),
        ("the server's SYN-ACK", Some(Box::new(hears(SYN | ACK, 101))), 0),
        ("an answer to something else", Some(Box::new(hears(SYN | ACK, 7))), 1),
        ("a refusal that is not held back", Some(Box::new(hears(RST | ACK, 101))), 0),
    ];
    let mut bench = Bench::new(chance::KEEP);
    for (number, (name, next, open)) in cases.into_iter().enumerate() {
        let from = client_number(number);
        bench.harness.run(OUT, &tcp(from, server(), SYN).sequence(100).frame());
        if let Some(next) = next {
            let (direction, frame) = next(from);
            bench.harness.run(direction, &frame);
        }
        assert_eq!(bench.of(from).iter().filter(|kept| is_open(kept)).count(), open, "{name}");
    }
}

#[test]
fn data_in_a_syn_and_servers_without_second_chance_are_left_alone() {
    let mut bench = Bench::new(chance::KEEP);
    bench.harness.run(OUT, &tcp(client(), server(), SYN).sequence(100).payload(b"GET /").frame());
    assert_eq!(bench.all(), []);
    bench.kept.set_chance(ServerId(MASQUERADED), chance::OFF);
    bench.harness.run(OUT, &syn());
    assert_eq!(bench.all(), []);
}

#[test]
fn a_syn_that_the_agent_has_sent_again_is_no_retransmission() {
    let mut bench = Bench::new(chance::KEEP);
    bench.harness.run(OUT, &syn());
    bench.announce();
    bench.harness.run(OUT, &syn());
    let counters = bench.harness.counters(MASQUERADED);
    assert_eq!((counters.syn, counters.syn_again), (1, 0));
    let [kept] = bench.all()[..] else { panic!("one SYN is kept") };
    assert_eq!(kept.retries, 1);
    bench.harness.run(OUT, &syn());
    assert_eq!(bench.harness.counters(MASQUERADED).syn_again, 1, "the next is the client's own");
}

#[test]
fn a_syn_that_goes_to_another_server_keeps_its_beginning() {
    let mut bench = Bench::new(chance::KEEP);
    bench.harness.run(OUT, &tcp(client(), vip(), SYN).sequence(100).frame().to_mac(MAC));
    let [before] = bench.all()[..] else { panic!("one SYN is kept") };
    bench.announce();
    bench.harness.run(OUT, &syn());
    let [after] = bench.all()[..] else { panic!("one SYN is kept") };
    assert_eq!((after.server.0, after.since_ns, after.retries), (MASQUERADED, before.since_ns, 1));
    assert_eq!(bench.harness.counters(MASQUERADED).syn, 1);
}

/// More clients than places: a younger SYN takes the place of an older one, whose packets say nothing of the younger.
#[test]
fn a_full_table_keeps_the_youngest() {
    const CLIENTS: usize = KeptSyn::PLACES + KeptSyn::PLACES / 4;
    let from = |number: usize| {
        let [_, a, b, c] = u32::try_from(number).expect("few").to_be_bytes();
        SocketAddr::from(([10, 64 + a, b, c], 40_000))
    };
    let mut bench = Bench::new(chance::KEEP);
    for number in 0..CLIENTS {
        bench.harness.run(OUT, &tcp(from(number), server(), SYN).sequence(100).frame());
    }
    let kept: HashSet<[u32; 4]> = bench.all().iter().map(|kept| kept.client).collect();
    // Where n have fallen into m places at random, 1 - exp(-n/m) of the places are taken.
    let expected = KeptSyn::PLACES * 71 / 100;
    assert!((expected - 1000..expected + 1000).contains(&kept.len()), "{}", kept.len());
    assert!(kept.contains(&words(from(CLIENTS - 1).ip())), "the youngest");
    let further = 0..CLIENTS / 8;
    let known = further.clone().filter(|number| kept.contains(&words(from(*number).ip()))).count();
    assert!(known < further.len(), "some of the oldest are gone");
    let open = bench.open();
    for number in further {
        bench.harness.run(OUT, &tcp(from(number), server(), ACK).sequence(101).frame());
    }
    assert_eq!(bench.open(), open - known, "only their own handshakes have gone on");
}

#[test]
fn a_refusal_is_held_back_once_and_counted() {
    let mut bench = Bench::new(chance::HOLD);
    bench.harness.run(OUT, &syn());
    assert_eq!(bench.harness.verdict(Direction::In, &refusal()), DROP);
    assert_eq!((bench.kept.held(), bench.harness.counters(MASQUERADED).refused), (1, 1));
    assert_eq!(bench.open(), 1, "the client knows of nothing");
    // The agent gives up, and sends it itself.
    assert_eq!(bench.harness.verdict(Direction::In, &refusal()), PASS);
    let counters = bench.harness.counters(MASQUERADED);
    assert_eq!((counters.refused, counters.server_reset), (1, 0), "it was counted already");
    assert_eq!(bench.open(), 0);
}

#[test]
fn a_server_that_refuses_again_and_again_is_believed() {
    let mut bench = Bench::new(chance::HOLD);
    bench.kept.show_life(monotonic_ns(), 100);
    bench.harness.run(OUT, &syn());
    for _ in 0..KeptSyn::RETRIES {
        assert_eq!(bench.harness.verdict(Direction::In, &refusal()), DROP);
        bench.announce();
        bench.harness.run(OUT, &syn());
    }
    assert_eq!(bench.harness.verdict(Direction::In, &refusal()), PASS);
}

#[test]
fn refusals_pass_without_leave_without_life_and_on_open_connections() {
    let mut bench = Bench::new(chance::HOLD);
    let answer = |bench: &mut Bench, number, acknowledged, why: &str| {
        let from = client_number(number);
        bench.harness.run(OUT, &tcp(from, server(), SYN).sequence(100).frame());
        let reset = tcp(server(), from, RST | ACK).sequence(1000).acknowledging(acknowledged).frame();
        assert_eq!(bench.harness.verdict(Direction::In, &reset), PASS, "{why}");
    };
    answer(&mut bench, 0, 200_000, "no answer to the SYN");
    bench.kept.show_life(monotonic_ns(), 0);
    answer(&mut bench, 1, 101, "no more are allowed");
    bench.kept.show_life(monotonic_ns().saturating_sub(2_000_000_000), 100);
    answer(&mut bench, 2, 101, "the agent is gone");
    bench.kept.show_life(monotonic_ns(), 100);
    bench.kept.set_chance(ServerId(MASQUERADED), chance::KEEP);
    answer(&mut bench, 3, 101, "the server has no such leave");
}
