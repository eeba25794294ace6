//! From a suspicion to the probes that settle it. Pure: the time is an argument, what is to be done comes out as
//! [`Step`]s.
//!
//! Each layer of each server has at most one confirmation in progress. It goes through these states:
//!
//! 1. **None.** A suspicion takes a token of the probe budget. Without one it is not probed, and the detector may raise
//!    it again.
//! 2. **Probing.** A weak suspicion starts one probe, a strong one as many as are lacking until its server falls, less
//!    those in flight. A further suspicion that comes meanwhile costs nothing: it only adds the probes that it needs
//!    more. A suspicion of an application that no check asks starts one probe of the host instead. If there is nothing
//!    to ask (the server is down already, or nothing is known of it yet) the confirmation ends as not probed.
//! 3. **Settled**, once all of its bursts have ended:
//!    - A probe has succeeded: the suspicion is cleared.
//!    - The server is still up and most of its service is suspected with it: the suspicion counts as cleared, so that
//!      the detector pauses; an event says so, and the regular checks decide.
//!    - The server is still up and a probe has failed: back to probing with all probes that are lacking. If the one
//!      that failed was the host's in place of an application's, the suspicion goes on as one of the host.
//!    - Otherwise it ends as not probed: the server is down, so that there is nothing left to confirm, or no probe
//!      could be sent.
//!
//! Each confirmation that ends gives the detector exactly one feedback. What the probes have found goes to the engine
//! as samples; no step edits the table.

mod closed_ports;
mod request;
mod step;
#[cfg(test)]
mod tests;

use std::{
    collections::{BTreeMap, BTreeSet},
    num::NonZeroU32,
    sync::Arc,
    time::{Duration, Instant},
};

use lvs_common::ServerId;

use self::{closed_ports::ClosedPorts, request::question};
pub(crate) use self::{
    request::{ProbeRequest, Purpose},
    step::{Answer, AnsweredCheck, DetectorFeedback, Step},
};
use super::{
    Engine,
    correlation::{self, Correlation},
    probe_timeout::LatencyHistory,
    subscriptions::Subscriber,
};
use crate::{
    event::{Event, ProbeKind, Subject},
    health::{Source, State},
    model::{BurstSettings, Check, DestinationKey, Protocol},
    passive::{Evidence, Finding, Hint, Layer, Observation, Strength, Suspicion, Targets},
    probe::{Outcome, Success, Verdict, budget::Budget},
};

/// What is known at the moment of a call.
#[derive(Clone, Copy)]
pub(crate) struct Situation<'a> {
    /// How the servers are.
    pub(crate) engine: &'a Engine,
    /// Which endpoints serve which destinations.
    pub(crate) targets: &'a Targets,
    pub(crate) now: Instant,
}

/// All confirmations in progress, and what decides how they go.
#[derive(Debug)]
pub(crate) struct Confirmations {
    in_progress: BTreeMap<(ServerId, Layer), Confirmation>,
    budget: Budget<ServerId>,
    correlation: Correlation,
    closed_ports: ClosedPorts,
    /// How long the servers take to answer.
    latencies: LatencyHistory,
    /// How long a probe may take while that isn't known.
    probe_timeout: Duration,
}

/// The bursts for one layer of one server that are in progress.
#[derive(Clone, Copy, Debug, Default)]
struct Confirmation {
    /// How many bursts have not ended yet.
    running: u32,
    /// How many probes may still fail, of each request.
    in_flight: u32,
    /// How many probes were started in all, of each request.
    started: u32,
    /// A probe has succeeded.
    cleared: bool,
    /// A probe of this round has failed.
    failed: bool,
    /// ICMP has called the server's port unreachable.
    port_closed: bool,
}

impl Confirmations {
    /// None yet, with a full budget.
    pub(crate) fn new(settings: &BurstSettings) -> Self {
        Self {
            in_progress: BTreeMap::new(),
            budget: Budget::new(settings),
            correlation: Correlation::default(),
            closed_ports: ClosedPorts::default(),
            latencies: LatencyHistory::default(),
            probe_timeout: settings.timeout,
        }
    }

