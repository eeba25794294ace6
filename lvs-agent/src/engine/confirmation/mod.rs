//! From a suspicion or a hint to the probes that settle it, and from a removal to the probes that undo it. Pure: the
//! time is an argument, what is to be done comes out as [`Step`]s.
//!
//! Each layer of each server has at most one confirmation in progress. It goes through these states:
//!
//! 1. **None.** A suspicion takes a token of the probe budget, a hint what its probe takes of the hints' budget.
//!    Without that it is not probed, and the detector may raise it again.
//! 2. **Probing**, with as many probes as are lacking until the server falls, less those in flight. A hint or a weak
//!    suspicion starts one, and the others as soon as that one is later than usual: who answers is asked once. A strong
//!    one starts them one gap after the other. After a refusal the next follows at once. A further suspicion that comes
//!    meanwhile costs nothing: it only adds the probes that it needs more. A suspicion of an application that no check
//!    asks starts one probe of the host instead. If there is nothing to ask (the server is down already, or nothing is
//!    known of it yet) the confirmation ends as not probed. A hint becomes a suspicion with the first probe that fails.
//! 3. **Settled**, once all of its bursts have ended:
//!    - A probe has succeeded: the suspicion is cleared, or the hint refuted.
//!    - The server is still up and most of its service is suspected with it: the suspicion counts as cleared, so that
//!      the detector pauses; an event says so, and the regular checks decide.
//!    - The server is still up and a probe has failed: back to probing with all probes that are lacking. If the one
//!      that failed was the host's in place of an application's, the suspicion goes on as one of the host.
//!    - Otherwise it ends as not probed: the server is down, so that there is nothing left to confirm, or no probe
//!      could be sent.
//!
//! Each suspicion that ends gives the detector exactly one feedback, a hint that has not become one at most one. What
//! the probes have found goes to the engine as samples; no step edits the table. What the fast path alone has taken out
//! is asked again and again for a while (`provisional.rs`).

mod closed_ports;
mod hint_budget;
mod hinted;
mod provisional;
mod request;
mod step;
#[cfg(test)]
mod tests;

use std::{
    collections::{BTreeMap, BTreeSet},
    num::NonZeroU32,
    time::Instant,
};

use lvs_common::ServerId;

use self::{
    closed_ports::ClosedPorts,
    hint_budget::HintBudget,
    provisional::Rechecks,
    request::{Requests, question},
};
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
    model::{BurstSettings, Check, CheckKind, DestinationKey, Protocol},
    passive::{Evidence, EvidenceKind, Finding, Hint, Layer, Observation, Strength, Suspicion, Targets},
    probe::{
        Outcome, Patience, Rhythm, Success, Verdict,
        budget::{Budget, Exhausted},
        burst::BurstProbe,
    },
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

/// What speaks against what.
type Kind = (Layer, EvidenceKind);

/// All confirmations in progress, and what decides how they go.
#[derive(Debug)]
pub(crate) struct Confirmations {
    in_progress: BTreeMap<(ServerId, Layer), Confirmation>,
    budget: Budget<ServerId, Kind>,
    hint_budget: HintBudget,
    correlation: Correlation,
    closed_ports: ClosedPorts,
    /// Who is asked whether it is back.
    rechecks: Rechecks,
    /// How long the servers take to answer.
    latencies: LatencyHistory,
    settings: BurstSettings,
}

/// The bursts for one layer of one server that are in progress.
#[derive(Clone, Debug, Default)]
struct Confirmation {
    /// How many bursts have not ended yet.
    running: u32,
    /// The evidence whose share of the budget pays if the suspicion is refuted.
    charged: Option<EvidenceKind>,
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
    /// The hint that it began with, as long as nothing else speaks against the server.
    hint: Option<Hint>,
    /// When the probes of the last bursts start.
    rhythm: Option<Rhythm>,
    /// How many probes of a hint had started, beyond the first, when the answer came.
    beyond_first: u32,
}

