//! The one place that wires the stages together and owns tasks and shutdown.
//!
//! | task | owner of | hears | tells |
//! |---|---|---|---|
//! | `checks` | the baseline schedule | – | results → judge |
//! | `watch` | kernel side, detector | neighbours, edges, feedback | suspicions → judge |
//! | `judge` | health and pools | results, suspicions, bursts | wanted table → table, feedback → watch |
//! | `table` | the kernel's table | wanted table | – |
//! | `metrics` | the listening port | – | – |
//!
//! One token stops them all. Each of them can be dropped at any await without harm; `watch` detaches the programs and
//! `table` makes its last edits after the token, and both are waited for.

mod checks;
mod confirm;
mod decisions;
mod doubt;
mod exposition;
mod judge;
mod passive_side;
mod story;
mod table;
mod watch;

use std::{collections::BTreeMap, time::Duration};

use anyhow::Context as _;
use tokio::{
    signal::unix::{SignalKind, signal},
    sync::{mpsc, watch as latest},
    task::JoinHandle,
    time::timeout,
};
use tokio_util::sync::CancellationToken;
use tracing::{error, info, warn};

use self::{
    checks::Checks,
    confirm::Bursts,
    decisions::Decisions,
    doubt::Suspected,
    judge::{Inputs, Judge},
    passive_side::PassiveSide,
    table::TableWriter,
    watch::{Feedback, Watch},
};
use crate::{
    clock::monotonic_ns,
    config::{Config, OnExit},
    ipvs::{IpvsClient, Table, Wanted},
    netlink::DEFAULT_TIMEOUT,
    network::NeighbourWatch,
    passive::{Detector, Suspicion, Targets},
    pool::Presence,
    probe::{Prober, Scheduler, budget::Budget},
    service::DestinationKey,
};

/// Results that may wait for the judge, who takes each in microseconds: enough for all checks of 10,000 servers that
/// end in the same tenth of a second.
const RESULTS: usize = 1024;
/// Suspicions that may wait. What doesn't fit is raised again at the next tick.
const SUSPICIONS: usize = 256;
/// Reports of bursts that may wait; those who send them can.
const REPORTS: usize = 256;
/// Feedback that may wait for the passive side, which takes it between two ticks: one for each suspicion that was taken
/// in the meantime, and one for each server that changed its state.
const FEEDBACK: usize = 1024;
/// How long a task may take to stop.
const STOP: Duration = Duration::from_secs(5);

/// Runs until SIGTERM or SIGINT. Whatever makes it fail at the start has changed nothing in the kernel's table.
pub async fn run(config: Config) -> anyhow::Result<()> {
    let mut terminate = signal(SignalKind::terminate()).context("listening for SIGTERM")?;
    let mut interrupt = signal(SignalKind::interrupt()).context("listening for SIGINT")?;
    let running = Running::start(config).await?;
    tokio::select! {
        _ = terminate.recv() => info!("SIGTERM: stopping"),
        _ = interrupt.recv() => info!("SIGINT: stopping"),
        () = running.shutdown.cancelled() => error!("a task has ended by itself: stopping"),
    }
    running.stop().await;
    Ok(())
}

/// All tasks, by name.
struct Running {
    shutdown: CancellationToken,
    tasks: Vec<(&'static str, JoinHandle<()>)>,
}

impl Running {
    async fn start(config: Config) -> anyhow::Result<Self> {
        let mut running = Self { shutdown: CancellationToken::new(), tasks: Vec::new() };
        if let Some(address) = config.agent.metrics {
            let serve = exposition::start(address)?;
            running.spawn("metrics", async move {
                if let Err(error) = serve.await {
                    warn!("metrics are no longer served: {error:?}");
                }
            });
        }
        passive_side::check_devices(&config.passive).await?;
        let client = IpvsClient::connect(DEFAULT_TIMEOUT).await?;
        let table = TableWriter::new(client).await?;
        let decisions = Decisions::new(&config.services, |key| found(table.known(), key));
        running.wire(&config, decisions, table).await;
        Ok(running)
    }

