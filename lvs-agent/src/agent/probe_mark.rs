//! Who else uses the marks of the agent's own probes: they may go another way than clients' packets then.

use tokio::task::spawn_blocking;
use tracing::{debug, warn};

use crate::{
    engine::vip_path::lanes,
    ipvs::Snapshot,
    model::{Config, ServiceKey},
    network::marks,
};

/// How many rules are named.
const NAMED: usize = 8;

/// Warns, once, of what treats packets with these marks differently from packets without one: rules of the director,
/// and services by firewall mark in the kernel's table.
pub(super) async fn warn_of_others(config: &Config, table: &Snapshot) {
    let mark = config.agent.probe_mark;
    for key in table.table.services.keys() {
        if matches!(key, ServiceKey::Mark { mark: other, .. } if *other == mark) {
            warn!(
                "the kernel's table has service {key}, whose mark is that of the agent's own probes: they go to it \
                 instead of to the servers; choose another `probe-mark` in `[agent]`"
            );
        }
    }
    warn_of_rules(vec![mark], "the mark of the agent's own probes", "another `probe-mark`").await;
    let to_vips: Vec<u32> = lanes(&config.services).into_iter().map(|lane| lane.mark).collect();
    if !to_vips.is_empty() {
        warn_of_rules(to_vips, "a mark of the agent's probes to VIPs", "other `vip-marks`").await;
    }
}

async fn warn_of_rules(marks: Vec<u32>, what: &str, choose: &str) {
    let first = marks.first().copied().unwrap_or_default();
    match spawn_blocking(move || marks::rules_about(&marks)).await {
        Ok(Ok(rules)) if rules.is_empty() => {}
        Ok(Ok(rules)) => {
            let named: Vec<_> = rules.iter().take(NAMED).map(ToString::to_string).collect();
            let more = match rules.len() - named.len() {
                0 => String::new(),
                more => format!(", and {more} more"),
            };
            warn!(
                "rules of this director treat {what}, {first:#x}, differently from packets without a mark: {}{more}; probes \
                 may go another way than clients' packets: choose {choose} in `[agent]`, or exempt this one",
                named.join(", ")
            );
        }
        Ok(Err(error)) => debug!("whether rules look at {what} isn't known: {error}"),
        Err(panicked) => debug!("looking for rules about {what}: {panicked}"),
    }
}
