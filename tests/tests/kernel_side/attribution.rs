//! Every way in which a packet is attributed to a server.

use lvs_common::{PROBE_MARK, VIP_MARKS};
use lvs_tests::packets::{
    attribution::Direction,
    builder::{ACK, Extension, Frame, Gre, Gue, Packet, SYN, protocol, sctp, tcp, udp},
};

use crate::{
    fixture::{
        GUE_PORT, MAC, MARK, MASQUERADED, MASQUERADED_ANY_PORT, MASQUERADED_MARK, MASQUERADED_SCTP,
        MASQUERADED_UDP, MASQUERADED6, MASQUERADED6_MARK, MASQUERADED6_UDP, OTHER_MAC, OTHER_MARK,
        OTHER_ROUTED, OTHER_SHARED_MARK, ROUTED, ROUTED_ANY_PORT, ROUTED_MARK, ROUTED_UDP, ROUTED6,
        ROUTED6_MARK, SERVERS, SHARED_MARK, TUNNELLED, TUNNELLED_4_IN_6, TUNNELLED_6_IN_4, TUNNELLED_6_IN_6,
        TUNNELLED_ANY_PORT, TUNNELLED_MARK, TUNNELLED_UDP, TUNNELLED6_MARK, client, client6, far, far6, near,
        near6, server, server6, socket, vip, vip6,
    },
    harness::{Harness, OUT},
};