impl Confirmations {
    /// None yet, with a full budget.
    pub(crate) fn new(settings: &BurstSettings) -> Self {
        Self {
            in_progress: BTreeMap::new(),
            budget: Budget::new(settings),
            hint_budget: HintBudget::new(settings),
            correlation: Correlation::default(),
            closed_ports: ClosedPorts::default(),
            rechecks: Rechecks::default(),
            latencies: LatencyHistory::default(),
            settings: settings.clone(),
        }
    }

    /// What the detector has found: only suspicions and hints are probed.
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

    /// A suspicion: one probe after the other if it is weak, the whole burst if it is strong, nothing if the budget is
    /// spent.
    pub(crate) fn suspected(&mut self, suspicion: &Suspicion, at: Situation<'_>) -> Vec<Step> {
        let Suspicion { id, layer, strength, .. } = *suspicion;
        let kind = suspicion.evidence.kind();
        let is_new = !self.in_progress.contains_key(&(id, layer));
        // First of all: what is forged faster than it may be asked leaves no trace but a count.
        if is_new && let Err(exhausted) = self.budget.take(id, (layer, kind), at.now) {
            return self.withheld(id, exhausted, at);
        }
        let suspected = Event::Suspicion { subjects: at.subjects(id), suspicion: suspicion.clone() };
        let mut steps = vec![Step::Publish(suspected)];
        if layer == Layer::Application {
            steps.extend(unconfirmable(suspicion, at));
        }
        self.correlation.note(id, at.now);
        let confirmation = self.in_progress.entry((id, layer)).or_default();
        confirmation.hint = None;
        if is_new {
            confirmation.charged = Some(kind);
        }
        self.note_closed_port(id, layer, &suspicion.evidence);
        if layer == Layer::Application && self.requests(id, layer, at).is_empty() {
            steps.extend(self.ask_host_once(id, at));
        } else {
            steps.extend(self.confirm(id, layer, strength, at));
        }
        steps
    }

    /// A suspicion that is not probed now. What most of a service shows at once still counts, unless its kind is
    /// refuted again and again.
    fn withheld(&mut self, id: ServerId, exhausted: Exhausted, at: Situation<'_>) -> Vec<Step> {
        if exhausted != Exhausted::Refuted {
            self.correlation.note(id, at.now);
        }
        let (subjects, reason) = (at.subjects(id), exhausted.to_string());
        let withheld = Step::Publish(Event::ProbeWithheld { subjects, reason });
        vec![withheld, Step::Feedback(DetectorFeedback::NotProbed(id))]
    }

    /// From now on the port itself is asked, where ICMP has called it unreachable.
    fn note_closed_port(&mut self, server: ServerId, layer: Layer, evidence: &Evidence) {
        if matches!(evidence, Evidence::Unreachable { .. }) {
            self.in_progress.entry((server, layer)).or_default().port_closed = true;
        }
    }

    /// One probe of the host for a suspicion of its application: is it the whole host that is dead?
    fn ask_host_once(&mut self, server: ServerId, at: Situation<'_>) -> Vec<Step> {
        let layer = Layer::Application;
        let requests = self.requests(server, Layer::Host, at).into_iter();
        let purpose = Purpose::Suspicion { server, layer };
        let requests = requests.map(|request| ProbeRequest { purpose, ..request }).collect();
        self.start((server, layer), requests, 1, Strength::Weak)
    }

