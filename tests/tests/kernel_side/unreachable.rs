//! Messages that call a server or its port unreachable, and which of them are believed.

use lvs_common::{EdgeKind, PROBE_MARK, ServerCounters};
use lvs_tests::packets::{
    attribution::Direction,
    builder::{ACK, Frame, Gre, Packet, SYN, icmp, tcp, udp},
};

use crate::{
    case::{Case, check},
    fixture::{
        MARK, MASQUERADED, MASQUERADED_MARK, MASQUERADED_UDP, MASQUERADED6, TUNNELLED, TUNNELLED_6_IN_6,
        TUNNELLED_UDP, address, client, client6, far, far6, near, near6, server, server6, socket, vip, vip6,
    },
    harness::{Harness, OUT},
};

/// A message from a router about a packet, of which it quotes so many bytes.
fn about(packet: &Packet, kind: u8, code: u8, bytes: usize) -> Frame {
    let six = packet.bytes()[0] >> 4 == 6;
    let (from, to) = if six { ("fd00::ffff", "2001:db8:7::7") } else { ("10.0.0.254", "198.51.100.7") };
    let quoted = &packet.bytes()[..bytes.min(packet.bytes().len())];
    icmp(address(from), address(to), kind, code, quoted).frame()
}

/// A row: packets out of the director, the message, and whether it is believed.
fn row(name: &'static str, id: u32, sent: Vec<(Direction, Frame)>, message: Frame, is: Belief) -> Case {
    let syn = u64::from(!matches!(id, MASQUERADED_UDP | TUNNELLED_UDP) && !sent.is_empty());
    let mut expected = ServerCounters { syn, ..ServerCounters::default() };
    match is {
        Belief::Believed => expected.unreachable = 1,
        Belief::Doubted => expected.unreachable_doubted = 1,
        Belief::Ignored => {}
    }
    let packets = sent.into_iter().chain([(Direction::In, message)]).collect();
    let case = Case::new(name, id, packets, expected);
    if is == Belief::Believed { case.edges(&[EdgeKind::Unreachable]) } else { case }
}

/// What becomes of a message.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Belief {
    Believed,
    Doubted,
    Ignored,
}

#[test]
fn messages_about_servers() {
    use Belief::{Believed, Ignored};
    let syn = tcp(client(), server(), SYN).packet();
    let syn6 = tcp(client6(), server6(), SYN).packet();
    let query = udp(client(), socket("10.0.0.1:53"), b"?");
    let marked = tcp(client(), socket("10.0.0.3:4711"), SYN).packet();
    let tunnel = tcp(client(), vip(), SYN).packet().ipip(near(), far());
    let gre = tcp(client(), vip(), SYN).packet().gre(near(), far(), Gre::default());
    let tunnel6 = tcp(client6(), vip6(), SYN).packet().ipip(near6(), far6());
    let with = |name, id, packet: &Packet, (kind, code, bytes), is| {
        let mark = if id == MASQUERADED_MARK { Direction::Out(MARK) } else { OUT };
        row(name, id, vec![(mark, packet.frame())], about(packet, kind, code, bytes), is)
    };
    check(vec![
        with("port, whole packet", MASQUERADED, &syn, (3, 3, 100), Believed),
        with("host, eight bytes of TCP", MASQUERADED, &syn, (3, 1, 28), Believed),
        with("network", MASQUERADED, &syn, (3, 0, 28), Believed),
        with("prohibited", MASQUERADED, &syn, (3, 13, 28), Believed),
        with("too big", MASQUERADED, &syn, (3, 4, 28), Ignored),
        with("time exceeded", MASQUERADED, &syn, (11, 0, 28), Ignored),
        with("an echo", MASQUERADED, &syn, (8, 0, 28), Ignored),
        with("without ports", MASQUERADED, &syn, (3, 3, 20), Ignored),
        with("UDP", MASQUERADED_UDP, &query, (3, 3, 28), Believed),
        with("a server of a mark", MASQUERADED_MARK, &marked, (3, 1, 28), Believed),
        with("IPv6: port", MASQUERADED6, &syn6, (1, 4, 100), Believed),
        with("IPv6: address", MASQUERADED6, &syn6, (1, 3, 48), Believed),
        with("IPv6: too big", MASQUERADED6, &syn6, (2, 0, 48), Ignored),
        with("a tunnel's end", TUNNELLED, &tunnel, (3, 1, 100), Believed),
        with("GRE's end", TUNNELLED, &gre, (3, 1, 100), Believed),
        with("a tunnel's end, without inner ports", TUNNELLED, &tunnel, (3, 1, 28), Ignored),
        with("a tunnel's end, IPv6", TUNNELLED_6_IN_6, &tunnel6, (1, 3, 200), Believed),
        row(
            "about a packet from a server",
            MASQUERADED,
            vec![(OUT, syn.frame())],
            about(&tcp(server(), client(), ACK).packet(), 3, 1, 28),
            Ignored,
        ),
    ]);
}

