//! Packets that nobody would send, against a plain model of whose packet is whose: the same server or the same doubt for
//! every one of them, and no other server's counter moves.

mod generator;

use std::{array, collections::HashMap};

use lvs_common::Doubts;
use lvs_tests::packets::{
    attribution::{Doubt, Verdict, Way},
    builder::Frame,
};

use self::generator::Generator;
use crate::{
    bench::Bench,
    world::{SERVERS, World},
};

/// Sequences, each with a seed of its own, and packets in each.
const SEQUENCES: u64 = 100;
const PACKETS: usize = 1200;

/// What has been counted: packets out, packets in and messages by server, and doubts.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Tally {
    servers: [[u64; 3]; SERVERS as usize],
    doubts: HashMap<Doubt, u64>,
}

impl Tally {
    fn of(bench: &Bench) -> Self {
        let servers = array::from_fn(|id| {
            let counters = bench.counters(u32::try_from(id).unwrap());
            [counters.packets_in, counters.packets_out, counters.unreachable]
        });
        Self { servers, doubts: doubts(&bench.doubts()) }
    }

    /// Counts one packet.
    fn add(&mut self, way: Way, verdict: Verdict) {
        match (verdict, way) {
            (Verdict::Server(id), Way::Out(_)) => self.servers[id as usize][0] += 1,
            (Verdict::Server(id), Way::In) => self.servers[id as usize][1] += 1,
            (Verdict::Unreachable(id), _) => self.servers[id as usize][2] += 1,
            (Verdict::Doubt(doubt), _) => *self.doubts.entry(doubt).or_default() += 1,
        }
    }
}

fn doubts(counted: &Doubts) -> HashMap<Doubt, u64> {
    [
        (Doubt::OtherProtocol, counted.other_protocol),
        (Doubt::NoServer, counted.no_server),
        (Doubt::UnknownTunnel, counted.unknown_tunnel),
        (Doubt::Fragment, counted.fragment),
        (Doubt::Malformed, counted.malformed),
        (Doubt::Vlan, counted.vlan),
        (Doubt::Extensions, counted.extensions),
    ]
    .into_iter()
    .filter(|(_, count)| *count > 0)
    .collect()
}

#[test]
fn hostile_packets_count_as_the_model_says() {
    let world = World::default();
    let model = world.model();
    let mut bench = Bench::of(&world);
    let mut seen: HashMap<Verdict, u64> = HashMap::new();
    for seed in 0..SEQUENCES {
        // Messages about probes are no signals, so that half of the sequences have none.
        let probes = seed % 2 == 1;
        let mut generator = Generator::new(seed, probes);
        bench.clear();
        let mut expected = Tally::of(&bench);
        for number in 0..PACKETS {
            let (way, frame) = generator.packet();
            let verdict = model.verdict(way, &frame.bytes);
            *seen.entry(verdict).or_default() += 1;
            bench.run(way, &frame);
            let before = expected.clone();
            expected.add(way, verdict);
            let counted = Tally::of(&bench);
            if counted == before && probes && matches!(verdict, Verdict::Unreachable(_)) {
                expected = before;
            }
            assert_eq!(counted, expected, "{}", Story { seed, number, way, frame: &frame, verdict });
        }
    }
    check_coverage(&seen);
}

/// Where it went wrong.
struct Story<'a> {
    seed: u64,
    number: usize,
    way: Way,
    frame: &'a Frame,
    verdict: Verdict,
}

impl std::fmt::Display for Story<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { seed, number, way, frame, verdict } = self;
        write!(f, "seed {seed}, packet {number}, {way:?}, {verdict:?}: {:02x?}", frame.bytes)
    }
}

/// A generator that makes nothing of a kind would test nothing of it.
fn check_coverage(seen: &HashMap<Verdict, u64>) {
    let servers = seen.keys().filter(|verdict| matches!(verdict, Verdict::Server(_))).count();
    assert!(servers >= 25, "packets for {servers} servers only");
    for doubt in [
        Doubt::OtherProtocol,
        Doubt::NoServer,
        Doubt::UnknownTunnel,
        Doubt::Fragment,
        Doubt::Malformed,
        Doubt::Vlan,
        Doubt::Extensions,
    ] {
        assert!(seen.get(&Verdict::Doubt(doubt)).is_some_and(|&count| count > 100), "{doubt:?}: {seen:?}");
    }
    let messages = seen.iter().filter(|(verdict, _)| matches!(verdict, Verdict::Unreachable(_)));
    assert!(messages.map(|(_, count)| count).sum::<u64>() > 100, "messages about servers: {seen:?}");
}
