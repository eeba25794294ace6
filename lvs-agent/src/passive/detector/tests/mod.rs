//! The detector as a whole, on made-up states and times.
#![expect(clippy::large_types_passed_by_value, reason = "tables of states read better so")]

use bytemuck::Zeroable as _;
use lvs_common::{Latencies, LayerState, Retransmissions, ServerWaiting};
use proptest::prelude::*;

use super::*;

mod hints;
mod pauses;
mod properties;

const ID: ServerId = ServerId(3);
const MS: u64 = 1_000_000;
const SECOND: u64 = 1_000 * MS;
/// The beginning of the silences below: the last proof of life.
const START: u64 = 1_000 * SECOND;

fn settings() -> DetectorSettings {
    DetectorSettings::default()
}

fn view(state: ServerState) -> View {
    View { id: ID, visibility: Visibility::Both, state }
}

/// A detector that has seen `rate` answers a second for two minutes before [`START`], each within `wait`, on both
/// layers.
fn trained(rate: u32, wait: Duration) -> Detector {
    let mut detector = Detector::new(settings());
    train(&mut detector, &[ID], rate, rate, wait);
    detector
}

fn train(detector: &mut Detector, ids: &[ServerId], demands: u32, answers: u32, wait: Duration) {
    let bucket = Latencies::bucket_of(nanos(wait));
    let mut counters = ServerCounters::zeroed();
    for second in 0..=120 {
        for &id in ids {
            detector.learn(id, &counters, START - (120 - second) * SECOND);
        }
        counters.syn += u64::from(demands);
        counters.requests += u64::from(demands);
        counters.handshake.buckets[bucket] += answers;
        counters.response.buckets[bucket] += answers;
    }
}

/// What a flood makes of the sketch.
const ALL_NETWORKS: lvs_common::Sketch = lvs_common::Sketch([u64::MAX; 4]);

/// `count` networks begin to wait, the first `gap` after the last proof of life, then one every `gap`.
fn waiting(count: u32, gap: u64) -> LayerState {
    waiting_after(START, count, gap)
}

fn waiting_after(progress_ns: u64, count: u32, gap: u64) -> LayerState {
    let mut layer = LayerState { progress_ns, ..LayerState::zeroed() };
    for number in 0..count {
        let at_ns = progress_ns + gap * u64::from(number + 1);
        if let Some(since_ns) = layer.since_ns.get_mut(number as usize) {
            *since_ns = at_ns;
            layer.waiting += 1;
        }
        layer.networks.add(number);
        layer.last_ns = at_ns;
        layer.attempts += 1;
    }
    layer
}

fn listener(layer: LayerState) -> ServerState {
    ServerState { listener: layer, ..ServerState::zeroed() }
}

fn application(layer: LayerState) -> ServerState {
    ServerState { application: layer, ..ServerState::zeroed() }
}

fn refused(refusals: u32, since: u64, last: u64) -> ServerState {
    ServerState { refusals, refused_since_ns: since, refused_last_ns: last, ..ServerState::zeroed() }
}

fn unreachable(unreachables: u32, last: u64) -> ServerState {
    ServerState { unreachables, unreachable_last_ns: last, ..ServerState::zeroed() }
}

fn again(flows: u32, clients: u32, since: u64, last: u64) -> ServerState {
    let networks = (1_u64 << clients) - 1;
    let again = Retransmissions { networks, since_ns: since, last_ns: last, segments: flows, flows };
    ServerState { again, ..ServerState::zeroed() }
}

/// A kernel side that knows counters, 64 active flows for each server, and nothing of single connections.
struct Counting<F>(F);

impl<F: Fn(ServerId) -> ServerCounters> Readings for Counting<F> {
    fn counters(&self, id: ServerId) -> ServerCounters {
        (self.0)(id)
    }

    fn active_flows(&self, _: ServerId, _: u64) -> u32 {
        64
    }

    fn waiting(&self, _: ServerId) -> ServerWaiting {
        ServerWaiting::zeroed()
    }

    fn answered(&self, _: ServerId, _: Layer, _: u8) -> u32 {
        0
    }
}

/// What is found beside hints, which have tests of their own.
fn found(
    detector: &mut Detector,
    view: &View,
    counters: impl Fn(ServerId) -> ServerCounters,
    now_ns: u64,
) -> Option<Finding> {
    let finding = detector.evaluate(view, &Counting(counters), now_ns);
    finding.filter(|finding| !matches!(finding, Finding::Hint(_)))
}

