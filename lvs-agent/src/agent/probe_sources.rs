//! Keeps the source addresses of probes to VIPs on devices of their own, and takes them away at a clean stop. A later
//! start removes what a crash has left.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::{IpAddr, Ipv4Addr},
    sync::Arc,
    time::Duration,
};

use tokio::{sync::watch, time::sleep};
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use crate::{
    model::{Config, Mode, VirtualService},
    netlink::DEFAULT_TIMEOUT,
    network::{NetworkError, ProbeDevices, ProbeSource},
    supervision::Restartable,
};

/// From one look to the next: nothing tells when a device goes whose address was on it alone.
const LOOK: Duration = Duration::from_secs(5);

/// The task that keeps the addresses.
pub(super) struct ProbeSources {
    in_force: watch::Receiver<Arc<Config>>,
    /// What was last logged of each address.
    told: BTreeMap<Ipv4Addr, Result<(), String>>,
    /// Whether devices of an earlier agent have been looked for.
    has_looked: bool,
}

impl ProbeSources {
    pub(super) fn new(in_force: watch::Receiver<Arc<Config>>) -> Self {
        Self { in_force, told: BTreeMap::new(), has_looked: false }
    }

    /// Makes what is missing and removes what nobody needs, once.
    pub(super) async fn keep(&mut self) {
        let wanted = wanted(&self.in_force.borrow_and_update());
        if self.has_looked && wanted.is_empty() && self.told.is_empty() {
            return;
        }
        match set(&wanted).await {
            Ok(sources) => {
                self.has_looked = true;
                self.told.retain(|address, _| wanted.contains(address));
                for (address, source) in sources {
                    self.tell(address, source);
                }
            }
            Err(error) => warn!("the source addresses of probes to VIPs can't be looked after: {error}"),
        }
    }

    fn tell(&mut self, address: Ipv4Addr, source: Result<ProbeSource, NetworkError>) {
        let outcome = source.as_ref().map(drop).map_err(ToString::to_string);
        let is_news = self.told.insert(address, outcome.clone()) != Some(outcome);
        match source {
            Ok(ProbeSource::Made { device, above: Some(above) }) => {
                info!(
                    "probes to VIPs come from {address}: made the device \"{device}\" for it, an ipvlan on \"{above}\""
                );
            }
            Ok(ProbeSource::Given { device }) if is_news => {
                info!(
                    "probes to VIPs come from {address}, which is on \"{device}\" already: answers are only taken there if \
                     its `accept_local` is 1"
                );
            }
            Err(error) if is_news => {
                warn!(
                    "{error}: probes to VIPs can't come from {address}, and say nothing about their servers"
                );
            }
            _ => {}
        }
    }
}

impl Restartable for ProbeSources {
    async fn run(&mut self, shutdown: &CancellationToken) {
        let keeping = async {
            loop {
                self.keep().await;
                tokio::select! {
                    changed = self.in_force.changed() => if changed.is_err() { return },
                    () = sleep(LOOK), if !self.told.is_empty() => {}
                }
            }
        };
        if shutdown.run_until_cancelled(keeping).await.is_none()
            && !self.told.is_empty()
            && let Err(error) = set(&BTreeSet::new()).await
        {
            warn!("devices for probes to VIPs stay: {error}");
        }
    }
}

async fn set(
    wanted: &BTreeSet<Ipv4Addr>,
) -> Result<BTreeMap<Ipv4Addr, Result<ProbeSource, NetworkError>>, NetworkError> {
    ProbeDevices::connect(DEFAULT_TIMEOUT).await?.set(wanted).await
}

/// The addresses that need a device of their own.
fn wanted(config: &Config) -> BTreeSet<Ipv4Addr> {
    if config.agent.mode != Mode::Manage {
        return BTreeSet::new();
    }
    let checks = config.services.iter().flat_map(VirtualService::all_checks);
    let sources = checks.filter_map(|(_, _, check)| match (check.via.lane, check.via.source) {
        (Some(lane), Some(IpAddr::V4(source))) if lane.needs_own_source() => Some(source),
        _ => None,
    });
    sources.collect()
}
