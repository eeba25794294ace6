//! Lines of contradictions between a server's clients and its probes.

use humantime::format_duration;
use tracing::{info, warn};

use super::Line;
use crate::{
    event::{Consequence, ContradictionChange, ContradictionEnd, Subject},
    model::ForwardingMethod,
    passive::{Comparison, Complaint},
};

impl Line {
    pub(super) fn contradiction(
        self,
        subject: &Subject,
        method: ForwardingMethod,
        change: &ContradictionChange,
    ) {
        let Self { at_ns, event } = self;
        let (service, server) = (&*subject.service, subject.destination.server);
        match change {
            ContradictionChange::Begun { complaint, consequence } => {
                let Complaint { missing, attempts, answered, networks, lasted, .. } = complaint;
                let siblings_percent = match complaint.siblings {
                    Comparison::Answer(share) => Some((share * 100.0).round()),
                    Comparison::Alike | Comparison::Alone => None,
                };
                warn!(
                    at_ns, event, service, %server, %method, missing = missing.name(), attempts, answered, networks,
                    lasted_s = lasted.as_secs(), siblings_percent, action = consequence.name(),
                    "{service}: the checks of {server} succeed, but its clients fail: {complaint}; likely causes: {}; {}",
                    complaint.likely_causes(method), what_follows(*consequence)
                );
            }
            ContradictionChange::Out { retry_in } => warn!(
                at_ns, event, service, %server, retry_s = retry_in.as_secs(),
                "{service}: {server} is taken out because its clients fail; it is tried again in {}",
                format_duration(*retry_in)
            ),
            ContradictionChange::Trial => info!(
                at_ns, event, service, %server,
                "{service}: {server} gets a few clients again, to see whether they are served"
            ),
            ContradictionChange::Over { end, lasted } => {
                let words = match end {
                    ContradictionEnd::Served => "are served again",
                    ContradictionEnd::Down => "and its checks agree that it fails",
                    ContradictionEnd::Gone => "are no longer compared with its checks",
                };
                info!(
                    at_ns, event, service, %server, reason = end.name(), lasted_s = lasted.as_secs(),
                    "{service}: the clients of {server} {words}"
                );
            }
        }
    }
}

fn what_follows(consequence: Consequence) -> String {
    match consequence {
        Consequence::Reported => "it stays in (on-contradiction)".to_owned(),
        Consequence::Excluded { retry_in } => {
            format!("it is taken out, and tried again in {}", format_duration(retry_in))
        }
        Consequence::Kept => {
            "it stays in: too much of the service would be out, or its siblings fare no better".to_owned()
        }
    }
}