fn evaluate(detector: &mut Detector, state: ServerState, now_ns: u64) -> Option<Finding> {
    found(detector, &view(state), |_| ServerCounters::zeroed(), now_ns)
}

/// Strength and layer of a suspicion.
fn suspicion(finding: Option<Finding>) -> Option<(Strength, Layer)> {
    match finding {
        Some(Finding::Suspicion(suspicion)) => Some((suspicion.strength, suspicion.layer)),
        _ => None,
    }
}

#[test]
fn suspicions_by_kind_of_evidence_with_near_clients() {
    let weak = Some((Strength::Weak, Layer::Host));
    let strong = Some((Strength::Strong, Layer::Host));
    let slow = Some((Strength::Strong, Layer::Application));
    let gap = 20 * MS;
    let never = LayerState { progress_ns: 0, ..waiting(16, gap) };
    let cases = [
        ("no client waits", listener(waiting(0, gap)), 9_999, None),
        ("two networks", listener(waiting(2, gap)), 9_999, None),
        ("three networks", listener(waiting(3, gap)), 75, weak),
        ("four networks", listener(waiting(4, gap)), 85, strong),
        ("many within the floor", listener(waiting(40, MS)), 50, None),
        ("it has never shown life", listener(never), 9_999, None),
        ("requests of many networks", application(waiting(8, gap)), 225, slow),
        ("the same within the floor", application(waiting(8, gap)), 215, None),
        ("refused once", refused(1, START, START), 0, weak),
        ("refused three times", refused(3, START, START + 9 * MS), 9, strong),
        ("unreachable once", unreachable(1, START), 0, weak),
        ("unreachable twice", unreachable(2, START), 0, strong),
        ("sent again by two", again(2, 2, START, START + 90 * MS), 100, None),
        ("sent again by five", again(5, 5, START, START + 90 * MS), 100, weak),
        ("sent again by eight", again(8, 8, START, START + 90 * MS), 100, strong),
        ("sent again by half of the flows", again(32, 5, START, START + 90 * MS), 100, strong),
        ("that was a while ago", again(8, 8, START, START + 90 * MS), 900, None),
    ];
    for (name, state, after_ms, expected) in cases {
        let mut detector = trained(50, Duration::from_millis(1));
        assert_eq!(suspicion(evaluate(&mut detector, state, START + after_ms * MS)), expected, "{name}");
    }
}

#[test]
fn the_usual_wait_of_far_clients_delays_a_suspicion() {
    let mut detector = trained(50, Duration::from_millis(199));
    let state = listener(waiting(16, 20 * MS));
    assert_eq!(evaluate(&mut detector, state, START + 200 * MS), None, "no client has waited for 200 ms yet");
    assert!(suspicion(evaluate(&mut detector, state, START + 400 * MS)).is_some());
}

#[test]
fn evidence_names_what_was_counted_and_what_is_usual() {
    let mut detector = trained(50, Duration::from_millis(1));
    let Some(Finding::Suspicion(suspicion)) =
        evaluate(&mut detector, listener(waiting(7, 20 * MS)), START + 232 * MS)
    else {
        panic!("seven networks wait");
    };
    let words =
        "no progress for 212 ms while 7 client networks sent 7 SYNs; usual wait 1.0 ms, 99 % below 1.0 ms";
    assert_eq!(suspicion.evidence.to_string(), words);
}

#[test]
fn a_server_that_answers_established_flows_is_overloaded_not_dead() {
    let now = START + 400 * MS;
    let queue_full = ServerState { reply_ns: now - 5 * MS, ..listener(waiting(16, 20 * MS)) };
    let mut detector = trained(50, Duration::from_millis(1));
    let finding = evaluate(&mut detector, queue_full, now);
    assert!(matches!(finding, Some(Finding::Overloaded { .. })), "{finding:?}");
    assert_eq!(evaluate(&mut detector, queue_full, now + MS), None, "once is enough");
    let answered_before = ServerState { reply_ns: START + 30 * MS, ..queue_full };
    let finding = evaluate(&mut trained(50, Duration::from_millis(1)), answered_before, now);
    assert!(suspicion(finding).is_some(), "an answer that was under way");
}

