//! Lines of second chance.

use tracing::{info, warn};

use super::{Line, milliseconds};
use crate::event::{ChanceCause, ChanceResult, Event, GivenUp, Subject};

impl Line {
    /// Events of second chance.
    pub(super) fn of_second_chance(self, of: &Event) {
        let Self { at_ns, event } = self;
        match of {
            Event::SecondChance { subject: Subject { service, destination }, result } => {
                let server = destination.server;
                let ChanceResult { cause, retried, completed, median, longest, given_up } = result;
                let (median_ms, longest_ms) = (median.map(milliseconds), longest.map(milliseconds));
                let given_up_total: usize = given_up.iter().map(|(_, count)| count).sum();
                let went = match cause {
                    ChanceCause::Out => "begun anew elsewhere",
                    ChanceCause::Cleared => "begun anew there, as it lives",
                };
                let took = median_ms.map_or_else(String::new, |ms| format!(", half of them within {ms} ms"));
                info!(
                    at_ns, event, service = &**service, %server, cause = cause.name(), retried, completed,
                    median_ms, longest_ms, given_up = given_up_total,
                    "{server}: {retried} handshakes {went}, {completed} completed{took}{}",
                    reasons(given_up)
                );
            }
            Event::NoSecondChance { service, reason } => {
                warn!(at_ns, event, service, reason, "{service} has no second chance: {reason}");
            }
            _ => {}
        }
    }
}

fn reasons(given_up: &[(GivenUp, usize)]) -> String {
    let all: Vec<String> =
        given_up.iter().map(|(reason, count)| format!("{count} {}", reason.name())).collect();
    if all.is_empty() { String::new() } else { format!("; given up: {}", all.join(", ")) }
}
