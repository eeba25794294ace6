//! What is told of the kernel's table, in the log and in the metrics.

use std::time::{Duration, Instant};

use metrics::{counter, gauge, histogram};
use tracing::{error, info, warn};

use super::planner::{Findings, Interference};
use crate::{
    clock::monotonic_ns,
    ipvs::{AppliedEdit, Edit, IpvsError, ServiceEntry},
};

/// From how many services on that others have changed at once there is one line in the log for all of them.
const MANY: usize = 9;

/// An edit was made.
pub(super) fn made(made: &AppliedEdit) {
    let AppliedEdit { edit, at_ns, took, outcome: _ } = made;
    counter!("lvs_table_edits_total", "result" => "done").increment(1);
    histogram!("lvs_table_edit_seconds").record(took.as_secs_f64());
    info!(
        at_ns,
        event = "edit",
        service = %edit.service(),
        server = edit.server().map(|server| server.to_string()),
        edit = %edit,
        took_us = u64::try_from(took.as_micros()).unwrap_or(u64::MAX),
        "table: {edit}"
    );
}

/// An edit would have been made, if anything were written.
pub(super) fn dry_run(edit: &Edit) {
    counter!("lvs_table_edits_total", "result" => "dry_run").increment(1);
    info!(
        at_ns = monotonic_ns(),
        event = "dry_run",
        service = %edit.service(),
        server = edit.server().map(|server| server.to_string()),
        edit = %edit,
        "table, not written: {edit}"
    );
}

/// An edit was not made.
pub(super) fn failed(edit: &Edit, error: &IpvsError, again: Option<Duration>) {
    counter!("lvs_table_edits_total", "result" => "failed").increment(1);
    let again =
        again.map_or_else(|| "trying again".to_owned(), |pause| format!("trying again in {pause:.1?}"));
    error!(at_ns = monotonic_ns(), event = "edit-failed", edit = %edit, "{error}; {again}");
}

/// Nothing can be done to the table at all.
pub(super) fn out_of_reach(why: &str) {
    gauge!("lvs_table_reachable").set(0.0);
    error!(
        at_ns = monotonic_ns(),
        event = "table-out-of-reach",
        "{why}; the table stays as it is; retrying until it works"
    );
}

/// It can again.
pub(super) fn in_reach() {
    gauge!("lvs_table_reachable").set(1.0);
    info!(at_ns = monotonic_ns(), event = "table-in-reach", "the kernel's table can be read again");
}

/// What a reading has brought to light.
pub(super) fn found(findings: &Findings, now: Instant) {
    let Findings { interferences, contended, calm } = findings;
    if interferences.len() < MANY {
        for interference in interferences {
            interfered(interference, now);
        }
    } else {
        interfered_with_many(interferences);
    }
    counter!("lvs_table_interferences_total").increment(interferences.len() as u64);
    for service in contended {
        gauge!("lvs_table_contended", "service" => service.to_string()).set(1.0);
        error!(
            at_ns = monotonic_ns(),
            event = "contended",
            service = %service,
            "table: others keep changing service {service}: it is repaired at growing intervals; find the program \
             that changes it"
        );
    }
    for service in calm {
        gauge!("lvs_table_contended", "service" => service.to_string()).set(0.0);
        info!(
            at_ns = monotonic_ns(),
            event = "contention-over",
            service = %service,
            "table: service {service} is no longer changed by others"
        );
    }
}

fn interfered(interference: &Interference, now: Instant) {
    let Interference { service, found, repair, held_until } = interference;
    let found = repair.iter().map(|edit| difference(edit, found.as_ref())).collect::<Vec<_>>().join(", ");
    let when =
        held_until.map_or_else(String::new, |at| format!(" in {:.1?}", at.saturating_duration_since(now)));
    warn!(
        at_ns = monotonic_ns(),
        event = "interference",
        service = %service,
        found,
        "table: service {service} was changed by others: {found}; it is changed back{when}"
    );
}

fn interfered_with_many(interferences: &[Interference]) {
    let missing = interferences.iter().filter(|one| one.found.is_none()).count();
    let edits: usize = interferences.iter().map(|one| one.repair.len()).sum();
    let held = interferences.iter().filter(|one| one.held_until.is_some()).count();
    warn!(
        at_ns = monotonic_ns(),
        event = "interference",
        services = interferences.len(),
        found = format!("{missing} services are gone"),
        "table: {} services were changed by others, {missing} of them are gone: {edits} edits repair them, those of \
         {held} services later",
        interferences.len()
    );
}

/// What is otherwise than it should be, so that this edit is needed.
fn difference(edit: &Edit, found: Option<&ServiceEntry>) -> String {
    match edit {
        Edit::AddService(_) => "it is gone".to_owned(),
        Edit::DeleteService(_) => "it exists".to_owned(),
        Edit::SetService(wanted) => match found {
            Some(entry) if entry.service.scheduler != wanted.scheduler => {
                format!("its scheduler is {}, not {}", entry.service.scheduler, wanted.scheduler)
            }
            _ => "it has other settings".to_owned(),
        },
        Edit::AddDestination { destination, .. } => format!("server {} is gone", destination.server),
        Edit::DeleteDestination(key) => format!("server {} was added", key.server),
        Edit::SetDestination { destination: wanted, .. } => {
            match found.and_then(|entry| entry.destinations.get(&wanted.server)) {
                Some(found) if found.weight != wanted.weight => {
                    format!("server {} has weight {}, not {}", wanted.server, found.weight, wanted.weight)
                }
                _ => format!("server {} has other settings", wanted.server),
            }
        }
    }
}

/// The table was read for the first time.
pub(super) fn begin() {
    gauge!("lvs_table_reachable").set(1.0);
}

/// Reading the table has failed, not for good.
pub(super) fn not_read(error: &IpvsError) {
    warn!("reading the table again: {error}");
}
