mod few_networks;

use bytemuck::Zeroable as _;
use lvs_common::{ServerAnswered, ServerWaiting};
use proptest::prelude::*;

use super::*;
use crate::passive::visibility::Visibility;

/// From one look to the next.
const LOOK_NS: u64 = 100_000_000;

/// What clients did at one server since the look before.
#[derive(Clone, Debug, Default)]
struct Traffic {
    syns: u64,
    again: u64,
    syn_acks: u64,
    refused: u64,
    handshakes: u64,
    /// To and from a UDP server.
    datagrams: (u64, u64),
    requests: u64,
    responses: u64,
    /// The networks that asked.
    networks: Vec<u32>,
    /// The networks of flows that wait for too long.
    stuck: Vec<u32>,
}

/// Servers, what was counted for them, and what was said.
struct World {
    watch: ClientWatch,
    counters: Vec<ServerCounters>,
    states: Vec<ServerState>,
    answered: Answered,
    now_ns: u64,
    said: Vec<(u64, ServerId, ClientsSay)>,
}

/// Whom each server has answered, and when.
struct Answered(Vec<ServerAnswered>);

impl Readings for Answered {
    fn counters(&self, _: ServerId) -> ServerCounters {
        ServerCounters::zeroed()
    }

    fn active_flows(&self, _: ServerId, _: u64) -> u32 {
        0
    }

    fn waiting(&self, _: ServerId) -> ServerWaiting {
        ServerWaiting::zeroed()
    }

    fn answered(&self, id: ServerId, layer: Layer, network: u8) -> u32 {
        let answered = &self.0[id.0 as usize];
        let times = if layer == Layer::Host { &answered.listener } else { &answered.application };
        times[usize::from(network)]
    }
}

fn groups(servers: u32, protocol: Protocol, spread: Spread, visibility: Visibility) -> Vec<SiblingGroup> {
    let members = (0..servers).map(|id| (ServerId(id), visibility)).collect();
    vec![SiblingGroup { protocol, spread, members }]
}

impl World {
    fn new(groups: &[SiblingGroup], servers: usize) -> Self {
        let mut watch = ClientWatch::default();
        watch.set_groups(groups);
        Self {
            watch,
            counters: vec![ServerCounters::zeroed(); servers],
            states: vec![ServerState::zeroed(); servers],
            answered: Answered(vec![ServerAnswered::zeroed(); servers]),
            now_ns: 1_000_000_000_000,
            said: Vec::new(),
        }
    }

    /// Goes on for so many seconds. `traffic` says what happens at a server, by the number of the look.
    fn run(&mut self, seconds: u64, mut traffic: impl FnMut(u32, u64) -> Traffic) {
        for look in 0..seconds * 10 {
            self.now_ns += LOOK_NS;
            for server in 0..u32::try_from(self.counters.len()).unwrap() {
                self.look(server, &traffic(server, look));
            }
        }
    }

    fn look(&mut self, server: u32, traffic: &Traffic) {
        let index = server as usize;
        let (counters, state) = (&mut self.counters[index], &mut self.states[index]);
        counters.syn += traffic.syns;
        counters.syn_again += traffic.again;
        counters.syn_ack += traffic.syn_acks;
        counters.refused += traffic.refused;
        counters.handshakes += traffic.handshakes;
        counters.packets_in += traffic.datagrams.0;
        counters.handshake.buckets[3] += u32::try_from(traffic.datagrams.1).unwrap();
        counters.requests += traffic.requests;
        counters.responses += traffic.responses;
        // The last answer was to the last one who has asked.
        let alive = traffic.handshakes + traffic.syn_acks + traffic.datagrams.1 > 0;
        note(&mut state.listener, alive, traffic.syns + traffic.datagrams.0, &traffic.networks, self.now_ns);
        note(&mut state.application, traffic.responses > 0, traffic.requests, &traffic.networks, self.now_ns);
        for network in &traffic.networks {
            let (answered, bit) = (&mut self.answered.0[index], *network as usize % Sketch::BITS);
            if alive {
                answered.listener[bit] = ServerAnswered::time_of(self.now_ns);
            }
            if traffic.responses > 0 {
                answered.application[bit] = ServerAnswered::time_of(self.now_ns);
            }
        }
        let overdue = self.now_ns - 2 * OVERDUE_NS;
        let flow = |network: &u32| Flow { tag: 1, request_ns: overdue, network: *network, ..Flow::zeroed() };
        let flows = || traffic.stuck.iter().map(flow);
        let (counters, state) = (&self.counters[index], &self.states[index]);
        if let Some(ClientReport { id, say }) =
            self.watch.learn(ServerId(server), counters, state, flows, &self.answered, self.now_ns)
        {
            self.said.push(((self.now_ns - 1_000_000_000_000) / 1_000_000_000, id, say));
        }
    }