    /// What the detector has found: only a suspicion is probed.
    pub(crate) fn found(&mut self, finding: &Finding, at: Situation<'_>) -> Vec<Step> {
        match finding {
            Finding::Suspicion(suspicion) => self.suspected(suspicion, at),
            Finding::Hint(hint) => self.hinted(hint, at),
            Finding::Overloaded { id, evidence } => {
                let overloaded = |subject| Event::Overloaded { subject, evidence: evidence.clone() };
                at.subjects(*id).into_iter().map(overloaded).map(Step::Publish).collect()
            }
            Finding::Correlated { id, evidence } => {
                let (subjects, evidence) = (at.subjects(*id), Some(evidence.clone()));
                vec![Step::Publish(Event::Correlated { subjects, evidence })]
            }
        }
    }

    /// A suspicion: one probe if it is weak, the whole burst if it is strong, nothing if the budget is spent.
    pub(crate) fn suspected(&mut self, suspicion: &Suspicion, at: Situation<'_>) -> Vec<Step> {
        let Suspicion { id, layer, strength, .. } = *suspicion;
        let suspected = Event::Suspicion { subjects: at.subjects(id), suspicion: suspicion.clone() };
        let mut steps = vec![Step::Publish(suspected)];
        if layer == Layer::Application {
            steps.extend(unconfirmable(suspicion, at));
        }
        self.correlation.note(id, at.now);
        if !self.in_progress.contains_key(&(id, layer))
            && let Err(exhausted) = self.budget.take(id, at.now)
        {
            let (subjects, reason) = (at.subjects(id), exhausted.to_string());
            steps.push(Step::Publish(Event::ProbeWithheld { subjects, reason }));
            steps.push(Step::Feedback(DetectorFeedback::NotProbed(id)));
            return steps;
        }
        if matches!(suspicion.evidence, Evidence::Unreachable { .. }) {
            self.in_progress.entry((id, layer)).or_default().port_closed = true;
        }
        if layer == Layer::Application && self.requests(id, layer, at).is_empty() {
            steps.extend(self.ask_host_once(id, at));
        } else {
            steps.extend(self.confirm(id, layer, strength, at));
        }
        steps
    }

    /// A hint: at most one probe, from a budget of its own.
    fn hinted(&mut self, hint: &Hint, at: Situation<'_>) -> Vec<Step> {
        self.suspected(
            &Suspicion {
                id: hint.id,
                strength: Strength::Weak,
                layer: hint.layer,
                evidence: hint.evidence.clone(),
            },
            at,
        )
    }

    /// One probe of the host for a suspicion of its application: is it the whole host that is dead?
    fn ask_host_once(&mut self, server: ServerId, at: Situation<'_>) -> Vec<Step> {
        let layer = Layer::Application;
        let requests = self.requests(server, Layer::Host, at).into_iter();
        let purpose = Purpose::Suspicion { server, layer };
        let requests = requests.map(|request| ProbeRequest { purpose, ..request }).collect();
        self.start(server, layer, requests, 1)
    }

    /// Starts as many probes as it takes, less those in flight.
    fn confirm(
        &mut self,
        server: ServerId,
        layer: Layer,
        strength: Strength,
        at: Situation<'_>,
    ) -> Vec<Step> {
        let requests = self.requests(server, layer, at);
        let needed = |request: &ProbeRequest| {
            request.destinations.iter().map(|destination| at.engine.failures_to_fall(destination)).max()
        };
        let count = match strength {
            Strength::Weak => 1,
            Strength::Strong => requests.iter().filter_map(needed).max().unwrap_or(0),
        };
        self.start(server, layer, requests, count)
    }

    /// Starts probes so that `count` are in flight for each of `requests`.
    fn start(
        &mut self,
        server: ServerId,
        layer: Layer,
        requests: Vec<ProbeRequest>,
        count: u32,
    ) -> Vec<Step> {
        let confirmation = self.in_progress.entry((server, layer)).or_default();
        let mut steps = Vec::new();
        if let Some(count) = NonZeroU32::new(count.saturating_sub(confirmation.in_flight)) {
            let number_from = confirmation.started + 1;
            for request in requests {
                confirmation.running += 1;
                steps.push(Step::Probe { request, number_from, count });
            }
            confirmation.in_flight += count.get();
            confirmation.started += count.get();
        }
        if confirmation.running == 0 {
            // Nothing is left to ask: the server is down already, or nothing is known of it yet.
            self.in_progress.remove(&(server, layer));
            steps.push(Step::Feedback(DetectorFeedback::NotProbed(server)));
        }
        steps
    }

