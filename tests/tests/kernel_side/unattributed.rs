//! Packets that count for no server, and the reason that is counted.
use std::net::SocketAddr;

use lvs_agent::passive::WireKey;
use lvs_common::{ServerCounters, ServerId, Shortcut, UnattributedCounters};
use lvs_tests::packets::{
    attribution::{Direction, Signature},
    builder::{self, ACK, Extension, Gue, SYN, protocol, tcp, udp},
};

use crate::{
    fixture::{
        GUE_PORT, MASQUERADED, MASQUERADED6, SERVERS, client, client6, far, key, near, server, server6,
        socket, vip,
    },
    harness::{Harness, OUT},
};

#[test]
fn packets_that_are_not_understood_pass_and_are_counted() {
    let none = UnattributedCounters::default();
    let (malformed, fragment) =
        (UnattributedCounters { malformed: 1, ..none }, UnattributedCounters { fragment: 1, ..none });
    let (other, nobody) =
        (UnattributedCounters { other_protocol: 1, ..none }, UnattributedCounters { no_server: 1, ..none });
    let (vlan, unknown) =
        (UnattributedCounters { vlan: 1, ..none }, UnattributedCounters { unknown_tunnel: 1, ..none });
    let syn = || tcp(client(), server(), SYN).frame();
    let syn6 = || tcp(client6(), server6(), SYN).packet();
    let tunnel = |to| tcp(client(), socket(to), SYN).packet().ipip(near(), far()).frame();
    let gue = udp((near(), 1).into(), (far(), GUE_PORT).into(), b"");
    let control =
        tcp(client(), vip(), SYN).packet().gue((near(), 1).into(), (far(), GUE_PORT).into(), Gue::Control);
    let seven = [Extension::Options(protocol::DESTINATION, 0); 7];
    let cases = [
        ("nobody's server", tcp(client(), socket("10.9.9.9:80"), SYN).frame(), nobody),
        (
            "nobody's is not looked into",
            tcp(client(), socket("10.9.9.9:80"), SYN).frame().changed(builder::TCP_OFFSET, &[0]),
            nobody,
        ),
        ("ARP", syn().changed(12, &[0x08, 0x06]), other),
        ("an IPv4 header called IPv6", syn().changed(12, &[0x86, 0xdd]), malformed),
        ("OSPF", syn().changed(builder::IPV4_PROTOCOL, &[89]), other),
        ("three VLAN tags", syn().vlan_tags(3), vlan),
        ("a VLAN tag cut off", syn().vlan_tags(2).cut(20), malformed),
        ("a later fragment", syn().changed(builder::IPV4_FRAGMENT, &[0, 1]), fragment),
        ("IP version 5", syn().changed(builder::IPV4_VERSION_AND_LENGTH, &[0x55]), malformed),
        ("an IP header of 16 bytes", syn().changed(builder::IPV4_VERSION_AND_LENGTH, &[0x44]), malformed),
        ("an IP header past the end", syn().changed(builder::IPV4_VERSION_AND_LENGTH, &[0x4f]), malformed),
        ("a TCP header of 16 bytes", syn().changed(builder::TCP_OFFSET, &[0x40]), malformed),
        ("a TCP header past the end", syn().changed(builder::TCP_OFFSET, &[0xf0]), malformed),
        ("a length below the headers", syn().changed(builder::IPV4_TOTAL_LENGTH, &[0, 39]), malformed),
        ("a length beyond the frame", syn().changed(builder::IPV4_TOTAL_LENGTH, &[0, 41]), malformed),
        ("a length of zero", syn().changed(builder::IPV4_TOTAL_LENGTH, &[0, 0]), malformed),
        (
            "IPv6: a length beyond the frame",
            syn6().frame().changed(builder::IPV6_PAYLOAD_LENGTH, &[0, 21]),
            malformed,
        ),
        ("IPv6: a length of zero", syn6().frame().changed(builder::IPV6_PAYLOAD_LENGTH, &[0, 0]), malformed),
        (
            "seven extension headers",
            syn6().extensions(&seven).frame(),
            UnattributedCounters { extensions: 1, ..none },
        ),
        ("IPv6: a later fragment", syn6().extensions(&[Extension::Fragment(9)]).frame(), fragment),
        ("a tunnel for no service", tunnel("192.0.2.99:80"), unknown),
        ("a tunnel with OSPF in it", tunnel("192.0.2.80:80").changed(14 + 20 + 9, &[89]), unknown),
        ("a tunnel with a broken packet in it", tunnel("192.0.2.80:80").changed(14 + 20, &[0x44]), malformed),
        ("an empty tunnel", gue.frame(), malformed),
        ("a message to the tunnel itself", control.frame(), unknown),
        ("not in the tunnel", tcp(client(), socket("10.0.1.1:80"), SYN).frame(), nobody),
    ];
    let mut harness = Harness::new();
    for (name, frame, expected) in cases {
        harness.clear();
        harness.run(OUT, &frame);
        assert_eq!(harness.unattributed(), expected, "{name}");
        for id in 0..SERVERS {
            assert_eq!(harness.counters(id), ServerCounters::default(), "{name}");
        }
    }
}