#[test]
fn a_silence_that_most_of_a_service_shares_is_correlated_and_no_suspicion() {
    let ids: Vec<ServerId> = (0..3).map(ServerId).collect();
    for silent in [1, 2, 3] {
        let mut detector = Detector::new(settings());
        detector.set_services([ids.clone()]);
        train(&mut detector, &ids, 50, 50, Duration::from_millis(1));
        let mut findings = Vec::new();
        for now_ns in (0..60).map(|tick| START + tick * 10 * MS) {
            for (index, &id) in ids.iter().enumerate() {
                let asked = u32::try_from((now_ns - START) / (20 * MS)).unwrap();
                let alive = LayerState { progress_ns: now_ns.max(1), ..LayerState::zeroed() };
                let layer = if index < silent { waiting(asked.min(16), 20 * MS) } else { alive };
                let view = View { id, visibility: Visibility::Both, state: listener(layer) };
                findings.extend(found(&mut detector, &view, |_| ServerCounters::zeroed(), now_ns));
            }
        }
        let correlated =
            findings.iter().filter(|finding| matches!(finding, Finding::Correlated { .. })).count();
        let suspicions = findings.iter().filter(|finding| matches!(finding, Finding::Suspicion(_))).count();
        if silent == 1 {
            assert!(suspicions > 0 && correlated == 0, "one of three: {findings:?}");
        } else {
            assert!(suspicions == 0 && correlated == silent, "{silent} of three: {findings:?}");
        }
    }
}

#[test]
fn a_flood_is_no_silence_but_a_server_that_lags_behind_its_siblings_is_suspected() {
    let ids: Vec<ServerId> = (0..4).rev().map(ServerId).collect();
    let mut detector = Detector::new(settings());
    detector.set_services([ids.clone()]);
    train(&mut detector, &ids, 5_000, 50, Duration::from_millis(1));
    let flooded = ServerState {
        listener: LayerState { networks: ALL_NETWORKS, attempts: 2_000, ..waiting(16, MS) },
        ..ServerState::zeroed()
    };
    let view = View { id: ids[3], visibility: Visibility::ClientOnly, state: flooded };
    assert_eq!(found(&mut detector, &view, |_| ServerCounters::zeroed(), START + 400 * MS), None);
    // The others go on.
    let counted = |seconds_in_tenths: u32| {
        let mut counters = ServerCounters::zeroed();
        counters.syn = 121 * 5_000 + 500 * u64::from(seconds_in_tenths);
        counters.handshake.buckets[Latencies::bucket_of(MS)] = 121 * 50 + 5 * seconds_in_tenths;
        counters
    };
    for tenths in [1, 8] {
        for &id in &ids[..3] {
            detector.learn(id, &counted(tenths), START + u64::from(tenths) * 100 * MS);
        }
    }
    // Handshakes from before the silence are no evidence, though they are known only now.
    let then = |_| counted(1);
    assert_eq!(found(&mut detector, &view, then, START + 810 * MS), None);
    let Some(Finding::Suspicion(suspicion)) = found(&mut detector, &view, |_| counted(9), START + 900 * MS)
    else {
        panic!("120 handshakes of its siblings and none here");
    };
    assert_eq!(suspicion.layer, Layer::Host);
    assert!(
        matches!(suspicion.evidence, Evidence::Outpaced { siblings: 120, .. }),
        "{:?}",
        suspicion.evidence
    );
}

/// A flood, and one of four siblings completes no handshake: the ms until it is suspected, if within two seconds.
/// Counters are read every `read` ms, one server after the other; the director stalls for 40 ms in `stalls` ms, if at
/// all.
fn outpaced_after(read: u64, stalls: Option<u64>) -> Option<u64> {
    let ids: Vec<ServerId> = (0..4).map(ServerId).collect();
    let mut detector = Detector::new(settings());
    detector.set_services([ids.clone()]);
    train(&mut detector, &ids, 5_000, 50, Duration::from_millis(1));
    let counted = |id: ServerId, ms: u64| {
        let mut counters = ServerCounters::zeroed();
        counters.syn = 120 * 5_000 + 5 * ms;
        let answers = if id == ids[0] { 0 } else { u32::try_from(ms / 20).unwrap() };
        counters.handshake.buckets[Latencies::bucket_of(MS)] = 120 * 50 + answers;
        counters
    };
    for ms in (0..2_000).step_by(10) {
        let now_ns = START + ms * MS;
        if stalls.is_some_and(|every| ms % every < 40) {
            continue;
        }
        detector.tick(Duration::from_millis(10), now_ns);
        for (number, &id) in ids.iter().enumerate() {
            if (ms / 10 + number as u64).is_multiple_of(read / 10) {
                detector.learn(id, &counted(id, ms), now_ns);
            }
        }
        let attempts = u32::try_from(5 * ms).unwrap();
        let layer = LayerState {
            networks: ALL_NETWORKS,
            attempts,
            last_ns: now_ns,
            ..waiting(u32::try_from(ms).unwrap().min(16), MS)
        };
        let view = View { id: ids[0], visibility: Visibility::ClientOnly, state: listener(layer) };
        let finding = found(&mut detector, &view, |id| counted(id, ms), now_ns);
        if let Some(Finding::Suspicion(suspicion)) = finding {
            assert!(matches!(suspicion.evidence, Evidence::Outpaced { .. }), "{:?}", suspicion.evidence);
            return Some(ms);
        }
    }
    None
}