    /// Who complained first of what, and after how many seconds.
    fn complaints(&self) -> Vec<(u32, Missing, u64)> {
        let mut complaints: Vec<(u32, Missing, u64)> = Vec::new();
        for (second, id, say) in &self.said {
            if let ClientsSay::Failing(complaint) = say
                && !complaints.iter().any(|(server, ..)| *server == id.0)
            {
                complaints.push((id.0, complaint.missing, *second));
            }
        }
        complaints
    }
}

fn note(layer: &mut lvs_common::LayerState, alive: bool, demands: u64, networks: &[u32], now_ns: u64) {
    if demands > 0 {
        layer.attempts += u32::try_from(demands).unwrap();
        for network in networks {
            layer.networks.add(*network);
        }
    }
    if alive {
        (layer.progress_ns, layer.networks, layer.attempts) = (now_ns, Sketch::NONE, 0);
    }
}

/// A connection from one of so many networks, each of them in turn.
fn connection(look: u64, networks: u64) -> Traffic {
    let network = u32::try_from(look % networks).unwrap() * 7;
    Traffic { syns: 1, networks: vec![network], ..Traffic::default() }
}

/// The same, and it is served.
fn served(look: u64, networks: u64) -> Traffic {
    Traffic { handshakes: 1, syn_acks: 1, requests: 1, responses: 1, ..connection(look, networks) }
}

/// What happens, and who complains of what, no sooner and no later than so many seconds after the start.
type Case =
    (&'static str, u32, Spread, Visibility, fn(u32, u64) -> Traffic, &'static [(u32, Missing, u64, u64)]);

const HALF: Visibility = Visibility::ClientOnly;
const WHOLE: Visibility = Visibility::Both;

fn check(protocol: Protocol, cases: &[Case]) {
    for (name, servers, spread, visibility, traffic, expected) in cases {
        let groups = groups(*servers, protocol, *spread, *visibility);
        let mut world = World::new(&groups, *servers as usize);
        world.run(150, traffic);
        let complaints = world.complaints();
        let all_fit = expected.len() == complaints.len()
            && expected.iter().zip(&complaints).all(|(wanted, (who, what, second))| {
                let (server, missing, from, to) = wanted;
                server == who && missing == what && (from..=to).contains(&second)
            });
        assert!(all_fit, "{name}: {complaints:?}");
    }
}

#[test]
fn handshakes_that_only_one_server_lacks_are_a_complaint() {
    let cases: [Case; 6] = [
        (
            "no VIP, from the start",
            3,
            Spread::Even,
            HALF,
            |server, look| if server == 0 { connection(look, 12) } else { served(look, 12) },
            &[(0, Missing::Handshake, 10, 13)],
        ),
        (
            "the same where a client stays with its server",
            3,
            Spread::Pinned,
            HALF,
            |server, look| if server == 0 { connection(look, 12) } else { served(look, 12) },
            &[(0, Missing::Handshake, 10, 13)],
        ),
        (
            "two a second",
            4,
            Spread::Even,
            HALF,
            |server, look| match (server, look % 5) {
                (0, 0) => connection(look / 5, 12),
                (_, 0) => served(look / 5, 12),
                _ => Traffic::default(),
            },
            &[(0, Missing::Handshake, 10, 13)],
        ),
        (
            "lost while it runs",
            3,
            Spread::Even,
            HALF,
            |server, look| if server == 0 && look > 500 { connection(look, 12) } else { served(look, 12) },
            &[(0, Missing::Handshake, 60, 63)],
        ),
        (
            "in a flood of forged SYNs",
            3,
            Spread::Even,
            HALF,
            |server, look| {
                let real = if server == 0 { connection(look, 12) } else { served(look, 12) };
                Traffic { syns: real.syns + 9, ..real }
            },
            &[(0, Missing::Handshake, 10, 30)],
        ),
        (
            "two of four",
            4,
            Spread::Even,
            HALF,
            |server, look| if server < 2 { connection(look, 12) } else { served(look, 12) },
            &[(0, Missing::Handshake, 10, 13), (1, Missing::Handshake, 10, 13)],
        ),
    ];
    check(Protocol::Tcp, &cases);
}

