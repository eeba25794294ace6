//! What segments say about the listening socket.

use lvs_common::{EdgeKind, PROBE_MARK, ServerCounters};
use lvs_tests::packets::{
    attribution::Direction,
    builder::{ACK, FIN, Frame, RST, SYN, Segment, tcp},
};

use crate::{
    case::{Case, check, times},
    fixture::{
        MAC, MASQUERADED, MASQUERADED6, OTHER_MAC, OTHER_ROUTED, ROUTED, TUNNELLED, client, client6, far,
        near, server, server6, socket, vip,
    },
    harness::{Harness, OUT},
};

type Pass = (Direction, Frame);

fn request(flags: u8) -> Segment {
    tcp(client(), server(), flags)
}

fn answer(flags: u8) -> Segment {
    tcp(server(), client(), flags)
}

/// A handshake with the masqueraded server, piece by piece.
fn syn() -> Pass {
    (OUT, request(SYN).sequence(100).frame())
}

fn syn_ack() -> Pass {
    (Direction::In, answer(SYN | ACK).sequence(900).acknowledging(101).frame())
}

fn ack() -> Pass {
    (OUT, request(ACK).sequence(101).acknowledging(901).frame())
}

fn refusal() -> Pass {
    (Direction::In, answer(RST | ACK).acknowledging(101).frame())
}

fn row(name: &'static str, packets: Vec<Pass>, expected: ServerCounters) -> Case {
    Case::new(name, MASQUERADED, packets, expected)
}

#[test]
fn handshakes() {
    let base = ServerCounters::default();
    let done = ServerCounters { syn: 1, syn_ack: 1, handshakes: 1, handshake: times(1), ..base };
    let half_seen = ServerCounters { syn: 1, handshakes: 1, handshake: times(1), ..base };
    let late = |ahead: u32| (OUT, request(ACK).sequence(100 + ahead).acknowledging(901).frame());
    check(vec![
        row("a SYN waits for its answer", vec![syn()], ServerCounters { syn: 1, ..base }),
        row(
            "the same SYN again is no new one",
            vec![syn(), syn(), syn()],
            ServerCounters { syn: 1, syn_again: 2, ..base },
        ),
        row(
            "a port used again begins anew",
            vec![syn(), (OUT, request(SYN).sequence(5000).frame())],
            ServerCounters { syn: 2, ..base },
        ),
        row("a whole handshake", vec![syn(), syn_ack(), ack()], done),
        row("later ACKs complete nothing", vec![syn(), syn_ack(), ack(), ack(), late(200)], done),
        row(
            "a SYN-ACK again is no other time",
            vec![syn(), syn_ack(), syn_ack(), ack()],
            ServerCounters { syn_ack: 2, ..done },
        ),
        row(
            "a SYN that was sent again tells no time",
            vec![syn(), syn(), syn_ack(), ack()],
            ServerCounters { syn_again: 1, handshake: times(0), ..done },
        ),
        row(
            "an ACK far from the SYN is not its own",
            vec![syn(), late(70_000)],
            ServerCounters { syn: 1, ..base },
        ),
        row("half-seen: the ACK tells the time", vec![syn(), ack()], half_seen),
        row(
            "sequence numbers wrap",
            vec![(OUT, request(SYN).sequence(u32::MAX).frame()), (OUT, request(ACK).sequence(0).frame())],
            half_seen,
        ),
        row(
            "options are stepped over",
            vec![(OUT, request(SYN).sequence(100).packet().ip_options(&[1; 40]).frame()), ack()],
            half_seen,
        ),
        row(
            "TCP Fast Open: the first ACK is ahead by the data in the SYN",
            vec![(OUT, request(SYN).sequence(100).payload(b"GET /").frame()), late(6)],
            half_seen,
        ),
        row(
            "a SYN-ACK nobody asked for is no proof of life",
            vec![(Direction::In, answer(SYN | ACK).acknowledging(101).frame())],
            base,
        ),
        row(
            "a SYN-ACK for another SYN isn't either",
            vec![syn(), (Direction::In, answer(SYN | ACK).acknowledging(100).frame())],
            ServerCounters { syn: 1, ..base },
        ),
        row(
            "nor is one that acknowledges what was never sent",
            vec![syn(), (Direction::In, answer(SYN | ACK).acknowledging(101 + (1 << 16)).frame())],
            ServerCounters { syn: 1, ..base },
        ),
        row("a client that sends SYN-ACK begins nothing", vec![(OUT, request(SYN | ACK).frame())], base),
    ]);
}