#[test]
fn a_server_that_lags_behind_is_suspected_however_often_counters_are_read_and_the_director_stalls() {
    for read in [10, 20, 30, 40, 70, 100, 200] {
        for stalls in [None, Some(100), Some(300), Some(700)] {
            let after = outpaced_after(read, stalls);
            // 66 handshakes of 150 a second, and what is lost to reading twice.
            assert!(
                after.is_some_and(|ms| (440..=700 + 2 * read).contains(&ms)),
                "read every {read} ms, stalled every {stalls:?} ms: {after:?}"
            );
        }
    }
}

proptest! {
    /// The bound that lets most evaluations end early is never too low.
    #[test]
    fn the_upper_bound_of_a_weight_is_never_exceeded(
        count in 0_u32..40,
        gap in 1_u64..50,
        after in 0_u64..5_000,
        attempts in 0_u32..5_000,
        demands in 1_u32..500,
        answers in 1_u32..500,
        unanswered in 0.0..1.0,
    ) {
        let mut detector = Detector::new(settings());
        train(&mut detector, &[ID], demands.max(answers), answers, Duration::from_millis(3));
        let layer = LayerState { attempts: attempts.max(count), ..waiting(count, gap * MS) };
        let now_ns = START + after * MS;
        let measure = Measure {
            since_ns: 0,
            alive_ns: 0,
            alive_gap: Duration::ZERO,
            demand_since_ns: 0,
            floor: Duration::ZERO,
        };
        let further: Vec<u64> = (0..u64::from(count) / 2).map(|number| START + number * MS).collect();
        let model = &detector.histories.get(ID).unwrap().listener;
        let expected = Expected { model, siblings: &[], unanswered };
        let weigh = |enough| {
            silence::weigh(&detector.settings, &layer, &further, &expected, &measure, enough, now_ns)
        };
        let weight = weigh(f64::INFINITY);
        prop_assert!(weight <= silence::most(&detector.settings, &layer, &further, unanswered) + 1e-9);
        // Ending at a threshold doesn't change the result.
        prop_assert_eq!(weigh(13.0) >= 13.0, weight >= 13.0);
    }
}

/// Four siblings with 50 answers a second each; the first is silent, 12 networks have waited for 120 ms.
fn one_of_four() -> (Detector, Vec<ServerId>, View) {
    let ids: Vec<ServerId> = (3..7).map(ServerId).collect();
    let mut detector = Detector::new(settings());
    detector.set_services([ids.clone()]);
    train(&mut detector, &ids, 50, 50, Duration::from_millis(1));
    let view = View { id: ids[0], visibility: Visibility::ClientOnly, state: listener(waiting(12, 10 * MS)) };
    (detector, ids, view)
}

/// What a sibling has counted since [`train`].
fn since_training(demands: u64, answers: u32) -> ServerCounters {
    let mut counters = ServerCounters::zeroed();
    counters.syn = 120 * 50 + demands;
    counters.handshake.buckets[Latencies::bucket_of(MS)] = 120 * 50 + answers;
    counters
}

#[test]
fn unanswered_demand_that_siblings_have_as_well_is_no_evidence() {
    let at = START + 130 * MS;
    let cases = [
        ("siblings answer", since_training(7, 7), true),
        ("one answer is under way", since_training(7, 6), true),
        ("no demand for siblings", since_training(0, 0), true),
        ("half of the demand for siblings is unanswered", since_training(16, 8), false),
        ("siblings are flooded", since_training(400, 7), false),
    ];
    for (name, counted, is_suspected) in cases {
        let (mut detector, _, view) = one_of_four();
        assert_eq!(found(&mut detector, &view, |_| counted, at).is_some(), is_suspected, "{name}");
    }
}

