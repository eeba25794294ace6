//! The timelines of failovers: from the events about a server to how it came to be taken out. Pure.

use std::time::Duration;

use super::{Event, HintFate, ProbeKind, Record, Subject};
use crate::{
    control::{StepKind, Timeline, TimelineStep},
    health::{State, Transition},
    ipvs::Edit,
    keyed::KeyMap,
    model::DestinationKey,
    passive::Evidence,
    probe::{Outcome, Verdict},
};

/// How many steps are remembered of a server; of more, the later ones.
const MOST_STEPS: usize = 64;
/// Steps of longer ago have led to nothing.
const STALE: Duration = Duration::from_mins(10);

/// What has happened to servers that may be about to fail.
#[derive(Debug, Default)]
pub(crate) struct Timelines {
    by_destination: KeyMap<DestinationKey, Progress>,
}

#[derive(Debug, Default)]
struct Progress {
    /// The name of its service.
    service: String,
    steps: Vec<Step>,
    /// Whether it is down: only then has it been taken out for that.
    is_down: bool,
}

#[derive(Debug)]
struct Step {
    at_ns: u64,
    kind: StepKind,
    text: String,
}

impl Timelines {
    /// Takes in an event; the timeline, if it is the edit that takes a failed server out.
    pub(crate) fn follow(&mut self, record: &Record) -> Option<Timeline> {
        let at_ns = record.at_ns;
        match &record.event {
            Event::Hint { subjects, hint, fate: HintFate::Asked } => {
                for subject in subjects {
                    self.evidence(subject, at_ns, &hint.evidence);
                    self.push(subject, at_ns, StepKind::Hint, format!("{} layer", hint.layer));
                }
            }
            Event::Suspicion { subjects, suspicion } => {
                for subject in subjects {
                    self.evidence(subject, at_ns, &suspicion.evidence);
                    let text = format!("{}, {} layer", suspicion.strength, suspicion.layer);
                    self.push(subject, at_ns, StepKind::Suspicion, text);
                }
            }
            Event::Probe { kind, subjects, outcome, verdict: Verdict::Dead } => {
                if let Some(text) = probe(*kind, outcome) {
                    for subject in subjects {
                        self.push(subject, at_ns, StepKind::Probe, text.clone());
                    }
                }
            }
            Event::Cleared { subjects } => {
                for Subject { destination, .. } in subjects {
                    self.by_destination.remove(destination);
                }
            }
            Event::Transition { subject, transition, .. } => self.transition(subject, at_ns, *transition),
            Event::Edit { edit, took } => {
                return self.edit(edit, at_ns, &format!("{edit}, in {:.1} ms", ms(*took)));
            }
            Event::EditObserved { edit } => return self.edit(edit, at_ns, &format!("not written: {edit}")),
            Event::Services { services } => self
                .by_destination
                .retain(|destination, _| services.iter().any(|service| service.key == destination.service)),
            _ => {}
        }
        None
    }

    fn transition(&mut self, subject: &Subject, at_ns: u64, Transition { from, to }: Transition) {
        if to == State::Up {
            self.by_destination.remove(&subject.destination);
            return;
        }
        self.push(subject, at_ns, StepKind::State, format!("{from} to {to}"));
        if let Some(progress) = self.by_destination.get_mut(&subject.destination) {
            progress.is_down = to.is_hard_down();
        }
    }

    /// The evidence, as of the time when it began.
    fn evidence(&mut self, subject: &Subject, at_ns: u64, evidence: &Evidence) {
        let age = u64::try_from(age(evidence).as_nanos()).unwrap_or(u64::MAX);
        self.push(subject, at_ns.saturating_sub(age), StepKind::Evidence, evidence.to_string());
    }

