//! The status of all destinations, as `lvs-agent status` shows it. Pure.

use std::time::{Duration, Instant};

use humantime::format_duration;

use super::Engine;
pub(crate) use super::state_age::Age;
use crate::{
    control::{EvidenceStatus, ServerStatus, SignalStatus},
    health::State,
    model::{DestinationKey, ForwardingMethod, Role, Weight},
};

/// The status of one destination.
#[derive(Clone, Debug)]
pub(crate) struct DestinationStatus {
    pub(crate) destination: DestinationKey,
    /// The name of its service.
    pub(crate) service: String,
    pub(crate) method: ForwardingMethod,
    /// `None`: it is not to be in the table.
    pub(crate) weight: Option<Weight>,
    /// `None` for a backup that isn't checked.
    pub(crate) state: Option<State>,
    /// Whether it is a backup of its service.
    pub(crate) is_backup: bool,
    /// The reason for its weight, where its state doesn't say it.
    pub(crate) note: Option<String>,
    /// How the idle connection to it is; `None`: none is wanted.
    pub(crate) idle: Option<String>,
    /// What clients and probes say, where they contradict each other.
    pub(crate) contradiction: Option<String>,
    /// For how long it has been in its state, and its last failure.
    pub(crate) age: Age,
}

impl DestinationStatus {
    /// As the control socket tells it, with what the passive signal says.
    pub(crate) fn with_signal(self, signal: SignalStatus) -> ServerStatus {
        let ms = |age: Duration| u64::try_from(age.as_millis()).unwrap_or(u64::MAX);
        let Age { of_state, of_failure } = self.age;
        ServerStatus {
            address: self.destination.server,
            method: self.method.to_string(),
            weight: self.weight.map(|weight| weight.0),
            state: self.state.map_or_else(|| "unchecked".to_owned(), |state| state.to_string()),
            backup: self.is_backup,
            note: self.note,
            idle_connection: self.idle,
            contradiction: self.contradiction,
            state_age_ms: of_state.map(ms),
            failure: of_failure.map(|(text, age)| EvidenceStatus { text, age_ms: ms(age) }),
            signal,
        }
    }
}

/// The status of all destinations, in the order of the configuration.
///
/// `idle` says how the idle connection of each is, if it is to have one.
pub(crate) fn statuses(
    engine: &Engine,
    idle: impl Fn(&DestinationKey) -> Option<String>,
    now: Instant,
) -> Vec<DestinationStatus> {
    let statuses = engine.destinations().map(|(destination, service, role, server)| DestinationStatus {
        destination,
        service: service.name.clone(),
        method: server.method,
        weight: engine.weight(&destination),
        state: engine.state(&destination),
        is_backup: matches!(role, Role::Backup(_)),
        note: note(engine, &destination, now),
        idle: idle(&destination),
        contradiction: engine.contradiction(&destination).map(|one| one.words(now)),
        age: engine.age(&destination, now),
    });
    statuses.collect()
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
