//! Which idle connections are wanted, and what their ends lead to. Pure.

use std::collections::BTreeSet;

use super::Engine;
use crate::{
    event::Event,
    health::{Source, State},
    model::{DestinationKey, Protocol},
    passive::{self, Evidence, Finding, Hint, Layer, Strength, Suspicion, Targets},
    probe::{
        Failure, FailureReason, Outcome,
        idle::{Condition, IdleChange, IdleEnd, IdleReport, IdleSign, IdleWish, idle_target},
    },
};

/// What the end of an idle connection raises.
#[derive(Debug, Default, PartialEq)]
pub(crate) struct Raised {
    /// For the confirmation of suspicions.
    pub(crate) findings: Vec<Finding>,
    /// Destinations without a passive signal, which no confirmation knows: their regular checks are to be made now.
    pub(crate) check_now: Vec<DestinationKey>,
}

/// The idle connections that the services want.
pub(crate) fn wishes(engine: &Engine) -> Vec<IdleWish> {
    let wishes = engine.destinations().filter_map(|(destination, service, role, _)| {
        let (target, unasked) = idle_target(service, role)?;
        let condition = engine.state(&destination).map_or(Condition::Down, condition);
        Some(IdleWish { destination, target, unasked, condition })
    });
    wishes.collect()
}

/// How a server in this state is, as far as idle connections care.
fn condition(state: State) -> Condition {
    if state.is_up() { Condition::Up } else { Condition::Down }
}

/// The same for a server that a result has just brought into this state: an idle connection may be in the way of its
/// regular check, if that gets no answer.
pub(crate) fn condition_after(state: State, outcome: &Outcome, source: Source) -> Condition {
    let timed_out = matches!(outcome, Err(Failure { reason: FailureReason::TimedOut { .. }, .. }));
    match state {
        State::Suspect { .. } if timed_out && source == Source::Baseline => Condition::Suspect,
        State::Down { .. } if timed_out && source == Source::Baseline => Condition::Silent,
        _ => condition(state),
    }
}

/// What a report raises: a hint for each endpoint of the server, or more if the server has refused a connection.
pub(crate) fn raised(report: &IdleReport, targets: &Targets) -> Raised {
    let mut raised = Raised::default();
    let IdleReport::Server { destinations, change } = report else { return raised };
    let IdleChange::Ended { end, after, usual, sign } = *change else { return raised };
    let end = match end {
        IdleEnd::Finished => passive::IdleEnd::Finished,
        IdleEnd::Reset => passive::IdleEnd::Reset,
        IdleEnd::Refused => passive::IdleEnd::Refused,
        IdleEnd::Unanswered | IdleEnd::Closed => return raised,
    };
    let (evidence, layer) = (Evidence::IdleClosed { end, after, usual }, Layer::Host);
    let mut asked = BTreeSet::new();
    for destination in destinations.iter().filter(|_| sign != IdleSign::Nothing) {
        let mut endpoints =
            targets.of(destination).filter(|target| target.protocol() == Protocol::Tcp).peekable();
        if endpoints.peek().is_none() {
            raised.check_now.push(*destination);
        }
        asked.extend(endpoints.map(|endpoint| endpoint.id));
    }
    raised.findings.extend(asked.into_iter().map(|id| {
        let evidence = evidence.clone();
        match sign {
            IdleSign::Suspicion => {
                Finding::Suspicion(Suspicion { id, strength: Strength::Strong, layer, evidence })
            }
            IdleSign::Hint | IdleSign::Nothing => Finding::Hint(Hint { id, layer, source: None, evidence }),
        }
    }));
    raised
}

