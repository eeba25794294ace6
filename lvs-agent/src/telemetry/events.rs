//! The log of what happens to a server: suspicion, probes, states. Every line has the time in `at_ns`
//! (`CLOCK_MONOTONIC`), an `event`, the `service` and the `server`, so that a program can follow it as well as a person.

use std::time::{Duration, Instant};

use tracing::{debug, info, warn};

use crate::{
    clock::monotonic_ns,
    config::{Reading, Warning},
    engine::{
        Engine, Happening,
        admin::{AdminCommand, CommandResult},
    },
    health::{State, Transition},
    model::DestinationKey,
    passive::{Evidence, Suspicion},
    pool::{Drain, PoolEvent},
    probe::{CheckResult, Outcome},
};
use std::path::Path;

/// Logs what the author of `file` should know.
pub(crate) fn config_warnings(file: &Path, reading: &Reading) {
    for Warning { kind, place } in &reading.warnings {
        warn!(
            event = "config",
            line = place.line,
            column = place.column,
            "{}:{}:{}: {kind}",
            file.display(),
            place.line,
            place.column
        );
    }
}

/// What the passive side has against a server.
pub(crate) fn suspicion(engine: &Engine, destination: &DestinationKey, suspicion: &Suspicion) {
    info!(
        at_ns = monotonic_ns(),
        event = "suspicion",
        service = engine.service_name(destination),
        server = %destination.server,
        layer = %suspicion.layer,
        strength = %suspicion.strength,
        evidence = %suspicion.evidence,
        "{} suspected: {}",
        destination.server,
        suspicion.evidence
    );
}

/// A suspicion of the application that no check of the service's could confirm.
pub(crate) fn reported(engine: &Engine, destination: &DestinationKey, suspicion: &Suspicion) {
    warn!(
        at_ns = monotonic_ns(),
        event = "reported",
        service = engine.service_name(destination),
        server = %destination.server,
        evidence = %suspicion.evidence,
        "{} may hang: {}; no action, because no check of this service tests the application (as http does)",
        destination.server,
        suspicion.evidence
    );
}

/// What people have ordered about a server.
pub(crate) fn ordered(order: AdminCommand, ordered: &CommandResult) {
    let done = match order {
        AdminCommand::Drain(Drain::Quiesce) => "drained",
        AdminCommand::Drain(Drain::Remove) => "drained and removed from the table",
        AdminCommand::Undrain => "no longer drained",
        AdminCommand::Maintenance(true) => "put in maintenance",
        AdminCommand::Maintenance(false) => "no longer in maintenance",
        AdminCommand::Query => return,
    };
    let CommandResult { destination, service, .. } = ordered;
    info!(
        at_ns = monotonic_ns(),
        event = "order",
        service,
        server = %destination.server,
        "{} is {done}, by command",
        destination.server
    );
}

/// What people have ordered admin_state on, although it was ordered before this agent was started.
pub(crate) fn recalled(engine: &Engine, destination: &DestinationKey) {
    let reason = engine.admin_state(destination).reason().unwrap_or_default();
    info!(
        at_ns = monotonic_ns(),
        event = "order",
        service = engine.service_name(destination),
        server = %destination.server,
        "{}: {reason}, by a command from before this agent was started",
        destination.server
    );
}

/// What was ordered of a server that isn't there any more.
pub(crate) fn not_recalled(destination: &DestinationKey) {
    info!(
        at_ns = monotonic_ns(),
        event = "order",
        server = %destination.server,
        "the command for {} is dropped: it is no longer a server of {}",
        destination.server,
        destination.service,
    );
}

/// A server that lives but takes no new connections.
pub(crate) fn overloaded(engine: &Engine, destination: &DestinationKey, evidence: &Evidence) {
    warn!(
        at_ns = monotonic_ns(),
        event = "overloaded",
        service = engine.service_name(destination),
        server = %destination.server,
        evidence = %evidence,
        "{} is overloaded: {evidence}; the regular checks decide",
        destination.server
    );
}

/// A baseline check: worth a line where it fails and that is news, else only for those who want to see everything.
pub(crate) fn baseline(engine: &Engine, destination: &DestinationKey, result: &CheckResult) {
    let is_news = result.outcome.is_err() && !engine.state(destination).is_some_and(State::is_down);
    let service = engine.service_name(destination);
    let (outcome, took_ms) = (words(&result.outcome), took_ms(&result.outcome));
    if is_news {
        info!(
            at_ns = monotonic_ns(), event = "probe", kind = "baseline", service, server = %destination.server,
            outcome, took_ms, "{}: check failed: {outcome}", destination.server
        );
    } else {
        debug!(
            at_ns = monotonic_ns(), event = "probe", kind = "baseline", service, server = %destination.server,
            outcome, took_ms, "{}: check: {outcome}", destination.server
        );
    }
}

