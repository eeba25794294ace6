//! Setting the passive side up: which devices, which packets. Whatever fails here leaves a working active checker,
//! except what the operator has asked for by name and is not there.

use std::collections::BTreeSet;

use anyhow::Context as _;
use tracing::{info, warn};

use super::watch;
use crate::{
    config::{Config, PassiveSettings},
    netlink::DEFAULT_TIMEOUT,
    network::{Links, Neighbours, NetworkError, RouteLookup, RouteQuery},
    passive::{KernelSide, PassiveError, Path, Signals, Sizes, Targets},
};

/// aya-log's number for "no level at all".
const LOG_NOTHING: u8 = 0;
/// aya-log's number for warnings and errors.
const LOG_WARNINGS: u8 = 2;

/// Open handshakes remembered for each server: at 1,000 new connections a second, those of the last second.
const HANDSHAKES_EACH: u32 = 1024;
/// At 64 bytes an entry (key, value and the kernel's own), from 1 to 16 MiB for all.
const HANDSHAKES: std::ops::RangeInclusive<u32> = (1 << 14)..=(1 << 18);

/// The loaded programs, attached, with their maps filled as far as MAC addresses are known.
pub(super) struct PassiveSide {
    pub(super) kernel: KernelSide,
    pub(super) signals: Signals,
}

/// A device that the operator has named must be there, whether programs can be attached to it or not.
pub(super) async fn check_devices(settings: &PassiveSettings) -> anyhow::Result<()> {
    if settings.devices.is_empty() {
        return Ok(());
    }
    let mut links = Links::connect(DEFAULT_TIMEOUT).await?;
    for device in &settings.devices {
        links.by_name(device).await.with_context(|| {
            format!("`devices` in `[passive]` names {device:?}; correct it, or leave it out")
        })?;
    }
    Ok(())
}

/// Loads and attaches; `None` where the kernel refuses or there is nothing to watch, which has been logged then.
pub(super) async fn set_up(config: &Config, targets: &mut Targets) -> Option<PassiveSide> {
    if !config.passive.enabled {
        info!("the passive signal is switched off in the configuration");
        return None;
    }
    if targets.all().len() == 0 {
        warn!("no server's packets can be attributed: active checks only");
        return None;
    }
    match load(config, targets) {
        Ok(mut side) => {
            let devices = devices(config, targets).await;
            let (kernel, signals) = (&mut side.kernel, &mut side.signals);
            if let Err(error) = watch::apply(kernel, signals, &targets.changes()) {
                warn!("{error}");
            }
            attach(&mut side.kernel, &devices).then_some(side)
        }
        Err(error) => {
            warn!("no passive signal, active checks only: {error}");
            None
        }
    }
}

fn load(config: &Config, targets: &mut Targets) -> Result<PassiveSide, PassiveError> {
    let servers = u32::try_from(targets.all().len()).unwrap_or(u32::MAX);
    let handshakes = servers.saturating_mul(HANDSHAKES_EACH).clamp(*HANDSHAKES.start(), *HANDSHAKES.end());
    let log_level = if config.passive.log_faults { LOG_WARNINGS } else { LOG_NOTHING };
    let (mut kernel, mut signals) = KernelSide::load(Sizes { servers, handshakes }, log_level)?;
    watch::apply(&mut kernel, &mut signals, &targets.changes())?;
    Ok(PassiveSide { kernel, signals })
}

/// Attaches to each device; whether it worked for any of them.
fn attach(kernel: &mut KernelSide, devices: &BTreeSet<String>) -> bool {
    for device in devices {
        match kernel.attach(device) {
            Ok(()) => info!(device, "watching device {device}"),
            Err(error) => warn!("{error}"),
        }
    }
    let any = kernel.devices().next().is_some();
    if !any {
        warn!("no device is watched: active checks only");
    }
    any
}

/// The devices that the operator has named, or those that the routes to the servers lead through.
async fn devices(config: &Config, targets: &mut Targets) -> BTreeSet<String> {
    let named = &config.passive.devices;
    match routed_devices(targets).await {
        Ok(devices) if named.is_empty() => devices,
        Ok(_) => named.iter().cloned().collect(),
        Err(error) => {
            warn!("can't look up the servers' routes: {error}");
            named.iter().cloned().collect()
        }
    }
}

async fn routed_devices(targets: &mut Targets) -> Result<BTreeSet<String>, NetworkError> {
    let mut lookup = RouteLookup::connect(DEFAULT_TIMEOUT).await?;
    let mut neighbours = Neighbours::connect(DEFAULT_TIMEOUT).await?;
    let mut devices = BTreeSet::new();
    for address in targets.addresses() {
        match lookup.lookup(address, RouteQuery::default()).await {
            Ok(route) => {
                let Some(next_hop) = route.neighbour() else {
                    warn!(server = %address, "it is the director itself: no passive signal for it");
                    targets.path(address, Some(Path::Local));
                    continue;
                };
                targets.path(address, Some(Path::Out { device: route.device, next_hop }));
                // What is not known yet comes through the watch of the neighbour table.
                if let Err(error) = neighbours.resolve(route.device, next_hop).await {
                    warn!("{error}");
                }
                devices.insert(route.device_name);
            }
            Err(error) => warn!(server = %address, "{error}: no passive signal for it"),
        }
    }
    Ok(devices)
}