#[test]
fn refusals() {
    let base = ServerCounters::default();
    let refused = ServerCounters { syn: 1, refused: 1, ..base };
    check(vec![
        row("a refused SYN", vec![syn(), refusal()], refused).edges(&[EdgeKind::Refused]),
        row(
            "refused twice is one edge, accepted again another",
            vec![syn(), refusal(), syn(), refusal(), syn(), syn_ack()],
            ServerCounters { syn: 3, refused: 2, syn_ack: 1, handshake: times(1), ..base },
        )
        .edges(&[EdgeKind::Refused, EdgeKind::Accepted]),
        row(
            "an RST that acknowledges another SYN refuses nothing",
            vec![syn(), (Direction::In, answer(RST | ACK).acknowledging(100).frame())],
            ServerCounters { syn: 1, server_reset: 1, ..base },
        ),
        row(
            "an RST without a SYN is a reset connection",
            vec![(Direction::In, answer(RST).sequence(900).frame())],
            ServerCounters { server_reset: 1, ..base },
        ),
        row(
            "an RST after the SYN-ACK is a reset, not a refusal",
            vec![syn(), syn_ack(), refusal()],
            ServerCounters { syn: 1, syn_ack: 1, server_reset: 1, handshake: times(1), ..base },
        ),
    ]);
}

#[test]
fn clients_that_leave() {
    let base = ServerCounters::default();
    check(vec![
        row(
            "giving up an open handshake",
            vec![syn(), (OUT, request(RST).sequence(101).frame()), ack()],
            ServerCounters { syn: 1, client_abort: 1, ..base },
        ),
        row(
            "resetting a connection",
            vec![(OUT, request(RST).sequence(101).frame())],
            ServerCounters { client_reset: 1, ..base },
        ),
        row(
            "both sides finish",
            vec![(OUT, request(FIN | ACK).frame()), (Direction::In, answer(FIN | ACK).frame())],
            ServerCounters { client_fin: 1, server_fin: 1, ..base },
        ),
    ]);
}

#[test]
fn probes_are_no_clients() {
    let base = ServerCounters::default();
    let probe = |flags, sequence| (Direction::Out(PROBE_MARK), request(flags).sequence(sequence).frame());
    check(vec![
        row("a whole probe", vec![probe(SYN, 100), syn_ack(), probe(ACK, 101), probe(RST, 101)], base),
        row("a refused one", vec![probe(SYN, 100), refusal()], base),
    ]);
    let mut harness = Harness::new();
    for (direction, frame) in
        [probe(SYN, 100), syn_ack(), probe(ACK, 101), (Direction::In, answer(ACK).frame())]
    {
        harness.run(direction, &frame);
    }
    assert_eq!(harness.state(MASQUERADED).reply_ns, 0, "nor are its answers clients' answers");
}

