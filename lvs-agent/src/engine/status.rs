//! The status of all destinations, as `lvs-agent status` shows it. Pure.

use std::{
    net::SocketAddr,
    time::{Duration, Instant},
};

use humantime::format_duration;

pub(crate) use super::state_age::{Age, CheckAge};
use super::{
    Engine, ServiceState,
    selection::{Unknown, is_named},
    served::Served,
    service::Service,
    vip_path,
};
use crate::{
    control::{CheckOutcome, CheckStatus, EvidenceStatus, Health, ServerStatus, ServiceStatus, SignalStatus},
    health::State,
    model::{Check, DestinationKey, ForwardingMethod, RealServer, Role, ServiceKey, VirtualService, Weight},
    pool::QuorumState,
    probe::Verdict,
};

/// The status of one service.
#[derive(Clone, Debug)]
pub(crate) struct ServiceSummary {
    pub(crate) key: ServiceKey,
    /// All of it but what the kernel and the passive signal know.
    pub(crate) status: ServiceStatus,
    pub(crate) destinations: Vec<DestinationStatus>,
}

/// The status of one destination.
#[derive(Clone, Debug)]
pub(crate) struct DestinationStatus {
    pub(crate) destination: DestinationKey,
    pub(crate) method: ForwardingMethod,
    /// `None`: it is not to be in the table.
    pub(crate) weight: Option<Weight>,
    /// `None` for a backup that isn't checked.
    pub(crate) state: Option<State>,
    /// Whether it is a backup of its service.
    pub(crate) is_backup: bool,
    /// Whether people hold it out.
    pub(crate) is_held: bool,
    /// The reason for its weight, where its state doesn't say it.
    pub(crate) note: Option<String>,
    /// By which way probes reach it; `None`: they go to the server itself.
    pub(crate) probe_path: Option<String>,
    /// How the idle connection to it is; `None`: none is wanted.
    pub(crate) idle: Option<String>,
    /// What clients and probes say, where they contradict each other.
    pub(crate) contradiction: Option<String>,
    /// For how long it has been in its state, and its last failure.
    pub(crate) age: Age,
    /// The last result of each of its checks.
    pub(crate) checks: Vec<CheckAge>,
}

impl DestinationStatus {
    /// As the control socket tells it, with what the passive signal says.
    pub(crate) fn with_signal(self, signal: SignalStatus) -> ServerStatus {
        let Age { of_state, of_failure } = self.age;
        ServerStatus {
            address: self.destination.server,
            method: self.method.to_string(),
            weight: self.weight.map(|weight| weight.0),
            table_weight: None,
            state: self.state.map_or_else(|| "unchecked".to_owned(), |state| state.to_string()),
            backup: self.is_backup,
            held: self.is_held,
            note: self.note,
            probe_path: self.probe_path,
            idle_connection: self.idle,
            contradiction: self.contradiction,
            state_age_ms: of_state.map(ms),
            checks: self.checks.into_iter().map(check_status).collect(),
            traffic: None,
            failure: of_failure.map(|(text, age)| EvidenceStatus { text, age_ms: ms(age) }),
            signal,
        }
    }

    /// Whether it gets connections and may be alive: nothing is known yet of one that has not been asked.
    fn serves(&self) -> bool {
        self.weight.is_some_and(|weight| !weight.is_quiescent()) && !self.state.is_some_and(State::is_down)
    }

    /// Whether nothing is wrong with it. That people hold a server out is no fault of it.
    fn is_well(&self) -> bool {
        self.is_held || self.contradiction.is_none() && self.state.map_or(self.is_backup, State::is_up)
    }
}

fn ms(age: Duration) -> u64 {
    u64::try_from(age.as_millis()).unwrap_or(u64::MAX)
}

/// What a check says, in the status' words.
pub(crate) fn check_outcome(verdict: Verdict) -> CheckOutcome {
    match verdict {
        Verdict::Alive => CheckOutcome::Success,
        Verdict::Dead => CheckOutcome::Failure,
        Verdict::Unknown => CheckOutcome::Inconclusive,
    }
}

fn check_status(last: CheckAge) -> CheckStatus {
    let CheckAge { kind, verdict, text, took, age } = last;
    let result = check_outcome(verdict);
    let took_ms = took.as_secs_f64() * 1000.0;
    CheckStatus { check: kind.to_owned(), result, text, took_ms, age_ms: ms(age) }
}

impl Engine {
    /// How well each service is served, in the configuration's order.
    #[must_use]
    pub(crate) fn served(&self) -> Vec<Served> {
        self.services.iter().map(Service::served).collect()
    }
}

/// The status of all services, or of the one with this name, key or address, in the order of the configuration.
///
/// `idle` says how the idle connection of each destination is, if it is to have one.
pub(crate) fn service_statuses(
    engine: &Engine,
    idle: impl Fn(&DestinationKey) -> Option<String>,
    service: Option<&str>,
    now: Instant,
) -> Result<Vec<ServiceSummary>, Unknown> {
    let is_wanted = |config: &VirtualService| service.is_none_or(|name| is_named(config, name));
    let wanted = engine.services().filter(|(config, _)| is_wanted(config));
    let summaries: Vec<_> =
        wanted.map(|(config, state)| summary(engine, config, state, &idle, now)).collect();
    match service {
        Some(name) if summaries.is_empty() => {
            Err(Unknown::service(engine.services().map(|(service, _)| service), name))
        }
        _ => Ok(summaries),
    }
}

