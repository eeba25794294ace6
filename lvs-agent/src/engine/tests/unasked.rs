//! Servers that can't be asked.

use super::*;
use crate::{
    health::Source,
    probe::{Failure, FailureReason, LocalFault, Outcome, Success},
};

const BACKUP: &str = "[[service.backup]]\naddress = \"10.0.0.3\"\nchecked = false\n";
/// An interval and a timeout, and the time that the scheduler may take.
const FIRST_CHECK: Duration = Duration::from_millis(2100);

/// The time has passed in which the first check should have had a result.
fn wait(case: &mut Case) -> Effects {
    case.now = case.engine.next_change().expect("the first check should have a result");
    case.engine.advance(case.now)
}

#[test]
fn a_server_that_cannot_be_asked_holds_up_its_backup_no_longer_than_the_first_check_takes() {
    let mut case = Case::new(&(web("", 2) + BACKUP));
    assert_eq!(case.engine.next_change(), Some(case.now + FIRST_CHECK));
    let just_before = case.now + FIRST_CHECK.saturating_sub(Duration::from_millis(1));
    assert_eq!(case.engine.advance(just_before), Effects::default());
    assert_eq!(case.weights(), [0, 0, -1]);
    let expected = [PoolEvent::QuorumLost, PoolEvent::BackupsIn].map(pool_event);
    assert_eq!(wait(&mut case).events, expected);
    assert_eq!((case.weights(), case.engine.next_change()), ([0, 0, 1], None));
    // Who answers after all takes over.
    case.observe(2, 0, true);
    assert_eq!(case.weights(), [0, 10, -1]);
}

/// The slowest check counts, and each server has its own time.
#[test]
fn each_server_has_the_time_of_its_slowest_check() {
    let lines = "check = [{ type = \"connect\" }, { type = \"ping\", interval = \"5s\", timeout = \"3s\" }]";
    let mut case = Case::new(&(web(lines, 1) + BACKUP));
    let slowest = Duration::from_millis(8100);
    assert_eq!(case.engine.next_change(), Some(case.now + slowest));
    let start = case.now;
    case.now += Duration::from_secs(1);
    case.replace(&(web(lines, 2) + BACKUP));
    assert_eq!(case.engine.next_change(), Some(start + slowest), "the one from before keeps its time");
    assert_eq!(wait(&mut case).events, [], "the new one has still time");
    assert_eq!(wait(&mut case).events, [PoolEvent::QuorumLost, PoolEvent::BackupsIn].map(pool_event));
}

#[test]
fn without_a_backup_a_server_that_cannot_be_asked_serves() {
    for on_failure in ["quiesce", "remove"] {
        let mut case = Case::new(&web(&format!("on-failure = \"{on_failure}\""), 3));
        // What is known to be failing, or down, is not tried.
        case.observe(3, 0, false);
        wait(&mut case);
        let out = if on_failure == "remove" { -1 } else { 0 };
        assert_eq!(case.weights(), [10, 10, out], "{on_failure}");
        // One that answers is enough.
        case.observe(2, 0, true);
        assert_eq!(case.weights(), [out, 10, out], "{on_failure}");
    }
}

#[test]
fn a_backup_that_cannot_be_asked_is_the_last_resort() {
    let backup = "[[service.backup]]\naddress = \"10.0.0.3\"\n";
    let mut case = Case::new(&(web("", 2) + backup));
    wait(&mut case);
    assert_eq!(case.weights(), [10, 10, -1], "rather the servers");
    case.becomes(1, false);
    case.becomes(2, false);
    assert_eq!(case.weights(), [0, 0, 1], "nobody else is left");
    case.becomes(3, false);
    assert_eq!(case.weights(), [0, 0, -1], "it is down as well");
}

#[test]
fn who_was_in_the_table_stays_there_while_it_cannot_be_asked() {
    let now = Instant::now();
    let mut engine = Engine::new(&services(&(web("", 2) + BACKUP)), |_| Presence::In);
    engine.decide_all(now);
    let mut case = Case { engine, now };
    case.observe(1, 0, true);
    wait(&mut case);
    assert_eq!(case.weights(), [10, 10, -1]);
}

#[test]
fn a_check_that_cannot_be_made_is_an_event_and_stands_in_the_status() {
    let mut case = Case::new(&web("", 2));
    let fault = LocalFault::new("run the command", &std::io::Error::from_raw_os_error(2));
    let outcome = Err(Failure { reason: fault.into(), after: Duration::ZERO });
    let reason = "this director could not run the command: No such file or directory (os error 2)";
    let note = |case: &Case, host| {
        let statuses = status::statuses(&case.engine, case.now);
        statuses.into_iter().find(|status| status.destination == key(host)).and_then(|status| status.note)
    };
    case.becomes(2, true);
    let event = case.engine.note_check(&key(1), 0, &outcome, case.now);
    let expected = Event::CheckBlocked {
        subject: case.engine.subject(&key(1)),
        state: Some(State::Unknown { failures: 0 }),
        reason: reason.to_owned(),
    };
    assert_eq!(event, Some(expected));
    assert_eq!(case.engine.note_check(&key(2), 0, &outcome, case.now), None);
    assert_eq!(note(&case, 1), Some(format!("cannot be asked: {reason}")));
    assert_eq!(note(&case, 2), Some(format!("cannot be asked, was up by its last check: {reason}")));
    assert_eq!(case.engine.state(&key(2)), Some(State::Up));
    case.replace(&web("", 1));
    let answered = Err(Failure { reason: FailureReason::Refused, after: Duration::ZERO });
    let event = case.engine.note_check(&key(1), 0, &answered, case.now);
    assert_eq!(event, Some(Event::CheckUnblocked { service: "web".into() }));
    assert_eq!(note(&case, 1), None);
}

/// Checks that were under way when a server came back, as after a stall, fail late.
#[test]
fn a_failure_of_a_check_that_began_before_the_last_answer_is_outdated() {
    let mut case = Case::new(&web("", 1));
    let ok = || Ok(Success { latency: Duration::ZERO, connect: None, weight: None });
    let failed = || Err(Failure { reason: FailureReason::Refused, after: Duration::ZERO });
    let result = |case: &mut Case, outcome: Outcome| {
        let sample = Sample { check: Some(0), success: outcome.is_ok(), source: Source::Baseline };
        case.engine.observe_outcome(&key(1), sample, &outcome, case.now);
    };
    let begin = case.now;
    let is_outdated = |case: &Case, began| case.engine.is_outdated(&key(1), began);
    assert!(!is_outdated(&case, begin), "nothing is known");
    case.now += Duration::from_secs(1);
    result(&mut case, ok());
    let up = case.now;
    assert!(is_outdated(&case, begin) && !is_outdated(&case, up));
    case.now += Duration::from_secs(1);
    result(&mut case, failed());
    assert!(!is_outdated(&case, begin), "while it is suspected all failures count");
    case.now += Duration::from_secs(1);
    let before = case.now;
    case.now += Duration::from_secs(1);
    result(&mut case, ok());
    assert!(is_outdated(&case, before) && !is_outdated(&case, case.now));
}
