//! Single suspicions, from the beginning to the end.

use super::*;
use crate::model::UdpCheck;

fn case() -> Case {
    Case::new(&BurstSettings::default())
}

fn refused() -> Evidence {
    Evidence::Refused { refusals: 3, within: Duration::from_millis(5) }
}

fn cleared(server: ServerId, layer: Layer) -> Vec<DetectorFeedback> {
    vec![DetectorFeedback::Observed(server, Observation::Cleared(layer))]
}

fn not_probed(server: ServerId) -> Vec<DetectorFeedback> {
    vec![DetectorFeedback::NotProbed(server)]
}

fn datagram() -> CheckKind {
    CheckKind::Udp(UdpCheck { send: Vec::new(), expect: None, reply: false })
}

#[test]
fn the_second_probe_of_a_weak_suspicion_waits_for_a_late_first_one_and_that_of_a_strong_one_for_the_gap() {
    let ms = Duration::from_millis;
    let check = |case: &mut Case, latency| {
        let success = Success { latency, connect: None, weight: None };
        let of = Subscriber { destination: case.destinations(NAMES)[0], check: 0 };
        (0..8).for_each(|_| case.confirmations.note_latency(of, &success, true));
    };
    for (strength, usual, first_gap) in [
        (Strength::Weak, ms(1), ms(10)),
        (Strength::Weak, ms(30), ms(60)),
        (Strength::Strong, ms(30), ms(20)),
    ] {
        let mut case = case();
        check(&mut case, usual);
        case.suspect(NAMES, Layer::Host, strength, refused());
        let Rhythm { count, first_gap: planned, gap, .. } = case.bursts[0].rhythm;
        assert_eq!((count.get(), planned, gap), (3, first_gap, ms(20)), "{strength}, {usual:?}");
    }
}

#[test]
fn a_weak_suspicion_asks_until_the_server_falls() {
    let mut case = case();
    let done = case.suspect(NAMES, Layer::Host, Strength::Weak, refused());
    assert!(matches!(&done.events[..], [Event::Suspicion { .. }]), "{done:?}");
    assert_eq!(case.asked(), [(CheckKind::Ping, vec![1, 2, 3])], "it takes three failures");
    let done = case.all_end(Came::TimedOut);
    assert_eq!(
        done,
        Done { feedback: not_probed(NAMES), events: vec![] },
        "there is nothing left to confirm"
    );
    assert!(!case.is_up(NAMES) && case.bursts.is_empty());
}

#[test]
fn an_answer_clears_a_suspicion() {
    for strength in [Strength::Weak, Strength::Strong] {
        let mut case = case();
        case.suspect(NAMES, Layer::Host, strength, refused());
        let (answer, done) = case.probe_ends(0, Came::Answered);
        assert_eq!(answer.verdict, Verdict::Alive);
        assert!(
            matches!(done.events[..], [Event::Probe { kind: ProbeKind::Confirm { number: 1 }, .. }]),
            "{done:?}"
        );
        let done = case.burst_ends(0);
        let events = vec![Event::Cleared { subjects: case.subjects(NAMES) }];
        assert_eq!(done, Done { feedback: cleared(NAMES, Layer::Host), events });
        assert!(case.is_up(NAMES) && case.bursts.is_empty());
    }
}

#[test]
fn an_answer_after_failures_clears_it_too() {
    let mut case = case();
    case.suspect(NAMES, Layer::Host, Strength::Strong, refused());
    case.probe_ends(0, Came::TimedOut);
    case.probe_ends(0, Came::TimedOut);
    case.probe_ends(0, Came::Answered);
    assert_eq!(case.burst_ends(0).feedback, cleared(NAMES, Layer::Host));
    assert!(case.is_up(NAMES));
}

#[test]
fn a_further_suspicion_adds_only_what_is_lacking() {
    let mut case = case();
    case.check(NAMES, false);
    case.suspect(NAMES, Layer::Host, Strength::Weak, refused());
    assert_eq!(case.asked(), [(CheckKind::Ping, vec![1, 2])], "the check has failed once");
    case.suspect(NAMES, Layer::Host, Strength::Strong, refused());
    assert_eq!(case.asked(), [(CheckKind::Ping, vec![1, 2])]);
    // An answer to the check: from now on it takes three failures again.
    case.check(NAMES, true);
    case.suspect(NAMES, Layer::Host, Strength::Strong, refused());
    assert_eq!(case.asked(), [(CheckKind::Ping, vec![1, 2]), (CheckKind::Ping, vec![3])]);
    case.probe_ends(0, Came::TimedOut);
    case.probe_ends(0, Came::TimedOut);
    assert_eq!(case.burst_ends(0), Done::default(), "another burst is not over");
    assert_eq!(case.all_end(Came::TimedOut).feedback, not_probed(NAMES));
    assert!(!case.is_up(NAMES));
}

