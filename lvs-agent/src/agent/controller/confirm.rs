//! Carries out what the confirmation of suspicions wants done.

use std::time::Instant;

use super::Controller;
use crate::{
    engine::{
        Cause,
        confirmation::{AnsweredCheck, Confirmations, ProbeRequest, Purpose, Situation, Step},
        idle,
    },
    model::DestinationKey,
    passive::{ClientReport, Finding},
    probe::{
        IdleReport,
        burst::{Burst, BurstProbe},
        bursts::Report,
    },
};

impl Controller {
    /// What the passive side has found.
    pub(super) fn found(&mut self, finding: &Finding) {
        let steps = self.confirm(|confirmations, at| confirmations.found(finding, at));
        self.carry_out(steps);
    }

    /// Asks the servers that are out provisionally, as far as they are due.
    pub(super) fn ask_the_removed(&mut self) {
        let steps = self.confirm(Confirmations::due);
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
        let step = self.confirm(|confirmations, at| confirmations.check_in_place(destination, at));
        let is_asked = step.is_some();
        self.carry_out(step);
        is_asked
    }

    pub(super) fn report(&mut self, report: Report<ProbeRequest>) {
        match report {
            Report::Probe { request, number, probe } => self.probe_ended(&request, number, &probe),
            Report::Ended { request, host } => {
                let ended = |confirmations: &mut Confirmations, at: Situation<'_>| {
                    confirmations.burst_ended(&request, host.as_ref(), at)
                };
                let steps = self.confirm(ended);
                self.carry_out(steps);
            }
        }
    }

    fn probe_ended(&mut self, request: &ProbeRequest, number: u32, probe: &BurstProbe) {
        let (answer, steps) =
            self.confirm(|confirmations, at| confirmations.probe_ended(request, number, probe, at));
        self.carry_out(steps);
        for AnsweredCheck { destination, check, source } in answer.checks {
            self.observe(&destination, check, &probe.outcome, answer.verdict, source);
            if request.purpose != Purpose::RegularCheck {
                for check in self.checks.of(&destination).to_vec() {
                    self.accelerate(check);
                }
            }
        }
        let steps = self.confirm(|confirmations, at| confirmations.taken_in(request, answer.verdict, at));
        self.carry_out(steps);
    }

    /// Lets the confirmations decide, as things are now.
    fn confirm<T>(&mut self, decide: impl FnOnce(&mut Confirmations, Situation<'_>) -> T) -> T {
        let targets = self.targets.borrow().clone();
        let at = Situation { engine: &self.engine, targets: &targets, now: Instant::now() };
        decide(&mut self.confirmations, at)
    }

    fn carry_out(&mut self, steps: impl IntoIterator<Item = Step>) {
        for step in steps {
            match step {
                Step::Probe { request, number_from, rhythm } => {
                    let (target, question) = (request.target, request.question.clone());
                    self.bursts.start(Burst { target, question, rhythm }, request, number_from);
                }
                Step::Feedback(feedback) => self.feed_back(feedback),
                Step::Publish(event) => self.events.publish(event),
            }
        }
    }
}