/// Whoever forges a message has not seen what it quotes.
#[test]
fn a_message_that_quotes_nothing_that_is_open_is_doubted() {
    use Belief::Doubted;
    let segment = |sequence| tcp(client(), server(), SYN).sequence(sequence).packet();
    let syn = segment(1000);
    let other_port = socket("198.51.100.7:40001");
    let query = udp(client(), socket("10.0.0.1:53"), b"?");
    let tunnelled = udp(client(), socket("192.0.2.80:53"), b"?").ipip(near(), far());
    let after = |packet: &Packet| vec![(OUT, packet.frame())];
    let whole = 100;
    check(vec![
        row("nothing was sent", MASQUERADED, vec![], about(&syn, 3, 1, whole), Doubted),
        row("the next number", MASQUERADED, after(&syn), about(&segment(1001), 3, 1, whole), Doubted),
        row("the number before", MASQUERADED, after(&syn), about(&segment(999), 3, 1, whole), Doubted),
        row("without a number", MASQUERADED, after(&syn), about(&syn, 3, 1, 24), Doubted),
        row(
            "another port",
            MASQUERADED,
            after(&syn),
            about(&tcp(other_port, server(), SYN).sequence(1000).packet(), 3, 1, whole),
            Doubted,
        ),
        row("no datagram was sent", MASQUERADED_UDP, vec![], about(&query, 3, 3, whole), Doubted),
        row(
            "another client's port",
            MASQUERADED_UDP,
            after(&query),
            about(&udp(other_port, socket("10.0.0.1:53"), b"?"), 3, 3, whole),
            Doubted,
        ),
        row("one-way UDP", TUNNELLED_UDP, after(&tunnelled), about(&tunnelled, 3, 1, whole), Doubted),
    ]);
}

/// Counts of believed and doubted messages.
fn messages(harness: &Harness) -> (u64, u64) {
    let counters = harness.counters(MASQUERADED);
    (counters.unreachable, counters.unreachable_doubted)
}

#[test]
fn each_syn_is_believed_once_and_none_after_its_answer() {
    let mut harness = Harness::new();
    let syn = tcp(client(), server(), SYN).sequence(1000);
    let message = about(&syn.packet(), 3, 1, 28);
    harness.run(OUT, &syn.frame());
    harness.run(Direction::In, &message);
    harness.run(Direction::In, &message);
    assert_eq!(messages(&harness), (1, 1));
    // Sent again, it may be reported again.
    harness.run(OUT, &syn.frame());
    harness.run(Direction::In, &message);
    assert_eq!(messages(&harness), (2, 1));
    harness.run(OUT, &syn.frame());
    harness.run(Direction::In, &tcp(server(), client(), SYN | ACK).acknowledging(1001).frame());
    harness.run(Direction::In, &message);
    assert_eq!(messages(&harness), (2, 2));
}