    /// What is asked to settle a suspicion, each question once, about destinations that are up.
    fn requests(&self, server: ServerId, layer: Layer, at: Situation<'_>) -> Vec<ProbeRequest> {
        let Some(target) = at.targets.get(server) else { return Vec::new() };
        let protocol = target.protocol();
        let in_progress = self.in_progress.get(&(server, layer));
        let port_closed = in_progress.is_some_and(|confirmation| confirmation.port_closed)
            && (layer, protocol) == (Layer::Host, Protocol::Udp);
        let mut requests: Vec<(ProbeRequest, Vec<DestinationKey>)> = Vec::new();
        for destination in target.destinations.iter().filter(|destination| at.is_up(destination)) {
            let Some((index, check)) = settling(at.engine, destination, layer) else { continue };
            let of_port = port_closed.then(|| closed_ports::question(destination.server, check)).flatten();
            let asked = of_port.or_else(|| question(layer, protocol, destination.server, check));
            let Some((target, question)) = asked else { continue };
            let subscriber = Subscriber { destination: *destination, check: index };
            let timeout = self.latencies.timeout(subscriber, check, &question, self.probe_timeout);
            let same = |(one, _): &&mut (ProbeRequest, _)| one.target == target && *one.question == question;
            if let Some((request, destinations)) = requests.iter_mut().find(same) {
                request.timeout = request.timeout.max(timeout);
                destinations.push(*destination);
            } else {
                let (question, destinations) = (question.into(), Arc::default());
                let purpose = Purpose::Suspicion { server, layer };
                let request = ProbeRequest { target, question, timeout, purpose, destinations };
                requests.push((request, vec![*destination]));
            }
        }
        let complete = |(request, destinations): (ProbeRequest, Vec<_>)| ProbeRequest {
            destinations: destinations.into(),
            ..request
        };
        requests.into_iter().map(complete).collect()
    }

    /// The probe with this number has ended: what it says, and of which checks.
    pub(crate) fn probe_ended(
        &mut self,
        request: &ProbeRequest,
        number: u32,
        outcome: &Outcome,
        at: Situation<'_>,
    ) -> (Answer, Vec<Step>) {
        let verdict = correlation::verdict(outcome, request.timeout);
        let (kind, verdict, checks) = match request.purpose {
            Purpose::Suspicion { server, layer } => {
                // A failure says nothing about the server while most of its service is suspected.
                let is_void = verdict == Verdict::Dead && self.is_correlated(server, at);
                let verdict = if is_void { Verdict::Unknown } else { verdict };
                let checks = self.suspicion_answered((server, layer), request, verdict, at.engine);
                (ProbeKind::Confirm { number }, verdict, checks)
            }
            Purpose::RegularCheck => {
                let answered = |destination: &DestinationKey| AnsweredCheck {
                    destination: *destination,
                    check: Some(0),
                    source: Source::Baseline,
                };
                (ProbeKind::Port, verdict, request.destinations.iter().map(answered).collect())
            }
        };
        let ended = probe_event(kind, request, outcome, verdict, at.engine);
        (Answer { verdict, checks }, vec![ended])
    }

    /// Takes note of what a probe says for a suspicion; the checks that it is an answer of.
    fn suspicion_answered(
        &mut self,
        key: (ServerId, Layer),
        request: &ProbeRequest,
        verdict: Verdict,
        engine: &Engine,
    ) -> Vec<AnsweredCheck> {
        if let Some(confirmation) = self.in_progress.get_mut(&key) {
            match verdict {
                Verdict::Alive => confirmation.cleared = true,
                Verdict::Dead => confirmation.failed = true,
                Verdict::Unknown => {}
            }
        }
        if verdict == Verdict::Dead {
            self.closed_ports.failed(request, engine);
        }
        let answered = |destination: &DestinationKey| {
            let check = answered(engine, destination, key.1, request);
            // An application's answer to its own question is worth as much as to the baseline check, which asks the
            // same.
            let is_whole = verdict == Verdict::Alive && check.is_some();
            let source = if is_whole { Source::Baseline } else { Source::Confirm };
            AnsweredCheck { destination: *destination, check, source }
        };
        request.destinations.iter().map(answered).collect()
    }

