//! How all destinations stand, for people. Pure.

use std::time::{Duration, Instant};

use humantime::format_duration;

use super::Engine;
use crate::{
    health::State,
    model::{DestinationKey, ForwardingMethod, Role, Weight},
};

/// How one destination stands.
#[derive(Clone, Debug)]
pub(crate) struct DestinationStatus {
    pub(crate) destination: DestinationKey,
    /// The name of its service.
    pub(crate) service: String,
    pub(crate) method: ForwardingMethod,
    /// `None` if it shall not be in the table.
    pub(crate) weight: Option<Weight>,
    /// `None` of a backup that isn't checked.
    pub(crate) state: Option<State>,
    /// Whether it only helps out.
    pub(crate) is_backup: bool,
    /// Why it stands so, where its state doesn't say it.
    pub(crate) note: Option<String>,
}

/// How all destinations stand.
pub(crate) fn statuses(engine: &Engine, now: Instant) -> Vec<DestinationStatus> {
    let all = engine.all().map(|(destination, service, role, server)| DestinationStatus {
        destination,
        service: service.name.clone(),
        method: server.method,
        weight: engine.weight(&destination),
        state: engine.state(&destination),
        is_backup: matches!(role, Role::Backup(_)),
        note: note(engine, &destination, now),
    });
    all.collect()
}

/// Orders first, then what else the weight comes from.
fn note(engine: &Engine, destination: &DestinationKey, now: Instant) -> Option<String> {
    if let Some(reason) = engine.admin_state(destination).reason() {
        let held = engine.disabled_since(destination).map(|since| now.saturating_duration_since(since));
        let held = held.map(|held| format_duration(Duration::from_secs(held.as_secs())));
        return Some(held.map_or_else(|| reason.to_owned(), |held| format!("{reason}, for {held}")));
    }
    if let Some(State::Damped { until }) = engine.state(destination) {
        let seconds = until.saturating_duration_since(now).as_secs() + 1;
        return Some(format!("flapping: it must stay healthy for {seconds} s more"));
    }
    engine.rises_to(destination).map(|own| format!("slow start: its weight rises to {own}"))
}