#[test]
fn an_established_flow_is_believed_as_far_as_its_numbers_go_and_once_for_each_packet() {
    let mut harness = Harness::new();
    let data =
        |sequence| tcp(client(), server(), ACK).sequence(sequence).acknowledging(1).payload(b"0123456789");
    let quoting = |sequence| about(&data(sequence).packet(), 3, 1, 28);
    // It wraps.
    let end = 5_u32;
    let begin = end.wrapping_sub(10);
    harness.run(OUT, &data(begin).frame());
    for wrong in [end + 1, end.wrapping_sub((1 << 16) + 1), end.wrapping_add(1 << 31)] {
        harness.run(Direction::In, &quoting(wrong));
    }
    assert_eq!(messages(&harness), (0, 3));
    harness.run(Direction::In, &quoting(begin));
    harness.run(Direction::In, &quoting(begin));
    assert_eq!(messages(&harness), (1, 4));
    // The clock of flows is coarse: until it has moved on the client's next packet counts as the same.
    let mut waited = 0;
    while messages(&harness).0 == 1 {
        harness.run(OUT, &data(begin).frame());
        harness.run(Direction::In, &quoting(begin));
        waited += 1;
        assert!(waited < 100_000, "no further packet is believed");
    }
    // What is quoted of another flow in the same words is none of it.
    let other = tcp(socket("198.51.100.7:40001"), server(), ACK).sequence(begin).packet();
    let before = messages(&harness);
    harness.run(Direction::In, &about(&other, 3, 1, 28));
    assert_eq!(messages(&harness), (before.0, before.1 + 1));
}

#[test]
fn a_datagram_sent_again_may_be_reported_again() {
    let mut harness = Harness::new();
    let query = udp(client(), socket("10.0.0.1:53"), b"?");
    let message = about(&query, 3, 3, 28);
    for expected in [(1, 1), (2, 2)] {
        harness.run(OUT, &query.frame());
        harness.run(Direction::In, &message);
        harness.run(Direction::In, &message);
        let counters = harness.counters(MASQUERADED_UDP);
        assert_eq!((counters.unreachable, counters.unreachable_doubted), expected);
    }
    harness.run(Direction::In, &udp(socket("10.0.0.1:53"), client(), b"!").frame());
    harness.run(Direction::In, &message);
    assert_eq!(harness.counters(MASQUERADED_UDP).unreachable, 2, "it was answered");
}

#[test]
fn the_first_since_a_proof_of_life_is_an_edge() {
    let mut harness = Harness::new();
    let syn = tcp(client(), server(), SYN);
    let message = about(&syn.packet(), 3, 1, 28);
    for _ in 0..2 {
        harness.run(OUT, &syn.frame());
        harness.run(Direction::In, &message);
    }
    let state = harness.state(MASQUERADED);
    assert_eq!(state.unreachables, 2);
    assert!(state.unreachable_last_ns > 0);
    assert_eq!(harness.edges(), [(MASQUERADED, EdgeKind::Unreachable)]);
    harness.run(Direction::In, &tcp(server(), client(), ACK).frame());
    assert_eq!(harness.state(MASQUERADED).unreachables, 0);
    harness.run(OUT, &syn.frame());
    harness.run(Direction::In, &message);
    assert_eq!(harness.edges(), [(MASQUERADED, EdgeKind::Unreachable)]);
}

#[test]
fn a_message_about_a_probe_is_no_signal() {
    let mut harness = Harness::new();
    for packet in [tcp(client(), server(), SYN).packet(), udp(client(), socket("10.0.0.1:53"), b"?")] {
        harness.run(Direction::Out(PROBE_MARK), &packet.frame());
        harness.run(Direction::In, &about(&packet, 3, 3, 28));
    }
    assert_eq!(harness.counters(MASQUERADED).unreachable + harness.counters(MASQUERADED_UDP).unreachable, 0);
    assert_eq!(harness.edges(), []);
    assert_eq!(harness.counters(MASQUERADED).unreachable_doubted, 0);
}
