//! The log of what happens to a server: suspicion, probes, states. Every line has the time in `at_ns`
//! (`CLOCK_MONOTONIC`), an `event`, the `service` and the `server`, so that a program can follow it as well as a person.

use std::time::Duration;

use tracing::{debug, info, warn};

use super::decisions::{Consequence, Decisions};
use crate::{
    clock::monotonic_ns,
    health::State,
    passive::{Evidence, Suspicion},
    probe::{CheckResult, Outcome},
    service::DestinationKey,
};

/// What the passive side has against a server.
pub(super) fn suspicion(decisions: &Decisions, destination: &DestinationKey, suspicion: &Suspicion) {
    info!(
        at_ns = monotonic_ns(),
        event = "suspicion",
        service = decisions.service_name(destination),
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
pub(super) fn reported(decisions: &Decisions, destination: &DestinationKey, suspicion: &Suspicion) {
    warn!(
        at_ns = monotonic_ns(),
        event = "reported",
        service = decisions.service_name(destination),
        server = %destination.server,
        evidence = %suspicion.evidence,
        "{} may hang: {}; without an application check (http) nothing is done about it",
        destination.server,
        suspicion.evidence
    );
}

/// A server that lives but takes no new connections.
pub(super) fn overloaded(decisions: &Decisions, destination: &DestinationKey, evidence: &Evidence) {
    warn!(
        at_ns = monotonic_ns(),
        event = "overloaded",
        service = decisions.service_name(destination),
        server = %destination.server,
        evidence = %evidence,
        "{} is overloaded: {evidence}; the regular checks decide",
        destination.server
    );
}

/// A baseline check: worth a line where it fails and that is news, else only for those who want to see everything.
pub(super) fn baseline(decisions: &Decisions, destination: &DestinationKey, result: &CheckResult) {
    let is_news = result.outcome.is_err() && !decisions.state(destination).is_some_and(State::is_down);
    let service = decisions.service_name(destination);
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
pub(super) fn confirming(
    decisions: &Decisions,
    destination: &DestinationKey,
    number: u32,
    outcome: &Outcome,
) {
    let outcome_words = words(outcome);
    info!(
        at_ns = monotonic_ns(),
        event = "probe",
        kind = "confirm",
        index = number,
        service = decisions.service_name(destination),
        server = %destination.server,
        outcome = outcome_words,
        took_ms = took_ms(outcome),
        "{}: confirming probe {number}: {outcome_words}",
        destination.server
    );
}

/// The ping beside a burst.
pub(super) fn host(decisions: &Decisions, destination: &DestinationKey, outcome: &Outcome) {
    let outcome_words = words(outcome);
    info!(
        at_ns = monotonic_ns(),
        event = "probe",
        kind = "ping",
        service = decisions.service_name(destination),
        server = %destination.server,
        outcome = outcome_words,
        took_ms = took_ms(outcome),
        "{}: ping beside the burst: {outcome_words}",
        destination.server
    );
}

/// A suspicion that is not acted on, because most of the service is suspected with it.
pub(super) fn common(decisions: &Decisions, destinations: &[DestinationKey], evidence: Option<&Evidence>) {
    for destination in destinations {
        warn!(
            at_ns = monotonic_ns(),
            event = "common",
            service = decisions.service_name(destination),
            server = %destination.server,
            evidence = evidence.map(ToString::to_string),
            "{}: most of the service is suspected at once; is it the director's own network? The regular checks decide",
            destination.server
        );
    }
}

/// A change of state, and who is held in for its sake.
pub(super) fn consequence(
    decisions: &Decisions,
    destination: &DestinationKey,
    outcome: &Outcome,
    consequence: &Consequence,
) {
    let (from, to) = (consequence.transition.from, consequence.transition.to);
    let (service, server) = (decisions.service_name(destination), destination.server);
    let reason = words(outcome);
    if from.is_hard_down() && to.is_hard_down() {
        info!(at_ns = monotonic_ns(), event = "agreed", service, %server, reason,
            "{service}: the baseline checks agree that {server} is down: {reason}");
    } else {
        info!(at_ns = monotonic_ns(), event = "state", service, %server, from = %from, to = %to, reason,
            "{service}: {server} was {from}, is {to}: {reason}");
    }
    for held in &consequence.held {
        warn!(
            at_ns = monotonic_ns(),
            event = "held",
            service,
            server = %held.server,
            "{service}: {} is held in: too much of the service would be out; is it the director's own network?",
            held.server
        );
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
