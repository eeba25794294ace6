//! Which connections wait, and when client networks were answered.

use lvs_common::{ServerAnswered, ServerWaiting, WaitingConnections};
use lvs_tests::packets::{
    attribution::Direction,
    builder::{ACK, RST, SYN, tcp, udp},
};

use crate::{
    fixture::{MAC, MASQUERADED, MASQUERADED_UDP, ROUTED, server, socket, vip},
    harness::{Harness, OUT},
};

/// Four clients of two /24 networks.
const CLIENTS: [&str; 4] =
    ["198.51.100.1:1000", "198.51.100.2:1000", "198.51.100.2:1001", "203.0.113.1:1000"];

fn syn(harness: &mut Harness, from: &str, sequence: u32) {
    harness.run(OUT, &tcp(socket(from), server(), SYN).sequence(sequence).frame());
}

fn waiting(harness: &Harness) -> WaitingConnections {
    let ServerWaiting { listener, .. } = harness.waiting(MASQUERADED);
    listener
}

fn answered_networks(times: &[u32]) -> Vec<u8> {
    (0..=u8::MAX).filter(|&network| times[usize::from(network)] != 0).collect()
}

#[test]
fn each_connection_beyond_the_first_of_its_network_is_remembered_with_it() {
    let mut harness = Harness::new();
    for from in CLIENTS {
        syn(&mut harness, from, 1);
    }
    let (layer, waits) = (harness.state(MASQUERADED).listener, waiting(&harness));
    assert_eq!((layer.waiting, waits.waiting, waits.connections.count()), (2, 2, 4));
    let (near, far) = (waits.first[0], waits.first[1]);
    assert!(near != far && layer.networks.has(near) && layer.networks.has(far));
    let [(second_ns, second), (third_ns, third)] = waits.further().collect::<Vec<_>>()[..] else {
        panic!("two further ones: {waits:?}");
    };
    assert_eq!((second, third), (near, near));
    let [first_ns, last_ns] = *layer.beginnings() else { panic!("two networks: {layer:?}") };
    assert!(first_ns < second_ns && second_ns < third_ns && third_ns < last_ns);
    for from in CLIENTS {
        syn(&mut harness, from, 1);
    }
    assert_eq!(waiting(&harness), waits, "the same SYNs again are the same connections");
}

#[test]
fn connections_of_one_network_push_no_other_network_out() {
    let mut harness = Harness::new();
    for port in 1..=200 {
        syn(&mut harness, &format!("198.51.100.1:{port}"), 1);
    }
    syn(&mut harness, "203.0.113.1:1000", 1);
    let (layer, waits) = (harness.state(MASQUERADED).listener, waiting(&harness));
    assert_eq!((layer.attempts, layer.waiting, waits.waiting), (201, 2, 16));
    assert!(waits.connections.count() > 128);
    assert!(layer.networks.has(waits.first[1]) && waits.first[1] != waits.first[0]);
}

#[test]
fn after_a_proof_of_life_connections_are_counted_anew() {
    let mut harness = Harness::new();
    for from in CLIENTS {
        syn(&mut harness, from, 1);
    }
    let answer = tcp(server(), socket(CLIENTS[3]), SYN | ACK).acknowledging(2);
    harness.run(Direction::In, &answer.frame());
    assert_eq!(harness.state(MASQUERADED).listener.attempts, 0);
    syn(&mut harness, CLIENTS[1], 9);
    syn(&mut harness, CLIENTS[2], 9);
    let (layer, waits) = (harness.state(MASQUERADED).listener, waiting(&harness));
    assert_eq!((layer.waiting, waits.waiting, waits.connections.count()), (1, 1, 2));
}

#[test]
fn an_answer_is_noted_for_the_network_of_its_client() {
    let mut harness = Harness::new();
    for from in CLIENTS {
        syn(&mut harness, from, 1);
    }
    let first = waiting(&harness).first;
    let listener = |harness: &Harness| answered_networks(&harness.answered(MASQUERADED).listener);
    assert!(listener(&harness).is_empty());
    let refusal = tcp(server(), socket(CLIENTS[0]), RST | ACK).acknowledging(2);
    harness.run(Direction::In, &refusal.frame());
    assert!(listener(&harness).is_empty(), "a refusal is no answer");
    let since_ns = harness.state(MASQUERADED).listener.last_ns;
    let answer = tcp(server(), socket(CLIENTS[3]), SYN | ACK).acknowledging(2);
    harness.run(Direction::In, &answer.frame());
    assert_eq!(listener(&harness), [first[1]]);
    let answered = harness.answered(MASQUERADED);
    let time = answered.listener[usize::from(first[1])];
    assert!(time >= ServerAnswered::time_of(since_ns));
    assert_eq!(time, ServerAnswered::time_of(harness.state(MASQUERADED).listener.progress_ns));
    assert!(answered_networks(&answered.application).is_empty(), "no response of the application");
}

#[test]
fn half_seen_the_completed_handshake_is_the_answer_and_the_response_the_applications() {
    let mut harness = Harness::new();
    let send = |flags, sequence, acknowledgement| {
        tcp(socket(CLIENTS[0]), vip(), flags).sequence(sequence).acknowledging(acknowledgement)
    };
    harness.run(OUT, &send(SYN, 7, 0).frame().to_mac(MAC));
    let network = harness.waiting(ROUTED).listener.first[0];
    harness.run(OUT, &send(ACK, 8, 1).frame().to_mac(MAC));
    assert_eq!(answered_networks(&harness.answered(ROUTED).listener), [network]);
    harness.run(OUT, &send(ACK, 8, 1).payload(b"GET /").frame().to_mac(MAC));
    let asked = harness.waiting(ROUTED).application;
    assert_eq!((asked.first[0], asked.waiting, asked.connections.count()), (network, 0, 1));
    assert!(answered_networks(&harness.answered(ROUTED).application).is_empty());
    harness.run(OUT, &send(ACK, 13, 90).frame().to_mac(MAC));
    assert_eq!(answered_networks(&harness.answered(ROUTED).application), [network]);
}

#[test]
fn datagrams_are_connections_and_answers_too() {
    let mut harness = Harness::new();
    let name_server = socket("10.0.0.1:53");
    for from in CLIENTS {
        harness.run(OUT, &udp(socket(from), name_server, b"?").frame());
    }
    let waits = harness.waiting(MASQUERADED_UDP).listener;
    assert_eq!((waits.waiting, waits.connections.count()), (2, 4));
    harness.run(Direction::In, &udp(name_server, socket(CLIENTS[3]), b"!").frame());
    assert_eq!(answered_networks(&harness.answered(MASQUERADED_UDP).listener), [waits.first[1]]);
}

#[test]
fn an_id_that_is_used_again_starts_without_what_was_known() {
    let mut harness = Harness::new();
    for from in CLIENTS {
        syn(&mut harness, from, 1);
    }
    let answer = tcp(server(), socket(CLIENTS[3]), SYN | ACK).acknowledging(2);
    harness.run(Direction::In, &answer.frame());
    harness.clear();
    assert_eq!(harness.waiting(MASQUERADED), ServerWaiting::default());
    assert!(answered_networks(&harness.answered(MASQUERADED).listener).is_empty());
}