#[test]
fn silence_of_most_of_a_service_suspects_no_single_server() {
    let at = START + 130 * MS;
    for (dead, is_suspected) in [(1, true), (2, true), (3, false), (4, false)] {
        let (mut detector, ids, view) = one_of_four();
        for &id in &ids[1..dead] {
            // Evaluated before enough clients wait for it to be suspected itself.
            found(
                &mut detector,
                &View { id, state: listener(waiting(3, 10 * MS)), ..view },
                |_| since_training(0, 0),
                at,
            );
        }
        let counted = |id: ServerId| {
            if ids[..dead].contains(&id) { since_training(7, 0) } else { since_training(7, 7) }
        };
        let suspected = suspicion(found(&mut detector, &view, counted, at)).is_some();
        assert_eq!(suspected, is_suspected, "{dead} dead");
    }
}

#[test]
fn an_application_with_few_samples_is_judged_by_its_siblings() {
    let suspected = |siblings: &[ServerId]| {
        let mut detector = Detector::new(settings());
        train(&mut detector, siblings, 50, 50, Duration::from_millis(1));
        let members = siblings.iter().copied().chain([ID]).collect();
        detector.set_services([members]);
        let mut counters = ServerCounters::zeroed();
        for before in [20, 10, 2, 1, 0] {
            if before < 2 {
                counters.requests += 2;
                counters.response.buckets[Latencies::bucket_of(MS)] += 2;
            }
            detector.learn(ID, &counters, START - before * 100 * MS);
        }
        (200..1_000).step_by(20).find(|ms| {
            let mut layer = waiting(u32::try_from(ms / 20).unwrap().min(60), 20 * MS);
            layer.attempts = u32::try_from(ms / 20).unwrap();
            evaluate(&mut detector, application(layer), START + ms * MS).is_some()
        })
    };
    let after = suspected(&[ServerId(5), ServerId(6)]).expect("a server whose siblings answer at once");
    assert!(after < 300, "{after}");
    let alone = suspected(&[]);
    assert!(alone.is_none_or(|alone| alone > after + 50), "four answers say less by themselves: {alone:?}");
}

#[test]
fn a_server_without_siblings_is_suspected_by_its_own_evidence() {
    let mut detector = trained(50, Duration::from_millis(1));
    detector.set_services([vec![ID]]);
    assert!(evaluate(&mut detector, listener(waiting(12, 10 * MS)), START + 130 * MS).is_some());
}

#[test]
fn a_suspicion_is_raised_once_and_may_grow() {
    let mut detector = trained(50, Duration::from_millis(1));
    let at = |ms: u64| START + ms * MS;
    let hung = |listener: u32| ServerState {
        application: waiting(8, 20 * MS),
        listener: waiting(listener, 20 * MS),
        ..ServerState::zeroed()
    };
    let suspicions: Vec<_> = [(0, 225), (0, 235), (3, 245), (3, 255), (4, 265), (4, 275)]
        .into_iter()
        .map(|(clients, ms)| suspicion(evaluate(&mut detector, hung(clients), at(ms))))
        .collect();
    let expected = [
        Some((Strength::Strong, Layer::Application)),
        None,
        Some((Strength::Weak, Layer::Host)),
        None,
        Some((Strength::Strong, Layer::Host)),
        None,
    ];
    assert_eq!(suspicions, expected);
}

#[test]
fn a_failed_neighbour_is_a_strong_suspicion_at_once() {
    let mut detector = Detector::new(settings());
    let strong = Some((Strength::Strong, Layer::Host));
    assert_eq!(suspicion(detector.neighbour_failed(ID, START)), strong);
    assert_eq!(detector.neighbour_failed(ID, START + MS), None, "it is being probed");
    detector.observe(ID, Observation::Cleared(Layer::Host), START + 2 * MS);
    assert_eq!(detector.neighbour_failed(ID, START + 3 * MS), None, "a probe has just succeeded");
    assert_eq!(suspicion(detector.neighbour_failed(ID, START + 2 * SECOND)), strong);
    detector.observe(ID, Observation::Down, START + 3 * SECOND);
    assert_eq!(detector.neighbour_failed(ID, START + 9 * SECOND), None, "it is down already");
}

