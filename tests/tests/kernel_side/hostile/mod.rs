//! Packets that no host would send, against a plain model of attribution: the same server, or the same reason for none,
//! for every one of them, and no other server's counter moves.

mod generator;

use std::{array, collections::HashMap};

use lvs_common::UnattributedCounters;
use lvs_tests::packets::{
    attribution::{Direction, Unattributed, Verdict},
    builder::Frame,
};

use self::generator::Generator;
use crate::{
    fixture::{Fixture, SERVERS},
    harness::Harness,
};

/// Sequences, each with a seed of its own, and packets in each.
const SEQUENCES: u64 = 100;
const PACKETS: usize = 1200;

/// What has been counted: packets out, packets in and messages by server, and packets without a server.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Tally {
    servers: [[u64; 3]; SERVERS as usize],
    unattributed: HashMap<Unattributed, u64>,
}

impl Tally {
    fn of(harness: &Harness) -> Self {
        let servers = array::from_fn(|id| {
            let counters = harness.counters(u32::try_from(id).unwrap());
            let messages = counters.unreachable + counters.unreachable_doubted;
            [counters.packets_in, counters.packets_out, messages]
        });
        Self { servers, unattributed: unattributed(&harness.unattributed()) }
    }

    /// Counts one packet.
    fn add(&mut self, direction: Direction, verdict: Verdict) {
        match (verdict, direction) {
            (Verdict::Server(id), Direction::Out(_)) => self.servers[id as usize][0] += 1,
            (Verdict::Server(id), Direction::In) => self.servers[id as usize][1] += 1,
            (Verdict::Unreachable(id), _) => self.servers[id as usize][2] += 1,
            (Verdict::Unattributed(reason), _) => *self.unattributed.entry(reason).or_default() += 1,
        }
    }
}

fn unattributed(counted: &UnattributedCounters) -> HashMap<Unattributed, u64> {
    [
        (Unattributed::OtherProtocol, counted.other_protocol),
        (Unattributed::NoServer, counted.no_server),
        (Unattributed::UnknownTunnel, counted.unknown_tunnel),
        (Unattributed::Fragment, counted.fragment),
        (Unattributed::Malformed, counted.malformed),
        (Unattributed::Vlan, counted.vlan),
        (Unattributed::Extensions, counted.extensions),
    ]
    .into_iter()
    .filter(|(_, count)| *count > 0)
    .collect()
}

#[test]
fn hostile_packets_count_as_the_model_says() {
    let fixture = Fixture::default();
    let model = fixture.model();
    let mut harness = Harness::of(&fixture);
    let mut seen: HashMap<Verdict, u64> = HashMap::new();
    for seed in 0..SEQUENCES {
        // Messages about probes are no signals, so that half of the sequences have none.
        let probes = seed % 2 == 1;
        let mut generator = Generator::new(seed, probes);
        harness.clear();
        let mut expected = Tally::of(&harness);
        for number in 0..PACKETS {
            let (direction, frame) = generator.packet();
            let verdict = model.verdict(direction, &frame.bytes);
            *seen.entry(verdict).or_default() += 1;
            harness.run(direction, &frame);
            let before = expected.clone();
            expected.add(direction, verdict);
            let counted = Tally::of(&harness);
            if counted == before && probes && matches!(verdict, Verdict::Unreachable(_)) {
                expected = before;
            }
            assert_eq!(
                counted,
                expected,
                "{}",
                FailedPacket { seed, number, direction, frame: &frame, verdict }
            );
        }
    }
    check_coverage(&seen);
}

/// Where it went wrong.
struct FailedPacket<'a> {
    seed: u64,
    number: usize,
    direction: Direction,
    frame: &'a Frame,
    verdict: Verdict,
}

impl std::fmt::Display for FailedPacket<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { seed, number, direction, frame, verdict } = self;
        write!(f, "seed {seed}, packet {number}, {direction:?}, {verdict:?}: {:02x?}", frame.bytes)
    }
}

/// A generator that makes nothing of a kind would test nothing of it.
fn check_coverage(seen: &HashMap<Verdict, u64>) {
    let servers = seen.keys().filter(|verdict| matches!(verdict, Verdict::Server(_))).count();
    assert!(servers >= 25, "packets for {servers} servers only");
    for reason in [
        Unattributed::OtherProtocol,
        Unattributed::NoServer,
        Unattributed::UnknownTunnel,
        Unattributed::Fragment,
        Unattributed::Malformed,
        Unattributed::Vlan,
        Unattributed::Extensions,
    ] {
        assert!(
            seen.get(&Verdict::Unattributed(reason)).is_some_and(|&count| count > 100),
            "{reason:?}: {seen:?}"
        );
    }
    let messages = seen.iter().filter(|(verdict, _)| matches!(verdict, Verdict::Unreachable(_)));
    assert!(messages.map(|(_, count)| count).sum::<u64>() > 100, "messages about servers: {seen:?}");
}