#[test]
fn an_answer_to_the_check_in_between_leads_to_a_further_round() {
    let mut case = case();
    case.suspect(NAMES, Layer::Host, Strength::Weak, refused());
    case.probe_ends(0, Came::TimedOut);
    case.check(NAMES, true);
    assert_eq!(case.all_end(Came::TimedOut), Done::default(), "it goes on");
    assert_eq!(case.asked(), [(CheckKind::Ping, vec![4])], "of three failures two are there");
    assert_eq!(case.all_end(Came::TimedOut).feedback, not_probed(NAMES));
    assert!(!case.is_up(NAMES));
}

#[test]
fn services_with_the_same_check_share_a_probe() {
    let mut case = case();
    case.suspect(SHARED, Layer::Host, Strength::Strong, refused());
    assert_eq!(case.asked(), [(CheckKind::Connect, vec![1, 2, 3])], "as many as the slower of them needs");
    assert_eq!(case.bursts[0].request.destinations.to_vec(), case.destinations(SHARED));
    assert_eq!(case.all_end(Came::Refused).feedback, not_probed(SHARED));
    assert!(!case.is_up(SHARED));
}

#[test]
fn an_application_is_probed_by_its_own_check_whose_answer_counts_in_full() {
    let mut case = case();
    let done = case.suspect(PAGES[0], Layer::Application, Strength::Weak, refused());
    assert_eq!(done.events.len(), 1, "there is a check that can confirm it");
    assert!(matches!(&case.asked()[..], [(CheckKind::Http(_), left)] if *left == [1, 2, 3]));
    assert_eq!(case.bursts[0].rhythm.lasts, Check::default().timeout, "the operator's word");
    let of_check =
        |source| AnsweredCheck { destination: case.destinations(PAGES[0])[0], check: Some(0), source };
    let (failed, answered) = (of_check(Source::Confirm), of_check(Source::Baseline));
    let (answer, _) = case.probe_ends(0, Came::TimedOut);
    assert_eq!(answer, Answer { verdict: Verdict::Dead, checks: vec![failed] });
    let (answer, _) = case.probe_ends(0, Came::Answered);
    assert_eq!(answer, Answer { verdict: Verdict::Alive, checks: vec![answered] });
    assert_eq!(case.burst_ends(0).feedback, cleared(PAGES[0], Layer::Application));
}

#[test]
fn without_an_application_check_the_host_is_probed_once() {
    for (came, expected, goes_on) in [
        (Came::Answered, vec![Event::Cleared { subjects: case().subjects(CONNECTIONS) }], None),
        (Came::Refused, vec![], Some((CheckKind::Connect, vec![1]))),
    ] {
        let mut case = case();
        let done = case.suspect(CONNECTIONS, Layer::Application, Strength::Strong, refused());
        let [Event::Suspicion { .. }, Event::Reported { subject, .. }] = &done.events[..] else {
            panic!("{done:?}")
        };
        assert_eq!(subject.destination, case.destinations(CONNECTIONS)[0]);
        assert_eq!(case.asked(), [(CheckKind::Connect, vec![1])], "however strong the suspicion is");
        let (answer, _) = case.probe_ends(0, came);
        let check = |one: &AnsweredCheck| (one.check, one.source);
        assert_eq!(answer.checks.iter().map(check).collect::<Vec<_>>(), [(None, Source::Confirm)]);
        let done = case.burst_ends(0);
        assert_eq!(done, Done { feedback: cleared(CONNECTIONS, Layer::Application), events: expected });
        assert_eq!(case.asked(), Vec::from_iter(goes_on.clone()), "of two failures one is there");
        if goes_on.is_some() {
            assert_eq!(
                case.bursts[0].request.purpose,
                Purpose::Suspicion { server: CONNECTIONS, layer: Layer::Host }
            );
            assert_eq!(case.all_end(Came::Refused).feedback, not_probed(CONNECTIONS));
        }
        assert_eq!(case.is_up(CONNECTIONS), goes_on.is_none());
    }
}

#[test]
fn of_a_shared_server_only_the_service_without_an_application_check_is_reported() {
    let mut case = case();
    let done = case.suspect(SHARED, Layer::Application, Strength::Weak, refused());
    let [_, Event::Reported { subject, .. }] = &done.events[..] else { panic!("{done:?}") };
    assert_eq!(subject.destination, case.destinations(SHARED)[1]);
    assert!(matches!(&case.asked()[..], [(CheckKind::Http(_), _)]), "the other one is asked");
}

