//! Carries out what the confirmation of suspicions wants done.

use std::time::Instant;

use super::{Controller, bursts::Report};
use crate::{
    engine::{
        confirmation::{AnsweredCheck, ProbeRequest, Purpose, Situation, Step},
        idle,
    },
    model::DestinationKey,
    passive::Finding,
    probe::{IdleReport, Outcome},
};

impl Controller {
    /// What the passive side has found.
    pub(super) fn found(&mut self, finding: &Finding) {
        let targets = self.targets.borrow().clone();
        let at = Situation { engine: &self.engine, targets: &targets, now: Instant::now() };
        let steps = self.confirmations.found(finding, at);
        self.carry_out(steps);
    }

    /// What has become of an idle connection. What it raises comes first: it cannot wait.
    pub(super) fn idle_reported(&mut self, report: &IdleReport) {
        let raised = idle::raised(report, &self.targets.borrow());
        for finding in &raised.findings {
            self.found(finding);
        }
        let checks = raised.check_now.iter().flat_map(|destination| self.checks.of(destination)).copied();
        self.scheduler.check_now(checks.collect());
        self.events.publish(idle::event(report, &self.engine));
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