#[test]
fn other_ways_to_a_server() {
    let base = ServerCounters::default();
    let half_seen = ServerCounters { syn: 1, handshakes: 1, handshake: times(1), ..base };
    let routed = |flags, mac| {
        (OUT, tcp(client(), vip(), flags).sequence(if flags == SYN { 7 } else { 8 }).frame().to_mac(mac))
    };
    let tunnelled = |flags| {
        (
            OUT,
            tcp(client(), vip(), flags)
                .sequence(if flags == SYN { 7 } else { 8 })
                .packet()
                .ipip(near(), far())
                .frame(),
        )
    };
    let six = |flags, sequence| (OUT, tcp(client6(), server6(), flags).sequence(sequence).frame());
    check(vec![
        Case::new("direct route", ROUTED, vec![routed(SYN, MAC), routed(ACK, MAC)], half_seen),
        Case::new(
            "the MAC address tells whose it is",
            OTHER_ROUTED,
            vec![routed(SYN, MAC), routed(SYN, OTHER_MAC), routed(ACK, OTHER_MAC)],
            half_seen,
        ),
        Case::new(
            "the server that got no ACK",
            ROUTED,
            vec![routed(SYN, MAC), routed(SYN, OTHER_MAC), routed(ACK, OTHER_MAC)],
            ServerCounters { syn: 1, ..base },
        ),
        Case::new("tunnel", TUNNELLED, vec![tunnelled(SYN), tunnelled(ACK)], half_seen),
        Case::new("IPv6", MASQUERADED6, vec![six(SYN, 7), six(ACK, 8)], half_seen),
        Case::new(
            "IPv6 refused",
            MASQUERADED6,
            vec![six(SYN, 7), (Direction::In, tcp(server6(), client6(), RST | ACK).acknowledging(8).frame())],
            ServerCounters { syn: 1, refused: 1, ..base },
        )
        .edges(&[EdgeKind::Refused]),
    ]);
}

#[test]
fn waiting_networks_are_remembered_until_there_is_proof_of_life() {
    let mut harness = Harness::new();
    for from in ["198.51.100.1:1000", "198.51.100.2:1000", "198.51.100.2:1001", "203.0.113.1:1000"] {
        harness.run(OUT, &tcp(socket(from), server(), SYN).sequence(1).frame());
    }
    let waiting = harness.state(MASQUERADED).listener;
    assert_eq!((waiting.attempts, waiting.waiting, waiting.progress_ns), (4, 2, 0));
    assert_eq!(waiting.networks.count(), 2, "two /24 networks");
    let [first, second] = waiting.beginnings() else { panic!("two beginnings: {waiting:?}") };
    assert!(0 < *first && first < second && *second == waiting.last_ns);

    harness
        .run(Direction::In, &tcp(server(), socket("203.0.113.1:1000"), SYN | ACK).acknowledging(2).frame());
    let after = harness.state(MASQUERADED);
    assert_eq!((after.listener.attempts, after.listener.waiting, after.listener.networks.count()), (0, 0, 0));
    assert!(after.listener.progress_ns > waiting.last_ns);
    assert!(after.reply_ns > 0);
}

#[test]
fn a_forged_syn_ack_is_no_sign_of_life() {
    let mut harness = Harness::new();
    harness.run(OUT, &tcp(socket("203.0.113.1:1000"), server(), SYN).sequence(1).frame());
    let before = harness.state(MASQUERADED);
    for (client, acknowledged) in
        [("203.0.113.1:1000", 1), ("203.0.113.1:1000", 0x2_0000), ("203.0.113.1:1001", 2)]
    {
        let forged = tcp(server(), socket(client), SYN | ACK).acknowledging(acknowledged);
        harness.run(Direction::In, &forged.frame());
        assert_eq!(harness.state(MASQUERADED), before, "{client} {acknowledged}");
    }
}

#[test]
fn more_networks_than_are_remembered_are_only_in_the_sketch() {
    let mut harness = Harness::new();
    for network in 0..200 {
        let from = socket(&format!("198.51.{network}.1:1000"));
        harness.run(OUT, &tcp(from, server(), SYN).sequence(1).frame());
    }
    let waiting = harness.state(MASQUERADED).listener;
    assert_eq!((waiting.attempts, waiting.waiting), (200, 16));
    assert!(waiting.networks.count() > 128);
}