    fn push(&mut self, subject: &Subject, at_ns: u64, kind: StepKind, text: String) {
        let progress = self
            .by_destination
            .entry(subject.destination)
            .or_insert_with(|| Progress { service: subject.service.to_string(), ..Progress::default() });
        let stale = u64::try_from(STALE.as_nanos()).unwrap_or(u64::MAX);
        progress.steps.retain(|step| at_ns.saturating_sub(step.at_ns) < stale);
        if progress.steps.len() >= MOST_STEPS {
            progress.steps.remove(0);
        }
        progress.steps.push(Step { at_ns, kind, text });
    }

    fn edit(&mut self, edit: &Edit, at_ns: u64, text: &str) -> Option<Timeline> {
        let destination = taken_out(edit)?;
        let is_down = self.by_destination.get(&destination).is_some_and(|progress| progress.is_down);
        let Progress { service, mut steps, .. } =
            is_down.then(|| self.by_destination.remove(&destination)).flatten()?;
        steps.push(Step { at_ns, kind: StepKind::Edit, text: text.to_owned() });
        // Evidence is of earlier than the event that tells of it.
        steps.sort_by_key(|step| step.at_ns);
        let first = steps.first()?.at_ns;
        let since = |at_ns: u64| ms(Duration::from_nanos(at_ns.saturating_sub(first)));
        Some(Timeline {
            service,
            server: destination.server.to_string(),
            total_ms: since(at_ns),
            steps: steps
                .into_iter()
                .map(|step| TimelineStep { at_ms: since(step.at_ns), step: step.kind, text: step.text })
                .collect(),
        })
    }
}

/// The server that an edit gives no new connections.
fn taken_out(edit: &Edit) -> Option<DestinationKey> {
    match edit {
        Edit::DeleteDestination(key) => Some(*key),
        Edit::SetDestination { service, destination } if !destination.weight.takes_connections() => {
            Some(DestinationKey { service: *service, server: destination.server })
        }
        _ => None,
    }
}

/// How long ago it began.
fn age(evidence: &Evidence) -> Duration {
    match evidence {
        Evidence::Refused { within, .. } | Evidence::SentAgain { within, .. } => *within,
        Evidence::Silent { silence, .. }
        | Evidence::Witnessed { silence, .. }
        | Evidence::Outpaced { silence, .. }
        | Evidence::Overloaded { silence, .. } => *silence,
        Evidence::Waiting { waited, .. } => *waited,
        _ => Duration::ZERO,
    }
}

/// A failed probe in words; `None`: it is of no interest here.
fn probe(kind: ProbeKind, outcome: &Outcome) -> Option<String> {
    let name = match kind {
        ProbeKind::Baseline { is_new_failure: true } => "check".to_owned(),
        ProbeKind::Confirm { number } => format!("confirming probe {number}"),
        ProbeKind::Hint => "probe for the hint".to_owned(),
        ProbeKind::Ping => "ping".to_owned(),
        ProbeKind::Baseline { is_new_failure: false } | ProbeKind::Return | ProbeKind::Port => return None,
    };
    let failure = outcome.as_ref().err()?;
    Some(format!("{name}: {}, after {:.1} ms", failure.reason, ms(failure.after)))
}

fn ms(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1000.0
}

#[cfg(test)]
mod tests {
    use std::time::SystemTime;

    use lvs_common::ServerId;

    use super::*;
    use crate::{
        health::Cause,
        model::{Protocol, ServiceKey},
        passive::{Layer, Strength, Suspicion},
        probe::{Failure, FailureReason, Success},
    };

    fn subject() -> Subject {
        let address = ([192, 0, 2, 80], 80).into();
        let service = ServiceKey::Address { protocol: Protocol::Tcp, address };
        let destination = DestinationKey { service, server: ([10, 0, 0, 2], 80).into() };
        Subject { service: "web".into(), destination }
    }

    fn transition(from: State, to: State) -> Event {
        let outcome = Err(Failure { reason: FailureReason::Refused, after: Duration::ZERO });
        Event::Transition { subject: subject(), transition: Transition { from, to }, outcome, relapses: 0 }
    }

