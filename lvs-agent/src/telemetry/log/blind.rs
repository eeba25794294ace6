//! Lines of what hides packets from the programs.

use tracing::{info, warn};

use super::Line;
use crate::event::Event;

impl Line {
    /// Events of programs that see nothing, or come after those of others.
    pub(super) fn of_blindness(self, of: &Event) {
        let Self { at_ns, event } = self;
        match of {
            Event::Blind { change, in_front } => {
                let (device, way, counted) = (&*change.device, change.way, change.counted);
                let (kernel, seen) = (counted.kernel, counted.seen);
                if !change.is_blind {
                    info!(
                        at_ns, event, device, direction = %way, kernel, seen,
                        "{device}, {way}: the eBPF programs see what IPVS balances again"
                    );
                    return;
                }
                let who = if in_front.is_empty() {
                    "what takes the packets before them is not known: look at `bpftool net` and `tc filter show`"
                        .to_owned()
                } else {
                    format!(
                        "{} comes first: change its order, or `tcx-order` and `clsact-priority`",
                        in_front.join(", ")
                    )
                };
                warn!(
                    at_ns, event, device, direction = %way, kernel, seen,
                    "{device}, {way}: the eBPF programs saw {seen} of {kernel} packets that IPVS balanced, so that \
                     there is no passive signal; {who}"
                );
            }
            Event::InFront { device, way, names } if names.is_empty() => info!(
                at_ns, event, device = &**device, direction = %way, filters = 0,
                "{device}, {way}: no program of others comes before the agent's any more"
            ),
            Event::InFront { device, way, names } => warn!(
                at_ns, event, device = &**device, direction = %way, filters = names.len(),
                "{device}, {way}: {} comes before the agent's program; what it ends or redirects is not seen: see \
                 `tcx-order` and `clsact-priority` in `[passive]`",
                names.join(", ")
            ),
            _ => {}
        }
    }
}