#[test]
fn each_false_suspicion_doubles_the_pause_before_the_next() {
    let mut detector = Detector::new(settings());
    let mut now = START;
    for pause in [250, 500, 1000, 2000, 4000, 5000, 5000] {
        assert!(evaluate(&mut detector, refused(3, now, now), now).is_some(), "before a pause of {pause} ms");
        detector.observe(ID, Observation::Cleared(Layer::Host), now);
        let later = now + (pause - 1) * MS;
        assert_eq!(evaluate(&mut detector, refused(3, now, later), later), None, "within {pause} ms");
        now += pause * MS;
    }
    now += 20 * SECOND;
    assert!(evaluate(&mut detector, refused(3, now, now), now).is_some());
    detector.observe(ID, Observation::Cleared(Layer::Host), now);
    now += 250 * MS;
    assert!(evaluate(&mut detector, refused(3, now, now), now).is_some(), "what was long ago is forgotten");
}

#[test]
fn clearing_the_host_does_not_clear_its_application() {
    let mut detector = trained(50, Duration::from_millis(1));
    assert!(suspicion(evaluate(&mut detector, refused(1, START, START), START)).is_some());
    detector.observe(ID, Observation::Cleared(Layer::Host), START + MS);
    let hung = application(waiting(8, 20 * MS));
    let suspected = suspicion(evaluate(&mut detector, hung, START + 225 * MS));
    assert_eq!(suspected, Some((Strength::Strong, Layer::Application)));
    detector.observe(ID, Observation::Cleared(Layer::Application), START + 226 * MS);
    assert_eq!(evaluate(&mut detector, hung, START + 470 * MS), None);
}

#[test]
fn evidence_from_before_a_clearing_does_not_count() {
    for old in [
        refused(3, START, START),
        unreachable(2, START),
        listener(waiting(16, MS)),
        again(9, 9, START, START),
    ] {
        let mut detector = trained(50, Duration::from_millis(1));
        assert!(evaluate(&mut detector, old, START + 100 * MS).is_some());
        detector.observe(ID, Observation::Cleared(Layer::Host), START + 101 * MS);
        assert_eq!(evaluate(&mut detector, old, START + 400 * MS), None);
        assert_eq!(evaluate(&mut detector, old, START + 60 * SECOND), None);
    }
}

#[test]
fn a_server_that_is_down_is_not_suspected_until_it_is_up_again() {
    let mut detector = Detector::new(settings());
    detector.observe(ID, Observation::Down, START);
    assert_eq!(evaluate(&mut detector, refused(9, START, START + MS), START + MS), None);
    detector.observe(ID, Observation::Up, START + 2 * MS);
    assert_eq!(evaluate(&mut detector, refused(9, START, START + MS), START + 3 * MS), None, "old evidence");
    assert!(evaluate(&mut detector, refused(9, START, START + 4 * MS), START + 4 * MS).is_some());
}

#[test]
fn a_suspicion_that_was_not_probed_may_be_raised_again() {
    let mut detector = Detector::new(settings());
    assert!(evaluate(&mut detector, refused(3, START, START), START).is_some());
    assert_eq!(evaluate(&mut detector, refused(3, START, START), START + MS), None);
    detector.not_probed(ID, START + MS);
    assert!(evaluate(&mut detector, refused(3, START, START), START + 2 * MS).is_some());
}

#[test]
fn after_a_stall_of_the_director_silence_counts_from_its_end() {
    let tick = Duration::from_millis(10);
    let silent = listener(waiting(16, MS));
    let mut detector = trained(50, Duration::from_millis(1));
    assert_eq!(detector.tick(tick, START), None, "the first tick is not late");
    assert_eq!(detector.tick(tick, START + 29 * MS), None, "a little late is nothing");
    assert_eq!(detector.tick(tick, START + 129 * MS), Some(Duration::from_millis(90)));
    assert_eq!(evaluate(&mut detector, silent, START + 129 * MS), None);
    assert_eq!(detector.tick(tick, START + 139 * MS), None);
    assert_eq!(evaluate(&mut detector, silent, START + 178 * MS), None);
    assert!(evaluate(&mut detector, silent, START + 179 * MS).is_some(), "50 ms without a stall");
}

#[test]
fn an_application_cleared_repeatedly_is_suspected_less_and_less() {
    // Clients that send and never wait for a response look like this for ever.
    let mut detector = trained(5, Duration::from_millis(20));
    let mut now = START;
    let mut raised = 0;
    while now < START + 3600 * SECOND {
        let state = application(waiting_after(now, 16, 20 * MS));
        now += SECOND;
        if evaluate(&mut detector, state, now).is_some() {
            raised += 1;
            detector.observe(ID, Observation::Cleared(Layer::Application), now);
        }
    }
    assert!((1..60).contains(&raised), "{raised} times in an hour");
}
