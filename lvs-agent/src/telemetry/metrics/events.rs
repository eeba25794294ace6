//! The metrics that count events.

use std::{
    collections::HashMap,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{SystemTime, UNIX_EPOCH},
};

use metrics::{Counter, Gauge, counter, gauge, histogram};

use super::probes::Probes;
use crate::{
    event::{
        ContradictionChange, Event, HintFate, MailResult, Record, Subject, Subscriber, SyncChange, Timelines,
    },
    model::{DestinationKey, ServiceKey, VirtualService},
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
    /// Counters of servers, by their names; they go with their services.
    of_servers: HashMap<(&'static str, DestinationKey), Counter>,
    contended: HashMap<ServiceKey, Gauge>,
    timelines: Timelines,
    /// Whether the agent has started and does not stop yet.
    ready: Arc<AtomicBool>,
}

impl EventCounters {
    /// Starts at zero. `ready` becomes whether the agent has started.
    pub(crate) fn new(ready: Arc<AtomicBool>) -> Self {
        count_from_zero();
        Self {
            probes: Probes::new(),
            is_unreachable: false,
            idle_connections: 0,
            of_servers: HashMap::new(),
            contended: HashMap::new(),
            timelines: Timelines::default(),
            ready,
        }
    }

    fn agent(&mut self, record: &Record) {
        match &record.event {
            Event::Ready { .. } => {
                reloaded(record.time);
                self.ready.store(true, Ordering::Relaxed);
            }
            Event::Stopping => self.ready.store(false, Ordering::Relaxed),
            Event::Reloaded { .. } => reloaded(record.time),
            Event::ReloadFailed { .. } => gauge!("lvs_config_last_reload_successful").set(0.0),
            Event::Services { services } => self.keep(services),
            _ => {}
        }
        if let Some(timeline) = self.timelines.follow(record) {
            histogram!("lvs_failover_seconds").record(timeline.total_ms / 1000.0);
        }
    }

    /// Forgets the servers and services that are gone.
    fn keep(&mut self, services: &[VirtualService]) {
        let keys: HashMap<ServiceKey, &VirtualService> =
            services.iter().map(|service| (service.key, service)).collect();
        self.of_servers.retain(|(_, destination), _| {
            let service = keys.get(&destination.service);
            service.is_some_and(|service| service.all_destinations().any(|one| one == *destination))
        });
        self.contended.retain(|key, _| keys.contains_key(key));
    }

    fn of_server(&mut self, name: &'static str, subject: &Subject) {
        let counter = self.of_servers.entry((name, subject.destination));
        counter
            .or_insert_with(|| {
                let labels = [
                    ("service", subject.service.to_string()),
                    ("server", subject.destination.server.to_string()),
                ];
                counter!(name, &labels)
            })
            .increment(1);
    }

    fn contended(&mut self, service: &ServiceKey, value: f64) {
        let gauge = self.contended.entry(*service);
        gauge.or_insert_with(|| gauge!("lvs_table_contended", "service" => service.to_string())).set(value);
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
            Event::Contended { service } => self.contended(service, 1.0),
            Event::ContentionOver { service } => self.contended(service, 0.0),
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

    fn suspicions(&mut self, event: &Event) {
        match event {
            Event::Hint { hint, fate, .. } => count_hint(hint, fate),
            Event::Suspicion { suspicion, .. } => count_suspicion(suspicion),
            Event::Reported { subject, .. } => self.of_server("lvs_suspicions_reported_total", subject),
            Event::Overloaded { subject, .. } => self.of_server("lvs_overloaded_total", subject),
            Event::Contradiction { subject, change: ContradictionChange::Begun { .. }, .. } => {
                self.of_server("lvs_contradictions_total", subject);
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
        self.agent(record);
        self.suspicions(&record.event);
        self.idle_connections(&record.event);
        self.table(&record.event);
        directors(&record.event);
        notifications(&record.event);
    }
}

/// What has not happened yet has been counted 0 times: a counter that begins with its first event hides that one from
/// `increase()`.
fn count_from_zero() {
    for name in ["lvs_probes_withheld_total", "lvs_suspicions_cleared_total", "lvs_common_suspicions_total"] {
        counter!(name).absolute(0);
    }
    counter!("lvs_table_interferences_total").absolute(0);
    gauge!("lvs_director_active").set(1);
    for result in ["done", "failed", "observed"] {
        counter!("lvs_table_edits_total", "result" => result).absolute(0);
    }
    for kind in ["mail", "command", "line", "fifo"] {
        counter!("lvs_notifications_lost_total", "kind" => kind).absolute(0);
    }
}

/// The role, and the synchronisation daemons that are this agent's.
fn directors(event: &Event) {
    match event {
        Event::Role { role, .. } => {
            gauge!("lvs_director_active").set(if role.is_active() { 1.0 } else { 0.0 });
        }
        Event::SyncDaemon { role, change } => {
            let is_right = matches!(change, SyncChange::Started { .. } | SyncChange::Found);
            gauge!("lvs_sync_daemon", "role" => role.to_string()).set(if is_right { 1.0 } else { 0.0 });
        }
        _ => {}
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

/// The configuration in force is of this time.
fn reloaded(at: SystemTime) {
    gauge!("lvs_config_last_reload_successful").set(1.0);
    let since = at.duration_since(UNIX_EPOCH).unwrap_or_default();
    gauge!("lvs_config_last_reload_success_timestamp_seconds").set(since.as_secs_f64());
}

fn reachable(is_reachable: bool) {
    gauge!("lvs_table_reachable").set(if is_reachable { 1.0 } else { 0.0 });
}

fn edits(result: &'static str) {
    counter!("lvs_table_edits_total", "result" => result).increment(1);
}

fn of_device(name: &'static str, device: &str, way: Way, value: f64) {
    gauge!(name, "device" => device.to_owned(), "direction" => way.to_string()).set(value);
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
