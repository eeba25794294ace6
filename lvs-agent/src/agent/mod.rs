//! Tasks and channels, start and stop: the one place that wires the parts of the agent together. It must never decide
//! anything about a server.
//!
//! | task | owns | receives | sends |
//! |---|---|---|---|
//! | `checks` | the schedule of the baseline checks | – | results → controller |
//! | `monitor` | eBPF programs and detector | edges, routes, neighbours, feedback | findings → controller |
//! | `controller` | the engine | results, findings, bursts | desired services → table, feedback → monitor |
//! | `table` | the kernel's table | desired services, the table itself | – |
//! | `adoption` | the list of services, if it is the kernel's | the table as others change it | services → controller |
//! | `state` | the state file | overrides from table, admin commands from controller | – |
//! | `reload` | the configuration in force | SIGHUP, the file, requests | services → controller |
//! | `maintenance` | the maintenance directory | – | servers that its files name → controller |
//! | `notify` | mails, commands, lines in files | what to send, from the alerts | – |
//! | `children` | agents for other configurations | – | – |
//! | `metrics` | the listening port | – | – |
//! | `control` | the control socket | – | admin commands → controller, requests → controller, monitor, reload |
//!
//! All of them publish events ([`crate::event`]). One token stops them all. Each can be dropped at any await without
//! harm; `monitor` detaches the programs and `table` makes its last edits after the token, and both are waited for.

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
    admin::{AdminHandler, MonitorHandle, commands::ControllerHandle},
    adoption::Adoption,
    controller::{Controller, Inputs},
    instance::InstanceLock,
    maintenance::MaintenanceDirectory,
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
        table::{presence, wanted_at_exit},
    },
    event::{Event, Publisher},
    ipvs::IpvsClient,
    model::Config,
    netlink::DEFAULT_TIMEOUT,
    notify::{Notifier, alerts::Alerts},
    passive::Targets,
    probe::{Prober, Scheduler},
    reconcile::{Reconciler, sysctl},
    state_file::{self, Restored, SavedCommands, StateWriter},
    telemetry::metrics::EventCounters,
};

/// Results that may wait for the controller, which takes microseconds for each: enough for all checks of 10,000 servers
/// that end in the same tenth of a second.
const RESULTS: usize = 1024;
/// Findings that may wait. The detector raises those that don't fit again at the next tick.
const FINDINGS: usize = 256;
/// What clients say of servers that may wait: the same.
const CLIENTS: usize = 256;
/// Reports of bursts that may wait; their senders wait if there is no room.
const REPORTS: usize = 256;
/// Feedback that may wait for the monitor, which takes it between two ticks: one for each suspicion in the meantime,
/// and one for each server that changed its state.
const FEEDBACK: usize = 1024;
/// Status requests that may wait.
const REQUESTS: usize = 8;
/// Lists of services that may wait; their senders wait for the reply.
const UPDATES: usize = 1;
/// Reload requests that may wait: as many as clients of the control socket.
const RELOADS: usize = 8;
/// Admin commands that may wait: as many as clients of the control socket.
const COMMANDS: usize = 8;

