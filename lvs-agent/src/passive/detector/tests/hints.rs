//! Hints and witnesses: what single connections show.

use lvs_common::{ServerAnswered, ServerWaiting, WaitingConnections};

use super::*;

/// The client network of most connections below.
const NETWORK: u8 = 7;

/// A kernel side that knows which connections wait for the server of these tests, and when siblings answered
/// [`NETWORK`].
struct Connections {
    waiting: WaitingConnections,
    answered_ns: u64,
}

impl Readings for Connections {
    fn counters(&self, _: ServerId) -> ServerCounters {
        since_training(0, 0)
    }

    fn active_flows(&self, _: ServerId, _: u64) -> u32 {
        64
    }

    fn waiting(&self, _: ServerId) -> ServerWaiting {
        ServerWaiting { listener: self.waiting, application: self.waiting }
    }

    fn answered(&self, id: ServerId, _: Layer, network: u8) -> u32 {
        if id == ID || network != NETWORK { 0 } else { ServerAnswered::time_of(self.answered_ns) }
    }
}

/// Connections of one client network that wait, one every `gap` ns since `from_ns`.
fn connections(from_ns: u64, count: u32, gap: u64) -> (LayerState, Connections) {
    connections_of(NETWORK, from_ns, count, gap)
}

fn connections_of(network: u8, from_ns: u64, count: u32, gap: u64) -> (LayerState, Connections) {
    let mut layer = waiting_after(from_ns - gap, count.min(1), gap);
    let mut waiting =
        WaitingConnections { first: [network; 16], networks: [network; 16], ..WaitingConnections::zeroed() };
    for number in 1..count {
        waiting.since_ns[waiting.waiting as usize] = from_ns + gap * u64::from(number);
        waiting.waiting += 1;
        layer.attempts += 1;
        layer.last_ns = from_ns + gap * u64::from(number);
    }
    (layer, Connections { waiting, answered_ns: 0 })
}

/// As [`trained`], with siblings.
fn one_of_three(rate: u32, wait: Duration) -> Detector {
    let mut detector = Detector::new(settings());
    let ids = [ID, ServerId(8), ServerId(9)];
    detector.set_services([ids.to_vec()]);
    train(&mut detector, &ids, rate, rate, wait);
    detector
}

fn look(detector: &mut Detector, state: ServerState, shown: &Connections, now_ns: u64) -> Option<Finding> {
    let visibility = Visibility::ClientOnly;
    detector.evaluate(&View { id: ID, visibility, state }, shown, now_ns)
}

fn hint(finding: Option<Finding>) -> Option<Layer> {
    match finding {
        Some(Finding::Hint(hint)) => Some(hint.layer),
        _ => None,
    }
}

#[test]
fn one_connection_that_waits_for_longer_than_anybody_lately_is_odd() {
    let ms = Duration::from_millis;
    let (host, application) = (Some(Layer::Host), Some(Layer::Application));
    let listens: fn(LayerState) -> ServerState = listener;
    let cases = [
        ("at any rate", 2, ms(1), listens, 21, host),
        ("not within the floor", 50, ms(1), listens, 19, None),
        ("nor where others waited as long", 50, ms(40), listens, 60, None),
        ("but after that", 50, ms(40), listens, 120, host),
        ("a request", 50, ms(5), application_of, 81, application),
        ("a request within the floor", 50, ms(5), application_of, 79, None),
    ];
    for (name, rate, wait, state, after_ms, expected) in cases {
        let mut detector = one_of_three(rate, wait);
        let from_ns = START + 5 * MS;
        let (layer, shown) = connections(from_ns, 1, MS);
        let now_ns = from_ns + after_ms * MS;
        assert_eq!(hint(look(&mut detector, state(layer), &shown, now_ns)), expected, "{name}");
        if expected.is_some() {
            let again = look(&mut detector, state(layer), &shown, now_ns + MS);
            assert_eq!(again, None, "{name}: once is enough");
        }
    }
}

fn application_of(layer: LayerState) -> ServerState {
    application(layer)
}

