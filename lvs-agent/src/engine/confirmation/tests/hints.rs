//! Hints, from the beginning to the end.

use super::*;
use crate::event::HintFate;

fn case() -> Case {
    Case::new(&BurstSettings::default())
}

fn hint(id: ServerId, layer: Layer) -> Finding {
    Finding::Hint(Hint { id, layer, source: None, evidence: Evidence::NeighbourFailed })
}

/// What became of the hint, which is the only thing told.
fn fate(done: &Done) -> &HintFate {
    assert_eq!(done.feedback, [], "{done:?}");
    let [Event::Hint { fate, .. }] = &done.events[..] else { panic!("{done:?}") };
    fate
}

fn refuted(server: ServerId, layer: Layer) -> Vec<DetectorFeedback> {
    vec![DetectorFeedback::Observed(server, Observation::HintRefuted(layer))]
}

#[test]
fn a_hint_that_is_answered_is_refuted_and_no_suspicion() {
    let mut case = case();
    let done = case.find(&hint(CONNECTIONS, Layer::Host));
    assert_eq!(fate(&done), &HintFate::Asked);
    assert!(matches!(&case.asked()[..], [(CheckKind::Connect, left)] if left[0] == 1));
    let (answer, done) = case.probe_ends(0, Came::Answered);
    assert_eq!(answer.verdict, Verdict::Alive);
    assert!(matches!(done.events[..], [Event::Probe { kind: ProbeKind::Hint, .. }]), "{done:?}");
    let done = case.burst_ends(0);
    assert_eq!(done, Done { feedback: refuted(CONNECTIONS, Layer::Host), events: vec![] });
    assert!(case.is_up(CONNECTIONS) && case.bursts.is_empty());
}

#[test]
fn a_hint_whose_probe_fails_is_a_suspicion_from_then_on() {
    let mut case = case();
    case.find(&hint(NAMES, Layer::Host));
    let (_, done) = case.probe_ends(0, Came::TimedOut);
    let [Event::Probe { kind: ProbeKind::Hint, .. }, Event::Suspicion { suspicion, .. }] = &done.events[..]
    else {
        panic!("{done:?}")
    };
    assert_eq!((suspicion.strength, suspicion.layer), (Strength::Weak, Layer::Host));
    assert_eq!(suspicion.evidence, Evidence::NeighbourFailed, "the hint's own");
    assert!(case.is_up(NAMES), "one failure is not enough");
    let (_, done) = case.probe_ends(0, Came::TimedOut);
    assert!(matches!(done.events[..], [Event::Probe { kind: ProbeKind::Confirm { number: 2 }, .. }]));
    let done = case.all_end(Came::TimedOut);
    assert_eq!(done.feedback, [DetectorFeedback::NotProbed(NAMES)]);
    assert!(!case.is_up(NAMES));
}

#[test]
fn a_hint_that_became_a_suspicion_and_is_answered_is_a_false_suspicion() {
    let mut case = case();
    case.find(&hint(NAMES, Layer::Host));
    case.probe_ends(0, Came::TimedOut);
    case.probe_ends(0, Came::Answered);
    let done = case.burst_ends(0);
    let cleared = DetectorFeedback::Observed(NAMES, Observation::Cleared(Layer::Host));
    assert_eq!(
        done,
        Done { feedback: vec![cleared], events: vec![Event::Cleared { subjects: case.subjects(NAMES) }] }
    );
}

#[test]
fn a_suspicion_takes_a_hint_over() {
    let mut case = case();
    case.find(&hint(NAMES, Layer::Host));
    let done = case.suspect(NAMES, Layer::Host, Strength::Strong, Evidence::NeighbourFailed);
    assert!(matches!(done.events[..], [Event::Suspicion { .. }]));
    assert_eq!(case.bursts.len(), 1, "all probes that it takes are under way");
    assert_eq!(fate(&case.find(&hint(NAMES, Layer::Host))), &HintFate::InProgress);
    let (_, done) = case.probe_ends(0, Came::TimedOut);
    assert!(
        matches!(done.events[..], [Event::Probe { kind: ProbeKind::Confirm { number: 1 }, .. }]),
        "told once"
    );
}

