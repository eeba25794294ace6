//! From a suspicion to the probes that settle it.

use std::{collections::BTreeSet, num::NonZeroU32, sync::Arc, time::Instant};

use lvs_common::ServerId;
use tracing::debug;

use super::{
    Controller,
    bursts::{self, Ask, Confirmation, Report},
};
use crate::{
    agent::messages::Feedback,
    engine::{correlation, subscriptions::Subscriber},
    event::{Event, ProbeKind},
    health::{Source, State},
    model::{Check, DestinationKey, Protocol},
    passive::{Evidence, Finding, Layer, Observation, Strength, Suspicion, Target, Targets},
    probe::{Outcome, Verdict, burst::BurstProbe},
};

impl Controller {
    /// What the passive side has found.
    pub(super) fn found(&mut self, finding: &Finding) {
        match finding {
            Finding::Suspicion(suspicion) => self.suspicion(suspicion),
            Finding::Overloaded { id, evidence } => self.overloaded(*id, evidence),
            Finding::Correlated { id, evidence } => self.silent_together(*id, evidence),
        }
    }

    /// Most of a service is silent at once: an alarm; the baseline checks decide.
    fn silent_together(&self, id: ServerId, evidence: &Evidence) {
        let subjects = self.engine.subjects(&self.destinations(id));
        self.events.publish(Event::Correlated { subjects, evidence: Some(evidence.clone()) });
    }

    /// A living server that takes no new connections is told of; what becomes of it the baseline checks decide.
    fn overloaded(&self, id: ServerId, evidence: &Evidence) {
        for destination in self.destinations(id) {
            let subject = self.engine.subject(&destination);
            self.events.publish(Event::Overloaded { subject, evidence: evidence.clone() });
        }
    }

    /// A suspicion: one probe if it is weak, the whole burst if it is strong, nothing if the budget is spent.
    fn suspicion(&mut self, suspicion: &Suspicion) {
        let Suspicion { id, layer, strength, .. } = *suspicion;
        let subjects = self.engine.subjects(&self.destinations(id));
        self.events.publish(Event::Suspicion { subjects, suspicion: suspicion.clone() });
        self.correlation.note(id, Instant::now());
        if layer == Layer::Application {
            self.report_application(suspicion);
        }
        if !self.under_way.contains_key(&(id, layer))
            && let Err(exhausted) = self.budget.take(id, Instant::now())
        {
            let subjects = self.engine.subjects(&self.destinations(id));
            self.events.publish(Event::ProbeWithheld { subjects, reason: exhausted.to_string() });
            return self.tell(Feedback::NotProbed(id));
        }
        if matches!(suspicion.evidence, Evidence::Unreachable { .. }) {
            self.under_way.entry((id, layer)).or_default().closed = true;
        }
        if layer == Layer::Application && self.asks(id, layer).is_empty() {
            self.ask_host_once(id);
        } else {
            self.confirm(id, layer, strength);
        }
    }

    /// Destinations whose checks know nothing of the application are only told of: nothing could confirm it.
    fn report_application(&self, suspicion: &Suspicion) {
        for destination in self.destinations(suspicion.id) {
            let up = self.engine.state(&destination).is_some_and(State::is_up);
            if up && self.engine.application_check(&destination).is_none() {
                let subject = self.engine.subject(&destination);
                self.events.publish(Event::Reported { subject, evidence: suspicion.evidence.clone() });
            }
        }
    }

    /// One probe of the checks' own kind: is it the whole host that is dead?
    fn ask_host_once(&mut self, id: ServerId) {
        let asks = self.asks(id, Layer::Host);
        let asks = asks.into_iter().map(|ask| Ask { layer: Layer::Application, ..ask }).collect();
        self.start(id, Layer::Application, asks, 1);
    }

    /// Starts as many probes as it takes, less those that are under way.
    fn confirm(&mut self, id: ServerId, layer: Layer, strength: Strength) {
        let asks = self.asks(id, layer);
        let needed = |ask: &Ask| {
            ask.destinations.iter().map(|destination| self.engine.failures_to_fall(destination)).max()
        };
        let count = match strength {
            Strength::Weak => 1,
            Strength::Strong => asks.iter().filter_map(needed).max().unwrap_or(0),
        };
        self.start(id, layer, asks, count);
    }

    /// Starts probes so that `count` are under way for each of `asks`.
    fn start(&mut self, id: ServerId, layer: Layer, asks: Vec<Ask>, count: u32) {
        let confirmation = self.under_way.entry((id, layer)).or_default();
        if let Some(count) = NonZeroU32::new(count.saturating_sub(confirmation.in_flight)) {
            for ask in asks {
                confirmation.running += 1;
                self.bursts.start(id, ask, confirmation.started, count);
            }
            confirmation.in_flight += count.get();
            confirmation.started += count.get();
        }
        if confirmation.running == 0 {
            // Nothing is left to ask: the server is down already, or nothing is known of it yet.
            self.under_way.remove(&(id, layer));
            self.tell(Feedback::NotProbed(id));
        }
    }