/// Runs until SIGTERM or SIGINT. If it fails to start, it has changed nothing in the kernel's table.
pub(crate) async fn run(
    config: Config,
    source: Option<Source>,
    role: InstanceRole,
    events: Publisher,
) -> anyhow::Result<()> {
    let mut terminate = signal(SignalKind::terminate()).context("listening for SIGTERM")?;
    let mut interrupt = signal(SignalKind::interrupt()).context("listening for SIGINT")?;
    let _lock = (role == InstanceRole::Primary).then(InstanceLock::claim).transpose()?;
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
struct ExternalInputs {
    control: Option<ControlServer>,
    /// The configuration's file.
    source: Option<Source>,
    /// SIGHUP.
    hangups: Signal,
}

/// The parts that the tasks are made of.
struct Parts {
    config: Arc<Config>,
    adopted: Option<Adopted>,
    engine: Engine,
    table: Reconciler,
    /// Saves the admin commands in effect.
    command_writer: Option<StateWriter<SavedCommands>>,
    external: ExternalInputs,
}

/// A running agent.
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
        // Before anything is changed: another agent that has the socket may manage the same table.
        let control = config.agent.control.as_deref().map(ControlServer::bind).transpose()?;
        setup::check_devices(&config.passive).await?;
        let client = IpvsClient::connect(DEFAULT_TIMEOUT).await?;
        let Restored { saved, overrides, commands: command_writer, file } =
            state_file::restore(&config, &events);
        let table = Reconciler::new(client, &config, saved.overrides, overrides, events.clone()).await?;
        // IPVS is loaded by now, and its settings exist.
        sysctl::apply(&config, &events);
        if let Some(file) = file {
            running.tasks.spawn("state", file.run());
        }
        let adopted = config.adopts().then(|| table.adopt(&config));
        let services = adopted.as_ref().map_or(&config.services, |adopted| &adopted.services);
        let mut engine = Engine::new(services, |key| presence(table.known(), key));
        if let Some(adopted) = &adopted {
            engine.set_administered(adopted.administered.clone(), Instant::now());
        }
        for destination in engine.restore_commands(&saved.commands, Instant::now()) {
            events.publish(Event::AdminForgotten { destination });
        }
        for destination in engine.commands().keys() {
            let reason = engine.admin_state(destination).reason().unwrap_or_default();
            events.publish(Event::AdminRestored { subject: engine.subject(destination), reason });
        }
        let external = ExternalInputs { control, source, hangups };
        let config = Arc::new(config);
        running.start_tasks(Parts { config, adopted, engine, table, command_writer, external }).await;
        Ok(running)
    }

    /// Can't fail: the agent logs what isn't available and runs without it.
    async fn start_tasks(&mut self, parts: Parts) {
        let Parts { config, adopted, engine, mut table, command_writer: state_writer, external } = parts;
        let ExternalInputs { control, source, hangups } = external;
        let services = adopted.as_ref().map_or(&config.services, |adopted| &adopted.services).clone();
        let (shutdown, events) = (self.tasks.shutdown().clone(), self.events.clone());
        let (watched_tx, watched) = latest::channel(WatchedServices::from(services.clone()));
        let (targets_tx, targets) = latest::channel(Arc::new(Targets::new([])));
        let (findings_tx, findings) = mpsc::channel(FINDINGS);
        let (clients_tx, clients) = mpsc::channel(CLIENTS);
        let (feedback_tx, feedback) = mpsc::channel(FEEDBACK);
        let wiring =
            Wiring { findings: findings_tx, clients: clients_tx, feedback, targets: targets_tx, watched };
        let passive = self.monitor(&config, wiring).await;
        // A failure has been logged; the task retries.
        table.write(engine.wanted()).await;
        let (results_tx, results) = mpsc::channel(RESULTS);
        let (reports_tx, reports) = mpsc::channel(REPORTS);
        let (requests_tx, requests) = mpsc::channel(REQUESTS);
        let (updates_tx, updates) = mpsc::channel(UPDATES);
        let (commands_tx, commands) = mpsc::channel(COMMANDS);
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
        let inputs = Inputs {
            checks: results,
            findings,
            clients,
            reports,
            requests,
            updates,
            orders: commands,
            maintained,
        };
        self.tasks.spawn("controller", controller.run(inputs, shutdown.clone()));
        if let Some(adopted) = adopted {
            let adoption = Adoption::new(
                adopted,
                table.snapshots(),
                in_force.clone(),
                updates_tx.clone(),
                events.clone(),
            );
            self.tasks.spawn("adoption", adoption.run(shutdown.clone()));
        }
        let (observed, desired) = (table.dry_run(), table.desired());
        let config_at_exit = in_force.clone();
        self.tasks
            .spawn("table", table.run(shutdown.clone(), move || wanted_at_exit(&config_at_exit.borrow())));
        let outputs = reload::Outputs {
            updates: updates_tx,
            in_force: in_force_tx,
            desired,
            notifier,
            events: events.clone(),
        };
        let reload = Reload::new(source, config.clone(), outputs);
        self.tasks
            .spawn("reload", reload.run(reload::Inputs { hangups, requests: reloads }, shutdown.clone()));
        if let Some(control) = control {
            let commands = ControllerHandle { controller: commands_tx };
            let handler = AdminHandler {
                controller: requests_tx,
                passive,
                observed,
                reload: reloads_tx,
                commands,
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

    /// The servers that files in the maintenance directory name, from now on.
    fn maintained(&mut self, config: &Config) -> latest::Receiver<MaintenanceSet> {
        let (maintained_tx, maintained) = latest::channel(MaintenanceSet::new());
        if let Some(directory) = config.agent.maintenance.as_deref() {
            let shutdown = self.tasks.shutdown().clone();
            self.tasks
                .spawn("maintenance", MaintenanceDirectory::new(directory).run(maintained_tx, shutdown));
        }
        maintained
    }

    /// Starts notifications, and agents for other configurations.
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

    /// Starts passive detection, if it is available. Returns the handle that answers requests about it.
    async fn monitor(&mut self, config: &Config, wiring: Wiring) -> MonitorHandle {
        match setup::set_up(config, wiring).await {
            Ok(monitor) => {
                let requests = monitor.requests.clone();
                let shutdown = self.tasks.shutdown().clone();
                self.tasks.spawn("monitor", monitor.run(shutdown));
                MonitorHandle::Monitor(requests)
            }
            Err(reason @ NoPassiveSide::Off) => {
                info!("{reason}");
                MonitorHandle::None(reason.to_string())
            }
            Err(reason) => {
                warn!("no passive detection, active checks only: {reason}");
                MonitorHandle::None(reason.to_string())
            }
        }
    }

    async fn stop(self) {
        self.tasks.stop().await;
        self.events.publish(Event::Stopped);
    }
}
