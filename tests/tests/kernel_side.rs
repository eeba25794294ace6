//! The eBPF programs on built packets, by `BPF_PROG_TEST_RUN`: needs root and the object file that `LVS_EBPF_OBJECT`
//! names (`cargo xtask test` sets it).
#![expect(clippy::unwrap_used, clippy::expect_used, reason = "a test: the panic is the message")]

use std::{env, fs, net::SocketAddrV4};

use aya::programs::{TestRun as _, TestRunOptions};
use lvs_agent::passive::{KernelSide, Signals, Sizes, WireKey};
use lvs_common::{
    DirectRouteKey, Doubts, EGRESS, Edge, EdgeKind, INGRESS, MasqueradeKey, PROBE_MARK, ServerCounters,
    ServerId,
};
use lvs_tests::packet::{self, ACK, FIN, RST, SYN, Segment};

/// `TC_ACT_UNSPEC`: the verdict is left to others.
const PASS: u32 = u32::MAX;
const MASQUERADED: ServerId = ServerId(0);
const ROUTED: ServerId = ServerId(1);
const OTHER_ROUTED: ServerId = ServerId(2);
const MAC: [u8; 6] = [2, 0, 0, 0, 0, 1];
const OTHER_MAC: [u8; 6] = [2, 0, 0, 0, 0, 2];

fn address(text: &str) -> SocketAddrV4 {
    text.parse().unwrap()
}

fn client() -> SocketAddrV4 {
    address("198.51.100.7:40000")
}

fn server() -> SocketAddrV4 {
    address("10.0.0.1:80")
}

fn vip() -> SocketAddrV4 {
    address("192.0.2.80:80")
}

/// Where a packet passes.
#[derive(Clone, Copy, Debug)]
enum Way {
    Out(u32),
    In,
}

/// Out of the director, without a mark.
const OUT: Way = Way::Out(0);

/// Freshly loaded programs that know one masqueraded server and two directly routed ones.
struct Bench {
    kernel: KernelSide,
    signals: Signals,
}

impl Bench {
    fn new() -> Self {
        let object = env::var_os("LVS_EBPF_OBJECT").expect("LVS_EBPF_OBJECT names the eBPF object file");
        let object = fs::read(object).expect("the object file can be read");
        let sizes = Sizes { servers: 4, handshakes: 1024 };
        let (mut kernel, signals) =
            KernelSide::load_object(&object, sizes, 0).expect("programs load; that needs root");
        let masquerade = MasqueradeKey::new(server().ip().octets(), server().port().to_be_bytes());
        kernel.watch(&WireKey::Masquerade(masquerade), MASQUERADED).unwrap();
        for (mac, id) in [(MAC, ROUTED), (OTHER_MAC, OTHER_ROUTED)] {
            let key = DirectRouteKey::new(vip().ip().octets(), vip().port().to_be_bytes(), mac);
            kernel.watch(&WireKey::DirectRoute(key), id).unwrap();
        }
        Self { kernel, signals }
    }

    /// Runs one program on one frame. It must leave the verdict and every byte alone.
    fn run(&mut self, way: Way, frame: &[u8]) {
        let (program, mark) = match way {
            Way::Out(mark) => (EGRESS, mark),
            Way::In => (INGRESS, 0),
        };
        let mut after = vec![0; frame.len() + 64];
        let context = skb_with_mark(mark);
        let options = TestRunOptions {
            data_in: Some(frame),
            data_out: Some(&mut after),
            ctx_in: Some(&context),
            ..TestRunOptions::new()
        };
        let result = self.kernel.program(program).unwrap().test_run(options).expect("BPF_PROG_TEST_RUN");
        assert_eq!(result.return_value, PASS, "the programs only watch");
        let length = usize::try_from(result.data_size_out).unwrap();
        assert_eq!(&after[..length], frame, "the programs change nothing");
    }

    fn edges(&mut self) -> Vec<EdgeKind> {
        let mut ring = self.kernel.take_edges().unwrap();
        std::iter::from_fn(|| {
            let record = ring.next()?;
            let edge: Edge = bytemuck::pod_read_unaligned(&record);
            EdgeKind::from_number(edge.kind)
        })
        .collect()
    }
}

