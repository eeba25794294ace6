//! The task that decides: it alone owns the health of all destinations. Results of checks and suspicions come in; wanted
//! tables, confirming bursts and feedback to the detector go out. Nothing here waits for anything but its own inputs.

mod suspicion;

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    sync::Arc,
    time::Duration,
};

use lvs_common::ServerId;
use metrics::counter;
use tokio::sync::{mpsc, watch};
use tokio_util::sync::CancellationToken;
use tracing::debug;

use super::{
    confirm::{Bursts, Confirmation, Report},
    decisions::{Consequence, Decisions},
    doubt::Suspected,
    exposition,
    pace::Paces,
    status::{Standing, StandingInquiry},
    story,
    watch::Feedback,
};
use crate::{
    health::{Source, State, Transition},
    ipvs::Wanted,
    passive::{Finding, Layer, Observation, Targets},
    probe::{CheckId, CheckResult, Outcome, Verdict, budget::Budget},
    service::DestinationKey,
};

/// Everything that the judge hears.
pub(super) struct Inputs {
    /// Results of baseline checks.
    pub(super) checks: mpsc::Receiver<CheckResult>,
    /// What the passive side has found.
    pub(super) findings: mpsc::Receiver<Finding>,
    /// Results of confirming bursts.
    pub(super) reports: mpsc::Receiver<Report>,
    /// Questions about how everything stands.
    pub(super) inquiries: mpsc::Receiver<StandingInquiry>,
}

/// The one owner of all decisions.
pub(super) struct Judge {
    pub(super) decisions: Decisions,
    /// Who asked for each baseline check.
    pub(super) subscribers: HashMap<CheckId, Vec<DestinationKey>>,
    /// The endpoints that suspicions are about.
    pub(super) targets: watch::Receiver<Arc<Targets>>,
    pub(super) bursts: Bursts,
    pub(super) budget: Budget<ServerId>,
    pub(super) wanted: watch::Sender<Wanted>,
    /// To the passive side; full or closed where there is none, which is no harm.
    pub(super) feedback: mpsc::Sender<Feedback>,
    /// The bursts under way.
    pub(super) under_way: BTreeMap<(ServerId, Layer), Confirmation>,
    pub(super) suspected: Suspected,
    /// Destinations that a ping checks, and whose UDP port was closed when it was last asked.
    pub(super) closed: BTreeSet<DestinationKey>,
    /// How long the servers take to answer.
    pub(super) paces: Paces,
    /// How long a confirming probe may take while that isn't known.
    pub(super) probe_timeout: Duration,
}

impl Judge {
    /// Decides until `shutdown`.
    pub(super) async fn run(mut self, mut inputs: Inputs, shutdown: CancellationToken) {
        loop {
            tokio::select! {
                () = shutdown.cancelled() => break,
                Some(result) = inputs.checks.recv() => self.baseline(&result),
                Some(finding) = inputs.findings.recv() => self.found(&finding),
                Some(report) = inputs.reports.recv() => self.report(report),
                Some(inquiry) = inputs.inquiries.recv() => self.answer(inquiry),
                else => break,
            }
        }
    }

    /// Shows every destination as it stands.
    pub(super) fn publish(&self) {
        for destination in self.subscribers.values().flatten() {
            exposition::publish_destination(&self.decisions, destination);
        }
    }

    /// Whoever asked may have gone.
    fn answer(&self, inquiry: StandingInquiry) {
        let standings = self.decisions.all().map(|(destination, service, server)| Standing {
            destination,
            service: service.name.clone(),
            method: server.method,
            weight: self.decisions.weight(&destination),
            state: self.decisions.state(&destination).unwrap_or(State::Unknown { failures: 0 }),
        });
        inquiry.send(standings.collect()).ok();
    }

    /// The result of a baseline check: of every destination that asked for it.
    fn baseline(&mut self, result: &CheckResult) {
        let destinations = self.subscribers.get(&result.id).cloned().unwrap_or_default();
        let verdict = Verdict::of(&result.outcome);
        for destination in &destinations {
            story::baseline(&self.decisions, destination, result);
            count_probe("baseline", verdict);
            if let Ok(success) = &result.outcome {
                self.paces.note(destination, success);
            }
            if verdict == Verdict::Alive && self.closed.contains(destination) && self.ask_port(destination) {
                continue;
            }
            self.observe(destination, &result.outcome, verdict, Source::Baseline);
        }
    }

    /// One result of one destination, and all that follows from it.
    fn observe(&mut self, destination: &DestinationKey, outcome: &Outcome, verdict: Verdict, source: Source) {
        let success = match verdict {
            Verdict::Alive => true,
            Verdict::Dead => false,
            // That says nothing about the server.
            Verdict::Unknown => return,
        };
        let Some(consequence) = self.decisions.observe(destination, success, source) else { return };
        if consequence.table_changed {
            self.wanted.send_replace(self.decisions.wanted());
        }
        story::consequence(&self.decisions, destination, outcome, &consequence);
        exposition::publish_destination(&self.decisions, destination);
        self.tell_passive(destination, &consequence);
    }

    /// Lets the detector know which servers there is nothing left to suspect of.
    fn tell_passive(&self, destination: &DestinationKey, consequence: &Consequence) {
        let Transition { from, to } = consequence.transition;
        let is_down = |one: &DestinationKey| self.decisions.state(one).is_some_and(State::is_down);
        for target in self.targets.borrow().of(destination) {
            if to.is_down() && target.destinations.iter().all(is_down) {
                self.tell(Feedback::Observed(target.id, Observation::Down));
            } else if to.is_up() && !from.is_up() {
                self.tell(Feedback::Observed(target.id, Observation::Up));
            }
        }
    }

    fn tell(&self, feedback: Feedback) {
        if self.feedback.try_send(feedback).is_err() {
            debug!("the passive side doesn't listen");
        }
    }
}

fn count_probe(kind: &'static str, verdict: Verdict) {
    let outcome = match verdict {
        Verdict::Alive => "success",
        Verdict::Dead => "failure",
        Verdict::Unknown => "inconclusive",
    };
    counter!("lvs_probes_total", "kind" => kind, "outcome" => outcome).increment(1);
}
