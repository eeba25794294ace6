//! Lines of what several directors have with each other.

use tracing::{error, info, warn};

use super::Line;
use crate::event::{Event, SyncChange, Takeover};

impl Line {
    /// Events of synchronisation daemons and of the role.
    pub(super) fn of_directors(self, of: &Event) {
        let Self { at_ns, event } = self;
        match of {
            Event::SyncDaemon { role, change } => self.sync(&role.to_string(), change),
            Event::Role { role, reason, takeover: None } => info!(
                at_ns, event, %role, reason = reason.name(), "this director is {role}: {reason}"
            ),
            Event::Role { role, reason, takeover: Some(takeover) } => {
                let &Takeover { services, servers, down, asked } = takeover;
                info!(
                    at_ns, event, %role, reason = reason.name(), services, servers, down, asked,
                    "this director is {role}: {reason}; it has {services} services with {servers} servers, {down} of \
                     them down; {asked} are asked at once"
                );
            }
            _ => {}
        }
    }

    fn sync(self, role: &str, change: &SyncChange) {
        let Self { at_ns, event } = self;
        match change {
            SyncChange::Started { device, id, instead_of } if instead_of.is_empty() => {
                info!(at_ns, event, role, device, id, "the sync daemon {role} runs on {device} with id {id}");
            }
            SyncChange::Started { device, id, instead_of } => warn!(
                at_ns,
                event,
                role,
                device,
                id,
                instead_of,
                "the sync daemon {role} runs on {device} with id {id}, in place of another one: {instead_of}"
            ),
            SyncChange::Found => {
                info!(at_ns, event, role, "the sync daemon {role} runs as configured already");
            }
            SyncChange::Stopped => info!(at_ns, event, role, "the sync daemon {role} was stopped"),
            SyncChange::Changed { differences, repair_in } => {
                let found = differences.join(", ");
                let when = repair_in.map_or_else(String::new, |wait| format!(" in {wait:.1?}"));
                warn!(
                    at_ns,
                    event,
                    role,
                    found,
                    "the sync daemon {role} was changed by others: {found}; it is changed back{when}"
                );
            }
            SyncChange::Failed { error, again } if again.is_zero() => {
                error!(at_ns, event, role, reason = error, "{error}; it starts anew once that has an end");
            }
            SyncChange::Failed { error, again } => {
                error!(at_ns, event, role, reason = error, "{error}; trying again in {again:.1?}");
            }
        }
    }
}
