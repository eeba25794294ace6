//! Messages that call a server or its port unreachable.

use lvs_common::{EdgeKind, PROBE_MARK, ServerCounters};
use lvs_tests::packets::{
    attribution::Direction,
    builder::{ACK, Frame, Gre, Packet, SYN, icmp, tcp, udp},
};

use crate::{
    case::{Case, check},
    fixture::{
        MASQUERADED, MASQUERADED_MARK, MASQUERADED_UDP, MASQUERADED6, TUNNELLED, TUNNELLED_6_IN_6, address,
        client, client6, far, far6, near, near6, server, server6, socket, vip, vip6,
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

#[test]
fn messages_about_servers() {
    let one = ServerCounters { unreachable: 1, ..ServerCounters::default() };
    let none = ServerCounters::default();
    let syn = tcp(client(), server(), SYN).packet();
    let syn6 = tcp(client6(), server6(), SYN).packet();
    let query = udp(client(), socket("10.0.0.1:53"), b"?");
    let marked = tcp(client(), socket("10.0.0.3:4711"), SYN).packet();
    let tunnel = tcp(client(), vip(), SYN).packet().ipip(near(), far());
    let gre = tcp(client(), vip(), SYN).packet().gre(near(), far(), Gre::default());
    let tunnel6 = tcp(client6(), vip6(), SYN).packet().ipip(near6(), far6());
    let row = |name, id, frame, expected| {
        let case = Case::new(name, id, vec![(Direction::In, frame)], expected);
        if expected == one { case.edges(&[EdgeKind::Unreachable]) } else { case }
    };
    check(vec![
        row("port, whole packet", MASQUERADED, about(&syn, 3, 3, 100), one),
        row("host, eight bytes of TCP", MASQUERADED, about(&syn, 3, 1, 28), one),
        row("network", MASQUERADED, about(&syn, 3, 0, 28), one),
        row("prohibited", MASQUERADED, about(&syn, 3, 13, 28), one),
        row("too big", MASQUERADED, about(&syn, 3, 4, 28), none),
        row("time exceeded", MASQUERADED, about(&syn, 11, 0, 28), none),
        row("an echo", MASQUERADED, about(&syn, 8, 0, 28), none),
        row("without ports", MASQUERADED, about(&syn, 3, 3, 20), none),
        row("UDP", MASQUERADED_UDP, about(&query, 3, 3, 28), one),
        row("a server of a mark", MASQUERADED_MARK, about(&marked, 3, 1, 28), one),
        row("IPv6: port", MASQUERADED6, about(&syn6, 1, 4, 100), one),
        row("IPv6: address", MASQUERADED6, about(&syn6, 1, 3, 48), one),
        row("IPv6: too big", MASQUERADED6, about(&syn6, 2, 0, 48), none),
        row("a tunnel's end", TUNNELLED, about(&tunnel, 3, 1, 100), one),
        row("GRE's end", TUNNELLED, about(&gre, 3, 1, 100), one),
        row("a tunnel's end, without inner ports", TUNNELLED, about(&tunnel, 3, 1, 28), none),
        row("a tunnel's end, IPv6", TUNNELLED_6_IN_6, about(&tunnel6, 1, 3, 200), one),
        row(
            "about a packet from a server",
            MASQUERADED,
            about(&tcp(server(), client(), ACK).packet(), 3, 1, 28),
            none,
        ),
    ]);
}

#[test]
fn the_first_since_a_proof_of_life_is_an_edge() {
    let mut harness = Harness::new();
    let message = about(&tcp(client(), server(), SYN).packet(), 3, 1, 28);
    harness.run(Direction::In, &message);
    harness.run(Direction::In, &message);
    let state = harness.state(MASQUERADED);
    assert_eq!(state.unreachables, 2);
    assert!(state.unreachable_last_ns > 0);
    assert_eq!(harness.edges(), [(MASQUERADED, EdgeKind::Unreachable)]);
    harness.run(Direction::In, &tcp(server(), client(), ACK).frame());
    assert_eq!(harness.state(MASQUERADED).unreachables, 0);
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
    harness.run(OUT, &tcp(client(), server(), SYN).frame());
}
