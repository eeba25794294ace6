//! The task that decides: it alone owns the health of all destinations. Results of checks and suspicions come in;
//! wanted tables, confirming bursts and feedback to the detector go out. Nothing here waits for anything but its own
//! inputs.

mod confirm;
mod role;
mod services;

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
    sync::Arc,
    time::Instant,
};

use tokio::sync::{mpsc, watch};
use tokio_util::sync::CancellationToken;
use tracing::debug;

pub(crate) use self::role::Role;
use crate::messages::{
    AdminRequest, CommandReply, RoleRequest, ServedRequest, ServiceUpdate, StatusRequest, WatchedServices,
};
use crate::{
    engine::{
        Cause, Effects, Engine,
        admin::{self, MaintenanceSet},
        confirmation::{Confirmations, DetectorFeedback, ProbeRequest},
        idle,
        status::{one_line, service_statuses},
        subscriptions::{Intervals, Subscriber, Subscriptions},
    },
    event::{Event, ProbeKind, Publisher, Subject},
    health::{Sample, Source, State, Transition},
    keyed::KeySet,
    model::{BurstSettings, Config, DestinationKey, ServiceKey},
    passive::{ClientReport, Finding, Observation, Targets},
    probe::{
        CheckId, CheckResult, IdleHandle, IdleReport, Outcome, Prober, SchedulerHandle, Verdict,
        bursts::{Bursts, Report},
        timer::sleep_until,
    },
    reconcile::DesiredTable,
    service_manager::TurnRequest,
    state_file::{SavedCommands, StateWriter, WriteReceipt},
    telemetry::metrics::StateGauges,
};

/// Everything that the controller receives.
pub(crate) struct Inputs {
    /// Results of baseline checks.
    pub(crate) checks: mpsc::Receiver<CheckResult>,
    /// Findings of passive detection.
    pub(crate) findings: mpsc::Receiver<Finding>,
    /// What clients say of servers.
    pub(crate) clients: mpsc::Receiver<ClientReport>,
    /// Results of confirming bursts.
    pub(crate) reports: mpsc::Receiver<Report<ProbeRequest>>,
    /// What becomes of idle connections.
    pub(crate) idle: mpsc::Receiver<IdleReport>,
    /// Status requests.
    pub(crate) requests: mpsc::Receiver<StatusRequest>,
    /// Requests for how well services are served.
    pub(crate) served: mpsc::Receiver<ServedRequest>,
    /// Other lists of services.
    pub(crate) updates: mpsc::Receiver<ServiceUpdate>,
    /// Admin commands.
    pub(crate) commands: mpsc::Receiver<AdminRequest>,
    /// Questions of the service manager's task, which feeds the watchdog with the answers; never where there is none.
    pub(crate) turns: mpsc::Receiver<TurnRequest>,
    /// The servers that files in the maintenance folder name; closed where there is no folder.
    pub(crate) maintained: watch::Receiver<MaintenanceSet>,
    /// Questions for the role, and orders.
    pub(crate) roles: mpsc::Receiver<RoleRequest>,
    /// This host's addresses, once they are known.
    pub(crate) own_addresses: watch::Receiver<Option<BTreeSet<IpAddr>>>,
    /// The configuration in force.
    pub(crate) in_force: watch::Receiver<Arc<Config>>,
}

