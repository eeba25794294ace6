//! Sampled flows: requests, responses, data sent again.

use lvs_common::{Flow, PROBE_MARK, ServerCounters, ServerId, VIP_MARKS};
use lvs_tests::packets::{
    attribution::Direction,
    builder::{ACK, FIN, Frame, RST, SYN, tcp},
};

use crate::{
    case::{Case, check, times},
    fixture::{MASQUERADED, client, server, socket},
    harness::{Harness, OUT},
};

type Pass = (Direction, Frame);

/// A segment of an established flow: its sequence number, acknowledgement number and bytes of data.
fn data(sequence: u32, acknowledgement: u32, length: usize) -> Pass {
    let segment = tcp(client(), server(), ACK).sequence(sequence).acknowledging(acknowledgement);
    (OUT, segment.payload(&vec![b'x'; length]).frame())
}

fn syn() -> Pass {
    (OUT, tcp(client(), server(), SYN).sequence(99).frame())
}

fn reply() -> Pass {
    (Direction::In, tcp(server(), client(), ACK).frame())
}

fn fin(sequence: u32, acknowledgement: u32) -> Pass {
    (OUT, tcp(client(), server(), FIN | ACK).sequence(sequence).acknowledging(acknowledgement).frame())
}

fn row(name: &'static str, packets: Vec<Pass>, expected: ServerCounters) -> Case {
    Case::new(name, MASQUERADED, packets, expected)
}

#[test]
fn requests_and_responses() {
    let base = ServerCounters::default();
    let asked = ServerCounters { requests: 1, ..base };
    let answered = ServerCounters { requests: 1, responses: 1, response: times(1), ..base };
    let opened = ServerCounters { syn: 1, handshakes: 1, handshake: times(1), ..base };
    check(vec![
        row("data is a request", vec![data(100, 1, 10)], asked),
        row(
            "in several segments still one",
            vec![data(100, 1, 10), data(110, 1, 10), data(120, 1, 5)],
            asked,
        ),
        row(
            "the acknowledgement that advances is the response",
            vec![data(100, 1, 10), data(110, 50, 0)],
            answered,
        ),
        row(
            "more of the response is none",
            vec![data(100, 1, 10), data(110, 50, 0), data(110, 90, 0)],
            answered,
        ),
        row(
            "the next request",
            vec![data(100, 1, 10), data(110, 50, 0), data(110, 50, 7)],
            ServerCounters { requests: 2, ..answered },
        ),
        row(
            "with the response in the same segment",
            vec![data(100, 1, 10), data(110, 50, 7)],
            ServerCounters { requests: 2, ..answered },
        ),
        row("an old acknowledgement is no progress", vec![data(100, 40, 10), data(110, 30, 0)], asked),
        row("acknowledgements wrap", vec![data(100, u32::MAX, 10), data(110, 20, 0)], answered),
        row("the handshake's ACK is no response", vec![syn(), data(100, 1, 0)], opened),
        row(
            "after a handshake",
            vec![syn(), data(100, 1, 0), data(100, 1, 10), data(110, 2, 0)],
            ServerCounters { requests: 1, responses: 1, response: times(1), ..opened },
        ),
        row(
            "data in the handshake's ACK",
            vec![syn(), data(100, 1, 10)],
            ServerCounters { requests: 1, ..opened },
        ),
        row("acknowledgements alone are not sampled", vec![data(100, 1, 0), data(100, 50, 0)], base),
        row("the agent's probes neither", vec![(Direction::Out(PROBE_MARK), data(100, 1, 10).1)], base),
        row("nor those to VIPs", vec![(Direction::Out(VIP_MARKS + 0xffff), data(100, 1, 10).1)], base),
        row(
            "a FIN while a response is missing",
            vec![data(100, 1, 10), fin(110, 1), data(111, 50, 0)],
            ServerCounters { client_fin: 1, ..answered },
        ),
    ]);
}

#[test]
fn data_sent_again() {
    let base = ServerCounters::default();
    let again = |sent_again| ServerCounters { requests: 1, sent_again, ..base };
    let answered = ServerCounters { requests: 1, responses: 1, response: times(1), ..base };
    check(vec![
        row("the same again", vec![data(100, 1, 10), data(100, 1, 10), data(100, 1, 10)], again(2)),
        row("a part of it", vec![data(100, 1, 10), data(110, 1, 10), data(105, 1, 10)], again(1)),
        row("with progress it is none", vec![data(100, 1, 10), data(100, 50, 10)], answered),
        row("a keep-alive is none", vec![data(100, 1, 10), data(110, 50, 0), data(109, 50, 1)], answered),
        row("of one byte, while a response is missing", vec![data(109, 1, 1), data(109, 1, 1)], again(1)),
    ]);
}