    /// The engine has taken in what a probe has said: no port of a server that is up again is asked in place of its
    /// check.
    pub(crate) fn taken_in(&mut self, request: &ProbeRequest, engine: &Engine) {
        if request.purpose == Purpose::RegularCheck {
            for destination in request.destinations.iter().filter(|destination| is_up(engine, destination)) {
                self.closed_ports.remove(destination);
            }
        }
    }

    /// A burst has ended: what remains to be done about the suspicion?
    ///
    /// What the ping beside the burst has shown only says what has failed; it decides nothing.
    pub(crate) fn burst_ended(
        &mut self,
        request: &ProbeRequest,
        host: Option<&Outcome>,
        at: Situation<'_>,
    ) -> Vec<Step> {
        let Purpose::Suspicion { server, layer } = request.purpose else { return Vec::new() };
        let pinged =
            |outcome| probe_event(ProbeKind::Ping, request, outcome, Verdict::of(outcome), at.engine);
        let mut steps: Vec<Step> = host.map(pinged).into_iter().collect();
        if let Some(confirmation) = self.in_progress.get_mut(&(server, layer)) {
            confirmation.running = confirmation.running.saturating_sub(1);
            if confirmation.running == 0 {
                confirmation.in_flight = 0;
                let confirmation = *confirmation;
                steps.extend(self.settled(server, layer, confirmation, &request.destinations, at));
            }
        }
        steps
    }

    /// All bursts for one layer of a server have ended.
    fn settled(
        &mut self,
        server: ServerId,
        layer: Layer,
        confirmation: Confirmation,
        destinations: &[DestinationKey],
        at: Situation<'_>,
    ) -> Vec<Step> {
        let Confirmation { cleared, failed, .. } = confirmation;
        let is_undecided = !self.requests(server, Layer::Host, at).is_empty();
        let is_correlated = !cleared && is_undecided && self.is_correlated(server, at);
        if !cleared && !is_correlated && failed && is_undecided {
            // Only a failure of the next round leads to one more: a round that says nothing ends the suspicion.
            if let Some(confirmation) = self.in_progress.get_mut(&(server, layer)) {
                confirmation.failed = false;
            }
            return self.probe_on(server, layer, at);
        }
        self.in_progress.remove(&(server, layer));
        let cleared_feedback = DetectorFeedback::Observed(server, Observation::Cleared(layer));
        let subjects = at.engine.subjects(destinations);
        let (event, feedback) = if cleared {
            (Some(Event::Cleared { subjects }), cleared_feedback)
        } else if is_correlated {
            // Faster probing goes on after the detector's pause, and the baseline checks have the last word.
            (Some(Event::Correlated { subjects, evidence: None }), cleared_feedback)
        } else {
            (None, DetectorFeedback::NotProbed(server))
        };
        event.map(Step::Publish).into_iter().chain([Step::Feedback(feedback)]).collect()
    }

    /// Not enough probes have failed yet, as after the one of a weak suspicion: now the rest.
    fn probe_on(&mut self, server: ServerId, layer: Layer, at: Situation<'_>) -> Vec<Step> {
        if !self.requests(server, layer, at).is_empty() {
            return self.confirm(server, layer, Strength::Strong, at);
        }
        // It was the host's: not only the application is dead.
        self.in_progress.remove(&(server, layer));
        let cleared = DetectorFeedback::Observed(server, Observation::Cleared(Layer::Application));
        let mut steps = vec![Step::Feedback(cleared)];
        steps.extend(self.confirm(server, Layer::Host, Strength::Strong, at));
        steps
    }

    /// Whether most servers of one of a server's services are suspected together.
    fn is_correlated(&self, server: ServerId, at: Situation<'_>) -> bool {
        let Some(target) = at.targets.get(server) else { return false };
        target.destinations.iter().any(|destination| {
            let siblings: BTreeSet<ServerId> =
                at.targets.of_service(&destination.service, target.protocol()).map(|one| one.id).collect();
            self.correlation.is_correlated(&siblings, at.now)
        })
    }