/// The owner of the engine: the one task that decides.
pub(crate) struct Controller {
    engine: Engine,
    /// The destinations that each baseline check is for.
    checks: Subscriptions,
    /// Changes intervals of checks, and the list of checks.
    scheduler: SchedulerHandle,
    /// The checks that are made more often because a state is soft.
    accelerated: KeySet<CheckId>,
    /// Which idle connections are wanted.
    idle: IdleHandle,
    /// The endpoints that suspicions are about.
    targets: watch::Receiver<Arc<Targets>>,
    bursts: Bursts<Prober, ProbeRequest>,
    /// From suspicions to the probes that settle them.
    confirmations: Confirmations,
    /// What happens is published here.
    events: Publisher,
    desired: DesiredTable,
    /// Services that are to be deleted, and until when the table is searched for them.
    leaving: BTreeMap<ServiceKey, Instant>,
    /// To the monitor: the services to watch.
    watched: watch::Sender<WatchedServices>,
    /// To the monitor; full or closed where there is none, which does no harm.
    feedback: mpsc::Sender<DetectorFeedback>,
    /// Saves the admin commands, …
    state_writer: Option<StateWriter<SavedCommands>>,
    /// … and those that were saved last.
    saved: SavedCommands,
    /// What metrics show of destinations and services.
    shown: StateGauges,
    /// Whether this director is active.
    role: Role,
}

/// What a controller is made of.
pub(crate) struct Parts {
    pub(crate) engine: Engine,
    pub(crate) checks: Subscriptions,
    pub(crate) scheduler: SchedulerHandle,
    pub(crate) idle: IdleHandle,
    pub(crate) targets: watch::Receiver<Arc<Targets>>,
    /// How a suspicion is probed.
    pub(crate) burst: BurstSettings,
    /// Makes the probes.
    pub(crate) prober: Prober,
    /// Where results of confirming probes go.
    pub(crate) reports: mpsc::Sender<Report<ProbeRequest>>,
    pub(crate) events: Publisher,
    pub(crate) desired: DesiredTable,
    pub(crate) watched: watch::Sender<WatchedServices>,
    pub(crate) feedback: mpsc::Sender<DetectorFeedback>,
    pub(crate) state_writer: Option<StateWriter<SavedCommands>>,
    pub(crate) role: Role,
}

impl Controller {
    /// A controller before its first input.
    pub(crate) fn new(parts: Parts) -> Self {
        let mut shown = StateGauges::default();
        shown.show_all(&parts.engine);
        parts.idle.replace(idle::wishes(&parts.engine));
        Self {
            saved: parts.engine.commands(),
            engine: parts.engine,
            checks: parts.checks,
            scheduler: parts.scheduler,
            accelerated: KeySet::default(),
            idle: parts.idle,
            targets: parts.targets,
            confirmations: Confirmations::new(&parts.burst),
            bursts: Bursts::new(parts.prober, parts.reports),
            events: parts.events,
            desired: parts.desired,
            leaving: BTreeMap::new(),
            watched: parts.watched,
            feedback: parts.feedback,
            state_writer: parts.state_writer,
            shown,
            role: parts.role,
        }
    }

    /// Decides until `shutdown`.
    pub(crate) async fn run(mut self, mut inputs: Inputs, shutdown: CancellationToken) {
        self.announce_role();
        let effects = self.engine.decide_all(Instant::now());
        self.apply(effects, Cause::Other);
        loop {
            let leaving = self.leaving.values().min().copied();
            let (changes, due) = (self.engine.next_change(), self.confirmations.next_due());
            let next_change = changes.into_iter().chain(leaving).chain(due).min();
            tokio::select! {
                () = shutdown.cancelled() => break,
                Some(result) = inputs.checks.recv() => self.baseline(&result),
                Some(finding) = inputs.findings.recv() => self.found(&finding),
                Some(report) = inputs.clients.recv() => self.clients_say(&report),
                Some(report) = inputs.reports.recv() => self.report(report),
                Some(report) = inputs.idle.recv() => self.idle_reported(&report),
                Some(update) = inputs.updates.recv() => self.replace(update).await,
                Some(request) = inputs.commands.recv() => self.command(request),
                Some(request) = inputs.requests.recv() => self.answer(request),
                // Whoever asked may have gone.
                Some(request) = inputs.served.recv() => drop(request.send(self.served_now())),
                // Whoever asked may have been started anew.
                Some(turn) = inputs.turns.recv() => drop(turn.send(one_line(&self.engine, Instant::now()))),
                Ok(()) = inputs.maintained.changed() => {
                    let maintained = inputs.maintained.borrow_and_update().clone();
                    self.maintain(maintained);
                }
                Some(request) = inputs.roles.recv() => self.role_requested(request),
                Ok(()) = inputs.own_addresses.changed() => {
                    let own = inputs.own_addresses.borrow_and_update().clone();
                    self.addresses_changed(own);
                }
                Ok(()) = inputs.in_force.changed() => {
                    let setting = inputs.in_force.borrow_and_update().role;
                    self.role_configured(setting);
                }
                () = sleep_until(next_change) => self.passed(),
                else => break,
            }
        }
        self.events.publish(Event::Stopping);
    }

