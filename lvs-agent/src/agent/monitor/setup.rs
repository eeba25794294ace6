//! Setting the passive side up. Whatever fails here leaves a working active checker, except what the operator has asked
//! for by name and is not there.

use std::{collections::BTreeSet, net::IpAddr, path::Path, sync::Arc};

use anyhow::Context as _;
use tokio::sync::{mpsc, watch as latest};
use tracing::warn;

use super::{Inputs, Monitor, Outputs, Parts, Recording, devices::Devices, survey::SurveyTask};
use crate::{
    agent::messages::{SignalRequest, WatchedServices},
    engine::confirmation::DetectorFeedback,
    model::{Config, PassiveSettings},
    netlink::DEFAULT_TIMEOUT,
    network::{Links, NeighbourWatch, NetworkError},
    passive::{Detector, Finding, KernelSide, PassiveError, Signals, Sizes, Targets},
    telemetry::metrics,
};

/// aya-log's number for "no level at all".
const LOG_NOTHING: u8 = 0;
/// aya-log's number for warnings and errors.
const LOG_WARNINGS: u8 = 2;

/// Surveys that may wait: each replaces the one before.
const SURVEYS: usize = 4;
/// Questions about the signal that may wait.
const REQUESTS: usize = 8;

/// Everything that watches, ready to run.
pub(crate) struct PassiveSide {
    pub(crate) watch: Monitor,
    pub(crate) inputs: Inputs,
    pub(crate) follow: SurveyTask,
    pub(crate) neighbours: NeighbourWatch,
    /// Whom to ask about the signal.
    pub(crate) requests: mpsc::Sender<SignalRequest>,
}

/// What links the passive side with those who decide.
pub(crate) struct Wiring {
    pub(crate) findings: mpsc::Sender<Finding>,
    pub(crate) feedback: mpsc::Receiver<DetectorFeedback>,
    pub(crate) targets: latest::Sender<Arc<Targets>>,
    pub(crate) watched: latest::Receiver<WatchedServices>,
}

/// Why there is no passive signal at all.
#[derive(Debug, thiserror::Error)]
pub(crate) enum NoPassiveSide {
    #[error("passive detection is switched off in the configuration")]
    Off,
    #[error(transparent)]
    Kernel(#[from] PassiveError),
    #[error(transparent)]
    Network(#[from] NetworkError),
}

/// A device that the operator has named must be there, whether programs can be attached to it or not.
pub(crate) async fn check_devices(settings: &PassiveSettings) -> anyhow::Result<()> {
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

/// Loads the programs, looks where packets to the servers go and attaches there.
pub(crate) async fn set_up(config: &Config, wiring: Wiring) -> Result<PassiveSide, NoPassiveSide> {
    if !config.passive.enabled {
        return Err(NoPassiveSide::Off);
    }
    let Wiring { findings, feedback, targets: targets_tx, mut watched } = wiring;
    let services = watched.borrow_and_update().clone();
    let (mut kernel, signals) = load(config, &services)?;
    metrics::publish_maps(kernel.memory()?);
    let mut targets = Targets::new([]);
    targets.limit(u32::try_from(signals.capacity()).unwrap_or(u32::MAX));
    let (servers_tx, servers) = latest::channel(BTreeSet::<IpAddr>::new());
    let parts = Parts {
        kernel,
        signals,
        targets,
        detector: Detector::new(config.passive.detector.clone()),
        recording: config.passive.record.as_deref().and_then(record),
        devices: Devices::new(config.passive.devices.clone()),
        outputs: Outputs { findings, targets: targets_tx, servers: servers_tx },
        tick: config.passive.tick,
    };
    let mut watch = Monitor::new(parts, &services);
    let (surveys_tx, surveys) = mpsc::channel(SURVEYS);
    let mut follow = SurveyTask::connect(servers, surveys_tx, DEFAULT_TIMEOUT).await?;
    watch.surveyed(follow.look().await?);
    let (neighbour_watch, neighbours) = NeighbourWatch::start(DEFAULT_TIMEOUT).await?;
    let (requests_tx, requests) = mpsc::channel(REQUESTS);
    let inputs = Inputs { surveys, neighbours, feedback, watched, requests };
    Ok(PassiveSide { watch, inputs, follow, neighbours: neighbour_watch, requests: requests_tx })
}

/// A recording that can't be had is no reason to do without the signal.
fn record(path: &Path) -> Option<Recording> {
    Recording::start(path)
        .inspect_err(|error| {
            warn!("nothing is recorded: `record` in `[passive]` names {}: {error}", path.display());
        })
        .ok()
}

/// For how many servers there is room where none is known at the start.
const EXPECTED: usize = 1000;

fn load(config: &Config, services: &WatchedServices) -> Result<(KernelSide, Signals), PassiveError> {
    let endpoints = Targets::new(super::topology::forwardings(services)).all().len();
    // Of a table that is still empty nobody can say how large it will be.
    let expected = if endpoints == 0 { EXPECTED } else { endpoints };
    let sizes = Sizes::for_endpoints(expected);
    let log_level = if config.passive.log_faults { LOG_WARNINGS } else { LOG_NOTHING };
    KernelSide::load(sizes, log_level)
}

impl PassiveSide {
    /// Watches until `shutdown`.
    pub(crate) async fn run(self, shutdown: tokio_util::sync::CancellationToken) {
        let Self { watch, inputs, follow, neighbours, requests: _ } = self;
        tokio::join!(watch.run(inputs, shutdown.clone()), follow.run(shutdown));
        drop(neighbours);
    }
}

#[cfg(test)]
mod tests;
