//! UDP and SCTP.

use lvs_common::{PROBE_MARK, ServerCounters};
use lvs_tests::packets::{
    attribution::Direction,
    builder::{Frame, sctp, udp},
};

use crate::{
    case::{Case, check, times},
    fixture::{MAC, MASQUERADED_SCTP, MASQUERADED_UDP, ROUTED_UDP, client, server, socket},
    harness::{Harness, OUT},
};

fn query() -> Frame {
    udp(client(), socket("10.0.0.1:53"), b"?").frame()
}

fn response() -> Frame {
    udp(socket("10.0.0.1:53"), client(), b"!").frame()
}

#[test]
fn times_are_taken_where_the_answer_is_to_one_datagram() {
    let base = ServerCounters::default();
    let row = |name, packets, count| {
        Case::new(name, MASQUERADED_UDP, packets, ServerCounters { handshake: times(count), ..base })
    };
    let probe = Direction::Out(PROBE_MARK);
    check(vec![
        row("no answer", vec![(OUT, query())], 0),
        row("an answer", vec![(OUT, query()), (Direction::In, response())], 1),
        row("two answers", vec![(OUT, query()), (Direction::In, response()), (Direction::In, response())], 1),
        row("an answer to which?", vec![(OUT, query()), (OUT, query()), (Direction::In, response())], 0),
        row("an answer to the agent", vec![(probe, query()), (Direction::In, response())], 0),
    ]);
}

#[test]
fn a_datagram_waits_until_any_comes_back() {
    let mut harness = Harness::new();
    harness.run(OUT, &query());
    let waiting = harness.state(MASQUERADED_UDP).listener;
    assert_eq!((waiting.attempts, waiting.waiting, waiting.progress_ns), (1, 1, 0));
    harness.run(Direction::Out(PROBE_MARK), &udp(client(), socket("10.0.0.1:53"), b"probe").frame());
    assert_eq!(harness.state(MASQUERADED_UDP).listener, waiting, "a probe is no demand");
    harness.run(Direction::In, &udp(socket("10.0.0.1:53"), socket("203.0.113.1:5"), b"!").frame());
    let after = harness.state(MASQUERADED_UDP);
    assert_eq!((after.listener.attempts, after.listener.waiting), (0, 0));
    assert!(after.listener.progress_ns > waiting.last_ns && after.reply_ns > 0);
}

#[test]
fn half_seen_datagrams_and_sctp_are_only_counted() {
    let mut harness = Harness::new();
    harness.run(OUT, &udp(client(), socket("192.0.2.80:53"), b"?").frame().to_mac(MAC));
    harness.run(OUT, &sctp(client(), server()).frame());
    for id in [ROUTED_UDP, MASQUERADED_SCTP] {
        let state = harness.state(id);
        assert_eq!((harness.counters(id).packets_in, state.listener.attempts, state.reply_ns), (1, 0, 0));
    }
}
