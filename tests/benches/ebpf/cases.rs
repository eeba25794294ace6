//! Which packets are measured, and against what.

use std::net::SocketAddr;

use lvs_common::{EGRESS, EGRESS_CHANCE, INGRESS, INGRESS_CHANCE};
use lvs_tests::packets::builder::{ACK, Frame, RST, SYN, Segment, tcp, udp};

use crate::{
    measure::RUNS,
    programs::{COUNT, MAC, PARSE, Programs, socket},
};

/// Single runs take a system call each.
const SINGLE_RUNS: u16 = 20_000;

/// What a case is compared with.
#[derive(Clone, Copy)]
pub(crate) struct Against {
    reference: &'static str,
    /// The ratio that must be kept, if one must.
    pub(crate) limit: Option<f64>,
}

impl Against {
    pub(crate) fn name(self) -> &'static str {
        self.reference
    }
}

/// How the packets follow one another.
enum Packets {
    /// First these, then one again and again.
    Repeated { before: Vec<(&'static str, Frame)>, frame: Frame },
    /// SYNs from one port after another, each run by itself and none of them known; the ports may be.
    New { ports_known: bool },
}

pub(crate) struct Case {
    pub(crate) name: &'static str,
    program: &'static str,
    packets: Packets,
    pub(crate) against: Option<Against>,
}

impl Case {
    /// Measures ns a run.
    pub(crate) fn measure(&self, programs: &mut Programs) -> f64 {
        match &self.packets {
            Packets::Repeated { before, frame } => {
                for (program, frame) in before {
                    programs.run(program, frame, 1);
                }
                programs.run(self.program, frame, RUNS)
            }
            Packets::New { ports_known } => {
                let client = |port| SocketAddr::new([198, 51, 100, 10].into(), 40_000 + port);
                let mut times = (0..SINGLE_RUNS)
                    .map(|port| {
                        let frame = tcp(client(port), server(), SYN).sequence(fastrand::u32(..)).frame();
                        programs.run(self.program, &frame, 1)
                    })
                    .collect::<Vec<_>>();
                if !ports_known {
                    // All give up, so that in the next round nothing is known of their ports.
                    for port in 0..SINGLE_RUNS {
                        programs.run(self.program, &tcp(client(port), server(), RST).frame(), 1);
                    }
                }
                times.sort_by(f64::total_cmp);
                times[times.len() / 2]
            }
        }
    }
}

const BARE: &str = "reference: bare parse";
const COUNTED: &str = "reference: parse, one look-up, one add";
const COUNTED_SINGLY: &str = "reference: the same, single runs";

fn server() -> SocketAddr {
    socket("10.0.0.1:80")
}

fn client() -> SocketAddr {
    socket("198.51.100.7:40000")
}

fn data(to: SocketAddr) -> Segment {
    let from = if to.is_ipv6() { socket("[2001:db8:7::7]:40000") } else { client() };
    tcp(from, to, ACK).sequence(1000).acknowledging(5000).payload(&[0; 512])
}

fn acknowledgement() -> Segment {
    tcp(client(), server(), ACK).sequence(1512).acknowledging(5000)
}

pub(crate) fn cases() -> Vec<Case> {
    let vip = socket("192.0.2.80:80");
    let (near, far) = (socket("10.0.1.254:0").ip(), socket("10.0.1.1:0").ip());
    // Another client than the established flow's.
    let other = socket("198.51.100.8:41000");
    let syn = tcp(other, server(), SYN).sequence(99);
    let syn_ack = tcp(server(), other, SYN | ACK).acknowledging(100);
    let query = udp(client(), socket("10.0.0.1:53"), &[0; 40]);
    let response = udp(socket("10.0.0.1:53"), client(), &[0; 40]);
    let mut cases = vec![
        repeated(BARE, PARSE, data(server()).frame(), None),
        repeated(COUNTED, COUNT, data(server()).frame(), None),
        repeated(
            "none of our business",
            EGRESS,
            data(socket("10.9.9.9:80")).frame(),
            Some((BARE, Some(1.2))),
        ),
        repeated(
            "none of our business, into the director",
            INGRESS,
            data(socket("10.9.9.9:80")).frame(),
            Some((BARE, Some(1.2))),
        ),
        flow("data of an established flow", &data(server()), data(server()).frame(), Some(3.0)),
        flow("its acknowledgements", &data(server()), acknowledgement().frame(), Some(3.0)),
        flow("IPv6 data", &data(socket("[fd00::1]:80")), data(socket("[fd00::1]:80")).frame(), None),
    ];
    cases.extend([
        repeated("direct route, data", EGRESS, data(vip).frame().to_mac(MAC), Some((COUNTED, Some(3.0)))),
        repeated("tunnel, data", EGRESS, data(vip).packet().ipip(near, far).frame(), Some((COUNTED, None))),
        unsampled(),
        repeated(
            "data into the director",
            INGRESS,
            tcp(server(), client(), ACK).payload(&[0; 512]).frame(),
            Some((COUNTED, Some(3.0))),
        ),
        repeated("SYN, sent again", EGRESS, syn.frame(), Some((COUNTED, Some(5.0)))),
        after("SYN-ACK", INGRESS, vec![(EGRESS, syn.frame())], syn_ack.frame()),
        repeated("UDP out", EGRESS, query.frame(), Some((COUNTED, None))),
        repeated("UDP into the director", INGRESS, response.frame(), Some((COUNTED, None))),
        singly(COUNTED_SINGLY, COUNT, true, None),
        singly("SYN, new", EGRESS, false, Some((COUNTED_SINGLY, Some(5.0)))),
        singly("SYN, new, from a port that waits", EGRESS, true, Some((COUNTED_SINGLY, Some(5.0)))),
    ]);
    cases.extend(with_second_chance());
    cases
}

/// Cases of before, against themselves without second chance.
fn with_second_chance() -> [Case; 5] {
    let answer = tcp(server(), client(), ACK).payload(&[0; 512]).frame();
    [
        repeated(
            "second chance: data",
            EGRESS_CHANCE,
            data(server()).frame(),
            Some(("data of an established flow", None)),
        ),
        repeated(
            "second chance: data into the director",
            INGRESS_CHANCE,
            answer,
            Some(("data into the director", None)),
        ),
        singly("second chance: SYN, new", EGRESS_CHANCE, false, Some(("SYN, new", Some(1.5)))),
        singly(
            "second chance: SYN, new, from a port that waits",
            EGRESS_CHANCE,
            true,
            Some(("SYN, new, from a port that waits", None)),
        ),
        repeated(
            "second chance: none of our business",
            EGRESS_CHANCE,
            data(socket("10.9.9.9:80")).frame(),
            Some(("none of our business", None)),
        ),
    ]
}

type Limit = Option<(&'static str, Option<f64>)>;

fn against(limit: Limit) -> Option<Against> {
    limit.map(|(reference, limit)| Against { reference, limit })
}

fn repeated(name: &'static str, program: &'static str, frame: Frame, limit: Limit) -> Case {
    Case { name, program, packets: Packets::Repeated { before: Vec::new(), frame }, against: against(limit) }
}

fn after(
    name: &'static str,
    program: &'static str,
    before: Vec<(&'static str, Frame)>,
    frame: Frame,
) -> Case {
    Case {
        name,
        program,
        packets: Packets::Repeated { before, frame },
        against: against(Some((COUNTED, None))),
    }
}

/// A packet of a flow that has a slot.
fn flow(name: &'static str, first: &Segment, frame: Frame, limit: Option<f64>) -> Case {
    let case = after(name, EGRESS, vec![(EGRESS, first.frame())], frame);
    Case { against: against(Some((COUNTED, limit))), ..case }
}

/// A flow whose slot another one holds: enough others come first to fill all slots.
fn unsampled() -> Case {
    let crowded = socket("10.1.0.1:80");
    let flows = |port: u16| data(crowded).from(SocketAddr::new([198, 51, 100, 9].into(), port)).frame();
    let before = (20_000..21_000).map(|port| (EGRESS, flows(port))).collect();
    after("data of a flow that is not sampled", EGRESS, before, flows(21_000))
}

fn singly(name: &'static str, program: &'static str, ports_known: bool, limit: Limit) -> Case {
    Case { name, program, packets: Packets::New { ports_known }, against: against(limit) }
}