#[test]
fn what_was_sent_again_is_remembered_until_any_proof_of_life() {
    let proofs = [
        ("progress", vec![data(110, 9, 0)]),
        ("a packet from the server", vec![reply()]),
        (
            "a handshake of another client",
            vec![
                (OUT, tcp(socket("203.0.113.1:7"), server(), SYN).sequence(4).frame()),
                (OUT, tcp(socket("203.0.113.1:7"), server(), ACK).sequence(5).frame()),
            ],
        ),
    ];
    let mut harness = Harness::new();
    for (name, proof) in proofs {
        harness.clear();
        let other = |sequence: u32| {
            (OUT, tcp(socket("203.0.113.9:9"), server(), ACK).sequence(sequence).payload(b"x y").frame())
        };
        for (direction, frame) in [data(100, 1, 10), data(100, 1, 10), data(100, 1, 10), other(5), other(5)] {
            harness.run(direction, &frame);
        }
        let again = harness.state(MASQUERADED).again;
        assert_eq!((again.segments, again.flows, again.networks.count_ones()), (3, 2, 2), "{name}");
        assert!(again.since_ns > 0 && again.last_ns >= again.since_ns, "{name}");
        for (direction, frame) in proof {
            harness.run(direction, &frame);
        }
        assert_eq!(harness.state(MASQUERADED).again, lvs_common::Retransmissions::default(), "{name}");
    }
    // Counted anew after the proof.
    harness.run(OUT, &data(100, 1, 10).1);
    assert_eq!(harness.state(MASQUERADED).again.flows, 1);
}

#[test]
fn demand_on_the_application_waits_for_progress() {
    let mut harness = Harness::new();
    harness.run(OUT, &data(100, 1, 10).1);
    let waiting = harness.state(MASQUERADED).application;
    assert_eq!((waiting.attempts, waiting.waiting, waiting.progress_ns), (1, 1, 0));
    assert_eq!(waiting.beginnings(), [waiting.last_ns]);
    harness.run(Direction::In, &reply().1);
    assert_eq!(
        harness.state(MASQUERADED).application.waiting,
        1,
        "the server's bare ACK proves nothing of it"
    );
    harness.run(OUT, &data(110, 50, 0).1);
    let after = harness.state(MASQUERADED).application;
    assert_eq!((after.attempts, after.waiting, after.networks.count()), (0, 0, 0));
    assert!(after.progress_ns >= waiting.last_ns);
}

/// The sampled flows of the masqueraded server.
fn flows(harness: &Harness) -> Vec<Flow> {
    harness.signals.flows(ServerId(MASQUERADED)).collect()
}

#[test]
fn flows_are_sampled_until_they_end() {
    let mut harness = Harness::new();
    let ends = [
        ("the client's FIN", fin(110, 50)),
        ("the client's RST", (OUT, tcp(client(), server(), RST).frame())),
        ("the server's RST", (Direction::In, tcp(server(), client(), RST).frame())),
        ("a new SYN", syn()),
    ];
    for (name, (direction, end)) in ends {
        harness.clear();
        harness.run(OUT, &data(100, 1, 10).1);
        harness.run(OUT, &data(110, 50, 0).1);
        let [flow] = flows(&harness)[..] else { panic!("{name}: not one flow") };
        assert_eq!((flow.acknowledged, flow.sent, flow.request_ns, flow.again), (50, 110, 0, 0), "{name}");
        harness.run(direction, &end);
        assert_eq!(flows(&harness), [], "{name}");
    }
}

#[test]
fn syns_push_no_flow_out_and_flows_share_slots() {
    let mut harness = Harness::new();
    let many = || (0..1000).map(|n| socket(&format!("198.18.{}.{}:{}", n / 256, n % 256, 1024 + n)));
    for from in many() {
        harness.run(OUT, &tcp(from, server(), ACK).sequence(100).acknowledging(1).payload(b"x").frame());
    }
    let sampled = flows(&harness);
    assert_eq!(sampled.len(), Flow::EACH, "a thousand flows find every slot");
    assert_eq!(harness.counters(MASQUERADED).requests, Flow::EACH as u64);
    for from in many() {
        harness.run(
            OUT,
            &tcp(socket(&format!("198.19.0.1:{}", from.port())), server(), SYN).sequence(7).frame(),
        );
    }
    assert_eq!(flows(&harness), sampled);
}