/// A report as an event.
pub(crate) fn event(report: &IdleReport, engine: &Engine) -> Event {
    match report {
        IdleReport::Server { destinations, change } => {
            Event::IdleConnection { subjects: engine.subjects(destinations), change: *change }
        }
        &IdleReport::Limited { wanted, limit } => Event::IdleLimit { wanted, limit },
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::{
        config::native,
        health::Cause,
        model::VirtualService,
        passive::{Target, forwardings},
        pool::Presence,
        probe::{
            Phase,
            idle::{IdleOff, Unasked},
        },
    };

    fn services() -> Vec<VirtualService> {
        let text = r#"
            [defaults]
            forward = "masquerade"

            [[service]]
            address = "192.0.2.1:80"
            check = { type = "http", connect-timeout = "100ms" }
            server = [{ address = "10.0.0.1" }, { address = "10.0.0.2" }]
            backup = [{ address = "10.0.0.9" }]

            [[service]]
            address = "192.0.2.2:80"
            server = [{ address = "10.0.0.1" }]

            [[service]]
            address = "192.0.2.3:53"
            protocol = "udp"
            server = [{ address = "10.0.0.1" }]

            [[service]]
            address = "192.0.2.4:80"
            idle-connection = "off"
            server = [{ address = "10.0.0.4" }]
        "#;
        native::read(text, "test.toml".as_ref()).unwrap_or_else(|error| panic!("{error}")).services
    }

    fn ended(destinations: &[DestinationKey], end: IdleEnd, sign: IdleSign) -> IdleReport {
        let change = IdleChange::Ended { end, after: Duration::from_mins(1), usual: None, sign };
        IdleReport::Server { destinations: destinations.into(), change }
    }

    #[test]
    fn wishes_are_those_of_the_configuration_with_the_state_of_each_server() {
        let services = services();
        let engine = Engine::new(&services, |_| Presence::In);
        let wishes = wishes(&engine);
        let wanted: Vec<_> =
            wishes.iter().map(|wish| (wish.target.address.to_string(), wish.unasked)).collect();
        let expected = [
            ("10.0.0.1:80", Unasked::Discard),
            ("10.0.0.2:80", Unasked::Discard),
            ("10.0.0.9:80", Unasked::GiveUp),
            ("10.0.0.1:80", Unasked::GiveUp),
        ];
        assert_eq!(wanted, expected.map(|(address, unasked)| (address.to_owned(), unasked)));
        assert_eq!(wishes[0].target, wishes[3].target, "one connection for both services");
        assert!(wishes.iter().all(|wish| wish.condition == Condition::Down), "nothing is known yet");
    }

    #[test]
    fn a_regular_check_without_an_answer_may_be_the_idle_connections_fault() {
        let failed = |reason| Err(Failure { reason, after: Duration::from_secs(1) });
        let timed_out = failed(FailureReason::TimedOut { phase: Phase::Reply });
        let refused = failed(FailureReason::Refused);
        let (suspect, down) =
            (State::Suspect { baseline: 1, confirm: 0 }, State::Down { cause: Cause::Baseline, baseline: 3 });
        let (baseline, confirm) = (Source::Baseline, Source::Confirm);
        let cases = [
            (State::Up, &refused, baseline, Condition::Up),
            (suspect, &timed_out, baseline, Condition::Suspect),
            (suspect, &timed_out, confirm, Condition::Up),
            (suspect, &refused, baseline, Condition::Up),
            (down, &timed_out, baseline, Condition::Silent),
            (down, &timed_out, confirm, Condition::Down),
            (down, &refused, baseline, Condition::Down),
            (State::Recovering { successes: 1 }, &timed_out, baseline, Condition::Down),
            (State::Unknown { failures: 1 }, &timed_out, baseline, Condition::Down),
        ];
        for (state, outcome, source, expected) in cases {
            assert_eq!(condition_after(state, outcome, source), expected, "{state} {source:?}");
        }
    }

    #[test]
    fn an_end_raises_a_hint_for_each_endpoint_or_brings_a_check_forward() {
        let services = services();
        let targets = Targets::new(services.iter().flat_map(forwardings));
        let engine = Engine::new(&services, |_| Presence::In);
        let wishes = wishes(&engine);
        let (first, backup, other) = (wishes[0].destination, wishes[2].destination, wishes[3].destination);
        let found = raised(&ended(&[first, other], IdleEnd::Finished, IdleSign::Hint), &targets);
        // Both services share the endpoint.
        let [
            Finding::Hint(Hint {
                id,
                layer: Layer::Host,
                source: None,
                evidence: Evidence::IdleClosed { .. },
            }),
        ] = &found.findings[..]
        else {
            panic!("{found:?}")
        };
        assert_eq!(targets.get(*id).map(Target::protocol), Some(Protocol::Tcp));
        assert_eq!(found.check_now, []);
        // A refusal is a probe that has failed.
        let found = raised(&ended(&[first], IdleEnd::Refused, IdleSign::Suspicion), &targets);
        assert!(
            matches!(&found.findings[..], [Finding::Suspicion(Suspicion { strength: Strength::Strong, .. })]),
            "{found:?}"
        );
        // Backups have no passive signal, and without passive detection nobody has.
        let found = raised(&ended(&[backup], IdleEnd::Reset, IdleSign::Hint), &targets);
        assert_eq!(found, Raised { findings: Vec::new(), check_now: vec![backup] });
        let found = raised(&ended(&[first, other], IdleEnd::Reset, IdleSign::Hint), &Targets::new([]));
        assert_eq!(found, Raised { findings: Vec::new(), check_now: vec![first, other] });
    }

    #[test]
    fn what_says_nothing_new_raises_nothing() {
        let services = services();
        let targets = Targets::new(services.iter().flat_map(forwardings));
        let engine = Engine::new(&services, |_| Presence::In);
        let destinations = [wishes(&engine)[0].destination];
        let of = |change| IdleReport::Server { destinations: destinations.into(), change };
        let reports = [
            ended(&destinations, IdleEnd::Finished, IdleSign::Nothing),
            ended(&destinations, IdleEnd::Closed, IdleSign::Nothing),
            ended(&destinations, IdleEnd::Unanswered, IdleSign::Nothing),
            of(IdleChange::Opened),
            of(IdleChange::On),
            of(IdleChange::Off(IdleOff::Refused)),
            IdleReport::Limited { wanted: 2, limit: 1 },
        ];
        for report in reports {
            assert_eq!(raised(&report, &targets), Raised::default(), "{report:?}");
            let name = event(&report, &engine).name();
            assert!(name.starts_with("idle-"), "{name}");
        }
    }
}