/// A name, a packet, its direction, and the server it must count for.
type Row = (&'static str, Direction, Frame, Option<u32>);

fn check(rows: Vec<Row>) {
    let mut harness = Harness::new();
    for (name, direction, frame, expected) in rows {
        harness.clear();
        harness.run(direction, &frame);
        let counted = (0..SERVERS)
            .filter(|&id| {
                let counters = harness.counters(id);
                let (packets, bytes) = match direction {
                    Direction::Out(_) => (counters.packets_in, counters.bytes_in),
                    Direction::In => (counters.packets_out, counters.bytes_out),
                };
                assert_eq!(bytes, packets * frame.bytes.len() as u64, "{name}");
                packets == 1
            })
            .collect::<Vec<_>>();
        assert_eq!(counted, Vec::from_iter(expected), "{name}: {:?}", harness.unattributed());
    }
}

fn syn(to: &str) -> Packet {
    let to = socket(to);
    tcp(if to.is_ipv6() { client6() } else { client() }, to, SYN).packet()
}

fn reply(from: &str) -> Frame {
    let from = socket(from);
    tcp(from, if from.is_ipv6() { client6() } else { client() }, ACK).frame()
}

#[test]
fn masquerade() {
    let marked = Direction::Out(MARK);
    check(vec![
        ("address and port", OUT, syn("10.0.0.1:80").frame(), Some(MASQUERADED)),
        ("a mark besides", marked, syn("10.0.0.1:80").frame(), Some(MASQUERADED)),
        ("another port", OUT, syn("10.0.0.1:81").frame(), None),
        ("another address", OUT, syn("10.0.0.9:80").frame(), None),
        ("from it, not to it", OUT, reply("10.0.0.1:80"), None),
        ("a server's answer", Direction::In, reply("10.0.0.1:80"), Some(MASQUERADED)),
        ("from another port", Direction::In, reply("10.0.0.1:81"), None),
        ("to it, not from it", Direction::In, syn("10.0.0.1:80").frame(), None),
        ("UDP", OUT, udp(client(), socket("10.0.0.1:53"), b"?").frame(), Some(MASQUERADED_UDP)),
        ("UDP to the port of TCP", OUT, udp(client(), server(), b"?").frame(), None),
        ("SCTP", OUT, sctp(client(), server()).frame(), Some(MASQUERADED_SCTP)),
        ("SCTP back", Direction::In, sctp(server(), client()).frame(), Some(MASQUERADED_SCTP)),
        ("every port", OUT, syn("10.0.0.2:4711").frame(), Some(MASQUERADED_ANY_PORT)),
        ("from every port", Direction::In, reply("10.0.0.2:4711"), Some(MASQUERADED_ANY_PORT)),
        ("a mark", marked, syn("10.0.0.3:4711").frame(), Some(MASQUERADED_MARK)),
        ("without the mark", OUT, syn("10.0.0.3:4711").frame(), None),
        ("another mark", Direction::Out(OTHER_MARK), syn("10.0.0.3:4711").frame(), None),
        ("the agent's probe", Direction::Out(PROBE_MARK), syn("10.0.0.3:80").frame(), Some(MASQUERADED_MARK)),
        ("one to a VIP", Direction::Out(VIP_MARKS + 7), syn("10.0.0.3:80").frame(), Some(MASQUERADED_MARK)),
        ("an answer without a mark", Direction::In, reply("10.0.0.3:4711"), Some(MASQUERADED_MARK)),
        ("one of two marks", marked, syn("10.0.0.4:80").frame(), Some(SHARED_MARK)),
        ("the other mark", Direction::Out(OTHER_MARK), syn("10.0.0.4:80").frame(), Some(OTHER_SHARED_MARK)),
        ("whose of both?", Direction::In, reply("10.0.0.4:80"), None),
    ]);
}

#[test]
fn masquerade_with_ipv6() {
    let marked = Direction::Out(MARK);
    check(vec![
        ("address and port", OUT, syn("[fd00::1]:80").frame(), Some(MASQUERADED6)),
        ("another port", OUT, syn("[fd00::1]:81").frame(), None),
        ("an answer", Direction::In, reply("[fd00::1]:80"), Some(MASQUERADED6)),
        ("UDP", OUT, udp(client6(), socket("[fd00::1]:53"), b"?").frame(), Some(MASQUERADED6_UDP)),
        ("a mark", marked, syn("[fd00::3]:80").frame(), Some(MASQUERADED6_MARK)),
        ("without the mark", OUT, syn("[fd00::3]:80").frame(), None),
        ("an answer without a mark", Direction::In, reply("[fd00::3]:80"), Some(MASQUERADED6_MARK)),
    ]);
}

#[test]
fn extension_headers_are_stepped_over() {
    use Extension::{Authentication, Fragment, Options};
    let all = [
        Options(protocol::HOP_BY_HOP, 0),
        Options(protocol::DESTINATION, 1),
        Options(protocol::ROUTING, 2),
        Fragment(0),
        Authentication(4),
        Options(protocol::DESTINATION, 31),
    ];
    let with = |extensions: &[Extension]| syn("[fd00::1]:80").extensions(extensions).frame();
    let rows = (0..=all.len()).map(|count| ("so many", OUT, with(&all[..count]), Some(MASQUERADED6)));
    check(rows.collect());
    let mut seven = all.to_vec();
    seven.push(Options(protocol::DESTINATION, 0));
    check(vec![
        ("one too many", OUT, with(&seven), None),
        ("a later fragment", OUT, with(&[Fragment(1)]), None),
    ]);
}

#[test]
fn direct_route() {
    let to = |vip: &str, mac| syn(vip).frame().to_mac(mac);
    let marked = Direction::Out(MARK);
    check(vec![
        ("VIP, port and MAC address", OUT, to("192.0.2.80:80", MAC), Some(ROUTED)),
        ("another MAC address", OUT, to("192.0.2.80:80", OTHER_MAC), Some(OTHER_ROUTED)),
        ("nobody's MAC address", OUT, to("192.0.2.80:80", [2; 6]), None),
        ("another port", OUT, to("192.0.2.80:81", MAC), None),
        ("every port", OUT, to("192.0.2.81:4711", MAC), Some(ROUTED_ANY_PORT)),
        ("every port at another server", OUT, to("192.0.2.81:4711", OTHER_MAC), None),
        ("a mark", marked, to("203.0.113.9:4711", MAC), Some(ROUTED_MARK)),
        ("a mark at another server", marked, to("203.0.113.9:4711", OTHER_MAC), None),
        ("the port before the mark", marked, to("192.0.2.80:80", MAC), Some(ROUTED)),
        ("the mark before every port", marked, to("192.0.2.81:80", MAC), Some(ROUTED_MARK)),
        ("UDP", OUT, udp(client(), socket("192.0.2.80:53"), b"?").frame().to_mac(MAC), Some(ROUTED_UDP)),
        ("IPv6", OUT, to("[2001:db8::80]:80", MAC), Some(ROUTED6)),
        ("IPv6, another MAC address", OUT, to("[2001:db8::80]:80", OTHER_MAC), None),
        ("IPv6, every port", OUT, to("[2001:db8::81]:4711", MAC), Some(ROUTED6)),
        ("IPv6, a mark", marked, to("[2001:db8::99]:80", MAC), Some(ROUTED6_MARK)),
        ("what comes in from a VIP is not looked at", Direction::In, reply("192.0.2.80:80"), None),
    ]);
}

#[test]
fn tags_in_the_packet() {
    let request = || tcp(client(), server(), SYN).frame();
    let answer = || reply("10.0.0.1:80");
    check(vec![
        ("one", OUT, request().vlan_tags(1), Some(MASQUERADED)),
        ("two", OUT, request().vlan_tags(2), Some(MASQUERADED)),
        ("a provider's", OUT, request().vlan_tags(2).changed(12, &[0x88, 0xa8]), Some(MASQUERADED)),
        ("two, back", Direction::In, answer().vlan_tags(2), Some(MASQUERADED)),
        ("three", OUT, request().vlan_tags(3), None),
        ("two before IPv6", OUT, syn("[fd00::1]:80").frame().vlan_tags(2), Some(MASQUERADED6)),
        ("direct route", OUT, syn("192.0.2.80:80").frame().to_mac(MAC).vlan_tags(1), Some(ROUTED)),
    ]);
}

#[test]
fn ipip() {
    let inside = |to: &str| syn(to).ipip(near(), far()).frame();
    let inside6 = |to: &str| syn(to).ipip(near6(), far6()).frame();
    check(vec![
        ("IPv4 in IPv4", OUT, inside("192.0.2.80:80"), Some(TUNNELLED)),
        ("another port", OUT, inside("192.0.2.80:81"), None),
        ("every port", OUT, inside("192.0.2.81:4711"), Some(TUNNELLED_ANY_PORT)),
        ("a mark", Direction::Out(MARK), inside("203.0.113.9:80"), Some(TUNNELLED_MARK)),
        ("another mark", Direction::Out(OTHER_MARK), inside("203.0.113.9:80"), None),
        ("IPv6 in IPv4", OUT, inside("[2001:db8::80]:80"), Some(TUNNELLED_6_IN_4)),
        ("IPv4 in IPv6", OUT, inside6("192.0.2.80:80"), Some(TUNNELLED_4_IN_6)),
        ("IPv6 in IPv6", OUT, inside6("[2001:db8::80]:80"), Some(TUNNELLED_6_IN_6)),
        ("IPv6 in IPv6, a mark", Direction::Out(MARK), inside6("[2001:db8::9]:80"), Some(TUNNELLED6_MARK)),
        (
            "UDP inside",
            OUT,
            udp(client(), socket("192.0.2.80:53"), b"?").ipip(near(), far()).frame(),
            Some(TUNNELLED_UDP),
        ),
        (
            "options inside and outside",
            OUT,
            syn("192.0.2.80:80").ip_options(&[1; 8]).ipip(near(), far()).ip_options(&[1; 40]).frame(),
            Some(TUNNELLED),
        ),
        ("a tag before", OUT, inside("192.0.2.80:80").vlan_tags(2), Some(TUNNELLED)),
        (
            "a tunnel in a tunnel",
            OUT,
            syn("192.0.2.80:80").ipip(near(), far()).ipip(near(), far()).frame(),
            None,
        ),
        ("to another end", OUT, syn("192.0.2.80:80").ipip(near(), near()).frame(), None),
        ("without a tunnel", OUT, tcp(client(), socket("10.0.1.1:80"), SYN).frame(), None),
        ("into the director", Direction::In, inside("192.0.2.80:80"), None),
    ]);
}

#[test]
fn gre() {
    let plain = Gre::default();
    let inside = |fields| syn("192.0.2.80:80").gre(near(), far(), fields).frame();
    let every = Gre { checksum: true, key: true, sequence: true };
    check(vec![
        ("no field", OUT, inside(plain), Some(TUNNELLED)),
        ("a checksum", OUT, inside(Gre { checksum: true, ..plain }), Some(TUNNELLED)),
        ("a key", OUT, inside(Gre { key: true, ..plain }), Some(TUNNELLED)),
        ("every field", OUT, inside(every), Some(TUNNELLED)),
        (
            "IPv6 inside",
            OUT,
            syn("[2001:db8::80]:80").gre(near(), far(), every).frame(),
            Some(TUNNELLED_6_IN_4),
        ),
        (
            "IPv6 outside",
            OUT,
            syn("192.0.2.80:80").gre(near6(), far6(), plain).frame(),
            Some(TUNNELLED_4_IN_6),
        ),
        ("source routing", OUT, inside(plain).changed(34, &[0x40]), None),
        ("version 1", OUT, inside(plain).changed(35, &[1]), None),
        ("Ethernet inside", OUT, inside(plain).changed(36, &[0x65, 0x58]), None),
    ]);
}

#[test]
fn gue() {
    let (near_port, far_port) = ((near(), 61000).into(), (far(), GUE_PORT).into());
    let inside = |to: &str, form| syn(to).gue(near_port, far_port, form).frame();
    let vip = "192.0.2.80:80";
    check(vec![
        ("a header", OUT, inside(vip, Gue::Header(0)), Some(TUNNELLED)),
        ("optional fields", OUT, inside(vip, Gue::Header(1)), Some(TUNNELLED)),
        ("the longest header", OUT, inside(vip, Gue::Header(31)), Some(TUNNELLED)),
        ("no header", OUT, inside(vip, Gue::Direct), Some(TUNNELLED)),
        ("IPv6 inside", OUT, inside("[2001:db8::80]:80", Gue::Header(1)), Some(TUNNELLED_6_IN_4)),
        ("IPv6 without a header", OUT, inside("[2001:db8::80]:80", Gue::Direct), Some(TUNNELLED_6_IN_4)),
        (
            "IPv6 outside",
            OUT,
            syn(vip).gue((near6(), 61000).into(), (far6(), GUE_PORT).into(), Gue::Header(0)).frame(),
            Some(TUNNELLED_4_IN_6),
        ),
        ("a control message", OUT, inside(vip, Gue::Control), None),
        ("another port", OUT, syn(vip).gue(near_port, (far(), 5556).into(), Gue::Header(0)).frame(), None),
    ]);
}

#[test]
fn addresses_of_the_fixture_are_what_the_tables_say() {
    assert_eq!((server(), server6()), (socket("10.0.0.1:80"), socket("[fd00::1]:80")));
    assert_eq!((vip(), vip6()), (socket("192.0.2.80:80"), socket("[2001:db8::80]:80")));
}
