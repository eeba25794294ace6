//! The task that decides: it alone owns the health of all destinations. Results of checks and suspicions come in; wanted
//! tables, confirming bursts and feedback to the detector go out. Nothing here waits for anything but its own inputs.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    num::NonZeroU32,
    time::{Duration, Instant},
};

use lvs_common::ServerId;
use metrics::counter;
use tokio::sync::{mpsc, watch};
use tokio_util::sync::CancellationToken;
use tracing::debug;

use super::{
    confirm::{self, Ask, Bursts, Confirmation, Report},
    decisions::{Consequence, Decisions},
    doubt::{self, Suspected},
    exposition, story,
    watch::Feedback,
};
use crate::{
    config::Question,
    health::{Source, State, Transition},
    ipvs::Wanted,
    passive::{Layer, Observation, Strength, Suspicion, Targets},
    probe::{CheckId, CheckResult, Outcome, ProbeTarget, Verdict, budget::Budget, burst::BurstProbe},
    service::DestinationKey,
};

/// Everything that the judge hears.
pub(super) struct Inputs {
    /// Results of baseline checks.
    pub(super) checks: mpsc::Receiver<CheckResult>,
    /// What the passive side suspects.
    pub(super) suspicions: mpsc::Receiver<Suspicion>,
    /// Results of confirming bursts.
    pub(super) reports: mpsc::Receiver<Report>,
}

/// The one owner of all decisions.
pub(super) struct Judge {
    pub(super) decisions: Decisions,
    /// Who asked for each baseline check.
    pub(super) subscribers: HashMap<CheckId, Vec<DestinationKey>>,
    /// The endpoints that suspicions are about.
    pub(super) targets: Targets,
    pub(super) bursts: Bursts,
    pub(super) budget: Budget<ServerId>,
    pub(super) wanted: watch::Sender<Wanted>,
    /// To the passive side; full or closed where there is none, which is no harm.
    pub(super) feedback: mpsc::Sender<Feedback>,
    /// The bursts under way.
    pub(super) under_way: BTreeMap<ServerId, Confirmation>,
    pub(super) suspected: Suspected,
    /// How long a confirming probe may take.
    pub(super) probe_timeout: Duration,
}