/// What clients waited for while it was down says nothing of how long a living server lets them wait: the second fault
/// within minutes is noticed as soon as the first.
#[test]
fn a_server_that_was_down_is_asked_as_soon_as_before() {
    for (name, down_for_ms) in [("for longer than anything is left to be learned", 400), ("for a moment", 50)]
    {
        let mut detector = one_of_three(50, Duration::from_millis(1));
        let mut counters = since_training(0, 0);
        (counters.requests, counters.response) = (counters.syn, counters.handshake);
        counters.syn += 8;
        detector.learn(ID, &counters, START + 100 * MS);
        detector.observe(ID, Observation::Down, START + 150 * MS);
        let up_ns = START + (150 + down_for_ms) * MS;
        if down_for_ms > 100 {
            detector.learn(ID, &counters, START + 250 * MS);
        }
        detector.observe(ID, Observation::Up, up_ns);
        detector.learn(ID, &counters, up_ns + 20 * MS);
        // The SYNs of those eight, a second after the first ones.
        counters.syn += 8;
        counters.handshake.buckets[Latencies::bucket_of(SECOND)] += 8;
        detector.learn(ID, &counters, START + 1_100 * MS);
        let from_ns = START + 10 * SECOND;
        let (layer, shown) = connections(from_ns, 1, MS);
        let asked = hint(look(&mut detector, listener(layer), &shown, from_ns + 21 * MS));
        assert_eq!(asked, Some(Layer::Host), "{name}");
    }
}

#[test]
fn a_server_that_nothing_is_known_of_gets_no_hint() {
    let (layer, shown) = connections(START + MS, 3, 20 * MS);
    let mut detector = Detector::new(settings());
    assert_eq!(look(&mut detector, listener(layer), &shown, START + 200 * MS), None);
    let never = LayerState { progress_ns: 0, ..layer };
    assert_eq!(
        look(&mut one_of_three(50, Duration::from_millis(1)), listener(never), &shown, START + SECOND),
        None
    );
}

/// Rounds of a healthy server whose clients wait in vain, one every `gap`: how often in `hours` a hint is raised, each
/// refuted at once. `network` says whose connections wait in each round.
fn refuted(hours: u64, gap: u64, count: u32, network: impl Fn(u64) -> u8) -> Vec<u64> {
    let mut detector = one_of_three(50, Duration::from_millis(1));
    let mut raised = Vec::new();
    for round in 1..hours * 3_600 * SECOND / gap {
        let at_ns = START + round * gap;
        let (layer, shown) = connections_of(network(round), at_ns, count, 10 * MS);
        if hint(look(&mut detector, listener(layer), &shown, at_ns + 100 * MS)).is_some() {
            detector.observe(ID, Observation::HintRefuted(Layer::Host), at_ns + 102 * MS);
            raised.push(at_ns);
        }
    }
    raised
}

#[test]
fn hints_that_are_refuted_become_rare_whatever_the_cause() {
    for (name, count, most) in [("one connection", 1, 3), ("as many as are remembered", 16, 16)] {
        for gap in [300 * MS, 10 * SECOND] {
            let raised = refuted(3, gap, count, |_| NETWORK);
            assert!(!raised.is_empty() && raised.len() <= 3 * most, "{name}: {} in 3 h", raised.len());
            let pause = raised.windows(2).map(|pair| pair[1] - pair[0]).min();
            assert!(pause.is_none_or(|pause| pause >= SECOND), "{name}: at most one a second");
        }
    }
}

#[test]
fn one_client_network_does_not_mute_hints_for_others() {
    let mut detector = one_of_three(50, Duration::from_millis(1));
    let mut now_ns = START;
    for _ in 0..500 {
        now_ns += 2 * SECOND;
        let (layer, shown) = connections_of(1, now_ns, 4, 10 * MS);
        if look(&mut detector, listener(layer), &shown, now_ns + 100 * MS).is_some() {
            detector.observe(ID, Observation::HintRefuted(Layer::Host), now_ns + 102 * MS);
        }
    }
    now_ns += 90 * SECOND;
    let (layer, shown) = connections_of(1, now_ns, 1, 10 * MS);
    assert_eq!(look(&mut detector, listener(layer), &shown, now_ns + 100 * MS), None, "it has lost its say");
    let (layer, shown) = connections_of(2, now_ns, 1, 10 * MS);
    assert_eq!(hint(look(&mut detector, listener(layer), &shown, now_ns + 100 * MS)), Some(Layer::Host));
}