#[test]
fn an_application_is_asked_by_its_check_and_its_host_where_there_is_none() {
    let mut case = case();
    case.find(&hint(PAGES[0], Layer::Application));
    assert!(matches!(&case.asked()[..], [(CheckKind::Http(_), _)]));
    assert_eq!(case.bursts[0].request.patience.burst, Check::default().timeout);
    case.probe_ends(0, Came::Answered);
    assert_eq!(case.burst_ends(0).feedback, refuted(PAGES[0], Layer::Application));

    let done = case.find(&hint(CONNECTIONS, Layer::Application));
    assert_eq!(fate(&done), &HintFate::Asked, "nobody is told of a service without a check that could tell");
    assert!(matches!(&case.asked()[..], [(CheckKind::Connect, _)]));
    let host = Purpose::Suspicion { server: CONNECTIONS, layer: Layer::Host };
    assert_eq!(case.bursts[0].request.purpose, host);
    case.probe_ends(0, Came::Answered);
    assert_eq!(case.burst_ends(0).feedback, refuted(CONNECTIONS, Layer::Application));
}

#[test]
fn a_hint_that_was_refuted_is_withheld_and_a_suspicion_is_not() {
    let mut case = case();
    case.find(&hint(NAMES, Layer::Host));
    case.probe_ends(0, Came::Answered);
    case.burst_ends(0);
    case.now += Duration::from_millis(900);
    let done = case.find(&hint(NAMES, Layer::Host));
    assert!(matches!(fate(&done), HintFate::Withheld { .. }), "{done:?}");
    assert_eq!(case.asked(), []);
    case.suspect(NAMES, Layer::Host, Strength::Weak, Evidence::NeighbourFailed);
    assert_eq!(case.bursts.len(), 1);
    case.probe_ends(0, Came::Answered);
    case.burst_ends(0);
    case.now += Duration::from_millis(100);
    assert_eq!(fate(&case.find(&hint(NAMES, Layer::Host))), &HintFate::Asked);
}

#[test]
fn of_a_server_that_is_down_there_is_nothing_to_ask() {
    let mut case = case();
    for _ in 0..3 {
        case.check(NAMES, false);
    }
    assert_eq!(fate(&case.find(&hint(NAMES, Layer::Host))), &HintFate::NothingToAsk);
    assert_eq!(fate(&case.find(&hint(ServerId(SERVERS), Layer::Host))), &HintFate::NothingToAsk);
}

#[test]
fn hints_about_most_of_a_service_take_nobody_out() {
    let mut case = case();
    for server in PAGES {
        case.find(&hint(server, Layer::Host));
    }
    for server in PAGES {
        while !case.bursts[0].left.is_empty() {
            assert_eq!(case.probe_ends(0, Came::TimedOut).0.verdict, Verdict::Unknown);
        }
        let done = case.burst_ends(0);
        let events = vec![Event::Correlated { subjects: case.subjects(server), evidence: None }];
        assert_eq!(done, Done { feedback: refuted(server, Layer::Host), events });
        assert!(case.is_up(server));
    }
}

#[test]
fn a_sibling_whose_hint_is_refuted_keeps_nobody_in() {
    let mut case = case();
    case.find(&hint(PAGES[1], Layer::Host));
    case.probe_ends(0, Came::Answered);
    case.burst_ends(0);
    case.find(&hint(PAGES[0], Layer::Host));
    case.all_end(Came::Refused);
    assert!(!case.is_up(PAGES[0]));
}

#[test]
fn a_hint_that_no_probe_could_settle_has_no_feedback() {
    let mut case = case();
    case.find(&hint(NAMES, Layer::Host));
    assert_eq!(case.all_end(Came::NotSent), Done::default());
    assert!(case.is_up(NAMES) && case.bursts.is_empty());
}