    /// Starts as many probes as it takes, less those in flight; of a weak suspicion or a hint, the second one only when
    /// the first is late.
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
        let count = requests.iter().filter_map(needed).max().unwrap_or(0);
        self.start((server, layer), requests, count, strength)
    }

    /// Starts probes so that `count` are in flight for each of `requests`.
    fn start(
        &mut self,
        (server, layer): (ServerId, Layer),
        requests: Vec<ProbeRequest>,
        count: u32,
        strength: Strength,
    ) -> Vec<Step> {
        let confirmation = self.in_progress.entry((server, layer)).or_default();
        let gap = self.settings.gap;
        let mut steps = Vec::new();
        if let Some(count) = NonZeroU32::new(count.saturating_sub(confirmation.in_flight)) {
            let number_from = confirmation.started + 1;
            for request in requests {
                let patience = request.patience;
                let first_gap = if strength == Strength::Weak { patience.usual } else { gap };
                let rhythm = Rhythm::new(count, first_gap, gap, patience);
                confirmation.running += 1;
                confirmation.rhythm = Some(rhythm);
                steps.push(Step::Probe { request, number_from, rhythm });
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
        let mut requests = Requests::default();
        for destination in target.destinations.iter().filter(|destination| at.is_up(destination)) {
            let Some((index, check)) = settling(at.engine, destination, layer) else { continue };
            let of_port = port_closed.then(|| closed_ports::question(destination.server, check)).flatten();
            let asked = of_port.or_else(|| question(layer, protocol, destination.server, check));
            let Some(asked) = asked else { continue };
            let subscriber = Subscriber { destination: *destination, check: index };
            let patience = self.patience(subscriber, check, &asked.1, at.engine);
            requests.add(asked, patience, Purpose::Suspicion { server, layer }, *destination);
        }
        requests.finish()
    }

    /// How long an answer to this question is waited for.
    fn patience(&self, of: Subscriber, check: &Check, question: &CheckKind, engine: &Engine) -> Patience {
        let own = engine.confirm_timeout(&of.destination);
        self.latencies.patience(of, check, question, own, &self.settings)
    }

    /// The probe with this number has ended: what it says, and of which checks.
    pub(crate) fn probe_ended(
        &mut self,
        request: &ProbeRequest,
        number: u32,
        probe: &BurstProbe,
        at: Situation<'_>,
    ) -> (Answer, Vec<Step>) {
        let outcome = &probe.outcome;
        let verdict = correlation::verdict(outcome, probe.allowed);
        let (kind, verdict, checks) = match request.purpose {
            Purpose::Suspicion { server, layer } => {
                return self.suspicion_probed((server, layer), request, number, (outcome, verdict), at);
            }
            Purpose::RegularCheck => (ProbeKind::Port, verdict, whole(request, Some(0))),
            Purpose::Return | Purpose::WholeCheck => {
                (ProbeKind::Return, verdict, provisional::answered(request, verdict, at.engine))
            }
        };
        let ended = probe_event(kind, request, outcome, verdict, at.engine);
        (Answer { verdict, checks }, vec![ended])
    }

    /// A probe for a suspicion or a hint has ended.
    fn suspicion_probed(
        &mut self,
        key @ (server, layer): (ServerId, Layer),
        request: &ProbeRequest,
        number: u32,
        (outcome, verdict): (&Outcome, Verdict),
        at: Situation<'_>,
    ) -> (Answer, Vec<Step>) {
        // A failure says nothing about the server while most of its service is suspected.
        let is_void = verdict == Verdict::Dead && self.is_correlated(server, at);
        let verdict = if is_void { Verdict::Unknown } else { verdict };
        let is_hint = self.in_progress.get(&key).is_some_and(|confirmation| confirmation.hint.is_some());
        let kind = if is_hint { ProbeKind::Hint } else { ProbeKind::Confirm { number } };
        let mut steps = vec![probe_event(kind, request, outcome, verdict, at.engine)];
        if let (true, Ok(success)) = (is_hint, outcome) {
            self.note_answer_to_hint(key, number, success.latency);
        }
        if verdict == Verdict::Dead {
            steps.extend(self.hint_confirmed(server, layer, at));
        }
        let checks = self.suspicion_answered(key, request, verdict, at.engine);
        (Answer { verdict, checks }, steps)
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

    /// The engine has taken in what a probe has said: what is to be asked of servers that are out by it, or answer
    /// again. No port of a server that is up again is asked in place of its check.
    pub(crate) fn taken_in(
        &mut self,
        request: &ProbeRequest,
        verdict: Verdict,
        at: Situation<'_>,
    ) -> Vec<Step> {
        match request.purpose {
            Purpose::Suspicion { .. } => {
                self.note_removals(&request.destinations, at);
                return Vec::new();
            }
            Purpose::RegularCheck | Purpose::Return | Purpose::WholeCheck => {}
        }
        for destination in request.destinations.iter() {
            if verdict == Verdict::Alive {
                // What befalls others from now on it has no part in, even before it is up again.
                at.targets.of(destination).for_each(|target| self.correlation.answered(target.id));
            }
            if at.is_up(destination) {
                self.closed_ports.remove(destination);
            }
        }
        let answers_again = request.purpose == Purpose::Return && verdict == Verdict::Alive;
        if answers_again { self.ask_whole(&request.destinations, at) } else { Vec::new() }
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
        let Purpose::Suspicion { server, layer } = request.purpose else {
            self.rechecks.ended(request);
            return Vec::new();
        };
        let pinged =
            |outcome| probe_event(ProbeKind::Ping, request, outcome, Verdict::of(outcome), at.engine);
        let mut steps: Vec<Step> = host.map(pinged).into_iter().collect();
        if let Some(confirmation) = self.in_progress.get_mut(&(server, layer)) {
            confirmation.running = confirmation.running.saturating_sub(1);
            if confirmation.running == 0 {
                confirmation.in_flight = 0;
                let confirmation = confirmation.clone();
                steps.extend(self.settled(server, layer, &confirmation, &request.destinations, at));
            }
        }
        steps
    }

    /// All bursts for one layer of a server have ended.
    fn settled(
        &mut self,
        server: ServerId,
        layer: Layer,
        confirmation: &Confirmation,
        destinations: &[DestinationKey],
        at: Situation<'_>,
    ) -> Vec<Step> {
        let Confirmation { cleared, failed, .. } = *confirmation;
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
        if cleared {
            self.correlation.answered(server);
            if let Some(kind) = confirmation.charged {
                self.budget.refuted(server, (layer, kind), at.now);
            }
        }
        let subjects = at.engine.subjects(destinations);
        // Faster probing goes on after the detector's pause, and the baseline checks have the last word.
        let correlated = |subjects| Event::Correlated { subjects, evidence: None };
        if let Some(hint) = &confirmation.hint {
            let event = is_correlated.then(|| correlated(subjects));
            let feedback = (cleared || is_correlated).then(|| self.hint_refuted(hint, confirmation, at));
            return event.map(Step::Publish).into_iter().chain(feedback).collect();
        }
        let cleared_feedback = DetectorFeedback::Observed(server, Observation::Cleared(layer));
        let (event, feedback) = if cleared {
            (Some(Event::Cleared { subjects }), cleared_feedback)
        } else if is_correlated {
            (Some(correlated(subjects)), cleared_feedback)
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
            self.correlation.is_correlated(server, &siblings)
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
        let patience = self.patience(subscriber, check, &question, at.engine);
        let request = ProbeRequest {
            target,
            question: question.into(),
            patience,
            purpose: Purpose::RegularCheck,
            destinations: [*destination].into(),
        };
        Some(Step::Probe { request, number_from: 1, rhythm: Rhythm::once(patience.probe) })
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
        self.rechecks.retain(|destination| engine.state(destination).is_some());
        self.budget.forget_full(now);
        self.hint_budget.forget_full(now);
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

/// A whole answer to a request, for all of its destinations.
fn whole(request: &ProbeRequest, check: Option<usize>) -> Vec<AnsweredCheck> {
    let answered = |destination: &DestinationKey| AnsweredCheck {
        destination: *destination,
        check,
        source: Source::Baseline,
    };
    request.destinations.iter().map(answered).collect()
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
