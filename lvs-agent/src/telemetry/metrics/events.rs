//! The metrics that count events.

use metrics::{counter, gauge, histogram};

use super::probes::Probes;
use crate::{
    event::{ContradictionChange, Event, HintFate, MailResult, Record, Subject, Subscriber},
    passive::{Evidence, Hint, Suspicion, blindness::Way},
    probe::idle::IdleChange,
};

/// Counts events.
pub(crate) struct EventCounters {
    probes: Probes,
    /// Whether the last event about it said that the kernel's table is unreachable.
    is_unreachable: bool,
    /// How many idle connections are established.
    idle_connections: u32,
}

impl EventCounters {
    /// Starts at zero.
    pub(crate) fn new() -> Self {
        Self { probes: Probes::new(), is_unreachable: false, idle_connections: 0 }
    }

    fn table(&mut self, event: &Event) {
        match event {
            Event::Ready { .. } => reachable(!self.is_unreachable),
            Event::TableUnreachable { .. } => {
                self.is_unreachable = true;
                reachable(false);
            }
            Event::TableReachable => {
                self.is_unreachable = false;
                reachable(true);
            }
            Event::Edit { took, .. } => {
                edits("done");
                histogram!("lvs_table_edit_seconds").record(took.as_secs_f64());
            }
            Event::EditObserved { .. } => edits("observed"),
            Event::EditFailed { .. } => edits("failed"),
            Event::Interference { .. } => counter!("lvs_table_interferences_total").increment(1),
            Event::Interferences { services, .. } => {
                counter!("lvs_table_interferences_total").increment(*services as u64);
            }
            Event::Contended { service } => contended(service, 1.0),
            Event::ContentionOver { service } => contended(service, 0.0),
            _ => {}
        }
    }

    fn idle_connections(&mut self, event: &Event) {
        let Event::IdleConnection { change, .. } = event else { return };
        match *change {
            IdleChange::Opened => self.idle_connections += 1,
            IdleChange::Ended { end, after, .. } => {
                counter!("lvs_idle_connection_ends_total", "end" => end.word()).increment(1);
                // One that was never established is none.
                self.idle_connections -= u32::from(!after.is_zero()).min(self.idle_connections);
            }
            IdleChange::Off(_) | IdleChange::On => {}
        }
        gauge!("lvs_idle_connections").set(self.idle_connections);
    }

    fn suspicions(&self, event: &Event) {
        match event {
            Event::Hint { hint, fate, .. } => count_hint(hint, fate),
            Event::Suspicion { suspicion, .. } => count_suspicion(suspicion),
            Event::Reported { subject, .. } => of_server("lvs_suspicions_reported_total", subject),
            Event::Overloaded { subject, .. } => of_server("lvs_overloaded_total", subject),
            Event::Contradiction { subject, change: ContradictionChange::Begun { .. }, .. } => {
                of_server("lvs_contradictions_total", subject);
            }
            Event::Correlated { .. } => counter!("lvs_common_suspicions_total").increment(1),
            Event::Cleared { .. } => counter!("lvs_suspicions_cleared_total").increment(1),
            Event::ProbeWithheld { .. } => counter!("lvs_probes_withheld_total").increment(1),
            Event::Probe { kind, verdict, .. } => self.probes.count(*kind, *verdict),
            Event::Blind { change, .. } => {
                let value = if change.is_blind { 1.0 } else { 0.0 };
                of_device("lvs_passive_blind", &change.device, change.way, value);
            }
            Event::InFront { device, way, names } => {
                let count = u32::try_from(names.len()).unwrap_or(u32::MAX);
                of_device("lvs_passive_in_front", device, *way, count.into());
            }
            _ => {}
        }
    }
}

impl Subscriber for EventCounters {
    fn on_event(&mut self, record: &Record) {
        self.suspicions(&record.event);
        self.idle_connections(&record.event);
        self.table(&record.event);
        notifications(&record.event);
    }
}

fn notifications(event: &Event) {
    match event {
        Event::Mail { result, .. } => {
            let result = if *result == MailResult::Sent { "sent" } else { "failed" };
            counter!("lvs_mails_total", "result" => result).increment(1);
        }
        Event::NotificationsLost { kind, count } => {
            counter!("lvs_notifications_lost_total", "kind" => *kind).increment(*count);
        }
        _ => {}
    }
}

fn reachable(is_reachable: bool) {
    gauge!("lvs_table_reachable").set(if is_reachable { 1.0 } else { 0.0 });
}

fn edits(result: &'static str) {
    counter!("lvs_table_edits_total", "result" => result).increment(1);
}

fn contended(service: &crate::model::ServiceKey, value: f64) {
    gauge!("lvs_table_contended", "service" => service.to_string()).set(value);
}

fn of_device(name: &'static str, device: &str, way: Way, value: f64) {
    gauge!(name, "device" => device.to_owned(), "direction" => way.to_string()).set(value);
}

fn of_server(name: &'static str, subject: &Subject) {
    let labels =
        [("service", subject.service.to_string()), ("server", subject.destination.server.to_string())];
    counter!(name, &labels).increment(1);
}

fn count_hint(hint: &Hint, fate: &HintFate) {
    let labels = [
        ("kind", kind(&hint.evidence).to_owned()),
        ("layer", hint.layer.to_string()),
        ("result", fate.to_string()),
    ];
    counter!("lvs_hints_total", &labels).increment(1);
}

fn count_suspicion(suspicion: &Suspicion) {
    let labels = [
        ("kind", kind(&suspicion.evidence).to_owned()),
        ("layer", suspicion.layer.to_string()),
        ("strength", suspicion.strength.to_string()),
    ];
    counter!("lvs_suspicions_total", &labels).increment(1);
}

fn kind(evidence: &Evidence) -> &'static str {
    match evidence {
        Evidence::Refused { .. } => "refused",
        Evidence::Unreachable { .. } => "unreachable",
        Evidence::NeighbourFailed => "neighbour-failed",
        Evidence::Silent { .. } => "silent",
        Evidence::Witnessed { .. } => "witnessed",
        Evidence::Waiting { .. } => "waiting",
        Evidence::SentAgain { .. } => "sent-again",
        Evidence::Outpaced { .. } => "outpaced",
        Evidence::IdleClosed { .. } => "idle-closed",
        Evidence::Overloaded { .. } => "overloaded",
    }
}