    /// The questions that settle a suspicion, each once, about destinations that are up.
    fn asks(&self, id: ServerId, layer: Layer) -> Vec<Ask> {
        let protocol = self.protocol(id);
        let closed = self.under_way.get(&(id, layer)).is_some_and(|confirmation| confirmation.closed);
        let mut asks: Vec<(Ask, Vec<DestinationKey>)> = Vec::new();
        for destination in self.destinations(id) {
            let up = self.engine.state(&destination).is_some_and(State::is_up);
            let Some((index, check)) = self.settling(&destination, layer).filter(|_| up) else { continue };
            let asked = bursts::question(layer, protocol, destination.server, check, closed);
            let Some((target, question)) = asked else { continue };
            let subscriber = Subscriber { destination, check: index };
            let timeout = self.latencies.timeout(subscriber, check, &question, self.probe_timeout);
            let same = |(ask, _): &&mut (Ask, _)| ask.target == target && *ask.question == question;
            if let Some((ask, destinations)) = asks.iter_mut().find(same) {
                ask.timeout = ask.timeout.max(timeout);
                destinations.push(destination);
            } else {
                let (question, destinations) = (question.into(), Arc::default());
                let ask = Ask { target, question, timeout, layer, destinations, regular: false };
                asks.push((ask, vec![destination]));
            }
        }
        asks.into_iter().map(|(ask, destinations)| Ask { destinations: destinations.into(), ..ask }).collect()
    }

    /// The one of a destination's checks that a suspicion is settled by, and its index.
    fn settling(&self, destination: &DestinationKey, layer: Layer) -> Option<(usize, &Check)> {
        match layer {
            Layer::Host => self.engine.check(destination).map(|check| (0, check)),
            Layer::Application => self.engine.application_check(destination),
        }
    }

    pub(super) fn report(&mut self, report: Report) {
        match report {
            Report::Probe { ask, probe, .. } if ask.regular => self.port_asked(&ask, &probe.outcome),
            Report::Ended { ask, .. } if ask.regular => {}
            Report::Probe { server, ask, number, probe } => self.probed(server, &ask, number, &probe),
            Report::Ended { server, ask, host } => self.ended(server, &ask, host.as_ref()),
        }
    }

    fn probed(&mut self, server: ServerId, ask: &Ask, number: u32, probe: &BurstProbe) {
        let verdict = self.verdict(server, ask, &probe.outcome);
        self.publish_probe(ProbeKind::Confirm { number }, ask, &probe.outcome, verdict);
        if let Some(confirmation) = self.under_way.get_mut(&(server, ask.layer)) {
            match verdict {
                Verdict::Alive => confirmation.cleared = true,
                Verdict::Dead => confirmation.failed = true,
                Verdict::Unknown => {}
            }
        }
        for destination in ask.destinations.iter() {
            let about_port = self.engine.check(destination).is_some_and(|check| ask.is_about_port(check));
            if about_port && verdict == Verdict::Dead {
                self.closed.insert(*destination);
            }
            let check = self.answered(destination, ask);
            // An application's answer to its own question is worth as much as to the baseline check, which asks the same.
            let is_whole = verdict == Verdict::Alive && check.is_some();
            let source = if is_whole { Source::Baseline } else { Source::Confirm };
            self.observe(destination, check, &probe.outcome, verdict, source);
            for check in self.checks.of(destination).to_vec() {
                self.accelerate(check);
            }
        }
    }

    /// A regular ping of a server whose port was closed has been answered, which says nothing of the port: that is asked
    /// now. Whether it could be.
    pub(super) fn ask_port(&mut self, destination: &DestinationKey) -> bool {
        let id = self.targets.borrow().of(destination).map(|target| target.id).next();
        let check = self.engine.check(destination);
        let asked = check.and_then(|check| {
            let asked = bursts::question(Layer::Host, Protocol::Udp, destination.server, check, true);
            let (target, question) = asked?;
            let subscriber = Subscriber { destination: *destination, check: 0 };
            let timeout = self.latencies.timeout(subscriber, check, &question, self.probe_timeout);
            Some((target, question, timeout))
        });
        let (Some(id), Some((target, question, timeout))) = (id, asked) else { return false };
        let destinations = [*destination].into();
        let ask = Ask {
            target,
            question: question.into(),
            timeout,
            layer: Layer::Host,
            destinations,
            regular: true,
        };
        self.bursts.start(id, ask, 0, NonZeroU32::MIN);
        true
    }