    /// From here on nothing fails any more: what can't be had is logged and done without.
    async fn wire(&mut self, config: &Config, decisions: Decisions, mut table: TableWriter) {
        let mut targets = targets(config);
        let passive = passive_side::set_up(config, &mut targets).await;
        let wanted = decisions.wanted();
        // A failure has been logged; the task tries again.
        table.write(&wanted).await.ok();
        let (wanted_tx, wanted_rx) = latest::channel(wanted);
        let (suspicions_tx, suspicions) = mpsc::channel(SUSPICIONS);
        let (feedback_tx, feedback) = mpsc::channel(FEEDBACK);
        if let Some(passive) = passive {
            self.watch(config, passive, targets.clone(), suspicions_tx, feedback).await;
        }
        let prober = Prober::new();
        let (results_tx, results) = mpsc::channel(RESULTS);
        let (reports_tx, reports) = mpsc::channel(REPORTS);
        let Checks { checks, subscribers } = Checks::new(&config.services);
        let judge = Judge {
            decisions,
            subscribers,
            targets,
            bursts: Bursts::new(prober.clone(), config.passive.burst.clone(), reports_tx),
            budget: Budget::new(&config.passive.burst),
            wanted: wanted_tx,
            feedback: feedback_tx,
            under_way: BTreeMap::new(),
            suspected: Suspected::default(),
            probe_timeout: config.passive.burst.timeout,
        };
        judge.publish();
        let shutdown = self.shutdown.clone();
        self.spawn("judge", judge.run(Inputs { checks: results, suspicions, reports }, shutdown.clone()));
        self.spawn("table", table.run(wanted_rx, shutdown.clone(), last_wanted(config)));
        let scheduler = Scheduler::spawn(checks, prober, Scheduler::DEFAULT_LIMIT, results_tx, shutdown);
        self.spawn("checks", async move {
            if let Err(error) = scheduler.stopped().await {
                error!("the checks have ended: {error}");
            }
        });
        info!(at_ns = monotonic_ns(), event = "ready", services = config.services.len(), "ready");
    }

    async fn watch(
        &mut self,
        config: &Config,
        passive: PassiveSide,
        targets: Targets,
        suspicions: mpsc::Sender<Suspicion>,
        feedback: mpsc::Receiver<Feedback>,
    ) {
        let (neighbour_watch, neighbours) = match NeighbourWatch::start(DEFAULT_TIMEOUT).await {
            Ok(started) => started,
            Err(error) => return warn!("no passive signal, active checks only: {error}"),
        };
        let PassiveSide { kernel, signals } = passive;
        let watch = Watch {
            exposition: exposition::Passive::new(&targets, &config.services),
            kernel,
            signals,
            targets,
            detector: Detector::new(config.passive.detector.clone()),
            neighbours,
            feedback,
            suspicions,
            tick: config.passive.tick,
            ticks: 0,
        };
        let shutdown = self.shutdown.clone();
        self.spawn("watch", async move {
            watch.run(shutdown).await;
            drop(neighbour_watch);
        });
    }

    /// Starts a task; if it panics, the whole agent stops rather than going on without it.
    fn spawn(&mut self, name: &'static str, task: impl Future<Output = ()> + Send + 'static) {
        let guard = self.shutdown.clone();
        let handle = tokio::spawn(async move {
            let inner = tokio::spawn(task);
            let abort = inner.abort_handle();
            tokio::select! {
                ended = inner => if let Err(error) = ended {
                    error!("task {name}: {error}");
                    guard.cancel();
                },
                () = async { guard.cancelled().await; tokio::time::sleep(STOP).await } => abort.abort(),
            }
        });
        self.tasks.push((name, handle));
    }

    async fn stop(self) {
        self.shutdown.cancel();
        for (name, task) in self.tasks {
            // Serving metrics has no end of its own.
            if name == "metrics" {
                task.abort();
            } else if timeout(STOP, task).await.is_err() {
                warn!("task {name} did not stop in time");
            }
        }
        info!(at_ns = monotonic_ns(), event = "stopped", "stopped");
    }
}

/// The endpoints on the wire, of all services.
fn targets(config: &Config) -> Targets {
    let targets = Targets::new(config.services.iter().flat_map(decisions::forwardings));
    for (destination, reason) in targets.without_signal() {
        info!(%destination, "no passive signal for {destination} (yet): {reason}");
    }
    targets
}

/// How a destination stands in the table that was found.
fn found(table: &Table, key: &DestinationKey) -> Presence {
    let destination = table.services.get(&key.service).and_then(|entry| entry.destinations.get(&key.server));
    Presence::of_found(destination.map(|destination| destination.weight.takes_connections()))
}

/// What the table should be at the end, if that is not as it is.
fn last_wanted(config: &Config) -> Option<Wanted> {
    (config.agent.on_exit == OnExit::Remove).then(|| Wanted {
        unwanted: config.services.iter().map(|service| service.key).collect(),
        ..Wanted::default()
    })
}