#[test]
fn where_answers_are_seen_it_is_known_what_is_missing() {
    let cases: [Case; 3] = [
        (
            "default route past the director",
            3,
            Spread::Even,
            WHOLE,
            |server, look| if server == 0 { connection(look, 12) } else { served(look, 12) },
            &[(0, Missing::SynAck, 10, 13)],
        ),
        (
            "clients are refused",
            3,
            Spread::Even,
            WHOLE,
            |server, look| {
                if server == 0 { Traffic { refused: 1, ..connection(look, 12) } } else { served(look, 12) }
            },
            &[(0, Missing::Acceptance, 10, 13)],
        ),
        (
            "answers that clients don't take",
            3,
            Spread::Even,
            WHOLE,
            |server, look| match (server, look % 3) {
                (0, 0) => Traffic { syn_acks: 3, ..Traffic::default() },
                (0, _) => connection(look, 12),
                _ => served(look, 12),
            },
            &[(0, Missing::Handshake, 10, 16)],
        ),
    ];
    check(Protocol::Tcp, &cases);
}

#[test]
fn floods_bad_networks_and_silence_are_no_complaint() {
    let cases: [Case; 6] = [
        ("all is well", 3, Spread::Even, HALF, |_, look| served(look, 12), &[]),
        ("no traffic", 3, Spread::Even, HALF, |_, _| Traffic::default(), &[]),
        (
            "a flood of forged SYNs",
            3,
            Spread::Even,
            HALF,
            |_, look| Traffic { syns: 50, ..served(look, 100) },
            &[],
        ),
        ("a flood and no client", 3, Spread::Even, HALF, |_, look| connection(look, 100), &[]),
        (
            "one bad network",
            3,
            Spread::Even,
            HALF,
            |_, look| if look % 4 == 0 { connection(0, 1) } else { served(look, 12) },
            &[],
        ),
        (
            "one bad network that always meets the same server",
            4,
            Spread::Even,
            HALF,
            |server, look| {
                let network = vec![server * 50];
                if server == 0 {
                    Traffic { networks: network, ..connection(look, 1) }
                } else {
                    Traffic { networks: network, ..served(look, 1) }
                }
            },
            &[],
        ),
    ];
    check(Protocol::Tcp, &cases);
}

#[test]
fn a_server_without_siblings_to_compare_with_needs_more_evidence() {
    let cases: [Case; 6] = [
        (
            "alone, clients try again",
            1,
            Spread::Even,
            HALF,
            |_, look| Traffic { again: 1, ..connection(look, 12) },
            &[(0, Missing::Handshake, 60, 62)],
        ),
        ("alone, forged SYNs", 1, Spread::Even, HALF, |_, look| connection(look, 100), &[]),
        (
            "alone, forged SYNs, and it answers",
            1,
            Spread::Even,
            WHOLE,
            |_, look| Traffic { syn_acks: 1, ..connection(look, 100) },
            &[],
        ),
        (
            "alone, and it answers no SYN",
            1,
            Spread::Even,
            WHOLE,
            |_, look| connection(look, 12),
            &[(0, Missing::SynAck, 60, 62)],
        ),
        (
            "alone, one network",
            1,
            Spread::Even,
            HALF,
            |_, look| Traffic { again: 1, ..connection(look, 1) },
            &[],
        ),
        (
            "all alike",
            2,
            Spread::Even,
            HALF,
            |_, look| Traffic { again: 1, ..connection(look, 12) },
            &[(0, Missing::Handshake, 60, 62), (1, Missing::Handshake, 60, 62)],
        ),
    ];
    check(Protocol::Tcp, &cases);
    let mut world = World::new(&groups(2, Protocol::Tcp, Spread::Even, HALF), 2);
    world.run(70, |_, look| Traffic { again: 1, ..connection(look, 12) });
    let alike = |(_, _, say): &(u64, ServerId, ClientsSay)| matches!(say, ClientsSay::Failing(complaint) if complaint.siblings == Comparison::Alike);
    assert!(world.said.iter().all(alike), "{:?}", world.said);
}