#[test]
fn a_closed_port_is_asked_itself_until_its_server_is_up() {
    let mut case = case();
    let unreachable = Evidence::Unreachable { messages: 1 };
    case.suspect(NAMES, Layer::Host, Strength::Strong, unreachable);
    assert_eq!(case.asked(), [(datagram(), vec![1, 2, 3])], "no ping knows of ports");
    assert_eq!(case.bursts[0].request.target.address, "10.0.0.5:53".parse().unwrap());
    assert_eq!(case.all_end(Came::Refused).feedback, not_probed(NAMES));
    assert!(!case.is_up(NAMES));

    // Each regular ping is answered, as the port is not: what counts is the port.
    for _ in 0..3 {
        case.check(NAMES, true);
        assert_eq!(case.asked(), [(datagram(), vec![1])]);
        assert_eq!(case.bursts[0].request.purpose, Purpose::RegularCheck);
        let (answer, done) = case.probe_ends(0, Came::Refused);
        assert!(answer.checks.iter().all(|one| (one.check, one.source) == (Some(0), Source::Baseline)));
        let [Event::Probe { kind: ProbeKind::Port, verdict: Verdict::Dead, .. }] = done.events[..] else {
            panic!("{done:?}")
        };
        assert_eq!(case.burst_ends(0), Done::default(), "it is about no suspicion");
        assert!(!case.is_up(NAMES));
    }
    // It takes two answers until the server is up.
    for up in [false, true] {
        case.check(NAMES, true);
        assert_eq!(case.all_end(Came::Answered), Done::default());
        assert_eq!(case.is_up(NAMES), up);
    }
    case.check(NAMES, true);
    assert_eq!(case.asked(), [], "from now on the ping is enough");
}

#[test]
fn a_port_is_only_asked_where_icmp_has_called_it_closed_and_a_ping_leaves_it_unasked() {
    for (server, evidence, expected) in [
        (NAMES, refused(), CheckKind::Ping),
        (NAMES, Evidence::NeighbourFailed, CheckKind::Ping),
        (CONNECTIONS, Evidence::Unreachable { messages: 1 }, CheckKind::Connect),
    ] {
        let mut case = case();
        case.suspect(server, Layer::Host, Strength::Weak, evidence);
        assert_eq!(*case.bursts[0].request.question, expected);
        assert_eq!(case.all_end(Came::TimedOut).feedback, not_probed(server));
        case.check(server, true);
        assert_eq!(case.asked(), []);
    }
}

#[test]
fn a_port_is_no_longer_asked_of_a_server_that_is_gone() {
    let mut case = case();
    case.suspect(NAMES, Layer::Host, Strength::Strong, Evidence::Unreachable { messages: 1 });
    case.all_end(Came::Refused);
    let names = case.destinations(NAMES)[0];
    assert!(case.confirmations.closed_ports.contains(&names));
    case.services.retain(|service| service.name != "names");
    case.engine.replace(&case.services, |_| Presence::Absent, case.now);
    case.confirmations.forget_removed(&case.engine, case.now);
    assert!(!case.confirmations.closed_ports.contains(&names));
}

#[test]
fn other_findings_are_only_published() {
    let mut case = case();
    let evidence = refused();
    let subjects = case.subjects(SHARED);
    let overloaded = |subject| Event::Overloaded { subject, evidence: evidence.clone() };
    for (finding, events) in [
        (
            Finding::Overloaded { id: SHARED, evidence: evidence.clone() },
            subjects.clone().into_iter().map(overloaded).collect(),
        ),
        (
            Finding::Correlated { id: SHARED, evidence: evidence.clone() },
            vec![Event::Correlated { subjects, evidence: Some(evidence.clone()) }],
        ),
    ] {
        let (confirmations, at) = case.split();
        let steps = confirmations.found(&finding, at);
        assert_eq!(case.carry_out(steps), Done { feedback: vec![], events });
        assert_eq!(case.asked(), []);
    }
}

#[test]
fn probes_that_say_nothing_of_the_server_change_nothing() {
    for came in [Came::NotSent, Came::TimedOutLate] {
        let mut case = case();
        case.suspect(PAGES[0], Layer::Host, Strength::Strong, refused());
        let (answer, _) = case.probe_ends(0, came);
        assert_eq!(answer.verdict, Verdict::Unknown, "{came:?}");
        let done = case.all_end(came);
        assert_eq!(done, Done { feedback: not_probed(PAGES[0]), events: vec![] }, "{came:?}");
        assert!(case.is_up(PAGES[0]) && case.bursts.is_empty());
    }
}

#[test]
fn a_failure_leads_to_one_further_round_and_not_to_endless_ones() {
    for came in [Came::NotSent, Came::TimedOutLate] {
        let mut case = case();
        case.suspect(NAMES, Layer::Host, Strength::Weak, refused());
        case.probe_ends(0, Came::TimedOut);
        assert_eq!(case.all_end(came), Done::default(), "two are lacking");
        assert_eq!(case.asked(), [(CheckKind::Ping, vec![4, 5])]);
        let done = case.all_end(came);
        assert_eq!(done, Done { feedback: not_probed(NAMES), events: vec![] }, "{came:?}");
        assert!(case.is_up(NAMES) && case.bursts.is_empty());
    }
}