#[test]
fn where_handshakes_are_lost_now_and_then_it_takes_more_than_one_connection() {
    // One of 100 SYNs never gets an answer.
    let lossy = || {
        let mut detector = Detector::new(settings());
        train(&mut detector, &[ID], 100, 99, Duration::from_millis(1));
        detector
    };
    let first = (1..10).find(|&count| {
        let (layer, shown) = connections(START + 10 * MS, count, 10 * MS);
        let now_ns = START + (10 * u64::from(count) + 20) * MS;
        hint(look(&mut lossy(), listener(layer), &shown, now_ns)).is_some()
    });
    // 13.5 for half an hour and 100 a second, 4.6 for each at most.
    assert!(first.is_some_and(|count| (3..=4).contains(&count)), "{first:?}");
}

#[test]
fn those_that_waited_already_when_a_probe_was_answered_are_no_reason_again() {
    let mut detector = one_of_three(50, Duration::from_millis(1));
    let (layer, shown) = connections(START + MS, 3, MS);
    let at = |ms: u64| START + ms * MS;
    assert!(hint(look(&mut detector, listener(layer), &shown, at(30))).is_some());
    detector.observe(ID, Observation::HintRefuted(Layer::Host), at(32));
    for later in [100, 2_000, 60_000] {
        assert_eq!(hint(look(&mut detector, listener(layer), &shown, at(later))), None, "{later} ms");
    }
}

#[test]
fn a_hint_without_an_outcome_is_raised_again_ever_more_rarely() {
    let mut detector = one_of_three(50, Duration::from_millis(1));
    let (layer, shown) = connections(START + MS, 3, MS);
    let raised = |&tick: &u64| {
        hint(look(&mut detector, listener(layer), &shown, START + 30 * MS + tick * 100 * MS)).is_some()
    };
    let times: Vec<u64> = (0..200).filter(raised).collect();
    assert_eq!(times, [0, 10, 30, 70, 150], "in tenths of a second");
}

#[test]
fn a_hint_is_followed_by_a_suspicion_where_there_is_more_evidence() {
    let mut detector = one_of_three(50, Duration::from_millis(1));
    let shown = connections(START + MS, 1, MS).1;
    let state = listener(waiting(4, 20 * MS));
    assert_eq!(
        hint(look(&mut detector, listener(waiting(1, 20 * MS)), &shown, START + 41 * MS)),
        Some(Layer::Host)
    );
    let strong = Some((Strength::Strong, Layer::Host));
    assert_eq!(suspicion(look(&mut detector, state, &shown, START + 85 * MS)), strong);
}

#[test]
fn connections_of_a_network_count_for_a_suspicion_where_siblings_have_answered_it_since() {
    let weak = Some((Strength::Weak, Layer::Host));
    let strong = Some((Strength::Strong, Layer::Host));
    let cases = [
        ("no sibling has", 4, 0, None),
        ("a sibling has", 4, START + 60 * MS, strong),
        ("only before this silence", 4, START - MS, None),
        ("within a round trip of its beginning", 4, START + 20 * MS, None),
        ("three connections", 3, START + 60 * MS, weak),
        ("two are too few", 2, START + 60 * MS, None),
    ];
    for (name, count, answered_ns, expected) in cases {
        let mut detector = one_of_three(50, Duration::from_millis(1));
        let (layer, mut shown) = connections(START + 20 * MS, count, 20 * MS);
        shown.answered_ns = answered_ns;
        let found = look(&mut detector, listener(layer), &shown, START + 85 * MS);
        assert_eq!(suspicion(found.clone()), expected, "{name}: {found:?}");
        let is_witnessed = |suspicion: &Suspicion| matches!(suspicion.evidence, Evidence::Witnessed { clients: 1, connections, .. } if connections == count);
        assert!(!matches!(&found, Some(Finding::Suspicion(one)) if !is_witnessed(one)), "{name}: {found:?}");
    }
}

#[test]
fn a_sibling_that_is_down_is_no_witness() {
    let mut detector = one_of_three(50, Duration::from_millis(1));
    for id in [ServerId(8), ServerId(9)] {
        detector.observe(id, Observation::Down, START);
    }
    let (layer, mut shown) = connections(START + 20 * MS, 4, 20 * MS);
    shown.answered_ns = START + 60 * MS;
    assert_eq!(suspicion(look(&mut detector, listener(layer), &shown, START + 85 * MS)), None);
}
