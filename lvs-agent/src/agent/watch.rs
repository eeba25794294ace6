//! The task that owns the kernel side: it keeps targets and neighbours in step, looks at the signs of life on every tick
//! and at every edge, and raises suspicions.

use std::time::Duration;

use aya::maps::{MapData, RingBuf};
use bytemuck::try_pod_read_unaligned;
use lvs_common::{Edge, EdgeKind, ServerId};
use tokio::{
    io::{Interest, unix::AsyncFd},
    sync::mpsc,
    time::{MissedTickBehavior, interval},
};
use tokio_util::sync::CancellationToken;
use tracing::{debug, error, info, warn};

use super::exposition;
use crate::{
    clock::monotonic_ns,
    network::NeighbourChange,
    passive::{
        Change, Detector, Finding, KernelSide, Observation, PassiveError, Sight, Signals, Suspicion, Targets,
        View,
    },
};

/// How often the counters are put where `/metrics` shows them.
const EXPOSITION: Duration = Duration::from_secs(1);

/// After how many ticks the detector learns from the counters.
const LEARN_EVERY: u32 = 10;

/// What the detector is told by those who decide.
#[derive(Clone, Copy, Debug)]
pub(super) enum Feedback {
    /// What became of a server.
    Observed(ServerId, Observation),
    /// A suspicion was not probed, and may be raised again.
    NotProbed(ServerId),
}

/// The passive side while the agent runs.
pub(super) struct Watch {
    pub(super) exposition: exposition::Passive,
    pub(super) kernel: KernelSide,
    pub(super) signals: Signals,
    pub(super) targets: Targets,
    pub(super) detector: Detector,
    pub(super) neighbours: mpsc::Receiver<NeighbourChange>,
    pub(super) feedback: mpsc::Receiver<Feedback>,
    pub(super) suspicions: mpsc::Sender<Suspicion>,
    pub(super) tick: Duration,
    /// How many ticks there were.
    pub(super) ticks: u32,
}

impl Watch {
    /// Watches until `shutdown`, then detaches the programs.
    pub(super) async fn run(mut self, shutdown: CancellationToken) {
        if let Err(error) = self.watch(&shutdown).await {
            error!("the passive signal has ended, active checks go on: {error:#}");
        }
        self.detach();
    }

    async fn watch(&mut self, shutdown: &CancellationToken) -> anyhow::Result<()> {
        let mut edges = register(self.kernel.take_edges()?)?;
        let mut tick = interval(self.tick);
        tick.set_missed_tick_behavior(MissedTickBehavior::Skip);
        let mut exposition = interval(EXPOSITION);
        exposition.set_missed_tick_behavior(MissedTickBehavior::Skip);
        loop {
            tokio::select! {
                () = shutdown.cancelled() => return Ok(()),
                ready = edges.readable_mut() => {
                    let mut ready = ready?;
                    let servers = drain(ready.get_inner_mut());
                    ready.clear_ready();
                    for server in servers {
                        self.look(server);
                    }
                }
                _ = tick.tick() => self.look_at_all(),
                _ = exposition.tick() => self.exposition.publish(&self.signals, &self.detector),
                Some(change) = self.neighbours.recv() => self.neighbour(&change)?,
                Some(feedback) = self.feedback.recv() => self.take(feedback),
            }
        }
    }

    fn look_at_all(&mut self) {
        if let Some(late) = self.detector.tick(self.tick, monotonic_ns()) {
            metrics::counter!("lvs_passive_stalls_total").increment(1);
            debug!("the director stood still for {} ms: silence is measured anew", late.as_millis());
        }
        let learning = self.ticks.is_multiple_of(LEARN_EVERY);
        self.ticks = self.ticks.wrapping_add(1);
        let ids: Vec<ServerId> = self.targets.all().map(|target| target.id).collect();
        for id in ids {
            if learning {
                self.detector.learn(id, &self.signals.counters(id), monotonic_ns());
            }
            self.look(id);
        }
    }

    fn look(&mut self, id: ServerId) {
        let Some(target) = self.targets.get(id) else { return };
        let sight @ (Sight::Whole | Sight::Half) = target.sight() else { return };
        let view = View { id, sight, state: self.signals.state(id) };
        // The state first, then the clock: what was read can't be younger than now.
        let Some(finding) = self.detector.look(&view, || u32::MAX, monotonic_ns()) else { return };
        let Finding::Suspicion(suspicion) = finding else { return };
        if self.suspicions.try_send(suspicion).is_err() {
            // Those who decide are behind by a whole channel; the next tick raises it again.
            debug!("suspicion dropped: the channel is full");
            self.detector.not_probed(id);
        }
    }

    fn take(&mut self, feedback: Feedback) {
        match feedback {
            Feedback::Observed(id, observation) => self.detector.observe(id, observation, monotonic_ns()),
            Feedback::NotProbed(id) => self.detector.not_probed(id),
        }
    }

    fn neighbour(&mut self, change: &NeighbourChange) -> Result<(), PassiveError> {
        let changes = self.targets.neighbour(change.device, change.address, change.mac);
        if !changes.is_empty() {
            info!(address = %change.address, "the MAC address of a server is {}", mac_text(change.mac));
        }
        apply(&mut self.kernel, &mut self.signals, &changes)
    }

    fn detach(&mut self) {
        let devices: Vec<String> = self.kernel.devices().map(str::to_owned).collect();
        for device in devices {
            match self.kernel.detach(&device) {
                Ok(()) => info!(device, "programs detached"),
                Err(error) => warn!("{error}"),
            }
        }
    }
}

/// Makes the kernel side's maps follow.
pub(super) fn apply(
    kernel: &mut KernelSide,
    signals: &mut Signals,
    changes: &[Change],
) -> Result<(), PassiveError> {
    for change in changes {
        match change {
            Change::Watch(key, id) => kernel.watch(key, *id)?,
            Change::Unwatch(key) => kernel.unwatch(key)?,
            Change::Reset(id) => signals.reset(*id),
        }
    }
    Ok(())
}

fn register(edges: RingBuf<MapData>) -> std::io::Result<AsyncFd<RingBuf<MapData>>> {
    // SAFETY: the ring buffer owns its file descriptor, gives out always the same one, and closes it only when it is
    // dropped, together with the `AsyncFd` around it.
    let registered = unsafe { AsyncFd::register_with_interest(edges, Interest::READABLE) };
    registered.map_err(|error| error.into_parts().1)
}

/// Empties the ring buffer: it wakes the reader only once for all that is in it.
fn drain(edges: &mut RingBuf<MapData>) -> Vec<ServerId> {
    let mut servers = Vec::new();
    while let Some(record) = edges.next() {
        let Ok(edge) = try_pod_read_unaligned::<Edge>(&record) else { continue };
        if EdgeKind::from_number(edge.kind).is_some() && !servers.contains(&edge.server) {
            servers.push(edge.server);
        }
    }
    servers
}

fn mac_text(mac: Option<[u8; 6]>) -> String {
    mac.map_or_else(|| "unknown".to_owned(), |bytes| bytes.map(|byte| format!("{byte:02x}")).join(":"))
}
