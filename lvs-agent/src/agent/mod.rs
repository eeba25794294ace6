//! Tasks and channels, start and stop: the one place that wires the stages together. It decides nothing.
//!
//! | task | owns | gets | sends |
//! |---|---|---|---|
//! | `checks` | the schedule of the baseline checks | – | results → controller |
//! | `monitor` | eBPF programs and detector | edges, routes, neighbours, feedback | findings → controller |
//! | `controller` | the engine: health and pools | results, findings, bursts | wanted services → table, feedback → monitor |
//! | `table` | the kernel's table | wanted services, the table itself | – |
//! | `adoption` | the list of services, where it is the kernel's | the table as others change it | services → controller |
//! | `state` | the state file | overrides from table, admin commands from controller | – |
//! | `reload` | the configuration in force | SIGHUP, the file, requests | services → controller |
//! | `maintenance` | the maintenance folder | – | servers that are named there → controller |
//! | `notify` | mails, commands, lines in files | what to send, from the publisher's alerts | – |
//! | `children` | agents for other configurations | – | – |
//! | `metrics` | the listening port | – | – |
//! | `control` | the control socket | – | admin commands → controller, requests → controller, monitor, reload |
//!
//! All of them publish events ([`crate::event`]). One token stops them all. Each can be dropped at any await without harm;
//! `monitor` detaches the programs and `table` makes its last edits after the token, and both are waited for.

mod admin;
mod adoption;
mod children;
mod controller;
mod instance;
mod maintenance;
mod messages;
mod monitor;
mod reload;
mod tasks;

use std::{sync::Arc, time::Instant};

use anyhow::Context as _;
use tokio::{
    signal::unix::{Signal, SignalKind, signal},
    sync::{mpsc, watch as latest},
};
use tracing::{error, info, warn};

pub use self::instance::{AlreadyRunning, InstanceRole};
use self::{
    admin::{AdminHandler, MonitorHandle, orders::ControllerHandle},
    adoption::Adoption,
    controller::{Controller, Inputs},
    instance::InstanceLock,
    maintenance::Folder,
    messages::WatchedServices,
    monitor::setup::{self, NoPassiveSide, Wiring},
    reload::Reload,
    tasks::TaskSet,
};
use crate::telemetry::metrics as exposition;
use crate::{
    config::Source,
    control::ControlServer,
    engine::{
        Engine,
        admin::MaintenanceSet,
        discovery::Adopted,
        subscriptions::{ScheduleChange, Subscriptions},
        table::{found, last_wanted},
    },
    event::{Event, Publisher},
    ipvs::IpvsClient,
    model::Config,
    netlink::DEFAULT_TIMEOUT,
    notify::{Notifier, alerts::Alerts},
    passive::Targets,
    probe::{Prober, Scheduler},
    reconcile::{Reconciler, sysctl},
    state_file::{self, Orders, Restored, StateWriter},
    telemetry::metrics::EventCounters,
};

/// Results that may wait for the controller, who takes each in microseconds: enough for all checks of 10,000 servers that
/// end in the same tenth of a second.
const RESULTS: usize = 1024;
/// Findings that may wait. What doesn't fit is raised again at the next tick.
const FINDINGS: usize = 256;
/// Reports of bursts that may wait; those who send them can.
const REPORTS: usize = 256;
/// Feedback that may wait for the passive side, which takes it between two ticks: one for each suspicion that was taken
/// in the meantime, and one for each server that changed its state.
const FEEDBACK: usize = 1024;
/// Status requests that may wait.
const REQUESTS: usize = 8;
/// Lists of services that may wait; whoever sends one waits for what comes of it.
const UPDATES: usize = 1;
/// Requests to read the configuration again that may wait: as many as callers of the control socket.
const RELOADS: usize = 8;
/// Admin commands that may wait: as many as callers of the control socket.
const COMMANDS: usize = 8;
/// Runs until SIGTERM or SIGINT. Whatever makes it fail at the start has changed nothing in the kernel's table.
pub(crate) async fn run(
    config: Config,
    source: Option<Source>,
    role: InstanceRole,
    events: Publisher,
) -> anyhow::Result<()> {
    let mut terminate = signal(SignalKind::terminate()).context("listening for SIGTERM")?;
    let mut interrupt = signal(SignalKind::interrupt()).context("listening for SIGINT")?;
    let _only = (role == InstanceRole::Primary).then(InstanceLock::claim).transpose()?;
    // From here on SIGHUP no longer ends the process.
    let hangups = signal(SignalKind::hangup()).context("listening for SIGHUP")?;
    let running = Running::start(config, source, hangups, events).await?;
    tokio::select! {
        _ = terminate.recv() => info!("SIGTERM: stopping"),
        _ = interrupt.recv() => info!("SIGINT: stopping"),
        () = running.tasks.shutdown().cancelled() => error!("a task has ended unexpectedly: stopping"),
    }
    running.stop().await;
    Ok(())
}

