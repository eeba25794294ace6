//! Servers that the fast path alone has taken out.

use super::*;

const MS: Duration = Duration::from_millis(1);

/// A server of pages is out by confirming probes.
fn removed(server: ServerId) -> Case {
    let mut case = Case::new(&BurstSettings::default());
    case.suspect(server, Layer::Host, Strength::Strong, Evidence::NeighbourFailed);
    case.all_end(Came::TimedOut);
    assert!(!case.is_up(server));
    case
}

impl Case {
    /// Lets this time pass, and starts what is due then.
    fn passes(&mut self, time: Duration) {
        self.now += time;
        let (confirmations, at) = self.split();
        let steps = confirmations.due(at);
        assert_eq!(self.carry_out(steps), Done::default());
    }
}

#[test]
fn it_is_asked_for_a_connection_every_50_ms_and_each_question_has_its_time() {
    let mut case = removed(PAGES[0]);
    let due = case.confirmations.next_due();
    assert_eq!(due, Some(case.now + 50 * MS));
    for asked in 0..5 {
        case.passes(49 * MS);
        assert_eq!(case.bursts.len(), asked);
        case.passes(MS);
        assert_eq!(case.bursts.len(), asked + 1);
    }
    let Burst { request, rhythm, .. } = &case.bursts[0];
    assert_eq!((&*request.question, request.purpose), (&CheckKind::Connect, Purpose::Return));
    assert_eq!(*rhythm, Rhythm::once(Check::default().timeout), "they overlap");
}

#[test]
fn whoever_takes_a_connection_is_asked_the_whole_check_which_brings_it_back_at_once() {
    let mut case = removed(PAGES[0]);
    case.passes(50 * MS);
    let (answer, _) = case.probe_ends(0, Came::Answered);
    assert_eq!(answer.checks, [], "a connection is not the check");
    assert!(!case.is_up(PAGES[0]));
    case.burst_ends(0);
    assert!(matches!(&case.asked()[..], [(CheckKind::Http(_), left)] if *left == [1]));
    // Nothing else is asked meanwhile.
    case.passes(50 * MS);
    assert_eq!(case.bursts.len(), 1);
    case.probe_ends(0, Came::Answered);
    assert!(case.is_up(PAGES[0]), "one success is enough, though `rise` is 2");
    case.burst_ends(0);
    case.passes(50 * MS);
    assert_eq!((case.asked(), case.confirmations.next_due()), (vec![], None));
}

#[test]
fn whoever_takes_connections_again_has_no_part_in_what_befalls_the_next_one() {
    let mut case = removed(PAGES[0]);
    case.passes(50 * MS);
    case.probe_ends(0, Came::Answered);
    case.burst_ends(0);
    case.suspect(PAGES[1], Layer::Host, Strength::Strong, Evidence::NeighbourFailed);
    while !case.bursts[1].left.is_empty() {
        let (answer, _) = case.probe_ends(1, Came::TimedOut);
        assert_eq!(answer.verdict, Verdict::Dead, "its failures count");
    }
    let done = case.burst_ends(1);
    assert!(done.events.iter().all(|event| event.name() != "common"), "{:?}", done.events);
}

#[test]
fn whoever_takes_connections_and_fails_the_check_stays_out_and_is_asked_on() {
    let mut case = removed(PAGES[0]);
    case.passes(50 * MS);
    case.probe_ends(0, Came::Answered);
    case.burst_ends(0);
    case.probe_ends(0, Came::Refused);
    assert!(!case.is_up(PAGES[0]));
    case.burst_ends(0);
    case.passes(50 * MS);
    assert!(matches!(&case.asked()[..], [(CheckKind::Connect, _)]));
}

#[test]
fn where_the_check_is_a_connection_or_a_ping_its_answer_is_the_whole() {
    for server in [CONNECTIONS, NAMES] {
        let mut case = removed(server);
        case.passes(50 * MS);
        case.probe_ends(0, Came::Answered);
        assert!(case.is_up(server));
        assert_eq!(case.bursts.len(), 1, "nothing else is asked");
    }
}

#[test]
fn a_server_of_two_services_is_asked_once_and_comes_back_in_both() {
    let mut case = removed(SHARED);
    case.passes(50 * MS);
    assert_eq!(case.bursts.len(), 1);
    assert_eq!(case.bursts[0].request.destinations.to_vec(), case.destinations(SHARED));
    case.probe_ends(0, Came::Answered);
    case.burst_ends(0);
    assert!(!case.is_up(SHARED), "its pages have not answered yet");
    case.probe_ends(0, Came::Answered);
    assert!(case.is_up(SHARED));
}

#[test]
fn where_silence_is_an_answer_only_the_regular_check_asks() {
    let mut case = Case::new(&BurstSettings::default());
    case.suspect(NAMES, Layer::Host, Strength::Strong, Evidence::Unreachable { messages: 1 });
    case.all_end(Came::Refused);
    assert!(!case.is_up(NAMES));
    assert_eq!(
        case.confirmations.next_due(),
        None,
        "no ICMP error is no answer, if it is asked for that often"
    );
    case.check(NAMES, true);
    case.probe_ends(0, Came::Answered);
    assert!(case.is_up(NAMES));
}

#[test]
fn it_is_asked_no_longer_once_the_baseline_check_agrees_or_after_three_seconds() {
    let mut case = removed(NAMES);
    case.passes(50 * MS);
    for _ in 0..3 {
        case.check(NAMES, false);
    }
    case.passes(50 * MS);
    assert_eq!((case.bursts.len(), case.confirmations.next_due()), (1, None), "it agrees");
    // A late answer brings it back no sooner than others.
    case.probe_ends(0, Came::Answered);
    assert!(!case.is_up(NAMES) && case.bursts.len() == 1);

    let mut case = removed(NAMES);
    for _ in 0..100 {
        case.passes(50 * MS);
    }
    assert_eq!((case.bursts.len(), case.confirmations.next_due()), (59, None));
}

#[test]
fn with_many_of_them_each_is_asked_less_often() {
    let mut rechecks = Rechecks::default();
    let case = removed(NAMES);
    let destination = case.destinations(NAMES)[0];
    for number in 0..200_u8 {
        let server = ([10, 0, 9, number], 80).into();
        rechecks.add(DestinationKey { server, ..destination }, case.now);
    }
    assert_eq!(rechecks.every(), 200 * MS);
}

#[test]
fn one_that_is_back_has_no_part_in_what_befalls_the_next() {
    let mut case = removed(NAMES);
    case.passes(50 * MS);
    case.probe_ends(0, Came::Answered);
    case.burst_ends(0);
    assert!(case.is_up(NAMES));
    let next = ServerId(NAMES.0 + 1);
    case.suspect(next, Layer::Host, Strength::Strong, Evidence::NeighbourFailed);
    case.all_end(Came::TimedOut);
    assert!(!case.is_up(next), "one of three is not most of them");
}
