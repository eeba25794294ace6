//! What agents on servers say, and what becomes of it.

use super::*;

const AGENT: &str = "check = { type = \"agent\", port = 9000 }";
const WITH_PAGE: &str = "check = [{ type = \"http\" }, { type = \"agent\", port = 9000 }]";

fn says(words: &str) -> AgentReport {
    let mut report = AgentReport::default();
    for word in words.split(' ') {
        match word {
            "up" => report.is_up = Some(true),
            "down" => report.is_up = Some(false),
            "ready" => report.order = Some(AgentOrder::Ready),
            "drain" => report.order = Some(AgentOrder::Drain),
            "maint" => report.order = Some(AgentOrder::Maintenance),
            percent => report.percent = percent.trim_end_matches('%').parse().ok(),
        }
    }
    report
}

impl Case {
    /// So many answers of the agent of the first server, by the check with this index; `None`: it doesn't answer.
    fn hears(&mut self, check: usize, words: Option<&str>, times: usize) -> Effects {
        let report = words.map(says);
        let success = report.is_some_and(|report| report.is_up != Some(false));
        let sample = Sample { check: Some(check), success, source: crate::health::Source::Baseline };
        let observed =
            (0..times).map(|_| self.engine.observe(&key(1), sample, report.map(Reported::Agent), self.now));
        observed.last().unwrap_or_default()
    }

    fn first(&self) -> i32 {
        self.weights::<1>()[0]
    }
}

/// What isn't said stays as it was, and only the agent takes its words back.
#[test]
fn an_agent_sets_the_weight_and_the_state() {
    let mut case = Case::new(&web(AGENT, 2));
    let steps = [
        (Some("up 50%"), 5),
        (Some("up"), 5),
        (Some("75%"), 7),
        (Some("up 1%"), 1),
        (Some("0%"), 0),
        (Some("up 100%"), 10),
        (Some("drain"), 0),
        (Some("up"), 0),
        (Some("50%"), 0),
        (Some("ready"), 5),
        (Some("maint"), 0),
        (Some("up 100%"), 0),
        (Some("ready"), 10),
        (Some("down"), 0),
        (Some("ready 100%"), 0),
        (Some("up"), 10),
        (None, 0),
        (Some("100%"), 10),
    ];
    for (words, weight) in steps {
        case.hears(0, words, 2);
        assert_eq!(case.first(), weight, "{words:?}");
    }
}

#[test]
fn a_drained_server_is_not_reported_as_failed() {
    let mut case = Case::new(&web(AGENT, 2));
    case.hears(0, Some("up"), 2);
    for (words, reason) in [("drain", "drains it"), ("maint", "put it into maintenance")] {
        let effects = case.hears(0, Some(words), 1);
        assert!(effects.transition.is_none() && effects.table_changed, "{words}");
        assert!(case.engine.admin_state(&key(1)).reason().is_some_and(|said| said.contains(reason)));
        assert_eq!(case.engine.disabled_since(&key(1)), Some(case.now));
        assert!(case.hears(0, Some("ready"), 1).table_changed);
        assert_eq!(case.engine.disabled_since(&key(1)), None);
    }
    let removing = web(&format!("{AGENT}\non-failure = \"remove\""), 2);
    let mut case = Case::new(&removing);
    for (words, weight) in [("up", 10), ("drain", 0), ("maint", -1), ("ready", 10)] {
        case.hears(0, Some(words), 2);
        assert_eq!(case.first(), weight, "{words}");
    }
}

/// Beside another check an agent that doesn't answer changes nothing: it is that check that knows whether the server is
/// well.
#[test]
fn silence_of_an_agent_is_no_failure_beside_another_check() {
    let mut case = Case::new(&web(WITH_PAGE, 2));
    case.observe(1, 0, true);
    case.hears(1, None, 1);
    assert_eq!(case.first(), 10, "it has never said anything");
    case.hears(1, Some("up 50%"), 1);
    case.hears(1, None, 5);
    assert_eq!(case.first(), 5);
    case.hears(1, Some("down"), 2);
    assert_eq!(case.first(), 0);
    case.hears(1, None, 5);
    assert_eq!(case.first(), 0, "only the agent takes it back");
    case.hears(1, Some("up"), 1);
    assert_eq!(case.first(), 5);
    case.observe(1, 0, false);
    case.observe(1, 0, false);
    case.hears(1, Some("up"), 5);
    assert_eq!(case.first(), 0, "up means what the other check says");
}

#[test]
fn without_its_check_an_agent_has_said_nothing() {
    let mut case = Case::new(&web(WITH_PAGE, 2));
    case.observe(1, 0, true);
    case.hears(1, Some("up 50% drain"), 1);
    assert_eq!(case.first(), 0);
    // Kept where the check stays …
    case.engine.replace(&services(&web(WITH_PAGE, 3)), |_| Presence::Absent, case.now);
    assert_eq!(case.first(), 0);
    // … and forgotten where it goes.
    case.engine.replace(&services(&web("check = { type = \"http\" }", 2)), |_| Presence::Absent, case.now);
    assert_eq!(case.first(), 10);
    assert!(case.engine.admin_state(&key(1)).is_enabled());
}