    /// A regular check of a destination has been answered. If it is a ping of a server whose port was closed, that says
    /// nothing of the port, which is asked in its place now.
    pub(crate) fn check_in_place(&self, destination: &DestinationKey, at: Situation<'_>) -> Option<Step> {
        if !self.closed_ports.contains(destination) {
            return None;
        }
        // Who has no endpoint is no longer watched.
        at.targets.of(destination).next()?;
        let check = at.engine.check(destination)?;
        let (target, question) = closed_ports::question(destination.server, check)?;
        let subscriber = Subscriber { destination: *destination, check: 0 };
        let timeout = self.latencies.timeout(subscriber, check, &question, self.probe_timeout);
        let request = ProbeRequest {
            target,
            question: question.into(),
            timeout,
            purpose: Purpose::RegularCheck,
            destinations: [*destination].into(),
        };
        Some(Step::Probe { request, number_from: 1, count: NonZeroU32::MIN })
    }

    /// Takes in how long a regular check took that was answered; `whole`: its question was asked, and not only for a
    /// connection.
    pub(crate) fn note_latency(&mut self, of: Subscriber, success: &Success, whole: bool) {
        self.latencies.note(of, success, whole);
    }

    /// There are other services: forgets what was known of destinations and of checks that are gone.
    pub(crate) fn forget_removed(&mut self, engine: &Engine, now: Instant) {
        self.closed_ports.retain_pinged(engine);
        self.latencies
            .retain(|subscriber| engine.state_of_check(&subscriber.destination, subscriber.check).is_some());
        self.budget.forget_full(now);
    }
}

impl<'a> Situation<'a> {
    /// The destinations that an endpoint serves.
    fn destinations(&self, server: ServerId) -> &'a [DestinationKey] {
        self.targets.get(server).map(|target| target.destinations.as_slice()).unwrap_or_default()
    }

    /// The same, as events name them.
    fn subjects(&self, server: ServerId) -> Vec<Subject> {
        self.engine.subjects(self.destinations(server))
    }

    fn is_up(&self, destination: &DestinationKey) -> bool {
        is_up(self.engine, destination)
    }
}

fn is_up(engine: &Engine, destination: &DestinationKey) -> bool {
    engine.state(destination).is_some_and(State::is_up)
}

/// Destinations whose checks know nothing of a suspected application are only told of: nothing could confirm it.
fn unconfirmable(suspicion: &Suspicion, at: Situation<'_>) -> impl Iterator<Item = Step> {
    let destinations = at.destinations(suspicion.id).iter();
    let those = destinations.filter(move |one| at.is_up(one) && at.engine.application_check(one).is_none());
    those.map(move |destination| {
        let (subject, evidence) = (at.engine.subject(destination), suspicion.evidence.clone());
        Step::Publish(Event::Reported { subject, evidence })
    })
}

fn probe_event(
    kind: ProbeKind,
    request: &ProbeRequest,
    outcome: &Outcome,
    verdict: Verdict,
    engine: &Engine,
) -> Step {
    let subjects = engine.subjects(&request.destinations);
    Step::Publish(Event::Probe { kind, subjects, outcome: outcome.clone(), verdict })
}

/// The one of a destination's checks that a suspicion is settled by, and its index.
fn settling<'a>(
    engine: &'a Engine,
    destination: &DestinationKey,
    layer: Layer,
) -> Option<(usize, &'a Check)> {
    match layer {
        Layer::Host => engine.check(destination).map(|check| (0, check)),
        Layer::Application => engine.application_check(destination),
    }
}

/// The one of a destination's checks that the answer to a request is an answer to; none if it is about the host.
fn answered(
    engine: &Engine,
    destination: &DestinationKey,
    layer: Layer,
    request: &ProbeRequest,
) -> Option<usize> {
    let application = (layer == Layer::Application).then(|| settling(engine, destination, layer)).flatten();
    application.filter(|(_, check)| check.kind == *request.question).map(|(index, _)| index)
}
