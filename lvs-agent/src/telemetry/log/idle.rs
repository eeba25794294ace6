//! Lines of idle connections.

use tracing::{debug, info, warn};

use super::{Line, milliseconds};
use crate::{
    event::{Event, Subject},
    probe::idle::IdleChange,
};

impl Line {
    /// Events of idle connections.
    pub(super) fn of_idle_connection(self, of: &Event) {
        let Self { at_ns, event } = self;
        match of {
            Event::IdleConnection { subjects, change } => {
                for Subject { service, destination } in subjects {
                    let (service, server) = (&**service, destination.server);
                    match change {
                        IdleChange::Opened => {
                            debug!(at_ns, event, service, %server, "{server}: an idle connection is open");
                        }
                        IdleChange::Ended { end, after, usual, sign: _ } => debug!(
                            at_ns, event, service, %server, end = end.word(), after_ms = milliseconds(*after),
                            usual_ms = usual.map(milliseconds),
                            "{server}: the idle connection was {end}, after {after:.1?}"
                        ),
                        IdleChange::Off(why) => warn!(
                            at_ns, event, service, %server, reason = %why,
                            "{server}: no idle connection is kept any more: {why}; set `idle-connection = \"off\"` \
                             for {service}, or see docs/idle-connection.md"
                        ),
                        IdleChange::On => {
                            info!(at_ns, event, service, %server, "{server}: an idle connection is kept again");
                        }
                    }
                }
            }
            Event::IdleLimit { wanted, limit } => warn!(
                at_ns,
                event,
                wanted,
                limit,
                "only {limit} of {wanted} servers have an idle connection, as the agent may open too few files: raise \
                 LimitNOFILE of its unit to 4096 more than there are servers"
            ),
            _ => {}
        }
    }
}
