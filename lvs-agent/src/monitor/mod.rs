//! The task around the eBPF programs and the detector: on every tick and at every edge it evaluates the signs of life,
//! and reports findings to the controller. Between two ticks it takes in changes of servers, routes and neighbours.

mod blind;
mod devices;
mod hooks;
mod map_watch;
mod recorder;
pub(crate) mod setup;
mod status;
mod topology;

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use aya::maps::{MapData, RingBuf};
use bytemuck::try_pod_read_unaligned;
use lvs_common::{Edge, EdgeKind, ServerId};
use tokio::{
    io::{Interest, unix::AsyncFd},
    sync::{mpsc, watch as latest},
    time::{MissedTickBehavior, interval},
};
use tokio_util::sync::CancellationToken;
use tracing::{debug, error};

use self::{
    blind::Blind,
    devices::Devices,
    hooks::HookReport,
    status::{EvidenceLog, WithoutSignal},
};
pub(crate) use self::{recorder::Recording, topology::MonitorParts};
pub(crate) use crate::messages::{SignalRequest, WatchedServices};
use crate::{
    clock::monotonic_ns,
    engine::confirmation::DetectorFeedback,
    event::Publisher,
    keyed::KeyMap,
    network::{Device, NeighbourChange, RouteSnapshot, Topology},
    passive::{
        ClientReport, ClientWatch, Detector, Finding, Observation, Programs, Signals, Targets, View,
        Visibility,
    },
    telemetry::metrics,
};

/// How often the metrics that are not about single servers are published.
const EXPOSITION: Duration = Duration::from_secs(1);

/// How often the programs are checked to be still attached.
const KEEP: Duration = Duration::from_secs(5);

/// After how many ticks each server's counters are read again, if there are not too many.
const LEARN_EVERY: usize = 10;

/// How many entries of counters (one for each server and CPU) are read in a tick at most: 3.5 MiB.
const LEARN_MOST: usize = 8192;

/// How many changes of the neighbour table are taken at once.
const NEIGHBOURS: usize = 256;

/// What the task receives.
pub(crate) struct Inputs {
    /// The routes to the servers, each time they change.
    pub(crate) snapshots: mpsc::Receiver<RouteSnapshot>,
    /// The neighbour table.
    pub(crate) neighbours: mpsc::Receiver<NeighbourChange>,
    /// From the controller.
    pub(crate) feedback: mpsc::Receiver<DetectorFeedback>,
    /// The services to watch.
    pub(crate) watched: latest::Receiver<WatchedServices>,
    /// Requests for the state of the signal.
    pub(crate) requests: mpsc::Receiver<SignalRequest>,
    /// What surrounds the programs.
    pub(crate) hooks: mpsc::Receiver<HookReport>,
}

/// What the task sends.
pub(crate) struct Outputs {
    /// Evidence against servers.
    pub(crate) findings: mpsc::Sender<Finding>,
    /// What clients say of servers.
    pub(crate) clients: mpsc::Sender<ClientReport>,
    /// The endpoints as they are now, whose ids the findings have.
    pub(crate) targets: latest::Sender<Arc<Targets>>,
    /// The addresses whose routes matter.
    pub(crate) servers: latest::Sender<BTreeSet<std::net::IpAddr>>,
    /// The devices that are watched.
    pub(crate) devices: latest::Sender<Vec<Device>>,
}

/// The passive side while the agent runs.
pub(crate) struct Monitor {
    programs: Programs,
    signals: Signals,
    targets: Targets,
    detector: Detector,
    clients: ClientWatch,
    /// The recording of the detector's input, if the operator wants one.
    recording: Option<Recording>,
    exposition: metrics::Passive,
    devices: Devices,
    topology: Topology,
    outputs: Outputs,
    tick: Duration,
    /// The servers that the detector evaluates.
    evaluated: Vec<(ServerId, Visibility)>,
    /// All servers in the order in which their counters are read, the next of them, and the tenths of reads that are
    /// due.
    learn_queue: Vec<ServerId>,
    learn_next: usize,
    learn_due: usize,
    /// Servers whose neighbour entry has failed.
    failed: BTreeSet<ServerId>,
    evidences: EvidenceLog,
    /// Where the programs are blind.
    blind: Blind,
    /// The packets to and from each server when its counters were last read.
    counted: KeyMap<ServerId, (u64, u64)>,
    events: Publisher,
    /// The destinations without a signal, as last published.
    without_signal: WithoutSignal,
    /// Whether that may have changed.
    signals_changed: bool,
    services: BTreeMap<crate::model::ServiceKey, String>,
}

