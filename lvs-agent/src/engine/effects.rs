//! What follows from a result, an admin command, or time that has passed. Pure.

use crate::{
    event::{Event, WeightOccasion},
    health::{State, Transition},
    ipvs::Wanted,
    model::{DestinationKey, Role, Weight},
    probe::Outcome,
};

use super::Engine;

/// What the engine has changed.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Effects {
    /// The change of state of the destination that a result was about.
    pub(crate) transition: Option<Transition>,
    /// Whether the desired table has changed.
    pub(crate) table_changed: bool,
    /// The whole desired table, if services or their settings have changed: more than the weights below.
    pub(crate) whole_table: Option<Wanted>,
    /// The destinations whose weight has changed.
    pub(crate) moved: Vec<Move>,
    /// Further events of servers and services.
    pub(crate) events: Vec<Event>,
}

/// A change of a destination's weight in the desired table; `None`: it is not to be there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Move {
    pub(crate) destination: DestinationKey,
    pub(crate) role: Role,
    pub(crate) from: Option<Weight>,
    pub(crate) to: Option<Weight>,
}

/// The cause of [`Effects`].
#[derive(Clone, Copy, Debug)]
pub(crate) enum Cause<'a> {
    /// A result of a check or a probe of a destination.
    Result(&'a DestinationKey, &'a Outcome),
    /// Another list of services.
    Reload,
    /// A command, an administrator, the maintenance directory, or time that has passed.
    Other,
}

impl Effects {
    /// Adds the effects of something else.
    pub(super) fn extend(&mut self, other: Self) {
        self.table_changed |= other.table_changed;
        self.moved.extend(other.moved);
        self.events.extend(other.events);
    }

    /// The events to publish, in order: the change of state, the weights, the others.
    pub(crate) fn to_events(&self, engine: &Engine, cause: Cause<'_>) -> Vec<Event> {
        let state = match (self.transition, cause) {
            (Some(transition), Cause::Result(destination, outcome)) => {
                Some(engine.transition_event(destination, transition, outcome))
            }
            _ => None,
        };
        let weights = self.moved.iter().map(|moved| self.weight_event(engine, moved, cause));
        state.into_iter().chain(weights).chain(self.events.iter().cloned()).collect()
    }

    fn weight_event(&self, engine: &Engine, moved: &Move, cause: Cause<'_>) -> Event {
        let &Move { destination, role, from, to } = moved;
        let is_first =
            self.transition.is_some_and(|transition| matches!(transition.from, State::Unknown { .. }));
        let occasion = match cause {
            Cause::Reload => WeightOccasion::Reload,
            Cause::Result(..) if is_first => WeightOccasion::FirstCheck,
            Cause::Result(..) | Cause::Other => WeightOccasion::Running,
        };
        let reason = match cause {
            Cause::Result(about, Err(failure)) if *about == destination && self.transition.is_some() => {
                Some(failure.reason.to_string())
            }
            _ => engine.reason_for_exclusion(&destination),
        };
        Event::Weight { subject: engine.subject(&destination), role, from, to, occasion, reason }
    }
}