/// A `__sk_buff` with only the mark set, its third field (`include/uapi/linux/bpf.h`).
fn skb_with_mark(mark: u32) -> [u8; 192] {
    let mut context = [0; 192];
    context[8..12].copy_from_slice(&mark.to_ne_bytes());
    context
}

/// To the masqueraded server, as IPVS has rewritten it.
fn request(flags: u8) -> Segment {
    Segment::new(client(), server(), flags)
}

/// To the directly routed server.
fn routed(flags: u8) -> Segment {
    Segment::new(client(), vip(), flags).to_mac(MAC)
}

fn answer(flags: u8) -> Segment {
    Segment::new(server(), client(), flags)
}

struct Case {
    name: &'static str,
    packets: Vec<(Way, Segment)>,
    id: ServerId,
    expected: ServerCounters,
    edges: &'static [EdgeKind],
}

/// A handshake with the masqueraded server, piece by piece.
fn syn() -> (Way, Segment) {
    (OUT, request(SYN).sequence(100))
}

fn syn_ack() -> (Way, Segment) {
    (Way::In, answer(SYN | ACK).sequence(900).acknowledging(101))
}

fn ack() -> (Way, Segment) {
    (OUT, request(ACK).sequence(101).acknowledging(901))
}

fn refusal() -> (Way, Segment) {
    (Way::In, answer(RST | ACK).acknowledging(101))
}

fn handshake_cases() -> Vec<Case> {
    let base = ServerCounters::default();
    vec![
        Case {
            name: "a SYN waits for its answer",
            packets: vec![syn()],
            id: MASQUERADED,
            expected: ServerCounters { syn: 1, ..base },
            edges: &[],
        },
        Case {
            name: "the same SYN again is no new one",
            packets: vec![syn(), syn(), syn()],
            id: MASQUERADED,
            expected: ServerCounters { syn: 1, syn_again: 2, ..base },
            edges: &[],
        },
        Case {
            name: "a port used again begins a new handshake",
            packets: vec![syn(), (OUT, request(SYN).sequence(5000))],
            id: MASQUERADED,
            expected: ServerCounters { syn: 2, ..base },
            edges: &[],
        },
        Case {
            name: "a whole handshake, one wait ended by the SYN-ACK",
            packets: vec![syn(), syn_ack(), ack()],
            id: MASQUERADED,
            expected: ServerCounters { syn: 1, syn_ack: 1, handshakes: 1, waits: 1, ..base },
            edges: &[],
        },
        Case {
            name: "later ACKs complete nothing",
            packets: vec![syn(), syn_ack(), ack(), ack(), (OUT, request(ACK).sequence(300))],
            id: MASQUERADED,
            expected: ServerCounters { syn: 1, syn_ack: 1, handshakes: 1, waits: 1, ..base },
            edges: &[],
        },
        Case {
            name: "an ACK far from the SYN is not its own",
            packets: vec![syn(), (OUT, request(ACK).sequence(100 + 70_000))],
            id: MASQUERADED,
            expected: ServerCounters { syn: 1, ..base },
            edges: &[],
        },
        Case {
            name: "sequence numbers wrap",
            packets: vec![(OUT, request(SYN).sequence(u32::MAX)), (OUT, request(ACK).sequence(0))],
            id: MASQUERADED,
            expected: ServerCounters { syn: 1, handshakes: 1, waits: 1, ..base },
            edges: &[],
        },
    ]
}