#[test]
fn a_first_fragment_still_has_its_ports() {
    let mut harness = Harness::new();
    // "More fragments" set, offset 0.
    harness.run(OUT, &tcp(client(), server(), SYN).frame().changed(builder::IPV4_FRAGMENT, &[0x20, 0]));
    assert_eq!(harness.counters(MASQUERADED).syn, 1);
    harness.run(OUT, &tcp(client6(), server6(), SYN).packet().extensions(&[Extension::Fragment(0)]).frame());
    assert_eq!(harness.counters(MASQUERADED6).syn, 1);
}

#[test]
fn a_frame_cut_at_any_length_is_let_pass() {
    let mut harness = Harness::new();
    let whole = tcp(client(), server(), SYN).payload(b"hello").packet().ip_options(&[1; 8]).frame();
    // The kernel's test run takes no shorter frame that calls itself IPv4.
    let shortest = builder::ETHERNET + 20;
    for length in shortest..whole.bytes.len() {
        harness.run(OUT, &whole.clone().cut(length));
        harness.run(Direction::In, &whole.clone().cut(length));
    }
    assert_eq!(harness.counters(MASQUERADED), ServerCounters::default());
    assert_eq!(harness.unattributed().malformed, 2 * (whole.bytes.len() - shortest) as u64);
}

#[test]
fn a_server_that_is_no_longer_watched_counts_nothing() {
    let mut harness = Harness::new();
    let key = key(Signature::Address(server().ip(), 80), protocol::TCP);
    harness.kernel.unwatch(&key).unwrap();
    harness.kernel.unwatch(&key).expect("twice is fine");
    harness.run(OUT, &tcp(client(), server(), SYN).frame());
    assert_eq!(harness.counters(MASQUERADED), ServerCounters::default());
    assert_eq!(harness.unattributed().no_server, 1);
}

/// Of two whose keys share a slot among the shortcuts, whichever comes and goes.
#[test]
fn servers_that_share_a_shortcut_slot_are_kept_apart() {
    let socket = |port: u16| SocketAddr::new(server().ip(), port);
    let key = |port| key(Signature::Address(server().ip(), port), protocol::TCP);
    let place = |port| {
        let WireKey::V4(key) = key(port) else { panic!("IPv4") };
        Shortcut::place(Shortcut::words(&key).expect("plain TCP has a place"))
    };
    let (first, taken) = (1000, place(1000));
    let second = (1001..u16::MAX).find(|port| place(*port) == taken).expect("one in 4,096");
    let mut harness = Harness::new();
    let ids = [ServerId(SERVERS - 2), ServerId(SERVERS - 1)];
    let counted = |harness: &mut Harness| {
        for port in [first, second] {
            harness.run(OUT, &tcp(client(), socket(port), ACK).frame());
        }
        ids.map(|id| harness.counters(id.0).packets_in)
    };
    harness.kernel.watch(&key(first), ids[0]).unwrap();
    harness.kernel.watch(&key(second), ids[1]).unwrap();
    assert_eq!(counted(&mut harness), [1, 1]);
    harness.kernel.unwatch(&key(first)).unwrap();
    assert_eq!(counted(&mut harness), [1, 2]);
    harness.kernel.watch(&key(second), ids[0]).unwrap();
    assert_eq!(counted(&mut harness), [2, 2]);
    harness.kernel.watch(&key(first), ids[1]).unwrap();
    assert_eq!(counted(&mut harness), [3, 3]);
}

#[test]
fn an_id_outside_the_arrays_is_counted_as_unattributed() {
    let mut harness = Harness::new();
    let key = key(Signature::Address(server().ip(), 80), protocol::TCP);
    harness.kernel.watch(&key, ServerId(SERVERS)).unwrap();
    harness.run(OUT, &tcp(client(), server(), SYN).frame());
    assert_eq!(harness.unattributed().bad_server_id, 1);
}