#[test]
fn responses_that_are_missing_are_a_complaint_unless_the_protocol_has_none() {
    let cases: [Case; 8] = [
        (
            "none at one server",
            3,
            Spread::Even,
            HALF,
            |server, look| Traffic { responses: u64::from(server > 0), ..served(look, 12) },
            &[(0, Missing::Response, 10, 13)],
        ),
        (
            "half of them at one server",
            3,
            Spread::Even,
            HALF,
            |server, look| Traffic {
                responses: if server == 0 { look % 2 } else { 1 },
                stuck: vec![7, 14, 21],
                ..served(look, 12)
            },
            &[(0, Missing::Response, 30, 60)],
        ),
        (
            "half of them, of flows that are not known",
            3,
            Spread::Even,
            HALF,
            |server, look| Traffic { responses: if server == 0 { look % 2 } else { 1 }, ..served(look, 12) },
            &[],
        ),
        (
            "half of them, of one network that siblings don't have",
            3,
            Spread::Even,
            HALF,
            |server, look| Traffic {
                responses: if server == 0 { look % 2 } else { 1 },
                stuck: vec![250],
                ..served(look, 12)
            },
            &[],
        ),
        (
            "half of them everywhere",
            3,
            Spread::Even,
            HALF,
            |_, look| Traffic { responses: look % 2, stuck: vec![7, 14, 21], ..served(look, 12) },
            &[],
        ),
        (
            "a protocol without responses",
            1,
            Spread::Even,
            HALF,
            |_, look| Traffic { responses: 0, ..served(look, 12) },
            &[],
        ),
        (
            "alone, and its clients only push once they are connected",
            1,
            Spread::Even,
            HALF,
            |_, look| {
                if look < 300 {
                    served(look, 12)
                } else {
                    Traffic { requests: 1, networks: vec![7, 14, 21, 28], ..Traffic::default() }
                }
            },
            &[],
        ),
        (
            "alone, and it has responded before",
            1,
            Spread::Even,
            HALF,
            |_, look| Traffic { responses: u64::from(look < 300), ..served(look, 12) },
            &[(0, Missing::Response, 90, 93)],
        ),
    ];
    check(Protocol::Tcp, &cases);
}

#[test]
fn datagrams_want_answers_where_siblings_give_some() {
    fn datagram(look: u64, answers: u64) -> Traffic {
        Traffic { syns: 0, datagrams: (1, answers), ..connection(look, 12) }
    }
    let cases: [Case; 4] = [
        (
            "none at one server",
            3,
            Spread::Even,
            WHOLE,
            |server, look| datagram(look, u64::from(server > 0)),
            &[(0, Missing::Datagram, 10, 13)],
        ),
        ("a service that never answers", 3, Spread::Even, WHOLE, |_, look| datagram(look, 0), &[]),
        ("alone, and never answers", 1, Spread::Even, WHOLE, |_, look| datagram(look, 0), &[]),
        (
            "only the agent asks",
            3,
            Spread::Even,
            WHOLE,
            |server, look| {
                if server == 0 {
                    Traffic { networks: vec![], ..datagram(look, 0) }
                } else {
                    datagram(look, 1)
                }
            },
            &[],
        ),
    ];
    check(Protocol::Udp, &cases);
}