fn refusal_cases() -> Vec<Case> {
    let base = ServerCounters::default();
    vec![
        Case {
            name: "a refused SYN",
            packets: vec![syn(), refusal()],
            id: MASQUERADED,
            expected: ServerCounters { syn: 1, refused: 1, ..base },
            edges: &[EdgeKind::Refused],
        },
        Case {
            name: "refused twice is one edge, accepted again another",
            packets: vec![syn(), refusal(), syn(), refusal(), syn(), syn_ack()],
            id: MASQUERADED,
            expected: ServerCounters { syn: 3, refused: 2, syn_ack: 1, waits: 1, ..base },
            edges: &[EdgeKind::Refused, EdgeKind::Accepted],
        },
        Case {
            name: "an RST that acknowledges another SYN refuses nothing",
            packets: vec![syn(), (Way::In, answer(RST | ACK).acknowledging(100))],
            id: MASQUERADED,
            expected: ServerCounters { syn: 1, server_reset: 1, ..base },
            edges: &[],
        },
        Case {
            name: "an RST without a SYN is a reset connection",
            packets: vec![(Way::In, answer(RST).sequence(900))],
            id: MASQUERADED,
            expected: ServerCounters { server_reset: 1, ..base },
            edges: &[],
        },
        Case {
            name: "an RST after the SYN-ACK is a reset, not a refusal",
            packets: vec![syn(), syn_ack(), refusal()],
            id: MASQUERADED,
            expected: ServerCounters { syn: 1, syn_ack: 1, server_reset: 1, waits: 1, ..base },
            edges: &[],
        },
        Case {
            name: "a SYN-ACK nobody asked for is no proof of life",
            packets: vec![(Way::In, answer(SYN | ACK).acknowledging(101))],
            id: MASQUERADED,
            expected: base,
            edges: &[],
        },
    ]
}

fn client_cases() -> Vec<Case> {
    let base = ServerCounters::default();
    vec![
        Case {
            name: "a client gives up an open handshake",
            packets: vec![syn(), (OUT, request(RST).sequence(101)), ack()],
            id: MASQUERADED,
            expected: ServerCounters { syn: 1, client_abort: 1, ..base },
            edges: &[],
        },
        Case {
            name: "a client resets an established connection",
            packets: vec![(OUT, request(RST).sequence(101))],
            id: MASQUERADED,
            expected: ServerCounters { client_reset: 1, ..base },
            edges: &[],
        },
        Case {
            name: "both sides finish",
            packets: vec![(OUT, request(FIN | ACK)), (Way::In, answer(FIN | ACK))],
            id: MASQUERADED,
            expected: ServerCounters { client_fin: 1, server_fin: 1, ..base },
            edges: &[],
        },
    ]
}

fn probe_cases() -> Vec<Case> {
    let base = ServerCounters::default();
    vec![
        Case {
            name: "the agent's own probes are no clients",
            packets: vec![
                (Way::Out(PROBE_MARK), request(SYN).sequence(100)),
                syn_ack(),
                (Way::Out(PROBE_MARK), request(ACK).sequence(101)),
                (Way::Out(PROBE_MARK), request(RST).sequence(101)),
            ],
            id: MASQUERADED,
            expected: base,
            edges: &[],
        },
        Case {
            name: "nor is a probe that is refused",
            packets: vec![(Way::Out(PROBE_MARK), request(SYN).sequence(100)), refusal()],
            id: MASQUERADED,
            expected: base,
            edges: &[],
        },
    ]
}

fn option_cases() -> Vec<Case> {
    let base = ServerCounters::default();
    vec![
        Case {
            name: "IPv4 options are stepped over",
            packets: vec![(OUT, request(SYN).sequence(100).ip_options(&[1; 40]))],
            id: MASQUERADED,
            expected: ServerCounters { syn: 1, ..base },
            edges: &[],
        },
        Case {
            name: "TCP Fast Open: the first ACK is ahead by the data in the SYN",
            packets: vec![
                (OUT, request(SYN).sequence(100).payload(b"GET /")),
                (OUT, request(ACK).sequence(106)),
            ],
            id: MASQUERADED,
            expected: ServerCounters { syn: 1, handshakes: 1, waits: 1, ..base },
            edges: &[],
        },
    ]
}

