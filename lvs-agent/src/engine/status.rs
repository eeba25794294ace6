//! How all destinations stand, for people. Pure.

use std::time::{Duration, Instant};

use humantime::format_duration;

use super::Decisions;
use crate::{
    health::State,
    model::{DestinationKey, ForwardingMethod, Role, Weight},
};

/// How one destination stands.
#[derive(Clone, Debug)]
pub(crate) struct Standing {
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
pub(crate) fn standings(decisions: &Decisions, now: Instant) -> Vec<Standing> {
    let all = decisions.all().map(|(destination, service, role, server)| Standing {
        destination,
        service: service.name.clone(),
        method: server.method,
        weight: decisions.weight(&destination),
        state: decisions.state(&destination),
        is_backup: matches!(role, Role::Backup(_)),
        note: note(decisions, &destination, now),
    });
    all.collect()
}

/// Orders first, then what else the weight comes from.
fn note(decisions: &Decisions, destination: &DestinationKey, now: Instant) -> Option<String> {
    if let Some(reason) = decisions.holds(destination).reason() {
        let held = decisions.held_since(destination).map(|since| now.saturating_duration_since(since));
        let held = held.map(|held| format_duration(Duration::from_secs(held.as_secs())));
        return Some(held.map_or_else(|| reason.to_owned(), |held| format!("{reason}, for {held}")));
    }
    if let Some(State::Damped { until }) = decisions.state(destination) {
        let seconds = until.saturating_duration_since(now).as_secs() + 1;
        return Some(format!("it came and went, and must be well for {seconds} s more"));
    }
    decisions.rises_to(destination).map(|own| format!("its weight rises to {own}"))
}
