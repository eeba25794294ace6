//! Who else uses the mark of the agent's own probes: they may go another way than clients' packets then.

use tokio::task::spawn_blocking;
use tracing::{debug, warn};

use crate::{ipvs::Snapshot, model::ServiceKey, network::marks};

/// How many rules are named.
const NAMED: usize = 8;

/// Warns, once, of what treats packets with this mark differently from packets without one: rules of the director, and
/// services by firewall mark in the kernel's table.
pub(super) async fn warn_of_others(mark: u32, table: &Snapshot) {
    let by_mark = |key: &&ServiceKey| matches!(key, ServiceKey::Mark { mark: other, .. } if *other == mark);
    for key in table.table.services.keys().filter(by_mark) {
        warn!(
            "the kernel's table has service {key}, whose mark is that of the agent's own probes: they go to it instead of \
             to the servers; choose another `probe-mark` in `[agent]`"
        );
    }
    match spawn_blocking(move || marks::rules_about(mark)).await {
        Ok(Ok(rules)) if rules.is_empty() => {}
        Ok(Ok(rules)) => {
            let named: Vec<_> = rules.iter().take(NAMED).map(ToString::to_string).collect();
            let more = match rules.len() - named.len() {
                0 => String::new(),
                more => format!(", and {more} more"),
            };
            warn!(
                "rules of this director treat the mark of the agent's own probes, {mark:#x}, differently from packets \
                 without a mark: {}{more}; probes may go another way than clients' packets: choose another `probe-mark` \
                 in `[agent]`, or exempt this one",
                named.join(", ")
            );
        }
        Ok(Err(error)) => {
            debug!("whether rules look at the mark of the agent's own probes isn't known: {error}");
        }
        Err(panicked) => debug!("looking for rules about the mark of the agent's own probes: {panicked}"),
    }
}