    /// The maintenance folder names other servers now.
    fn maintain(&mut self, maintained: MaintenanceSet) {
        let effects = self.engine.set_maintenance(maintained, Instant::now());
        self.apply(effects, Cause::Other);
        // No weight has changed of a server that was out already.
        self.shown.show_all(&self.engine);
    }

    /// Applies an admin command and replies; the caller may have gone.
    fn command(&mut self, request: AdminRequest) {
        let AdminRequest { command: order, selector, reply } = request;
        let applied = admin::apply(&mut self.engine, order, &selector, Instant::now());
        let outcome = applied.map(|(ordered, effects)| {
            self.apply(effects, Cause::Other);
            for one in &ordered {
                let subject = Subject { service: one.service.clone(), destination: one.destination };
                self.events.publish_all(order.action().map(|action| Event::Admin { subject, action }));
                // No weight has changed of a server that was out already.
                self.shown.show_destination(&self.engine, &one.destination);
            }
            // A command that was given before may still not be in the file.
            let saved = self.save_commands().or_else(|| self.state_writer.as_ref().map(StateWriter::latest));
            CommandReply { results: ordered, saved }
        });
        reply.send(outcome).ok();
    }

    /// Saves the admin commands, if they are others than those that were saved last.
    pub(crate) fn save_commands(&mut self) -> Option<WriteReceipt> {
        let commands = self.engine.commands();
        if commands == self.saved {
            return None;
        }
        let receipt = self.state_writer.as_ref().map(|state_writer| state_writer.save(&commands));
        self.saved = commands;
        receipt
    }

    /// Weights that change with time are due.
    fn passed(&mut self) {
        let now = Instant::now();
        let effects = self.engine.advance(now);
        self.apply(effects, Cause::Other);
        self.ask_the_removed();
        self.let_go(now);
    }

    /// Acts on effects: the reconciler gets what is wanted, the gauges follow, and the events are published.
    fn apply(&mut self, mut effects: Effects, cause: Cause<'_>) {
        if let Some(wanted) = effects.whole_table.take() {
            self.want(wanted);
        } else {
            let services: BTreeSet<_> = effects.moved.iter().map(|moved| moved.destination.service).collect();
            for key in services {
                if let Some(wanted) = self.engine.wanted_service(&key) {
                    self.desired.want(key, wanted);
                }
            }
        }
        for moved in &effects.moved {
            self.shown.show_destination(&self.engine, &moved.destination);
        }
        for event in effects.to_events(&self.engine, cause) {
            if let Event::Pool { key, .. } = &event {
                self.shown.show_service(&self.engine, key);
            }
            self.events.publish(event);
        }
    }

    /// The caller may have gone.
    fn answer(&self, request: StatusRequest) {
        let StatusRequest { service, reply } = request;
        let idle = |destination: &DestinationKey| self.idle.state(destination);
        reply.send(service_statuses(&self.engine, idle, service.as_deref(), Instant::now())).ok();
    }