impl Judge {
    /// Decides until `shutdown`.
    pub(super) async fn run(mut self, mut inputs: Inputs, shutdown: CancellationToken) {
        loop {
            tokio::select! {
                () = shutdown.cancelled() => break,
                Some(result) = inputs.checks.recv() => self.baseline(&result),
                Some(suspicion) = inputs.suspicions.recv() => self.suspicion(&suspicion),
                Some(report) = inputs.reports.recv() => self.report(report),
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

    /// The result of a baseline check: of every destination that asked for it.
    fn baseline(&mut self, result: &CheckResult) {
        let destinations = self.subscribers.get(&result.id).cloned().unwrap_or_default();
        let verdict = Verdict::of(&result.outcome);
        for destination in &destinations {
            story::baseline(&self.decisions, destination, result);
            count_probe("baseline", verdict);
            self.observe(destination, &result.outcome, verdict, Source::Baseline);
        }
    }

    /// A suspicion: one probe if it is weak, the whole burst if it is strong, nothing if the budget is spent.
    fn suspicion(&mut self, suspicion: &Suspicion) {
        let id = suspicion.id;
        counter!("lvs_suspicions_total", "strength" => suspicion.strength.to_string()).increment(1);
        story::suspicion(&self.decisions, &self.targets, suspicion);
        self.suspected.note(id, Instant::now());
        if !self.under_way.contains_key(&id)
            && let Err(exhausted) = self.budget.take(id, Instant::now())
        {
            counter!("lvs_probes_withheld_total").increment(1);
            debug!("suspicion not probed: {exhausted}");
            return self.tell(Feedback::NotProbed(id));
        }
        self.confirm(id, suspicion.strength);
    }

    /// Starts as many probes as it takes, less those that are under way.
    fn confirm(&mut self, id: ServerId, strength: Strength) {
        let asks = self.asks(id);
        let needed = |ask: &Ask| {
            ask.destinations.iter().map(|destination| self.decisions.failures_to_fall(destination)).max()
        };
        let count = match strength {
            Strength::Weak => 1,
            Strength::Strong => asks.iter().filter_map(needed).max().unwrap_or(0),
        };
        let confirmation = self.under_way.entry(id).or_default();
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
            self.under_way.remove(&id);
            self.tell(Feedback::NotProbed(id));
        }
    }

    /// The questions that settle a suspicion, each once, about destinations that are up.
    fn asks(&self, id: ServerId) -> Vec<Ask> {
        let Some(target) = self.targets.get(id) else { return Vec::new() };
        let mut grouped: Vec<(ProbeTarget, Question, Vec<DestinationKey>)> = Vec::new();
        for destination in &target.destinations {
            let up = self.decisions.state(destination).is_some_and(State::is_up);
            let Some(config) = self.decisions.service_config(destination).filter(|_| up) else { continue };
            let whom = ProbeTarget::of_check(destination.server, &config.check);
            let what = confirm::question(&config.check);
            match grouped.iter_mut().find(|(target, question, _)| *target == whom && *question == what) {
                Some((_, _, destinations)) => destinations.push(*destination),
                None => grouped.push((whom, what, vec![*destination])),
            }
        }
        grouped
            .into_iter()
            .map(|(target, question, destinations)| Ask {
                target,
                question,
                destinations: destinations.into(),
            })
            .collect()
    }

    fn report(&mut self, report: Report) {
        match report {
            Report::Probe { server, ask, number, probe } => self.probed(server, &ask, number, &probe),
            Report::Ended { server, ask, host } => self.ended(server, &ask, host.as_ref()),
        }
    }

    /// One confirming probe has ended.
    fn probed(&mut self, server: ServerId, ask: &Ask, number: u32, probe: &BurstProbe) {
        for destination in ask.destinations.iter() {
            story::confirming(&self.decisions, destination, number, &probe.outcome);
        }
        let verdict = self.verdict(server, &probe.outcome);
        count_probe("confirm", verdict);
        if let Some(confirmation) = self.under_way.get_mut(&server) {
            match verdict {
                Verdict::Alive => confirmation.cleared = true,
                Verdict::Dead => confirmation.failed = true,
                Verdict::Unknown => {}
            }
        }
        for destination in ask.destinations.iter() {
            self.observe(destination, &probe.outcome, verdict, Source::Confirm);
        }
    }

    /// What a confirming probe says about the server: nothing, if it failed while most of the service is suspected.
    fn verdict(&self, server: ServerId, outcome: &Outcome) -> Verdict {
        match doubt::verdict(outcome, self.probe_timeout) {
            Verdict::Dead if self.is_common(server) => Verdict::Unknown,
            verdict => verdict,
        }
    }

    /// Whether most servers of one of a server's services are suspected together.
    fn is_common(&self, server: ServerId) -> bool {
        let Some(target) = self.targets.get(server) else { return false };
        target.destinations.iter().any(|destination| {
            let siblings: BTreeSet<ServerId> =
                self.targets.of_service(&destination.service, target.protocol()).map(|one| one.id).collect();
            self.suspected.is_common(&siblings, Instant::now())
        })
    }

    /// A burst is over: what remains to be done about the suspicion?
    ///
    /// What the ping beside the burst has shown only says what has failed; it decides nothing.
    fn ended(&mut self, server: ServerId, ask: &Ask, host: Option<&Outcome>) {
        if let Some(host) = host {
            count_probe("ping", Verdict::of(host));
            for destination in ask.destinations.iter() {
                story::host(&self.decisions, destination, host);
            }
        }
        let Some(confirmation) = self.under_way.get_mut(&server) else { return };
        confirmation.running = confirmation.running.saturating_sub(1);
        if confirmation.running > 0 {
            return;
        }
        confirmation.in_flight = 0;
        let Confirmation { cleared, failed, .. } = *confirmation;
        let undecided = !self.asks(server).is_empty();
        if !cleared && undecided && self.is_common(server) {
            // Faster probing goes on after the detector's pause, and the baseline checks have the last word.
            self.under_way.remove(&server);
            counter!("lvs_common_suspicions_total").increment(1);
            story::common(&self.decisions, ask);
            self.tell(Feedback::Observed(server, Observation::Cleared(Layer::Host)));
        } else if cleared {
            self.under_way.remove(&server);
            counter!("lvs_suspicions_cleared_total").increment(1);
            self.tell(Feedback::Observed(server, Observation::Cleared(Layer::Host)));
        } else if failed && undecided {
            // The one probe of a weak suspicion has failed: now the rest.
            self.confirm(server, Strength::Strong);
        } else {
            self.under_way.remove(&server);
            if !failed {
                debug!("none of the probes could be sent");
            }
            self.tell(Feedback::NotProbed(server));
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
        for target in self.targets.of(destination) {
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