fn summary(
    engine: &Engine,
    config: &VirtualService,
    state: ServiceState,
    idle: impl Fn(&DestinationKey) -> Option<String>,
    now: Instant,
) -> ServiceSummary {
    let destinations: Vec<_> = config
        .roles()
        .filter_map(|role| {
            let (destination, server) = (config.destination_of(role)?, config.server_of(role)?);
            Some(status(engine, destination, role, server, idle(&destination), now))
        })
        .collect();
    let status = ServiceStatus {
        name: config.name.clone(),
        key: config.key.to_string(),
        scheduler: config.scheduler.name().to_owned(),
        persistent_s: config.persistence.as_ref().map(|persistence| persistence.timeout().as_secs()),
        health: health(&destinations, state),
        alarm: state.alarm,
        quorum: match state.quorum {
            QuorumState::Unknown => None,
            QuorumState::Has => Some(true),
            QuorumState::Lost => Some(false),
        },
        second_chance: None,
        traffic: None,
        servers: Vec::new(),
    };
    ServiceSummary { key: config.key, status, destinations }
}

/// How it goes, in a line: what of `lvs-agent status` fits into the one that a service manager shows.
pub(crate) fn one_line(engine: &Engine, now: Instant) -> String {
    let services = service_statuses(engine, |_| None, None, now).unwrap_or_default();
    let destinations = || services.iter().flat_map(|service| &service.destinations);
    let up = destinations().filter(|one| one.state.is_some_and(State::is_up)).count();
    let verdict = match services.iter().map(|service| service.status.health).max() {
        None => return "there are no services".to_owned(),
        Some(Health::Up) => "all is up",
        Some(Health::Degraded) => "degraded",
        Some(Health::NoServer) => "a service has no server",
    };
    format!("{up} of {} servers up, {verdict}", destinations().count())
}

/// How well a service is served.
fn health(destinations: &[DestinationStatus], state: ServiceState) -> Health {
    if !destinations.iter().any(DestinationStatus::serves) {
        Health::NoServer
    } else if state.alarm
        || state.quorum == QuorumState::Lost
        || !destinations.iter().all(DestinationStatus::is_well)
    {
        Health::Degraded
    } else {
        Health::Up
    }
}

/// The status of all destinations, in the order of the configuration.
#[cfg(test)]
pub(crate) fn statuses(engine: &Engine, now: Instant) -> Vec<DestinationStatus> {
    let services = service_statuses(engine, |_| None, None, now).unwrap_or_default();
    services.into_iter().flat_map(|service| service.destinations).collect()
}

fn status(
    engine: &Engine,
    destination: DestinationKey,
    role: Role,
    server: &RealServer,
    idle: Option<String>,
    now: Instant,
) -> DestinationStatus {
    DestinationStatus {
        destination,
        method: server.method,
        weight: engine.weight(&destination),
        state: engine.state(&destination),
        is_backup: matches!(role, Role::Backup(_)),
        is_held: !engine.admin_state(&destination).is_enabled(),
        note: note(engine, &destination, now),
        probe_path: engine.checks(&destination).find_map(|(_, check)| probe_path(check, server.address)),
        idle,
        contradiction: engine.contradiction(&destination).map(|one| one.words(now)),
        age: engine.age(&destination, now),
        checks: engine.check_ages(&destination, now),
    }
}

/// Which way a check's probes go, where it isn't to the server's own address.
fn probe_path(check: &Check, server: SocketAddr) -> Option<String> {
    vip_path::words(&check.via).or_else(|| {
        let address = check.connect_to?;
        let asked = match check.asked(server) {
            asked if asked.port() == 0 => address.to_string(),
            asked => asked.to_string(),
        };
        Some(format!("address {asked} instead of its own"))
    })
}

/// The administrative state first, then why it can't be checked, then other reasons for the weight.
fn note(engine: &Engine, destination: &DestinationKey, now: Instant) -> Option<String> {
    if let Some(reason) = engine.admin_state(destination).reason() {
        let disabled = engine.disabled_since(destination).map(|since| now.saturating_duration_since(since));
        let duration = disabled.map(|disabled| format_duration(Duration::from_secs(disabled.as_secs())));
        return Some(
            duration.map_or_else(|| reason.to_owned(), |duration| format!("{reason}, for {duration}")),
        );
    }
    if let Some(reason) = engine.blocked(destination) {
        let last = match engine.state(destination) {
            None | Some(State::Unknown { .. }) => String::new(),
            Some(state) => format!(", was {state} by its last check"),
        };
        return Some(format!("cannot be asked{last}: {reason}"));
    }
    if let Some(State::Damped { until }) = engine.state(destination) {
        let seconds = until.saturating_duration_since(now).as_secs() + 1;
        return Some(format!("flapping: it must stay healthy for {seconds} s more"));
    }
    engine.rises_to(destination).map(|weight| format!("slow start: its weight rises to {weight}"))
}

#[cfg(test)]
mod tests;
