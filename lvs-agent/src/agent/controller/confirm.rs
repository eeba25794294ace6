//! Carries out what the confirmation of suspicions wants done.

use std::time::Instant;

use super::{Controller, bursts::Report};
use crate::{
    engine::{
        Cause,
        confirmation::{AnsweredCheck, ProbeRequest, Purpose, Situation, Step},
    },
    model::DestinationKey,
    passive::{ClientReport, Finding},
    probe::Outcome,
};

impl Controller {
    /// What the passive side has found.
    pub(super) fn found(&mut self, finding: &Finding) {
        let targets = self.targets.borrow().clone();
        let at = Situation { engine: &self.engine, targets: &targets, now: Instant::now() };
        let steps = self.confirmations.found(finding, at);
        self.carry_out(steps);
    }

    /// What the clients of a server say, for each destination that it serves.
    pub(super) fn clients_say(&mut self, report: &ClientReport) {
        let targets = self.targets.borrow().clone();
        for destination in targets.get(report.id).iter().flat_map(|target| &target.destinations) {
            let effects = self.engine.clients_say(destination, report, Instant::now());
            self.apply(effects, Cause::Other);
            self.shown.show_destination(&self.engine, destination);
        }
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
                Step::Feedback(feedback) => self.feed_back(feedback),
                Step::Publish(event) => self.events.publish(event),
            }
        }
    }
}
