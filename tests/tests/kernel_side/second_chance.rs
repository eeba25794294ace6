//! SYNs that are kept for a second chance, and RSTs that are held back.

use lvs_agent::{clock::monotonic_ns, model::SecondChance, passive::KeptSyns};
use lvs_common::{KeptSyn, ServerId, chance};
use lvs_tests::packets::{
    attribution::Direction,
    builder::{ACK, Frame, RST, SYN, tcp},
};

use crate::{
    fixture::{
        Fixture, MAC, MASQUERADED, MASQUERADED6, ROUTED, TUNNELLED, client, client6, far, near, server,
        server6, vip,
    },
    harness::{Harness, OUT, PASS},
};

/// `TC_ACT_SHOT`.
const DROP: u32 = 2;

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
        self.kept.since(0).map(|(_, kept)| kept).collect()
    }

    fn open(&self) -> usize {
        let is_open = |kept: &&KeptSyn| kept.ended_ns == 0 && kept.flags & KeptSyn::ANSWERED == 0;
        self.all().iter().filter(is_open).count()
    }

    fn announce(&mut self) {
        let (place, _) = self.kept.since(0).next().expect("a SYN is kept");
        self.kept.announce(place, monotonic_ns());
    }
}

fn syn() -> Frame {
    tcp(client(), server(), SYN).sequence(100).frame()
}

fn refusal() -> Frame {
    tcp(server(), client(), RST | ACK).acknowledging(101).frame()
}

#[test]
fn syns_are_kept_as_they_left_whatever_the_way() {
    let cases = [
        ("masquerade", MASQUERADED, syn()),
        ("IPv6", MASQUERADED6, tcp(client6(), server6(), SYN).sequence(100).frame()),
        ("direct route", ROUTED, tcp(client(), vip(), SYN).sequence(100).frame().to_mac(MAC)),
        ("tunnel", TUNNELLED, tcp(client(), vip(), SYN).sequence(100).packet().ipip(near(), far()).frame()),
    ];
    for (name, id, frame) in cases {
        let mut bench = Bench::new(chance::KEEP);
        bench.harness.run(OUT, &frame);
        let [kept] = bench.all()[..] else { panic!("{name}: not one SYN: {:?}", bench.all()) };
        assert_eq!((kept.server.0, kept.sequence, kept.length), (id, 100, 20), "{name}");
        assert_eq!(kept.flags & KeptSyn::IPV6 != 0, name == "IPv6", "{name}");
        let header = usize::from(kept.length);
        assert!(frame.bytes.ends_with(&kept.tcp[..header]), "{name}: the header is the client's");
        bench.harness.run(OUT, &frame);
        assert_eq!((bench.all(), bench.harness.counters(id).syn_again), (vec![kept], 1), "{name}: again");
    }
}

#[test]
fn a_handshake_that_goes_on_is_not_open() {
    let ack = tcp(client(), server(), ACK).sequence(101).frame();
    let reset = tcp(client(), server(), RST).sequence(101).frame();
    let accepted = tcp(server(), client(), SYN | ACK).acknowledging(101).frame();
    let foreign = tcp(server(), client(), SYN | ACK).acknowledging(7).frame();
    let cases = [
        ("the SYN alone", None, 1),
        ("the client's ACK", Some((OUT, ack)), 0),
        ("the client's RST", Some((OUT, reset)), 0),
        ("the server's SYN-ACK", Some((Direction::In, accepted)), 0),
        ("an answer to something else", Some((Direction::In, foreign)), 1),
        ("a refusal that is not held back", Some((Direction::In, refusal())), 0),
    ];
    for (name, next, open) in cases {
        let mut bench = Bench::new(chance::KEEP);
        bench.harness.run(OUT, &syn());
        if let Some((direction, frame)) = next {
            bench.harness.run(direction, &frame);
        }
        assert_eq!(bench.open(), open, "{name}");
    }
}

#[test]
fn data_in_a_syn_and_servers_without_second_chance_are_left_alone() {
    let mut bench = Bench::new(chance::KEEP);
    bench.harness.run(OUT, &tcp(client(), server(), SYN).sequence(100).payload(b"GET /").frame());
    assert_eq!(bench.all(), []);
    let mut bench = Bench::new(chance::OFF);
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
    let established = tcp(server(), client(), RST | ACK).sequence(1000).acknowledging(200_000).frame();
    let mut bench = Bench::new(chance::HOLD);
    bench.harness.run(OUT, &syn());
    assert_eq!(bench.harness.verdict(Direction::In, &established), PASS, "no answer to the SYN");

    bench.kept.show_life(monotonic_ns(), 0);
    assert_eq!(bench.harness.verdict(Direction::In, &refusal()), PASS, "no more are allowed");

    let mut bench = Bench::new(chance::HOLD);
    bench.harness.run(OUT, &syn());
    bench.kept.show_life(monotonic_ns().saturating_sub(2_000_000_000), 100);
    assert_eq!(bench.harness.verdict(Direction::In, &refusal()), PASS, "the agent is gone");

    let mut bench = Bench::new(chance::KEEP);
    bench.harness.run(OUT, &syn());
    assert_eq!(bench.harness.verdict(Direction::In, &refusal()), PASS, "the server has no such leave");
}