    const SUSPECT: State = State::Suspect { baseline: 0, confirm: 1 };
    const DOWN: State = State::Down { cause: Cause::Fast, baseline: 0 };

    fn suspicion() -> Event {
        let evidence = Evidence::Refused { refusals: 3, within: Duration::from_millis(9) };
        let suspicion =
            Suspicion { id: ServerId(1), strength: Strength::Strong, layer: Layer::Host, evidence };
        Event::Suspicion { subjects: vec![subject()], suspicion }
    }

    fn confirming(number: u32, alive: bool) -> Event {
        let after = Duration::from_micros(250);
        let outcome: Outcome = if alive {
            Ok(Success { latency: after, connect: None, weight: None })
        } else {
            Err(Failure { reason: FailureReason::Refused, after })
        };
        let verdict = Verdict::of(&outcome);
        Event::Probe { kind: ProbeKind::Confirm { number }, subjects: vec![subject()], outcome, verdict }
    }

    fn edit() -> Event {
        Event::Edit { edit: Edit::DeleteDestination(subject().destination), took: Duration::from_micros(300) }
    }

    /// The timeline that the last event has, each event one ms after the one before, from 100 ms on.
    fn played(events: Vec<Event>) -> Option<Timeline> {
        let (mut timelines, mut last) = (Timelines::default(), None);
        for (index, event) in (0_u64..).zip(events) {
            let (sequence, at_ns) = (index + 1, (100 + index) * 1_000_000);
            last = timelines.follow(&Record { sequence, at_ns, time: SystemTime::UNIX_EPOCH, event });
        }
        last
    }

    #[test]
    fn a_failover_has_each_step_with_its_time() {
        let events = vec![
            suspicion(),
            confirming(1, false),
            transition(State::Up, SUSPECT),
            confirming(2, false),
            transition(SUSPECT, DOWN),
            edit(),
        ];
        let timeline = played(events).expect("a timeline");
        assert_eq!((timeline.service.as_str(), timeline.server.as_str()), ("web", "10.0.0.2:80"));
        assert!((timeline.total_ms - 14.0).abs() < 1e-6, "{timeline:?}");
        let steps: Vec<_> = timeline.steps.iter().map(|step| (step.at_ms, step.step)).collect();
        let expected = [
            (0.0, StepKind::Evidence),
            (9.0, StepKind::Suspicion),
            (10.0, StepKind::Probe),
            (11.0, StepKind::State),
            (12.0, StepKind::Probe),
            (13.0, StepKind::State),
            (14.0, StepKind::Edit),
        ];
        assert_eq!(steps, expected);
        assert_eq!(timeline.steps[2].text, "confirming probe 1: connection refused, after 0.2 ms");
    }

    #[test]
    fn an_edit_has_no_timeline_where_no_failure_led_to_it() {
        let back = |to| transition(SUSPECT, to);
        let cases = [
            vec![edit()],
            vec![suspicion(), edit()],
            vec![suspicion(), Event::Cleared { subjects: vec![subject()] }, edit()],
            vec![suspicion(), back(DOWN), back(State::Up), edit()],
            // Once is enough.
            vec![suspicion(), back(DOWN), edit(), edit()],
        ];
        for events in cases {
            let shown = format!("{events:?}");
            assert_eq!(played(events), None, "{shown}");
        }
    }

    #[test]
    fn a_server_that_is_suspected_for_ever_costs_no_more_memory() {
        let mut timelines = Timelines::default();
        for index in 0..10_000_u64 {
            let (sequence, at_ns) = (index, index * 1_000_000);
            let record = Record { sequence, at_ns, time: SystemTime::UNIX_EPOCH, event: suspicion() };
            timelines.follow(&record);
        }
        let progress = timelines.by_destination.get(&subject().destination).unwrap();
        assert_eq!(progress.steps.len(), MOST_STEPS);
    }
}