impl Monitor {
    /// Watches until `shutdown`, then detaches the programs.
    pub(crate) async fn run(mut self, inputs: Inputs, shutdown: CancellationToken) {
        if let Err(error) = self.watch(inputs, &shutdown).await {
            error!("passive detection has ended, active checks continue: {error:#}");
        }
        self.devices.clear(&mut self.programs);
    }

    async fn watch(&mut self, mut inputs: Inputs, shutdown: &CancellationToken) -> anyhow::Result<()> {
        let mut edges = register(self.programs.take_edges()?)?;
        let mut tick = interval(self.tick);
        tick.set_missed_tick_behavior(MissedTickBehavior::Skip);
        let mut exposition = interval(EXPOSITION);
        exposition.set_missed_tick_behavior(MissedTickBehavior::Skip);
        let mut keep = interval(KEEP);
        keep.set_missed_tick_behavior(MissedTickBehavior::Skip);
        let mut neighbours = Vec::with_capacity(NEIGHBOURS);
        loop {
            tokio::select! {
                () = shutdown.cancelled() => return Ok(()),
                ready = edges.readable_mut() => {
                    let mut ready = ready?;
                    let servers = drain(ready.get_inner_mut());
                    ready.clear_ready();
                    for server in servers {
                        self.evaluate_server(server);
                    }
                }
                _ = tick.tick() => self.on_tick(),
                _ = exposition.tick() => self.publish(),
                _ = keep.tick() => self.keep_devices(),
                Some(snapshot) = inputs.snapshots.recv() => self.update_routes(snapshot),
                1.. = inputs.neighbours.recv_many(&mut neighbours, NEIGHBOURS) => {
                    self.neighbours(neighbours.drain(..));
                }
                Some(feedback) = inputs.feedback.recv() => self.apply_feedback(feedback),
                Ok(()) = inputs.watched.changed() => {
                    let watched = inputs.watched.borrow_and_update().clone();
                    self.set_services(&watched);
                }
                Some(request) = inputs.requests.recv() => self.answer(request),
                Some(found) = inputs.hooks.recv() => self.look_around(found),
            }
        }
    }

    fn on_tick(&mut self) {
        if let Some(late) = self.detector.tick(self.tick, monotonic_ns()) {
            metrics::count_stall();
            debug!("the director stalled for {} ms: silence is measured from now on", late.as_millis());
        }
        self.learn();
        for index in 0..self.evaluated.len() {
            let (id, visibility) = self.evaluated[index];
            self.evaluate(id, visibility);
        }
        let failed: Vec<ServerId> = self.failed.iter().copied().collect();
        for id in failed {
            if let Some(finding) = self.detector.neighbour_failed(id, monotonic_ns()) {
                self.report(finding);
            }
        }
    }

