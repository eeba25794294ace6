//! What the status page shows, and how it differs from what it showed before. Pure.
//!
//! Texts that seldom change and numbers that often do are apart, so that a page with a thousand servers is told little.
//! Ages are told as times: a page counts them up by itself.

use std::collections::VecDeque;

use serde::Serialize;

use crate::control::{
    CheckOutcome, CheckStatus, EventLine, Health, Reason, ServerStatus, ServiceStatus, Status, Traffic,
    forward, is_up, reasons,
};

/// How many samples of a rate are kept: with one every two seconds, two minutes.
pub(super) const SAMPLES: usize = 60;

/// An age is measured anew each time. A time that comes out as another one differs by more than this, in seconds.
const SAME_S: u64 = 2;

/// Everything that is shown.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct View {
    pub(super) agent: AgentView,
    pub(super) services: Vec<ServiceView>,
}

/// The agent, and how it goes altogether.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub(super) struct AgentView {
    version: String,
    mode: String,
    /// When it was started, in seconds since 1970.
    started: u64,
    health: Health,
    up: usize,
    servers: usize,
    warnings: Vec<String>,
    /// Edits that would have been made, where none is made.
    #[serde(skip_serializing_if = "Option::is_none")]
    observed: Option<u64>,
}

/// A service and its servers.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct ServiceView {
    pub(super) text: ServiceText,
    pub(super) numbers: ServiceNumbers,
    pub(super) servers: Vec<ServerView>,
}

/// What seldom changes of a service.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub(super) struct ServiceText {
    name: String,
    key: String,
    scheduler: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    persistent_s: Option<u64>,
    health: Health,
    up: usize,
    alarm: bool,
    quorum_lost: bool,
}

/// Connections under way and a second, bytes a second in and out; nothing if the kernel doesn't have it.
pub(super) type ServiceNumbers = Option<(u32, u64, u64, u64)>;

/// A server.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct ServerView {
    pub(super) text: ServerText,
    pub(super) numbers: ServerNumbers,
    /// New connections a second, the latest at the end.
    pub(super) rates: VecDeque<u64>,
}

/// What seldom changes of a server.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(super) struct ServerText {
    address: String,
    forward: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    weight: Option<u16>,
    #[serde(skip_serializing_if = "Option::is_none")]
    table_weight: Option<i32>,
    state: String,
    backup: bool,
    held: bool,
    /// In seconds since 1970; not there: since the agent's start.
    #[serde(skip_serializing_if = "Option::is_none")]
    since: Option<u64>,
    signal: String,
    why: Vec<Why>,
    #[serde(skip_serializing_if = "Option::is_none")]
    contradiction: Option<String>,
}

/// A reason, and when it came about, in seconds since 1970.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
struct Why {
    text: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    at: Option<u64>,
}

/// Connections under way, closing, and a second; how long the last check took and clients usually wait, in µs.
pub(super) type ServerNumbers = (Option<(u32, u32, u64)>, Option<u64>, Option<u64>);

impl View {
    /// What a status says, after `before`, at a time in seconds since 1970.
    pub(super) fn of(status: &Status, now_s: u64, before: Option<&Self>) -> Self {
        let servers = || status.services.iter().flat_map(|service| &service.servers);
        let started = moment(now_s, status.agent.uptime_ms, before.map(|before| before.agent.started));
        let agent = AgentView {
            version: status.agent.version.clone(),
            mode: status.agent.mode.clone(),
            started,
            health: status.health,
            up: servers().filter(|server| is_up(server)).count(),
            servers: servers().count(),
            warnings: status.warnings.clone(),
            observed: status.observed.as_ref().map(|observed| observed.total),
        };
        let known = |index: usize| before.and_then(|before| before.services.get(index));
        let services = status.services.iter().enumerate();
        let services = services.map(|(index, service)| ServiceView::of(service, now_s, known(index)));
        Self { agent, services: services.collect() }
    }

