//! Tasks and channels, start and stop: the one place that wires the parts of the agent together. It must never decide
//! anything about a server.
//!
//! Which task owns, receives and sends what is the table "Tasks and channels" in `docs/architecture.md`.
//!
//! All of them publish events ([`crate::event`]). One token stops them all. Each can be dropped at any await without
//! harm; `monitor` detaches the programs and `table` makes its last edits after the token, and both are waited for.
//! After a panic in one that the agent can't do without, `table` makes no last edits ([`crate::supervision`]).

mod adoption;
mod checks;
mod children;
mod controller;
mod instance;
mod maintenance;
mod open_files;
mod operators;
mod probe_mark;
mod probe_sources;
mod reload;

use std::{path::PathBuf, sync::Arc, time::Instant};

use anyhow::Context as _;
use tokio::{
    signal::unix::{Signal, SignalKind, signal},
    sync::{mpsc, watch as latest},
    time::timeout,
};
use tracing::{info, warn};

pub use self::instance::{AlreadyRunning, InstanceRole};
use self::{
    adoption::Adoption,
    checks::{baseline_checks, checks_until_stopped},
    children::Children,
    controller::{Controller, Inputs, Role},
    instance::InstanceLock,
    maintenance::MaintenanceDirectory,
    open_files::{checks_at_once, raise_limit},
    operators::operators,
    probe_sources::ProbeSources,
    reload::Reload,
};
use crate::telemetry::metrics as exposition;
use crate::{
    admin::{AdminHandler, MonitorHandle, OwnState, commands::ControllerHandle, directors::DirectorHandle},
    announce::{self, Announcer},
    config::Source,
    control::{ControlServer, ControlService},
    engine::{
        Engine,
        admin::MaintenanceSet,
        discovery::Adopted,
        role::RoleKeeper,
        table::{presence_at_start, wanted_at_exit},
        vip_path::left_over,
    },
    event::{Event, Publisher},
    file_lock::FileLock,
    ipvs::IpvsClient,
    log::{LogFilter, LostLines},
    messages::{RefusedChances, ServiceUpdate, WatchedServices},
    model::{AnnounceSettings, Config, Mode, OnExit, vip_lanes},
    monitor::setup::{self, NoPassiveSide, Wiring},
    netlink::DEFAULT_TIMEOUT,
    network::OwnAddresses,
    notify::{self, Notifier, alerts::Alerts},
    passive::Targets,
    privileges::{self, RunAs},
    probe::{IdleConnections, Prober, Scheduler},
    reconcile::{
        Reconciler,
        sync_daemons::{SyncDaemons, WantedDaemons},
        sysctl,
    },
    second_chance::{self, SecondChanceTask},
    service_manager::{self, PhaseHandle, ServiceManager, TurnRequest},
    state_file::{self, FailureNote, Restored, SavedCommands, StateWriter},
    supervision::{STOP, TaskName, TaskSet},
    telemetry::{metrics::EventCounters, source::SourceSlot},
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
/// Questions for the role that may wait: the same.
const ROLES: usize = 8;

/// Which agent it is, and whom commands of its checks run as.
pub(crate) struct Part {
    /// Which of the agents of its network namespace.
    pub(crate) role: InstanceRole,
    /// The folder for what the usual one is not there for; `None`: there is no other.
    pub(crate) runtime_directory: Option<PathBuf>,
    /// Whom commands run as.
    pub(crate) run_as: RunAs,
}

/// Runs until SIGTERM or SIGINT. If it fails to start, it has changed nothing in the kernel's table.
pub(crate) async fn run(
    config: Config,
    source: Option<Source>,
    part: Part,
    log: LostLines,
    filter: LogFilter,
    events: Publisher,
) -> anyhow::Result<()> {
    let Part { role, runtime_directory, run_as } = part;
    // Agents that this one starts are no concern of the service manager.
    let manager = (role == InstanceRole::Primary).then(ServiceManager::of_environment).transpose();
    let manager = manager.unwrap_or_else(|error| {
        warn!("{error}");
        None
    });
    let mut terminate = signal(SignalKind::terminate()).context("listening for SIGTERM")?;
    let mut interrupt = signal(SignalKind::interrupt()).context("listening for SIGINT")?;
    let claim = || InstanceLock::claim(runtime_directory.as_deref());
    let _lock = (role == InstanceRole::Primary).then(claim).transpose()?;
    // From here on SIGHUP no longer ends the process.
    let hangups = signal(SignalKind::hangup()).context("listening for SIGHUP")?;
    let external = ExternalInputs { source, hangups, manager: manager.unwrap_or_default(), role };
    let mut starting = Box::pin(Running::start(config, external, run_as, (log, filter), events));
    let running = tokio::select! {
        started = &mut starting => started?,
        _ = terminate.recv() => return stop_at_start(starting).await,
        _ = interrupt.recv() => return stop_at_start(starting).await,
    };
    tokio::select! {
        _ = terminate.recv() => info!("SIGTERM: stopping"),
        _ = interrupt.recv() => info!("SIGINT: stopping"),
        // Why is in the log already.
        () = running.tasks.shutdown().cancelled() => {}
    }
    running.stop().await
}

/// Stops an agent that is still starting, once it has started. What hangs is not waited for.
async fn stop_at_start(starting: impl Future<Output = anyhow::Result<Running>>) -> anyhow::Result<()> {
    info!("asked to stop while starting");
    match timeout(STOP, starting).await {
        Ok(started) => started?.stop().await,
        Err(_late) => {
            warn!("the start takes longer than {STOP:?}, and is left");
            Ok(())
        }
    }
}

/// Inputs from outside the program.
struct ExternalInputs {
    /// The configuration's file.
    source: Option<Source>,
    /// SIGHUP.
    hangups: Signal,
    /// Whoever has started the agent.
    manager: ServiceManager,
    /// Which of the agents of its network namespace this is.
    role: InstanceRole,
}

/// What is opened before anything is changed.
struct Opened {
    control: Option<ControlServer>,
    /// The configuration's file.
    source: Option<Source>,
    /// SIGHUP.
    hangups: Signal,
    /// Where the service manager is told how far the agent is, …
    phase: PhaseHandle,
    /// … and its questions to the controller.
    turns: mpsc::Receiver<TurnRequest>,
}

/// The parts that the tasks are made of.
struct Parts {
    config: Arc<Config>,
    adopted: Option<Adopted>,
    engine: Engine,
    table: Reconciler,
    /// Saves the admin commands in effect.
    command_writer: Option<StateWriter<SavedCommands>>,
    /// Whether this director is active, and where that is saved.
    role: Role,
    /// This host's addresses.
    own_addresses: OwnAddresses,
    external: Opened,
    /// How many files may be open, where that is known.
    open_files: Option<usize>,
    run_as: RunAs,
}

/// A running agent.
struct Running {
    events: Publisher,
    tasks: TaskSet,
    failure_note: Option<FailureNote>,
    /// Held until the last word is in the file.
    state_lock: Option<FileLock>,
    in_force: Option<latest::Receiver<Arc<Config>>>,
    own: OwnState,
    /// Whether it is no agent that another one has started.
    is_primary: bool,
    /// Where the metrics' port finds what it tells its visitors.
    visits: Option<SourceSlot>,
}

impl Running {
    async fn start(
        mut config: Config,
        ExternalInputs { source, hangups, manager, role }: ExternalInputs,
        run_as: RunAs,
        (log, filter): (LostLines, LogFilter),
        events: Publisher,
    ) -> anyhow::Result<Self> {
        let (mode, marks) = (config.agent.mode, config.agent.vip_marks);
        vip_lanes::assign(&mut config, mode, marks);
        let failure_note = config.agent.state.as_deref().map(FailureNote::beside);
        let own = OwnState::new(filter);
        events.subscribe(own.history.clone());
        let mut running = Self {
            own,
            is_primary: role == InstanceRole::Primary,
            events: events.clone(),
            tasks: TaskSet::new(),
            in_force: None,
            failure_note,
            state_lock: None,
            visits: None,
        };
        let (notices, phase, turns) = service_manager::notices(manager);
        running.tasks.spawn_restarted(TaskName::ServiceManager, notices);
        let open_files = raise_limit();
        if let Some(address) = config.agent.metrics {
            let server = exposition::start(address, config.agent.mode, log)?;
            running.visits = Some(server.source());
            events.subscribe(EventCounters::new(server.ready()));
            running.tasks.spawn_restarted(TaskName::Metrics, server);
        }
        if let Some(reason) = running.failure_note.as_ref().and_then(FailureNote::take) {
            events.publish(Event::AfterFailure { reason });
        }
        // Before anything is changed: another agent that has the socket may manage the same table.
        let operators = operators(config.agent.operators.as_deref())?;
        let control = config.agent.control.as_deref();
        let control = control.map(|path| ControlServer::bind(path, operators)).transpose()?;
        setup::check_devices(&config.passive).await?;
        let client = IpvsClient::connect(DEFAULT_TIMEOUT).await?;
        let Restored { saved, overrides, commands: command_writer, role: role_writer, file, lock } =
            state_file::restore(&config, &events).await?;
        running.state_lock = lock;
        let table = Reconciler::new(client, &config, saved.overrides, overrides, events.clone()).await?;
        // IPVS is loaded by now, and its settings exist.
        sysctl::apply(&config, &events);
        if let Some(file) = file {
            running.tasks.spawn(TaskName::State, file.run());
        }
        let adopted = config.adopts().then(|| table.adopt(&config));
        let services = adopted.as_ref().map_or(&config.services, |adopted| &adopted.services);
        let found = table.snapshots().borrow().clone();
        let mut engine = Engine::new(services, |key| presence_at_start(&found, key));
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
        probe_mark::warn_of_others(&config, &found).await;
        let own_addresses = OwnAddresses::read(DEFAULT_TIMEOUT).await;
        let own = own_addresses.known().borrow().clone();
        let keeper = RoleKeeper::new(config.role, saved.role.0, services, own);
        let role = Role { keeper, writer: role_writer };
        let external = Opened { control, source, hangups, phase, turns };
        let config = Arc::new(config);
        let parts = Parts {
            config,
            adopted,
            engine,
            table,
            command_writer,
            role,
            own_addresses,
            external,
            open_files,
            run_as,
        };
        running.start_tasks(parts).await;
        Ok(running)
    }

    /// Can't fail: the agent logs what isn't available and runs without it.
    #[expect(clippy::too_many_lines, reason = "it wires the tasks, one after the other")]
    async fn start_tasks(&mut self, parts: Parts) {
        let Parts {
            config,
            adopted,
            mut engine,
            mut table,
            command_writer: state_writer,
            role,
            own_addresses,
            external: Opened { control, source, hangups, phase, turns },
            open_files,
            run_as,
        } = parts;
        let services = adopted.as_ref().map_or(&config.services, |adopted| &adopted.services).clone();
        let (shutdown, events) = (self.tasks.shutdown().clone(), self.events.clone());
        let (watched_tx, watched) = latest::channel(WatchedServices::from(services.clone()));
        let (targets_tx, targets) = latest::channel(Arc::new(Targets::new([])));
        let (findings_tx, findings) = mpsc::channel(FINDINGS);
        let (clients_tx, clients) = mpsc::channel(CLIENTS);
        let (feedback_tx, feedback) = mpsc::channel(FEEDBACK);
        let watched_services = watched.clone();
        let wiring =
            Wiring { findings: findings_tx, clients: clients_tx, feedback, targets: targets_tx, watched };
        let (refused_tx, refused_chances) = latest::channel(None);
        let passive = self.monitor(&config, wiring, &watched_services, &targets, refused_tx).await;
        let weights: Vec<_> = engine.weights().collect();
        let (in_force_tx, in_force) = latest::channel(config.clone());
        self.in_force = Some(in_force.clone());
        self.keep_probe_sources(in_force.clone()).await;
        let maintained = self.make_first_edits(&config, &mut engine, &mut table).await;
        let (results_tx, results) = mpsc::channel(RESULTS);
        let (reports_tx, reports) = mpsc::channel(REPORTS);
        let (idle, idle_handle, idle_reports) = IdleConnections::new();
        self.tasks.spawn(TaskName::Idle, idle.marked(config.agent.probe_mark).run(shutdown.clone()));
        let (requests_tx, requests) = mpsc::channel(REQUESTS);
        let (served_tx, served) = mpsc::channel(REQUESTS);
        let (updates_tx, updates) = mpsc::channel(UPDATES);
        let (commands_tx, commands) = mpsc::channel(COMMANDS);
        let (roles_tx, roles) = mpsc::channel(ROLES);
        let (reloads_tx, reloads) = mpsc::channel(RELOADS);
        let notifier = self.notifier(&config);
        let prober = Prober::new().marked(config.agent.probe_mark).with_commands_as(run_as);
        let prober = prober.with_lanes(table.ready_lanes());
        let (checks, added) = baseline_checks(&services);
        let limit = checks_at_once(open_files, Scheduler::DEFAULT_LIMIT);
        let scheduler = Scheduler::spawn(added, prober.clone(), limit, results_tx, shutdown.clone());
        events.subscribe(Alerts::new(notifier.clone(), &services, weights, in_force.clone()));
        let controller = Controller::new(controller::Parts {
            events: events.clone(),
            engine,
            checks,
            scheduler: scheduler.handle(),
            idle: idle_handle,
            targets,
            burst: config.passive.burst.clone(),
            prober: prober.clone(),
            reports: reports_tx,
            desired: table.desired(),
            watched: watched_tx,
            feedback: feedback_tx,
            state_writer,
            role,
        });
        let inputs = Inputs {
            checks: results,
            findings,
            clients,
            reports,
            idle: idle_reports,
            requests,
            served,
            updates,
            commands,
            turns,
            maintained,
            roles,
            own_addresses: own_addresses.known(),
            in_force: in_force.clone(),
        };
        self.tasks.spawn_restarted(TaskName::Addresses, own_addresses);
        self.tasks.spawn(TaskName::Controller, controller.run(inputs, shutdown.clone()));
        let (observed, desired, weights) = (table.dry_run(), table.desired(), table.weights());
        let daemons = self.keep_daemons(in_force.clone());
        self.keep_table(table, adopted, in_force.clone(), updates_tx.clone());
        let outputs = reload::Outputs {
            updates: updates_tx,
            in_force: in_force_tx,
            desired,
            notifier,
            events: events.clone(),
            phase: phase.clone(),
        };
        let inputs = reload::Inputs { hangups, requests: reloads };
        let reload = Reload::new(source, config.clone(), outputs).run(inputs, shutdown.clone());
        self.tasks.spawn(TaskName::Reload, reload);
        let commands = ControllerHandle { controller: commands_tx, is_observing: observed.is_some() };
        let handler = AdminHandler {
            controller: requests_tx,
            served: served_tx,
            passive,
            refused_chances,
            observed,
            reload: reloads_tx,
            commands,
            weights,
            in_force,
            services: watched_services,
            directors: DirectorHandle { role: roles_tx, wanted: daemons },
            prober,
            own: self.own.clone(),
        };
        self.answer(control, handler);
        self.tasks.spawn(TaskName::Checks, checks_until_stopped(scheduler));
        phase.ready();
        events.publish(Event::Ready { services: services.len(), mode: config.agent.mode });
    }

    /// Makes the first edits. What people ordered holds before them, and from now on: the servers that files in the
    /// maintenance directory name.
    async fn make_first_edits(
        &mut self,
        config: &Config,
        engine: &mut Engine,
        table: &mut Reconciler,
    ) -> latest::Receiver<MaintenanceSet> {
        let maintained = self.maintained(config).await;
        engine.restore_maintenance(maintained.borrow().clone(), Instant::now());
        engine.begin(Instant::now());
        let mut wanted = engine.wanted();
        if self.is_primary {
            let found = table.snapshots().borrow().clone();
            wanted.unwanted = left_over(&found.table, &wanted, config.agent.vip_marks);
        }
        // A failure has been logged; the task retries.
        table.write(wanted).await;
        maintained
    }

    /// Starts to answer questions: of visitors of the status page, and over the control socket; and to tell others.
    fn answer(&mut self, control: Option<ControlServer>, handler: AdminHandler) {
        self.announce(&handler);
        if let Some(visits) = &self.visits {
            // It is set once, here.
            visits.set(Arc::new(handler.clone())).ok();
        }
        if let Some(control) = control {
            self.tasks.spawn_restarted(TaskName::Control, ControlService::new(control, handler));
        }
    }

    /// Starts to tell others how well services are served. Where nothing is written, nobody is told anything either.
    fn announce(&mut self, handler: &AdminHandler) {
        let (served, in_force) = (handler.served.clone(), handler.in_force.clone());
        let config = in_force.borrow().clone();
        if config.agent.mode == Mode::Observe {
            if config.announce != AnnounceSettings::default()
                || config.services.iter().any(|service| service.announce.is_some())
            {
                info!("nothing is announced: mode observe");
            }
            return;
        }
        let failure = self.tasks.failure();
        let is_sole = self.is_primary && config.agent.execute.is_empty();
        let parts = announce::Parts { served, in_force, events: self.events.clone(), is_sole };
        let announcer = Announcer::new(parts, move || failure.get().is_some());
        self.tasks.spawn_restarted(TaskName::Announce, announcer);
    }

    /// Starts to keep the kernel's table, and to follow its services where they are adopted.
    fn keep_table(
        &mut self,
        table: Reconciler,
        adopted: Option<Adopted>,
        in_force: latest::Receiver<Arc<Config>>,
        updates: mpsc::Sender<ServiceUpdate>,
    ) {
        if let Some(adopted) = adopted {
            let snapshots = table.snapshots();
            let adoption = Adoption::new(adopted, snapshots, in_force.clone(), updates, self.events.clone());
            self.tasks.spawn_restarted(TaskName::Adoption, adoption);
        }
        let failure = self.tasks.failure();
        // After a failure the table stays as it is: servers go on serving until the next agent decides.
        let at_exit = move || failure.get().is_none().then(|| wanted_at_exit(&in_force.borrow()))?;
        self.tasks.spawn(TaskName::Table, table.run(self.tasks.shutdown().clone(), at_exit));
    }

    /// Has the source addresses of probes to VIPs where they are needed, before the first probe and from then on. Of
    /// the agents of a network namespace the first one does it for all.
    async fn keep_probe_sources(&mut self, in_force: latest::Receiver<Arc<Config>>) {
        if self.is_primary && in_force.borrow().agent.mode == Mode::Manage {
            let mut sources = ProbeSources::new(in_force);
            sources.keep().await;
            self.tasks.spawn_restarted(TaskName::ProbeSources, sources);
        }
    }

    /// Starts to keep the synchronisation daemons. Returns where they are shown.
    fn keep_daemons(&mut self, in_force: latest::Receiver<Arc<Config>>) -> latest::Receiver<WantedDaemons> {
        let (failure, config) = (self.tasks.failure(), in_force.clone());
        // Where services stay in the table, so do the daemons: their connections go on.
        let removes = move || failure.get().is_none() && config.borrow().agent.on_exit == OnExit::Remove;
        let daemons = SyncDaemons::new(in_force, self.events.clone(), removes);
        let shown = daemons.shown();
        self.tasks.spawn_restarted(TaskName::SyncDaemons, daemons);
        shown
    }

    /// The servers that files in the maintenance directory name, now and from now on.
    async fn maintained(&mut self, config: &Config) -> latest::Receiver<MaintenanceSet> {
        let Some(directory) = config.agent.maintenance.as_deref() else {
            return latest::channel(MaintenanceSet::new()).1;
        };
        let (reader, maintained) = MaintenanceDirectory::open(directory).await;
        self.tasks.spawn_restarted(TaskName::Maintenance, reader);
        maintained
    }

    /// Starts notifications, and agents for other configurations.
    fn notifier(&mut self, config: &Config) -> Notifier {
        let (notifier, notify) = Notifier::new(self.events.clone());
        self.tasks.spawn_restarted(TaskName::Notify, notify);
        if !config.agent.execute.is_empty() {
            let children = Children::new(config.agent.execute.clone(), self.events.clone());
            self.tasks.spawn_restarted(TaskName::Children, children);
        }
        notifier
    }

    /// Starts passive detection, if it is available. Returns the handle that answers requests about it.
    async fn monitor(
        &mut self,
        config: &Config,
        wiring: Wiring,
        services: &latest::Receiver<WatchedServices>,
        targets: &latest::Receiver<Arc<Targets>>,
        refused: latest::Sender<RefusedChances>,
    ) -> MonitorHandle {
        match setup::set_up(config, wiring, self.events.clone()).await {
            Ok(mut monitor) => {
                if let Some(kept) = monitor.kept.take() {
                    let (services, targets) = (services.clone(), targets.clone());
                    let events = self.events.clone();
                    let parts = second_chance::Parts { kept, targets, services, events, refused };
                    self.tasks.spawn_restarted(TaskName::SecondChance, SecondChanceTask::new(parts));
                }
                let requests = monitor.requests.clone();
                let shutdown = self.tasks.shutdown().clone();
                self.tasks.spawn(TaskName::Monitor, monitor.run(shutdown));
                MonitorHandle::Monitor(requests)
            }
            Err(reason @ NoPassiveSide::Off) => {
                info!("{reason}");
                second_chance::refuse_all(&services.borrow(), &self.events);
                MonitorHandle::None(reason.to_string())
            }
            Err(reason) => {
                let lacking = privileges::lacking_for_signal();
                let lacking = lacking.map_or_else(String::new, |names| format!("; it takes {names} as well"));
                warn!("no passive detection, active checks only: {reason}{lacking}");
                second_chance::refuse_all(&services.borrow(), &self.events);
                MonitorHandle::None(reason.to_string())
            }
        }
    }

    /// An error says why the agent could not go on.
    async fn stop(self) -> anyhow::Result<()> {
        let in_force = self.in_force.as_ref();
        let command = in_force.and_then(|config| config.borrow().agent.on_shutdown.clone());
        let failure = self.tasks.failure();
        self.tasks.stop().await;
        drop(self.state_lock);
        let Some(failure) = failure.get() else {
            notify::at_shutdown(command, &self.events).await;
            self.events.publish(Event::Stopped);
            return Ok(());
        };
        if let Some(note) = &self.failure_note
            && let Err(error) = note.write(&failure.to_string())
        {
            warn!("cannot leave a note of the failure for the next start: {error}");
        }
        Err(failure.clone().into())
    }
}