/// Inputs from outside the program.
struct Outside {
    control: Option<ControlServer>,
    /// Where the configuration came from.
    source: Option<Source>,
    /// SIGHUP.
    hangups: Signal,
}

/// What the tasks are started with.
struct Beginning {
    config: Arc<Config>,
    adopted: Option<Adopted>,
    engine: Engine,
    table: Reconciler,
    /// Saves what people order.
    orders: Option<StateWriter<Orders>>,
    outside: Outside,
}

/// An agent that runs.
struct Running {
    events: Publisher,
    tasks: TaskSet,
}

impl Running {
    async fn start(
        config: Config,
        source: Option<Source>,
        hangups: Signal,
        events: Publisher,
    ) -> anyhow::Result<Self> {
        let mut running = Self { events: events.clone(), tasks: TaskSet::new() };
        if let Some(address) = config.agent.metrics {
            let serve = exposition::start(address)?;
            events.subscribe(EventCounters::new());
            running.tasks.spawn_endless("metrics", async move {
                if let Err(error) = serve.await {
                    warn!("metrics are no longer served: {error:?}");
                }
            });
        }
        // Before anything is touched: whoever answers there may be at work on the same table.
        let control = config.agent.control.as_deref().map(ControlServer::bind).transpose()?;
        setup::check_devices(&config.passive).await?;
        let client = IpvsClient::connect(DEFAULT_TIMEOUT).await?;
        let Restored { left, overrides, orders, file } = state_file::restore(&config, &events);
        let table = Reconciler::new(client, &config, left.overrides, overrides, events.clone()).await?;
        // Those of IPVS are there by now.
        sysctl::settle(&config, &events);
        if let Some(file) = file {
            running.tasks.spawn("state", file.run());
        }
        let adopted = config.adopts().then(|| table.adopt(&config));
        let services = adopted.as_ref().map_or(&config.services, |adopted| &adopted.services);
        let mut engine = Engine::new(services, |key| found(table.known(), key));
        if let Some(adopted) = &adopted {
            engine.set_administered(adopted.administered.clone(), Instant::now());
        }
        for gone in engine.recall_commands(&left.orders, Instant::now()) {
            events.publish(Event::AdminForgotten { destination: gone });
        }
        for recalled in engine.commands().keys() {
            let reason = engine.admin_state(recalled).reason().unwrap_or_default();
            events.publish(Event::AdminRestored { subject: engine.subject(recalled), reason });
        }
        let outside = Outside { control, source, hangups };
        let config = Arc::new(config);
        running.wire(Beginning { config, adopted, engine, table, orders, outside }).await;
        Ok(running)
    }