fn direct_route_cases() -> Vec<Case> {
    let base = ServerCounters::default();
    vec![
        Case {
            name: "half-seen: the client's ACK is the proof of life",
            packets: vec![(OUT, routed(SYN).sequence(7)), (OUT, routed(ACK).sequence(8))],
            id: ROUTED,
            expected: ServerCounters { syn: 1, handshakes: 1, waits: 1, ..base },
            edges: &[],
        },
        Case {
            name: "the MAC address tells whose packet it is",
            packets: vec![
                (OUT, routed(SYN).sequence(7)),
                (OUT, routed(SYN).sequence(7).to_mac(OTHER_MAC)),
                (OUT, routed(ACK).sequence(8).to_mac(OTHER_MAC)),
            ],
            id: OTHER_ROUTED,
            expected: ServerCounters { syn: 1, handshakes: 1, waits: 1, ..base },
            edges: &[],
        },
        Case {
            name: "what comes in from the VIP is not looked at",
            packets: vec![
                (OUT, routed(SYN).sequence(7)),
                (Way::In, Segment::new(vip(), client(), RST | ACK).acknowledging(8)),
            ],
            id: ROUTED,
            expected: ServerCounters { syn: 1, ..base },
            edges: &[],
        },
    ]
}

fn cases() -> impl Iterator<Item = Case> {
    [handshake_cases, refusal_cases, client_cases, probe_cases, option_cases, direct_route_cases]
        .into_iter()
        .flat_map(|cases| cases())
}

/// The counters that don't depend on time and length, which have tests of their own.
fn comparable(counters: ServerCounters) -> ServerCounters {
    ServerCounters { packets_in: 0, bytes_in: 0, packets_out: 0, bytes_out: 0, wait_sum_ns: 0, ..counters }
}

#[test]
fn segments_count_for_their_server() {
    for case in cases() {
        let mut bench = Bench::new();
        for (way, segment) in &case.packets {
            bench.run(*way, &segment.frame());
        }
        assert_eq!(comparable(bench.signals.counters(case.id)), case.expected, "{}", case.name);
        assert_eq!(bench.edges(), case.edges, "{}", case.name);
    }
}

#[test]
fn packets_and_bytes_are_counted_both_ways() {
    let mut bench = Bench::new();
    let out = request(ACK).payload(&[0; 100]).frame();
    let back = answer(ACK).payload(&[0; 900]).frame();
    bench.run(OUT, &out);
    bench.run(OUT, &out);
    bench.run(Way::In, &back);
    let counted = bench.signals.counters(MASQUERADED);
    assert_eq!((counted.packets_in, counted.bytes_in), (2, 2 * out.len() as u64));
    assert_eq!((counted.packets_out, counted.bytes_out), (1, back.len() as u64));
}

#[test]
fn waiting_clients_are_counted_by_network_until_there_is_progress() {
    let mut bench = Bench::new();
    let syn = |from: &str| Segment::new(address(from), server(), SYN).sequence(1).frame();
    for from in ["198.51.100.1:1000", "198.51.100.2:1000", "198.51.100.2:1001", "203.0.113.1:1000"] {
        bench.run(OUT, &syn(from));
    }
    let state = bench.signals.state(MASQUERADED);
    assert_eq!(state.waiting_syns, 4);
    assert_eq!(state.waiting_clients.count_ones(), 2, "two /24 networks");
    assert!(state.waiting_since_ns > 0 && state.waiting_since_ns < state.last_syn_ns);
    assert_eq!(state.progress_ns, 0);

    let back = Segment::new(server(), address("203.0.113.1:1000"), SYN | ACK).acknowledging(2);
    bench.run(Way::In, &back.frame());
    let after = bench.signals.state(MASQUERADED);
    assert_eq!((after.waiting_since_ns, after.waiting_syns, after.waiting_clients), (0, 0, 0));
    assert!(after.progress_ns > state.last_syn_ns);
    let counted = bench.signals.counters(MASQUERADED);
    assert_eq!(counted.wait_sum_ns, after.progress_ns - state.waiting_since_ns);
}

fn changed(mut frame: Vec<u8>, offset: usize, bytes: &[u8]) -> Vec<u8> {
    frame[offset..offset + bytes.len()].copy_from_slice(bytes);
    frame
}

