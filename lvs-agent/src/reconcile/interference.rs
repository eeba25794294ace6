//! What others have changed in the kernel's table, as events. Pure.

use std::time::Instant;

use super::planner::{Findings, Interference};
use crate::{
    event::Event,
    ipvs::{Edit, ServiceEntry},
};

/// From how many services on that others have changed at once there is one event for all of them.
const MANY: usize = 9;

/// The events of what a reading has found.
pub(super) fn events(findings: Findings, now: Instant) -> Vec<Event> {
    let Findings { interferences, contended, calm } = findings;
    let interferences = if interferences.len() < MANY {
        interferences.iter().map(|one| interference(one, now)).collect()
    } else {
        vec![many(&interferences)]
    };
    let contended = contended.into_iter().map(|service| Event::Contended { service });
    let calm = calm.into_iter().map(|service| Event::ContentionOver { service });
    interferences.into_iter().chain(contended).chain(calm).collect()
}

fn interference(interference: &Interference, now: Instant) -> Event {
    let Interference { service, found, repair, held_until } = interference;
    Event::Interference {
        service: *service,
        differences: repair.iter().map(|edit| difference(edit, found.as_ref())).collect(),
        repair_in: held_until.map(|at| at.saturating_duration_since(now)),
    }
}

fn many(interferences: &[Interference]) -> Event {
    Event::Interferences {
        services: interferences.len(),
        missing: interferences.iter().filter(|one| one.found.is_none()).count(),
        edits: interferences.iter().map(|one| one.repair.len()).sum(),
        later: interferences.iter().filter(|one| one.held_until.is_some()).count(),
    }
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