    /// From here on nothing fails any more: what can't be had is logged and done without.
    async fn wire(&mut self, beginning: Beginning) {
        let Beginning { config, adopted, engine, mut table, orders: state_writer, outside } = beginning;
        let Outside { control, source, hangups } = outside;
        let services = adopted.as_ref().map_or(&config.services, |adopted| &adopted.services).clone();
        let (shutdown, events) = (self.tasks.shutdown().clone(), self.events.clone());
        let (watched_tx, watched) = latest::channel(WatchedServices::from(services.clone()));
        let (targets_tx, targets) = latest::channel(Arc::new(Targets::new([])));
        let (findings_tx, findings) = mpsc::channel(FINDINGS);
        let (feedback_tx, feedback) = mpsc::channel(FEEDBACK);
        let passive = self
            .monitor(&config, Wiring { findings: findings_tx, feedback, targets: targets_tx, watched })
            .await;
        // A failure has been logged; the task tries again.
        table.write(engine.wanted()).await;
        let (results_tx, results) = mpsc::channel(RESULTS);
        let (reports_tx, reports) = mpsc::channel(REPORTS);
        let (requests_tx, requests) = mpsc::channel(REQUESTS);
        let (updates_tx, updates) = mpsc::channel(UPDATES);
        let (orders_tx, orders) = mpsc::channel(COMMANDS);
        let (reloads_tx, reloads) = mpsc::channel(RELOADS);
        let (in_force_tx, in_force) = latest::channel(config.clone());
        let maintained = self.maintained(&config);
        let notifier = self.notifier(&config);
        let mut checks = Subscriptions::default();
        let ScheduleChange { added, removed: _ } = checks.replace(&services);
        let prober = Prober::new();
        let limit = Scheduler::DEFAULT_LIMIT;
        let scheduler = Scheduler::spawn(added, prober.clone(), limit, results_tx, shutdown.clone());
        let alerts = Alerts::new(notifier.clone(), &services, engine.weights(), in_force.clone());
        events.subscribe(alerts);
        let controller = Controller::new(controller::Parts {
            events: events.clone(),
            engine,
            checks,
            scheduler: scheduler.handle(),
            targets,
            burst: config.passive.burst.clone(),
            prober,
            reports: reports_tx,
            desired: table.desired(),
            watched: watched_tx,
            feedback: feedback_tx,
            state_writer,
        });
        let inputs = Inputs { checks: results, findings, reports, requests, updates, orders, maintained };
        self.tasks.spawn("controller", controller.run(inputs, shutdown.clone()));
        if let Some(adopted) = adopted {
            let adoption =
                Adoption::new(adopted, table.seen(), in_force.clone(), updates_tx.clone(), events.clone());
            self.tasks.spawn("adoption", adoption.run(shutdown.clone()));
        }
        let (observed, desired) = (table.dry_run(), table.desired());
        let ending = in_force.clone();
        self.tasks.spawn("table", table.run(shutdown.clone(), move || last_wanted(&ending.borrow())));
        let outputs = reload::Outputs {
            updates: updates_tx,
            in_force: in_force_tx,
            desired,
            notifier,
            events: events.clone(),
        };
        let reload = Reload::new(source, config.clone(), outputs);
        self.tasks.spawn("reload", reload.run(reload::Inputs { hangups, asked: reloads }, shutdown.clone()));
        if let Some(control) = control {
            let orders = ControllerHandle { controller: orders_tx };
            let handler = AdminHandler {
                controller: requests_tx,
                passive,
                observed,
                reload: reloads_tx,
                orders,
                in_force,
            };
            self.tasks.spawn("control", control.run(handler, shutdown));
        }
        self.tasks.spawn("checks", async move {
            if let Err(error) = scheduler.stopped().await {
                error!("the checks have ended: {error}");
            }
        });
        events.publish(Event::Ready { services: services.len(), mode: config.agent.mode });
    }

    /// The servers that the maintenance folder names, from now on.
    fn maintained(&mut self, config: &Config) -> latest::Receiver<MaintenanceSet> {
        let (maintained_tx, maintained) = latest::channel(MaintenanceSet::new());
        if let Some(folder) = config.agent.maintenance.as_deref() {
            let shutdown = self.tasks.shutdown().clone();
            self.tasks.spawn("maintenance", Folder::new(folder).run(maintained_tx, shutdown));
        }
        maintained
    }

    /// Starts what speaks to people and programs outside: notifications, and agents for other configurations.
    fn notifier(&mut self, config: &Config) -> Notifier {
        let (notifier, notify) = Notifier::new();
        self.tasks.spawn("notify", notify.run(self.events.clone(), self.tasks.shutdown().clone()));
        if !config.agent.execute.is_empty() {
            let shutdown = self.tasks.shutdown().clone();
            self.tasks.spawn(
                "children",
                children::run(config.agent.execute.clone(), self.events.clone(), shutdown),
            );
        }
        notifier
    }

    /// Starts passive detection, if it can be had; gives the handle that answers questions about it.
    async fn monitor(&mut self, config: &Config, wiring: Wiring) -> MonitorHandle {
        match setup::set_up(config, wiring).await {
            Ok(side) => {
                let requests = side.requests.clone();
                let shutdown = self.tasks.shutdown().clone();
                self.tasks.spawn("monitor", side.run(shutdown));
                MonitorHandle::Monitor(requests)
            }
            Err(none @ NoPassiveSide::Off) => {
                info!("{none}");
                MonitorHandle::None(none.to_string())
            }
            Err(none) => {
                warn!("no passive detection, active checks only: {none}");
                MonitorHandle::None(none.to_string())
            }
        }
    }

    async fn stop(self) {
        self.tasks.stop().await;
        self.events.publish(Event::Stopped);
    }
}
