//! UDP and SCTP.

use lvs_common::{PROBE_MARK, ServerCounters};
use lvs_tests::packets::{
    attribution::Way,
    builder::{Frame, sctp, udp},
};

use crate::{
    bench::{Bench, OUT},
    case::{Case, check, times},
    world::{MAC, MASQUERADED_SCTP, MASQUERADED_UDP, ROUTED_UDP, client, server, socket},
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
    let probe = Way::Out(PROBE_MARK);
    check(vec![
        row("no answer", vec![(OUT, query())], 0),
        row("an answer", vec![(OUT, query()), (Way::In, response())], 1),
        row("two answers", vec![(OUT, query()), (Way::In, response()), (Way::In, response())], 1),
        row("an answer to which?", vec![(OUT, query()), (OUT, query()), (Way::In, response())], 0),
        row("an answer to the agent", vec![(probe, query()), (Way::In, response())], 0),
    ]);
}

#[test]
fn a_datagram_waits_until_any_comes_back() {
    let mut bench = Bench::new();
    bench.run(OUT, &query());
    let waiting = bench.state(MASQUERADED_UDP).listener;
    assert_eq!((waiting.attempts, waiting.waiting, waiting.progress_ns), (1, 1, 0));
    bench.run(Way::Out(PROBE_MARK), &udp(client(), socket("10.0.0.1:53"), b"probe").frame());
    assert_eq!(bench.state(MASQUERADED_UDP).listener, waiting, "a probe is no demand");
    bench.run(Way::In, &udp(socket("10.0.0.1:53"), socket("203.0.113.1:5"), b"!").frame());
    let after = bench.state(MASQUERADED_UDP);
    assert_eq!((after.listener.attempts, after.listener.waiting), (0, 0));
    assert!(after.listener.progress_ns > waiting.last_ns && after.reply_ns > 0);
}

#[test]
fn half_seen_datagrams_and_sctp_are_only_counted() {
    let mut bench = Bench::new();
    bench.run(OUT, &udp(client(), socket("192.0.2.80:53"), b"?").frame().to_mac(MAC));
    bench.run(OUT, &sctp(client(), server()).frame());
    for id in [ROUTED_UDP, MASQUERADED_SCTP] {
        let state = bench.state(id);
        assert_eq!((bench.counters(id).packets_in, state.listener.attempts, state.reply_ns), (1, 0, 0));
    }
}