    /// Reads the counters of so many servers that each has its turn every [`LEARN_EVERY`] ticks, and publishes them.
    fn learn(&mut self) {
        let servers = self.learn_queue.len();
        let most = (LEARN_MOST / self.signals.cpus().max(1)).max(1);
        self.learn_due += servers;
        let due = self.learn_due / LEARN_EVERY;
        self.learn_due %= LEARN_EVERY;
        for _ in 0..due.min(most) {
            let Some(&id) = self.learn_queue.get(self.learn_next % servers) else { return };
            self.learn_next = (self.learn_next + 1) % servers;
            let (counters, state) = (self.signals.counters(id), self.signals.state(id));
            let now_ns = monotonic_ns();
            if let Some(recording) = &mut self.recording {
                recording.counters(now_ns, id, &counters);
            }
            self.counted.insert(id, (counters.packets_in, counters.packets_out));
            self.detector.learn(id, &counters, now_ns);
            self.exposition.counted(id, &counters, &state);
            let flows = || self.signals.flows(id);
            let report = self.clients.learn(id, &counters, &state, flows, &self.signals, now_ns);
            if let Some(Err(unsent)) = report.map(|report| self.outputs.clients.try_send(report)) {
                self.clients.unheard(&unsent.into_inner());
            }
        }
    }

    fn evaluate_server(&mut self, id: ServerId) {
        match self.targets.get(id).map(crate::passive::Target::visibility) {
            Some(visibility @ (Visibility::Both | Visibility::ClientOnly)) => self.evaluate(id, visibility),
            Some(Visibility::CountersOnly(_)) | None => {}
        }
    }

    fn evaluate(&mut self, id: ServerId, visibility: Visibility) {
        let view = View { id, visibility, state: self.signals.state(id) };
        // Reading the clock for all that are at rest would take longer than all else.
        if self.recording.is_none() && self.detector.is_at_rest(&view) {
            return;
        }
        // The state first, then the clock: what was read can't be younger than now.
        let now_ns = monotonic_ns();
        if let Some(recording) = &mut self.recording {
            recording.state(now_ns, &view, &self.signals.waiting(id), &self.signals.answered(id));
        }
        if let Some(finding) = self.detector.evaluate(&view, &self.signals, now_ns) {
            self.report(finding);
        }
    }

    fn report(&mut self, finding: Finding) {
        let (id, evidence) = match &finding {
            Finding::Suspicion(suspicion) => (suspicion.id, &suspicion.evidence),
            Finding::Hint(hint) => (hint.id, &hint.evidence),
            Finding::Overloaded { id, evidence } | Finding::Correlated { id, evidence } => (*id, evidence),
        };
        self.evidences.note(id, evidence.to_string(), monotonic_ns());
        if self.outputs.findings.try_send(finding).is_err() {
            // The controller is behind by a whole channel; the next tick raises it again.
            debug!("finding dropped: the channel is full");
            self.detector.not_probed(id, monotonic_ns());
        }
    }

    fn apply_feedback(&mut self, feedback: DetectorFeedback) {
        match feedback {
            DetectorFeedback::Observed(id, observation) => {
                self.detector.observe(id, observation, monotonic_ns());
                if let Observation::Down | Observation::Up = observation {
                    self.clients.restart(id);
                }
            }
            DetectorFeedback::NotProbed(id) => self.detector.not_probed(id, monotonic_ns()),
            DetectorFeedback::Afresh => {
                self.detector.restart(monotonic_ns());
                for (id, _) in &self.evaluated {
                    self.clients.restart(*id);
                }
            }
        }
    }
}

#[expect(unsafe_code, reason = "tokio cannot know that a descriptor stays the same")]
fn register(edges: RingBuf<MapData>) -> std::io::Result<AsyncFd<RingBuf<MapData>>> {
    // SAFETY: the ring buffer owns its file descriptor, gives out always the same one, and closes it only when it is
    // dropped, together with the `AsyncFd` around it.
    let registered = unsafe { AsyncFd::register_with_interest(edges, Interest::READABLE) };
    registered.map_err(|error| error.into_parts().1)
}

/// Empties the ring buffer: it wakes the reader only once for all that is in it.
fn drain(edges: &mut RingBuf<MapData>) -> BTreeSet<ServerId> {
    let mut servers = BTreeSet::new();
    while let Some(record) = edges.next() {
        let Ok(edge) = try_pod_read_unaligned::<Edge>(&record) else { continue };
        if EdgeKind::from_number(edge.kind).is_some() {
            servers.insert(edge.server);
        }
    }
    servers
}