    /// The port's own answer counts as the regular check's.
    fn port_asked(&mut self, ask: &Ask, outcome: &Outcome) {
        let verdict = correlation::verdict(outcome, ask.timeout);
        self.publish_probe(ProbeKind::Port, ask, outcome, verdict);
        for destination in ask.destinations.iter() {
            self.observe(destination, Some(0), outcome, verdict, Source::Baseline);
            if self.engine.state(destination).is_some_and(State::is_up) {
                self.closed.remove(destination);
            }
        }
    }

    /// The one of a destination's checks that the answer to `ask` is an answer to; none if it is about the host.
    fn answered(&self, destination: &DestinationKey, ask: &Ask) -> Option<usize> {
        let application = self.settling(destination, Layer::Application);
        let (index, check) = application.filter(|_| ask.layer == Layer::Application)?;
        (check.kind == *ask.question).then_some(index)
    }

    /// What a confirming probe says about the server: nothing, if it failed while most of the service is suspected.
    fn verdict(&self, server: ServerId, ask: &Ask, outcome: &Outcome) -> Verdict {
        match correlation::verdict(outcome, ask.timeout) {
            Verdict::Dead if self.is_correlated(server) => Verdict::Unknown,
            verdict => verdict,
        }
    }

    /// Whether most servers of one of a server's services are suspected together.
    fn is_correlated(&self, server: ServerId) -> bool {
        let targets: Arc<Targets> = self.targets.borrow().clone();
        let Some(target) = targets.get(server) else { return false };
        target.destinations.iter().any(|destination| {
            let siblings: BTreeSet<ServerId> =
                targets.of_service(&destination.service, target.protocol()).map(|one| one.id).collect();
            self.correlation.is_correlated(&siblings, Instant::now())
        })
    }

    /// A burst is over: what remains to be done about the suspicion?
    ///
    /// What the ping beside the burst has shown only says what has failed; it decides nothing.
    fn ended(&mut self, server: ServerId, ask: &Ask, host: Option<&Outcome>) {
        if let Some(host) = host {
            self.publish_probe(ProbeKind::Ping, ask, host, Verdict::of(host));
        }
        let key = (server, ask.layer);
        let Some(confirmation) = self.under_way.get_mut(&key) else { return };
        confirmation.running = confirmation.running.saturating_sub(1);
        if confirmation.running == 0 {
            confirmation.in_flight = 0;
            let confirmation = *confirmation;
            self.settled(server, ask, confirmation);
        }
    }

    /// All bursts for one layer of a server are over.
    fn settled(&mut self, server: ServerId, ask: &Ask, confirmation: Confirmation) {
        let (key, Confirmation { cleared, failed, .. }) = ((server, ask.layer), confirmation);
        let undecided = !self.asks(server, Layer::Host).is_empty();
        if !cleared && undecided && self.is_correlated(server) {
            // Faster probing goes on after the detector's pause, and the baseline checks have the last word.
            self.under_way.remove(&key);
            let subjects = self.engine.subjects(&ask.destinations);
            self.events.publish(Event::Correlated { subjects, evidence: None });
            self.tell(Feedback::Observed(server, Observation::Cleared(ask.layer)));
        } else if cleared {
            self.under_way.remove(&key);
            self.events.publish(Event::Cleared { subjects: self.engine.subjects(&ask.destinations) });
            self.tell(Feedback::Observed(server, Observation::Cleared(ask.layer)));
        } else if failed && undecided {
            // The one probe of a weak suspicion has failed: now the rest.
            if self.asks(server, ask.layer).is_empty() {
                // It was the host's: not only the application is dead.
                self.under_way.remove(&key);
                self.tell(Feedback::Observed(server, Observation::Cleared(Layer::Application)));
                self.confirm(server, Layer::Host, Strength::Strong);
            } else {
                self.confirm(server, ask.layer, Strength::Strong);
            }
        } else {
            self.under_way.remove(&key);
            if !failed {
                debug!("none of the probes could be sent");
            }
            self.tell(Feedback::NotProbed(server));
        }
    }

    fn publish_probe(&self, kind: ProbeKind, ask: &Ask, outcome: &Outcome, verdict: Verdict) {
        let subjects = self.engine.subjects(&ask.destinations);
        self.events.publish(Event::Probe { kind, subjects, outcome: outcome.clone(), verdict });
    }

    /// What clients of an endpoint speak.
    fn protocol(&self, id: ServerId) -> Protocol {
        self.targets.borrow().get(id).map_or(Protocol::Tcp, Target::protocol)
    }

    /// The destinations that an endpoint serves.
    fn destinations(&self, id: ServerId) -> Vec<DestinationKey> {
        self.targets.borrow().get(id).map(|target| target.destinations.clone()).unwrap_or_default()
    }
}
