//! Lines of what others read of services.

use tracing::{info, warn};

use super::Line;
use crate::event::{AnnounceWay, Event, LineFile, VipChange, Withdrawal};

impl Line {
    /// Events of announcements.
    pub(super) fn of_announcement(self, of: &Event) {
        let Self { at_ns, event } = self;
        match of {
            Event::Announcing { way, what, change } => {
                let words = match way {
                    AnnounceWay::TrackFiles => "track files in",
                    AnnounceWay::ReadyFiles => "ready files in",
                    AnnounceWay::Fifo => "lines for the FIFO",
                    AnnounceWay::Device => "addresses on",
                };
                let way = way.name();
                match change {
                    LineFile::Fails { error } => {
                        warn!(at_ns, event, way, reason = error, "{words} {what} can't be kept: {error}");
                    }
                    LineFile::Works => info!(at_ns, event, way, "{words} {what} are kept again"),
                }
            }
            Event::Vip { address, device, change } => match change {
                VipChange::Announced => {
                    info!(at_ns, event, %address, device, "{address} is announced: it is on {device}");
                }
                VipChange::Withdrawn(why) => {
                    let words = match why {
                        Withdrawal::Unhealthy => "a service on it is not healthy",
                        Withdrawal::NotConfigured => "the configuration announces it no longer",
                        Withdrawal::Leftover => "an agent before this one has left it",
                        Withdrawal::Stop => "the agent stops",
                    };
                    let reason = why.name();
                    info!(
                        at_ns, event, %address, device, reason,
                        "{address} is withdrawn: it is no longer on {device}, because {words}"
                    );
                }
                VipChange::Foreign => warn!(
                    at_ns, event, %address, device,
                    "{address} is on {device} already, and not by this agent: it stays there whatever its services are \
                     like; remove it, and the agent adds it: ip addr del {address} dev {device}"
                ),
            },
            _ => {}
        }
    }
}