/// One probe of a burst, the `number`th for its suspicion.
pub(crate) fn confirming(engine: &Engine, destination: &DestinationKey, number: u32, outcome: &Outcome) {
    let outcome_words = words(outcome);
    info!(
        at_ns = monotonic_ns(),
        event = "probe",
        kind = "confirm",
        index = number,
        service = engine.service_name(destination),
        server = %destination.server,
        outcome = outcome_words,
        took_ms = took_ms(outcome),
        "{}: confirming probe {number}: {outcome_words}",
        destination.server
    );
}

/// The ping beside a burst.
pub(crate) fn host(engine: &Engine, destination: &DestinationKey, outcome: &Outcome) {
    let outcome_words = words(outcome);
    info!(
        at_ns = monotonic_ns(),
        event = "probe",
        kind = "ping",
        service = engine.service_name(destination),
        server = %destination.server,
        outcome = outcome_words,
        took_ms = took_ms(outcome),
        "{}: ping alongside the confirming probes: {outcome_words}",
        destination.server
    );
}

/// A suspicion that is not acted on, because most of the service is suspected with it.
pub(crate) fn common(engine: &Engine, destinations: &[DestinationKey], evidence: Option<&Evidence>) {
    for destination in destinations {
        warn!(
            at_ns = monotonic_ns(),
            event = "common",
            service = engine.service_name(destination),
            server = %destination.server,
            evidence = evidence.map(ToString::to_string),
            "{}: most of the service is suspected at once, possibly because of the director's own network; the \
             regular checks decide",
            destination.server
        );
    }
}

/// A change of state.
pub(crate) fn transition(
    engine: &Engine,
    destination: &DestinationKey,
    outcome: &Outcome,
    transition: Transition,
) {
    let Transition { from, to } = transition;
    let (service, server) = (engine.service_name(destination), destination.server);
    let reason = words(outcome);
    if from.is_hard_down() && to.is_hard_down() {
        info!(at_ns = monotonic_ns(), event = "agreed", service, %server, reason,
            "{service}: the baseline checks agree that {server} is down: {reason}");
    } else if let State::Damped { until } = to {
        let (relapses, wait) =
            (engine.relapses(destination), until.saturating_duration_since(Instant::now()));
        warn!(at_ns = monotonic_ns(), event = "damped", service, %server, relapses, wait_s = wait.as_secs_f64(),
            "{service}: {server} answers again but stays out for {wait:.1?} more: it has relapsed {relapses} times");
    } else {
        info!(at_ns = monotonic_ns(), event = "state", service, %server, from = %from, to = %to, reason,
            "{service}: {server} changed from {from} to {to}: {reason}");
    }
}

/// News that are not about a single server's state.
pub(crate) fn happening(engine: &Engine, happening: &Happening) {
    match happening {
        Happening::Retained(held) => warn!(
            at_ns = monotonic_ns(),
            event = "held",
            service = engine.service_name(held),
            server = %held.server,
            "{}: {} looks dead but is retained: too much of the service would be out, possibly because of the \
             director's own network",
            engine.service_name(held),
            held.server
        ),
        Happening::Service(key, event) => {
            let Some((service, _)) = engine.service(key) else { return };
            of_service(&service.name, *event);
        }
    }
}

/// What is new about a whole service.
fn of_service(service: &str, event: PoolEvent) {
    let at_ns = monotonic_ns();
    match event {
        PoolEvent::QuorumBack => {
            info!(at_ns, event = "quorum", service, "{service}: enough servers are healthy")
        }
        PoolEvent::QuorumLost => {
            warn!(at_ns, event = "quorum-lost", service, "{service}: too few servers are healthy");
        }
        PoolEvent::BackupsIn => {
            warn!(at_ns, event = "backups-in", service, "{service}: its backups take over")
        }
        PoolEvent::BackupsOut => {
            info!(at_ns, event = "backups-out", service, "{service}: its backups are out of the table again");
        }
        PoolEvent::AlarmRaised => warn!(
            at_ns,
            event = "alarm",
            service,
            "{service}: more servers look dead at once than the fast path may take out; the regular checks decide"
        ),
        PoolEvent::AlarmOver => {
            info!(at_ns, event = "alarm-over", service, "{service}: no server is retained any more");
        }
    }
}

fn words(outcome: &Outcome) -> String {
    match outcome {
        Ok(_) => "answered".to_owned(),
        Err(failure) => failure.reason.to_string(),
    }
}

/// How long the probe took, in ms.
fn took_ms(outcome: &Outcome) -> f64 {
    let took: Duration = match outcome {
        Ok(success) => success.latency,
        Err(failure) => failure.after,
    };
    took.as_secs_f64() * 1000.0
}
