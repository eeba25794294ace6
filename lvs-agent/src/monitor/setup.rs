//! Setting the passive side up. Whatever fails here leaves a working active checker, except what the operator has asked
//! for by name and is not there.

use std::{collections::BTreeSet, net::IpAddr, path::Path, sync::Arc};

use anyhow::Context as _;
use tokio::sync::{mpsc, watch as latest};
use tracing::warn;

use super::{
    Inputs, Monitor, MonitorParts, Outputs, Recording, devices::Devices, hooks::HookWatch,
    map_watch::MapWatch,
};
use crate::{
    engine::confirmation::DetectorFeedback,
    event::Publisher,
    messages::{SignalRequest, WatchedServices},
    model::{Config, PassiveSettings, SecondChance},
    netlink::DEFAULT_TIMEOUT,
    network::{Links, NeighbourWatch, NetworkError, SurveyTask},
    passive::{
        ClientReport, Detector, Finding, KeptSyns, OwnMarks, PassiveError, Programs, Signals, Sizes, Targets,
    },
    telemetry::metrics,
};

/// aya-log's number for "no level at all".
const LOG_NOTHING: u8 = 0;
/// aya-log's number for warnings and errors.
const LOG_WARNINGS: u8 = 2;

/// Surveys that may wait: each replaces the one before.
const SNAPSHOTS: usize = 4;
/// Questions about the signal that may wait.
const REQUESTS: usize = 8;
/// Looks at the hooks that may wait: the next one comes soon.
const LOOKS: usize = 1;

/// Everything that watches, ready to run.
pub(crate) struct PassiveSide {
    pub(crate) monitor: Monitor,
    pub(crate) inputs: Inputs,
    pub(crate) survey_task: SurveyTask,
    pub(crate) neighbours: NeighbourWatch,
    pub(crate) hooks: HookWatch,
    pub(crate) maps: MapWatch,
    /// The SYNs that are kept, where a service has a second chance.
    pub(crate) kept: Option<KeptSyns>,
    /// Whom to ask about the signal.
    pub(crate) requests: mpsc::Sender<SignalRequest>,
}

/// What links the monitor with the controller.
pub(crate) struct Wiring {
    pub(crate) findings: mpsc::Sender<Finding>,
    pub(crate) clients: mpsc::Sender<ClientReport>,
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
pub(crate) async fn set_up(
    config: &Config,
    wiring: Wiring,
    events: Publisher,
) -> Result<PassiveSide, NoPassiveSide> {
    if !config.passive.enabled {
        return Err(NoPassiveSide::Off);
    }
    let Wiring { findings, clients, feedback, targets: targets_tx, mut watched } = wiring;
    let services = watched.borrow_and_update().clone();
    let (mut programs, signals) = load(config, &services)?;
    match programs.memory() {
        Ok(bytes) => metrics::publish_maps(bytes),
        Err(error) => warn!("the metric lvs_passive_maps_bytes is missing: {error}"),
    }
    let handshakes =
        programs.take_handshakes().inspect_err(|error| warn!("open handshakes aren't counted: {error}"));
    let maps = MapWatch { handshakes: handshakes.ok().map(Arc::new) };
    let kept = programs.take_kept_syns().unwrap_or_else(|error| {
        warn!("there is no second chance: {error}");
        None
    });
    programs.set_order(&config.passive.order);
    let program_ids = programs.ids();
    let (devices_tx, devices) = latest::channel(Vec::new());
    let mut targets = Targets::new([]);
    targets.limit(u32::try_from(signals.capacity()).unwrap_or(u32::MAX));
    let (servers_tx, servers) = latest::channel(BTreeSet::<IpAddr>::new());
    let parts = MonitorParts {
        programs,
        signals,
        targets,
        detector: Detector::new(config.passive.detector.clone()),
        recording: config.passive.record.as_deref().and_then(record),
        devices: Devices::new(config.passive.devices.clone()),
        outputs: Outputs { findings, clients, targets: targets_tx, servers: servers_tx, devices: devices_tx },
        tick: config.passive.tick,
        events,
    };
    let mut monitor = Monitor::new(parts, &services);
    let (snapshots_tx, snapshots) = mpsc::channel(SNAPSHOTS);
    let mut survey_task = SurveyTask::connect(servers, snapshots_tx, DEFAULT_TIMEOUT).await?;
    monitor.update_routes(survey_task.survey().await?);
    let (neighbour_watch, neighbours) = NeighbourWatch::start(DEFAULT_TIMEOUT).await?;
    let (requests_tx, requests) = mpsc::channel(REQUESTS);
    let (found, hooks) = mpsc::channel(LOOKS);
    let order = config.passive.order.clone();
    let looks = HookWatch { devices, programs: program_ids, order, found };
    let inputs = Inputs { snapshots, neighbours, feedback, watched, requests, hooks };
    Ok(PassiveSide {
        monitor,
        inputs,
        survey_task,
        neighbours: neighbour_watch,
        hooks: looks,
        maps,
        kept,
        requests: requests_tx,
    })
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

fn load(config: &Config, services: &WatchedServices) -> Result<(Programs, Signals), PassiveError> {
    let endpoints = Targets::new(super::topology::forwardings(services)).all().len();
    // The size of a table that is still empty is unknown.
    let expected = if endpoints == 0 { EXPECTED } else { endpoints };
    let sizes = Sizes::for_endpoints(expected).with(config.second_chance());
    let log_level = if config.passive.log_faults { LOG_WARNINGS } else { LOG_NOTHING };
    let own = OwnMarks { probes: config.agent.probe_mark, vips: config.agent.vip_marks.first() };
    let load = |sizes| Programs::load(sizes, own, log_level);
    load(sizes).or_else(|error| match sizes.second_chance {
        SecondChance::Off => Err(error),
        SecondChance::On => {
            warn!("there is no second chance: {error}");
            load(sizes.with(SecondChance::Off))
        }
    })
}

impl PassiveSide {
    /// Watches until `shutdown`.
    pub(crate) async fn run(self, shutdown: tokio_util::sync::CancellationToken) {
        let Self { monitor, inputs, survey_task, neighbours, hooks, maps, kept: _, requests: _ } = self;
        tokio::join!(
            monitor.run(inputs, shutdown.clone()),
            survey_task.run(shutdown.clone()),
            hooks.run(shutdown.clone()),
            maps.run(shutdown)
        );
        drop(neighbours);
    }
}

#[cfg(test)]
mod tests;
