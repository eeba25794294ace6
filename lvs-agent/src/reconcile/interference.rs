//! The changes that other programs have made to the kernel's table, as events. Pure.

use std::time::Instant;

use super::planner::{Findings, Interference};
use crate::{
    event::Event,
    ipvs::{Edit, ServiceEntry},
};

/// If others have changed so many services at once, one event stands for all of them.
const SUMMARY_FROM: usize = 9;

/// The events for what a poll has found.
pub(super) fn events(findings: Findings, now: Instant) -> Vec<Event> {
    let Findings { interferences, contended, no_longer_contended } = findings;
    let interferences = if interferences.len() < SUMMARY_FROM {
        interferences.iter().map(|interference| event(interference, now)).collect()
    } else {
        vec![summary(&interferences)]
    };
    let contended = contended.into_iter().map(|service| Event::Contended { service });
    let over = no_longer_contended.into_iter().map(|service| Event::ContentionOver { service });
    interferences.into_iter().chain(contended).chain(over).collect()
}

fn event(interference: &Interference, now: Instant) -> Event {
    let Interference { service, entry, repair, repair_at } = interference;
    Event::Interference {
        service: *service,
        differences: repair.iter().map(|edit| difference(edit, entry.as_ref())).collect(),
        repair_in: repair_at.map(|at| at.saturating_duration_since(now)),
    }
}

fn summary(interferences: &[Interference]) -> Event {
    Event::Interferences {
        services: interferences.len(),
        missing: interferences.iter().filter(|interference| interference.entry.is_none()).count(),
        edits: interferences.iter().map(|interference| interference.repair.len()).sum(),
        later: interferences.iter().filter(|interference| interference.repair_at.is_some()).count(),
    }
}

/// The difference that makes an edit necessary.
fn difference(edit: &Edit, entry: Option<&ServiceEntry>) -> String {
    match edit {
        Edit::AddService(_) => "it is gone".to_owned(),
        Edit::DeleteService(_) => "it exists".to_owned(),
        Edit::SetService(wanted) => match entry {
            Some(entry) if entry.service.scheduler != wanted.scheduler => {
                format!("its scheduler is {}, not {}", entry.service.scheduler, wanted.scheduler)
            }
            _ => "it has other settings".to_owned(),
        },
        Edit::AddDestination { destination, .. } => format!("server {} is gone", destination.server),
        Edit::DeleteDestination(key) => format!("server {} was added", key.server),
        Edit::SetDestination { destination: wanted, .. } => {
            match entry.and_then(|entry| entry.destinations.get(&wanted.server)) {
                Some(entry) if entry.weight != wanted.weight => {
                    format!("server {} has weight {}, not {}", wanted.server, entry.weight, wanted.weight)
                }
                _ => format!("server {} has other settings", wanted.server),
            }
        }
    }
}