    /// Whether the same services and servers are in the same places.
    pub(super) fn has_places_of(&self, other: &Self) -> bool {
        self.services.len() == other.services.len()
            && self.services.iter().zip(&other.services).all(|(one, other)| one.has_places_of(other))
    }

    /// How it differs from `before`, which has the same places.
    pub(super) fn since<'a>(&'a self, before: &Self) -> Changes<'a> {
        let mut changes =
            Changes { agent: (self.agent != before.agent).then_some(&self.agent), ..Changes::default() };
        for (place, (service, old)) in self.services.iter().zip(&before.services).enumerate() {
            if service.text != old.text {
                changes.services.push((place, &service.text));
            }
            if service.numbers != old.numbers {
                changes.sums.push((place, service.numbers));
            }
            for (row, (server, old)) in service.servers.iter().zip(&old.servers).enumerate() {
                if server.text != old.text {
                    changes.servers.push((place, row, &server.text));
                }
                if server.numbers != old.numbers {
                    changes.numbers.push((place, row, server.numbers));
                }
            }
        }
        changes
    }
}

/// What has changed: each with its place, the number of the service and of the server in it.
#[derive(Debug, Default, PartialEq, Serialize)]
pub(super) struct Changes<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    agent: Option<&'a AgentView>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    services: Vec<(usize, &'a ServiceText)>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    sums: Vec<(usize, ServiceNumbers)>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    servers: Vec<(usize, usize, &'a ServerText)>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    numbers: Vec<(usize, usize, ServerNumbers)>,
}

impl ServiceView {
    fn of(service: &ServiceStatus, now_s: u64, before: Option<&Self>) -> Self {
        let text = ServiceText {
            name: service.name.clone(),
            key: service.key.clone(),
            scheduler: service.scheduler.clone(),
            persistent_s: service.persistent_s,
            health: service.health,
            up: service.servers.iter().filter(|server| is_up(server)).count(),
            alarm: service.alarm,
            quorum_lost: service.quorum == Some(false),
        };
        let numbers = service.traffic.as_ref().map(|traffic| {
            let Traffic { active, connections_per_s, bytes_in_per_s, bytes_out_per_s, .. } = *traffic;
            (active, connections_per_s, bytes_in_per_s, bytes_out_per_s)
        });
        let known = |index: usize| before.and_then(|before| before.servers.get(index));
        let servers = service.servers.iter().enumerate();
        let servers = servers.map(|(index, server)| ServerView::of(server, now_s, known(index)));
        Self { text, numbers, servers: servers.collect() }
    }

    fn has_places_of(&self, other: &Self) -> bool {
        self.text.key == other.text.key
            && self.text.name == other.text.name
            && self.servers.len() == other.servers.len()
            && self.servers.iter().zip(&other.servers).all(|(one, other)| one.is_of(&other.text.address))
    }
}

impl ServerView {
    fn of(server: &ServerStatus, now_s: u64, before: Option<&Self>) -> Self {
        let address = server.address.to_string();
        let before = before.filter(|before| before.is_of(&address));
        let since =
            server.state_age_ms.map(|age| moment(now_s, age, before.and_then(|before| before.text.since)));
        // That one is open is no news, and so it is with nearly all.
        let told = reasons(server).into_iter().filter(|reason| *reason != Reason::IdleConnection("open"));
        let why = told.enumerate().map(|(index, reason)| {
            let known = before.and_then(|before| before.text.why.get(index));
            Why::of(&reason, now_s, known)
        });
        let text = ServerText {
            forward: forward(&server.method).to_owned(),
            weight: server.weight,
            table_weight: server.table_weight.filter(|is| server.weight.map(i32::from) != Some(*is)),
            state: server.state.clone(),
            backup: server.backup,
            held: server.held,
            since,
            signal: server.signal.seen.to_string(),
            why: why.collect(),
            contradiction: server.contradiction.clone(),
            address,
        };
        let traffic = server.traffic.as_ref();
        let took = server.checks.first().map(|check| micros(check.took_ms));
        let counts = traffic.map(|traffic| (traffic.active, traffic.inactive, traffic.connections_per_s));
        let numbers = (counts, took, server.signal.usual_wait_ms.map(micros));
        let mut rates = before.map(|before| before.rates.clone()).unwrap_or_default();
        if rates.len() >= SAMPLES {
            rates.pop_front();
        }
        rates.push_back(traffic.map_or(0, |traffic| traffic.connections_per_s));
        Self { text, numbers, rates }
    }