#[test]
fn a_complaint_is_repeated_with_new_numbers_and_ends_once_when_clients_are_served() {
    let mut world = World::new(&groups(3, Protocol::Tcp, Spread::Even, HALF), 3);
    world.run(45, |server, look| if server == 0 { connection(look, 12) } else { served(look, 12) });
    let attempts: Vec<u64> = world
        .said
        .iter()
        .map(|(_, id, say)| match say {
            ClientsSay::Failing(complaint) if *id == ServerId(0) => complaint.attempts,
            other => panic!("{id:?} {other:?}"),
        })
        .collect();
    assert_eq!(attempts.len(), 4, "every ten seconds: {:?}", world.said);
    assert!(attempts.is_sorted_by(|one, next| one < next), "{attempts:?}");
    world.said.clear();
    world.run(30, |_, look| served(look, 12));
    assert!(matches!(&world.said[..], [(_, ServerId(0), ClientsSay::Served)]), "{:?}", world.said);
}

#[test]
fn what_failed_before_does_not_delay_the_end() {
    let mut world = World::new(&groups(3, Protocol::Tcp, Spread::Even, HALF), 3);
    let stuck = vec![7, 14, 21];
    world.run(900, |server, look| {
        let responses = if server == 0 { look % 2 } else { 1 };
        Traffic { responses, stuck: stuck.clone(), ..served(look, 12) }
    });
    assert_eq!(world.complaints().len(), 1);
    world.said.clear();
    world.run(60, |_, look| served(look, 12));
    let ends = world.said.iter().filter(|(.., say)| *say == ClientsSay::Served);
    let seconds: Vec<_> = ends.map(|(second, ..)| *second).collect();
    assert!(matches!(seconds[..], [second] if second <= 930), "{:?}", world.said);
    // A share of the handshakes that goes on failing is no end.
    let mut world = World::new(&groups(3, Protocol::Tcp, Spread::Even, HALF), 3);
    world.run(30, |server, look| if server == 0 { connection(look, 12) } else { served(look, 12) });
    world.said.clear();
    world.run(
        300,
        |server, look| {
            if server == 0 && look % 2 == 0 { connection(look, 12) } else { served(look, 12) }
        },
    );
    assert_eq!(world.said, []);
    world.run(10, |_, look| served(look, 12));
    assert!(matches!(&world.said[..], [(_, ServerId(0), ClientsSay::Served)]), "{:?}", world.said);
}

#[test]
fn what_was_not_heard_is_said_again() {
    let mut world = World::new(&groups(3, Protocol::Tcp, Spread::Even, HALF), 3);
    let failing = |server, look| if server == 0 { connection(look, 12) } else { served(look, 12) };
    world.run(13, failing);
    let (_, id, say) = world.said.pop().unwrap();
    world.watch.unheard(&ClientReport { id, say });
    world.run(2, failing);
    assert_eq!(world.complaints().len(), 1, "within a second, not after ten");
    world.said.clear();
    world.run(15, |_, look| served(look, 12));
    world.watch.unheard(&ClientReport { id, say: ClientsSay::Served });
    world.run(2, |_, look| served(look, 12));
    assert_eq!(world.said.len(), 2, "{:?}", world.said);
}

#[test]
fn a_server_that_was_down_begins_anew() {
    let mut world = World::new(&groups(3, Protocol::Tcp, Spread::Even, HALF), 3);
    let failing = |server, look| if server == 0 { connection(look, 12) } else { served(look, 12) };
    world.run(8, failing);
    world.watch.restart(ServerId(0));
    world.run(8, failing);
    assert_eq!(world.said, [], "neither part has lasted for long enough");
    world.watch.forget(ServerId(0));
    world.run(8, failing);
    assert_eq!(world.said, [], "it is another server");
    world.run(5, failing);
    assert_eq!(world.complaints().len(), 1);
}

proptest! {
    /// Whatever share of their clients servers serve, and however many forged SYNs come, servers that fare alike are no
    /// complaint.
    #[test]
    fn servers_that_fare_alike_are_no_complaint(
        every in 1_u64..8, forged in 0_u64..60, servers in 1_u32..5, networks in 1_u64..40, pinned: bool,
    ) {
        let spread = if pinned { Spread::Pinned } else { Spread::Even };
        let mut world = World::new(&groups(servers, Protocol::Tcp, spread, HALF), servers as usize);
        world.run(100, |server, look| {
            let real = if (look + u64::from(server)) % every == 0 { served(look, networks) } else { connection(look, networks) };
            Traffic { syns: real.syns + forged, ..real }
        });
        prop_assert_eq!(world.complaints(), vec![]);
    }
}