#[test]
fn while_most_of_a_service_is_suspected_no_failure_counts() {
    let mut case = case();
    for server in PAGES {
        case.suspect(server, Layer::Host, Strength::Strong, refused());
    }
    for server in PAGES {
        while !case.bursts[0].left.is_empty() {
            let (answer, _) = case.probe_ends(0, Came::Refused);
            assert_eq!(answer.verdict, Verdict::Unknown);
        }
        let done = case.burst_ends(0);
        let events = vec![Event::Correlated { subjects: case.subjects(server), evidence: None }];
        assert_eq!(done, Done { feedback: cleared(server, Layer::Host), events });
        assert!(case.is_up(server));
    }
    // One of three, later.
    case.now += Duration::from_secs(1);
    case.suspect(PAGES[0], Layer::Host, Strength::Strong, refused());
    case.all_end(Came::Refused);
    assert!(!case.is_up(PAGES[0]));
}

#[test]
fn without_a_check_nothing_is_probed() {
    let mut case = case();
    for _ in 0..3 {
        case.check(NAMES, false);
    }
    for layer in [Layer::Host, Layer::Application] {
        assert_eq!(case.suspect(NAMES, layer, Strength::Strong, refused()).feedback, not_probed(NAMES));
    }
    let nobody = ServerId(SERVERS);
    assert_eq!(case.suspect(nobody, Layer::Host, Strength::Weak, refused()).feedback, not_probed(nobody));
    assert_eq!(case.asked(), []);
}

#[test]
fn without_a_budget_nothing_is_probed_until_there_is_one_again() {
    let one = NonZeroU32::MIN;
    let mut case = Case::new(&BurstSettings { server_rate: one, ..BurstSettings::default() });
    case.suspect(NAMES, Layer::Host, Strength::Weak, refused());
    let done = case.suspect(NAMES, Layer::Host, Strength::Strong, refused());
    assert!(matches!(done.events[..], [Event::Suspicion { .. }]), "what is in progress needs no other token");
    case.probe_ends(0, Came::Answered);
    case.burst_ends(0);
    let done = case.suspect(NAMES, Layer::Host, Strength::Strong, refused());
    assert_eq!(done.feedback, not_probed(NAMES));
    assert!(
        matches!(done.events[..], [Event::ProbeWithheld { .. }]),
        "what is withheld is no line of its own"
    );
    assert_eq!(case.asked(), []);
    case.now += Duration::from_secs(1);
    assert_eq!(case.suspect(NAMES, Layer::Host, Strength::Strong, refused()).feedback, []);
    assert_eq!(case.bursts.len(), 1);
}

/// Four refuted suspicions a second of one kind leave the others of that server their probes.
#[test]
fn evidence_that_is_refuted_again_and_again_is_asked_less_and_other_evidence_at_once() {
    let mut case = case();
    let forged = || Evidence::Unreachable { messages: 2 };
    let (mut asked, mut withheld) = (0, 0);
    for _ in 0..40 {
        case.now += Duration::from_millis(25);
        let done = case.suspect(CONNECTIONS, Layer::Host, Strength::Weak, forged());
        if case.bursts.is_empty() {
            withheld += 1;
            assert!(matches!(done.events[..], [Event::ProbeWithheld { .. }]), "{:?}", done.events);
            continue;
        }
        asked += 1;
        case.probe_ends(0, Came::Answered);
        case.burst_ends(0);
    }
    // A third of five a second, rounded up, and what a second holds.
    assert_eq!((asked, withheld), (3, 37));
    case.suspect(CONNECTIONS, Layer::Host, Strength::Weak, refused());
    assert_eq!(case.bursts.len(), 1, "another kind is asked at once");
}

#[test]
fn the_ping_beside_a_burst_decides_nothing() {
    let mut case = case();
    case.suspect(CONNECTIONS, Layer::Host, Strength::Weak, refused());
    case.probe_ends(0, Came::Refused);
    case.probe_ends(0, Came::NotSent);
    let Burst { request, .. } = case.bursts.remove(0);
    let ping = Came::Answered.outcome(request.patience.probe);
    let (confirmations, at) = case.split();
    let steps = confirmations.burst_ended(&request, Some(&ping), at);
    let pinged = Event::Probe {
        kind: ProbeKind::Ping,
        subjects: case.subjects(CONNECTIONS),
        outcome: ping,
        verdict: Verdict::Alive,
    };
    assert_eq!(case.carry_out(steps), Done { feedback: vec![], events: vec![pinged] });
    assert_eq!(case.asked(), [(CheckKind::Connect, vec![3])], "it goes on all the same");
}