#[test]
fn what_is_not_understood_is_let_pass_and_counted() {
    let none = Doubts::default();
    let malformed = Doubts { malformed: 1, ..none };
    let syn = || request(SYN).frame();
    let elsewhere = Segment::new(client(), address("10.9.9.9:80"), SYN).frame();
    let cases = [
        ("nobody's server", elsewhere, Doubts { no_server: 1, ..none }),
        ("ARP", changed(syn(), 12, &[0x08, 0x06]), Doubts { other_protocol: 1, ..none }),
        ("IPv6", changed(syn(), 12, &[0x86, 0xdd]), Doubts { other_protocol: 1, ..none }),
        ("UDP", changed(syn(), packet::IPV4_PROTOCOL, &[17]), Doubts { other_protocol: 1, ..none }),
        ("a VLAN tag", request(SYN).vlan_tags(1).frame(), Doubts { vlan: 1, ..none }),
        ("two VLAN tags", request(SYN).vlan_tags(2).frame(), Doubts { vlan: 1, ..none }),
        ("a later fragment", changed(syn(), packet::IPV4_FRAGMENT, &[0, 1]), Doubts { fragment: 1, ..none }),
        ("IP version 5", changed(syn(), packet::IPV4_VERSION_AND_LENGTH, &[0x55]), malformed),
        ("an IP header of 16 bytes", changed(syn(), packet::IPV4_VERSION_AND_LENGTH, &[0x44]), malformed),
        ("an IP header past the end", changed(syn(), packet::IPV4_VERSION_AND_LENGTH, &[0x4f]), malformed),
        ("a TCP header of 16 bytes", changed(syn(), packet::TCP_OFFSET, &[0x40]), malformed),
        ("a TCP header past the end", changed(syn(), packet::TCP_OFFSET, &[0xf0]), malformed),
        ("a length below the headers", changed(syn(), packet::IPV4_TOTAL_LENGTH, &[0, 39]), malformed),
        ("a length beyond the frame", changed(syn(), packet::IPV4_TOTAL_LENGTH, &[0, 41]), malformed),
        ("a length of zero", changed(syn(), packet::IPV4_TOTAL_LENGTH, &[0, 0]), malformed),
    ];
    for (name, frame, expected) in cases {
        let mut bench = Bench::new();
        bench.run(OUT, &frame);
        assert_eq!(bench.signals.doubts().unwrap(), expected, "{name}");
        assert_eq!(bench.signals.counters(MASQUERADED), ServerCounters::default(), "{name}");
    }
}

#[test]
fn a_first_fragment_still_has_its_ports() {
    let mut bench = Bench::new();
    // "More fragments" set, offset 0.
    bench.run(OUT, &changed(request(SYN).frame(), packet::IPV4_FRAGMENT, &[0x20, 0]));
    assert_eq!(bench.signals.counters(MASQUERADED).syn, 1);
}

#[test]
fn a_frame_cut_at_any_length_is_let_pass() {
    let mut bench = Bench::new();
    let whole = request(SYN).ip_options(&[1; 8]).payload(b"hello").frame();
    // The kernel's test run takes no shorter frame that calls itself IPv4.
    let shortest = packet::ETHERNET + 20;
    for length in shortest..whole.len() {
        bench.run(OUT, &whole[..length]);
        bench.run(Way::In, &whole[..length]);
    }
    assert_eq!(bench.signals.counters(MASQUERADED), ServerCounters::default());
    let doubts = bench.signals.doubts().unwrap();
    assert_eq!(doubts.malformed, 2 * (whole.len() - shortest) as u64);
}

#[test]
fn a_server_that_is_no_longer_watched_counts_nothing() {
    let mut bench = Bench::new();
    let key = MasqueradeKey::new(server().ip().octets(), server().port().to_be_bytes());
    bench.kernel.unwatch(&WireKey::Masquerade(key)).unwrap();
    bench.kernel.unwatch(&WireKey::Masquerade(key)).expect("twice is fine");
    bench.run(OUT, &request(SYN).frame());
    assert_eq!(bench.signals.counters(MASQUERADED), ServerCounters::default());
    assert_eq!(bench.signals.doubts().unwrap().no_server, 1);
}

#[test]
fn an_id_outside_the_arrays_is_counted_as_a_doubt() {
    let mut bench = Bench::new();
    let key = MasqueradeKey::new(server().ip().octets(), server().port().to_be_bytes());
    bench.kernel.watch(&WireKey::Masquerade(key), ServerId(4)).unwrap();
    bench.run(OUT, &request(SYN).frame());
    assert_eq!(bench.signals.doubts().unwrap().bad_server_id, 1);
}