    /// The result of a baseline check, for each destination that it is for.
    fn baseline(&mut self, result: &CheckResult) {
        let subscribers = self.checks.subscribers(result.id).to_vec();
        let verdict = Verdict::of(&result.outcome);
        for subscriber in subscribers {
            let Subscriber { destination, check } = subscriber;
            let is_outdated =
                verdict == Verdict::Dead && self.engine.is_outdated(&destination, result.started);
            let verdict = if is_outdated { Verdict::Unknown } else { verdict };
            self.publish_check(&destination, &result.outcome, verdict);
            self.shown.show_check(&self.engine, &destination, check, &result.outcome);
            let noted = self.engine.note_check(&destination, check, &result.outcome, Instant::now());
            self.events.publish_all(noted);
            if let Ok(success) = &result.outcome {
                self.confirmations.note_latency(subscriber, success, result.is_full);
            }
            if verdict == Verdict::Alive && self.check_in_place(&destination) {
                continue;
            }
            let source = if result.is_full { Source::Baseline } else { Source::Partial };
            self.observe(&destination, Some(check), &result.outcome, verdict, source);
        }
        self.accelerate(result.id);
    }

    fn publish_check(&self, destination: &DestinationKey, outcome: &Outcome, verdict: Verdict) {
        let is_new_failure =
            verdict == Verdict::Dead && !self.engine.state(destination).is_some_and(State::is_down);
        self.events.publish(Event::Probe {
            kind: ProbeKind::Baseline { is_new_failure },
            subjects: vec![self.engine.subject(destination)],
            outcome: outcome.clone(),
            verdict,
        });
    }

    /// Counts one result of one destination and acts on the effects. `check` is the index of the destination's check;
    /// `None`: the result is about the host, and so about all of them.
    fn observe(
        &mut self,
        destination: &DestinationKey,
        check: Option<usize>,
        outcome: &Outcome,
        verdict: Verdict,
        source: Source,
    ) {
        let success = match verdict {
            Verdict::Alive => true,
            Verdict::Dead => false,
            // That says nothing about the server.
            Verdict::Unknown => return,
        };
        let sample = Sample { check, success, source };
        let effects = self.engine.observe_outcome(destination, sample, outcome, Instant::now());
        let transition = effects.transition;
        self.apply(effects, Cause::Result(destination, outcome));
        if let Some(transition) = transition {
            self.shown.show_destination(&self.engine, destination);
            self.idle.set(*destination, idle::condition_after(transition.to, outcome, source));
            self.feed_back_transition(destination, transition);
        }
    }

    /// Makes a check more often while the state of one of its destinations is soft, and at its usual interval
    /// otherwise. Not where most of a service fails: then the director's own network is likelier at fault, and haste
    /// gains nothing. If the scheduler has no room for the command now, the next result of the check comes here again.
    fn accelerate(&mut self, check: CheckId) {
        let Some(Intervals { usual, soft }) = self.checks.intervals(check) else { return };
        let is_soft = |subscriber: &Subscriber| {
            let state = self.engine.state_of_check(&subscriber.destination, subscriber.check);
            state.is_some_and(State::is_soft)
                && (matches!(state, Some(State::Recovering { .. }))
                    || !self.engine.most_fail(&subscriber.destination.service))
        };
        let accelerated = self.checks.subscribers(check).iter().any(is_soft);
        if accelerated != self.accelerated.contains(&check)
            && self.scheduler.try_set_interval(check, if accelerated { soft } else { usual })
        {
            if accelerated {
                self.accelerated.insert(check);
            } else {
                self.accelerated.remove(&check);
            }
        }
    }

    /// Tells the detector which servers are down or up again.
    fn feed_back_transition(&self, destination: &DestinationKey, transition: Transition) {
        let Transition { from, to } = transition;
        let is_down = |one: &DestinationKey| self.engine.state(one).is_some_and(State::is_down);
        for target in self.targets.borrow().of(destination) {
            if to.is_down() && target.destinations.iter().all(is_down) {
                self.feed_back(DetectorFeedback::Observed(target.id, Observation::Down));
            } else if to.is_up() && !from.is_up() {
                self.feed_back(DetectorFeedback::Observed(target.id, Observation::Up));
            }
        }
    }

    fn feed_back(&self, feedback: DetectorFeedback) {
        if self.feedback.try_send(feedback).is_err() {
            debug!("the passive side doesn't listen");
        }
    }
}