    fn is_of(&self, address: &str) -> bool {
        self.text.address == address
    }
}

impl Why {
    fn of(reason: &Reason<'_>, now_s: u64, before: Option<&Self>) -> Self {
        let (text, age_ms) = match reason {
            Reason::Note(text) | Reason::Signal(text) => ((*text).to_owned(), None),
            Reason::Check(CheckStatus { check, result: CheckOutcome::Success, .. }) => {
                (format!("{check} answered"), None)
            }
            Reason::Check(CheckStatus { check, text, .. }) => (format!("{check}: {text}"), None),
            Reason::Failure(last) => (format!("last failure: {}", last.text), Some(last.age_ms)),
            Reason::Traffic(last) => (format!("traffic: {}", last.text), Some(last.age_ms)),
            Reason::ProbePath(path) => (format!("probes go to the {path}"), None),
            Reason::IdleConnection(state) => (format!("idle connection {state}"), None),
        };
        let before = before.filter(|before| before.text == text).and_then(|before| before.at);
        Self { text, at: age_ms.map(|age| moment(now_s, age, before)) }
    }
}

/// The time of so long ago, in seconds since 1970; the one before, if that is about the same.
fn moment(now_s: u64, age_ms: u64, before: Option<u64>) -> u64 {
    let at = now_s.saturating_sub(age_ms / 1000);
    before.filter(|before| before.abs_diff(at) <= SAME_S).unwrap_or(at)
}

#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "durations of checks are short")]
fn micros(ms: f64) -> u64 {
    (ms * 1000.0).round().max(0.0) as u64
}

/// An event.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub(super) struct EventView {
    number: u64,
    /// RFC 3339, UTC.
    time: String,
    level: String,
    event: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    service: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    server: Option<String>,
    message: String,
    /// From the first evidence to this edit.
    #[serde(skip_serializing_if = "Option::is_none")]
    took_ms: Option<f64>,
}

impl EventView {
    /// A line, if it is for people: those on level debug are many.
    pub(super) fn of(line: EventLine) -> Option<Self> {
        let text = |field: &str| line.text(field).map(str::to_owned);
        let (event, service, server) = (text("event").unwrap_or_default(), text("service"), text("server"));
        let EventLine { number, timestamp: time, level, message, timeline, .. } = line;
        let took_ms = timeline.map(|timeline| timeline.total_ms);
        (level != "debug").then_some(Self { number, time, level, event, service, server, message, took_ms })
    }
}

/// All that a page must know at first.
#[derive(Serialize)]
pub(super) struct All<'a> {
    agent: &'a AgentView,
    services: Vec<AllOfService<'a>>,
}

#[derive(Serialize)]
struct AllOfService<'a> {
    text: &'a ServiceText,
    sums: ServiceNumbers,
    servers: Vec<(&'a ServerText, ServerNumbers, &'a VecDeque<u64>)>,
}

impl View {
    /// Everything, for a page that knows nothing yet.
    pub(super) fn all(&self) -> All<'_> {
        let services = self.services.iter().map(|service| AllOfService {
            text: &service.text,
            sums: service.numbers,
            servers: service
                .servers
                .iter()
                .map(|server| (&server.text, server.numbers, &server.rates))
                .collect(),
        });
        All { agent: &self.agent, services: services.collect() }
    }
}

#[cfg(test)]
mod tests;
