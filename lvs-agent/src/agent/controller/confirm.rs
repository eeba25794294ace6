//! Carries out what the confirmation of suspicions wants done.

use std::time::Instant;

use ::metrics::counter;
use tracing::debug;

use super::{Controller, bursts::Report};
use crate::{
    engine::confirmation::{AnsweredCheck, ProbeRequest, Purpose, Situation, Step, SuspicionEvent},
    model::DestinationKey,
    passive::Finding,
    probe::{Outcome, Verdict},
    telemetry::{
        events,
        metrics::{self, ProbeKind},
    },
};

impl Controller {
    /// What the passive side has found.
    pub(super) fn found(&mut self, finding: &Finding) {
        let targets = self.targets.borrow().clone();
        let at = Situation { engine: &self.engine, targets: &targets, now: Instant::now() };
        let steps = self.confirmations.found(finding, at);
        self.carry_out(steps);
    }

    /// Asks a port in place of the regular check of a destination that has just been answered; whether that is needed.
    pub(super) fn check_in_place(&mut self, destination: &DestinationKey) -> bool {
        let targets = self.targets.borrow().clone();
        let at = Situation { engine: &self.engine, targets: &targets, now: Instant::now() };
        let step = self.confirmations.check_in_place(destination, at);
        let is_asked = step.is_some();
        self.carry_out(step);
        is_asked
    }

    pub(super) fn report(&mut self, report: Report) {
        match report {
            Report::Probe { request, number, outcome } => self.probe_ended(&request, number, &outcome),
            Report::Ended { request, host } => {
                let targets = self.targets.borrow().clone();
                let at = Situation { engine: &self.engine, targets: &targets, now: Instant::now() };
                let steps = self.confirmations.burst_ended(&request, host.as_ref(), at);
                self.carry_out(steps);
            }
        }
    }

    fn probe_ended(&mut self, request: &ProbeRequest, number: u32, outcome: &Outcome) {
        let targets = self.targets.borrow().clone();
        let at = Situation { engine: &self.engine, targets: &targets, now: Instant::now() };
        let (answer, steps) = self.confirmations.probe_ended(request, number, outcome, at);
        self.carry_out(steps);
        for AnsweredCheck { destination, check, source } in answer.checks {
            self.observe(&destination, check, outcome, answer.verdict, source);
            if request.purpose != Purpose::RegularCheck {
                for check in self.checks.of(&destination).to_vec() {
                    self.accelerate(check);
                }
            }
        }
        self.confirmations.taken_in(request, &self.engine);
    }

    fn carry_out(&mut self, steps: impl IntoIterator<Item = Step>) {
        for step in steps {
            match step {
                Step::Probe { request, number_from, count } => self.bursts.start(request, number_from, count),
                Step::Feedback(feedback) => self.tell(feedback),
                Step::Event(event) => self.publish(&event),
            }
        }
    }

    /// Logs and counts it.
    fn publish(&self, event: &SuspicionEvent) {
        let engine = &self.engine;
        match event {
            SuspicionEvent::Suspected { suspicion, destinations } => {
                metrics::count_suspicion(suspicion);
                for destination in destinations {
                    events::suspicion(engine, destination, suspicion);
                }
            }
            SuspicionEvent::Unconfirmable { suspicion, destinations } => {
                for destination in destinations {
                    metrics::count_reported(engine, destination);
                    events::reported(engine, destination, suspicion);
                }
            }
            SuspicionEvent::Overloaded { destinations, evidence } => {
                for destination in destinations {
                    metrics::count_overloaded(engine, destination);
                    events::overloaded(engine, destination, evidence);
                }
            }
            SuspicionEvent::Correlated { destinations, evidence } => {
                counter!("lvs_common_suspicions_total").increment(1);
                events::common(engine, destinations, evidence.as_ref());
            }
            SuspicionEvent::Withheld(exhausted) => {
                counter!("lvs_probes_withheld_total").increment(1);
                debug!("suspicion not probed: {exhausted}");
            }
            SuspicionEvent::Probed { destinations, number, outcome, verdict } => {
                for destination in destinations.iter() {
                    events::confirming(engine, destination, *number, outcome);
                }
                self.probes.count(ProbeKind::Confirm, *verdict);
            }
            SuspicionEvent::PortProbed(verdict) => self.probes.count(ProbeKind::Confirm, *verdict),
            SuspicionEvent::Pinged { destinations, outcome } => {
                self.probes.count(ProbeKind::Ping, Verdict::of(outcome));
                for destination in destinations.iter() {
                    events::host(engine, destination, outcome);
                }
            }
            SuspicionEvent::Cleared => counter!("lvs_suspicions_cleared_total").increment(1),
            SuspicionEvent::NotSent => debug!("none of the probes could be sent"),
        }
    }
}
