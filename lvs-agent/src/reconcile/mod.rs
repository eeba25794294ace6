//! The one writer of the kernel's table. It applies the difference between the table and the desired one, urgent
//! services first, polls the table, and repairs what other programs have changed. Nothing else in the agent edits the
//! table, and nothing here decides about health.

mod adopted;
mod backoff;
mod contention;
mod desired;
mod executor;
mod interference;
mod planner;
mod poller;
pub(crate) mod sync_daemons;
pub(crate) mod sysctl;

use crate::event::{Event, Publisher};
use std::{
    collections::{BTreeSet, HashMap},
    sync::Arc,
    time::{Duration, Instant},
};
use tracing::warn;

use tokio::{
    sync::{mpsc, watch},
    task::{JoinError, JoinHandle, spawn_blocking},
};
use tokio_util::sync::CancellationToken;

use self::{
    backoff::Failures,
    desired::Changes,
    executor::Executor,
    planner::{Lanes, Plan, Planner, Rights},
    poller::{TableDelta, TablePoller},
};
pub(crate) use self::{desired::DesiredTable, executor::DryRunLog};
use crate::{
    engine::discovery::{Adopted, adopt},
    ipvs::{
        AppliedEdit, IpvsClient, IpvsError, Wanted,
        overrides::{Overrides, Snapshot},
    },
    messages::WeightsRequest,
    model::{Config, Mode, ServiceKey},
    netlink::DEFAULT_TIMEOUT,
    state_file::StateWriter,
};

/// How long an edit waits until the overrides before it are saved, where that isn't done at once.
const PATIENCE: Duration = Duration::from_millis(2);

/// Who may wait for the weights: those who come together share one answer.
const ASKING: usize = 4;

/// Keeps the kernel's table as desired.
pub(crate) struct Reconciler {
    executor: Executor,
    planner: Planner,
    /// Saves the overrides.
    state_writer: Option<StateWriter<Overrides>>,
    events: Publisher,
    /// Whether the overrides have changed since they were last saved.
    unsaved: bool,
    snapshots: watch::Sender<Arc<Snapshot>>,
    /// Services of somebody else's where private ones should be, as last told.
    lanes_of_others: BTreeSet<ServiceKey>,
    /// The marks of probes to VIPs that lead to their servers.
    ready: watch::Sender<Arc<BTreeSet<u32>>>,
    desired: DesiredTable,
    poller: Option<TablePoller>,
    poll_in_progress: Option<JoinHandle<(TablePoller, Result<TableDelta, IpvsError>)>>,
    next_poll: Instant,
    /// Set while the table can't be read or edited.
    outage: Option<Outage>,
    asked: mpsc::Sender<WeightsRequest>,
    asking: mpsc::Receiver<WeightsRequest>,
}

/// The table can't be read or edited.
struct Outage {
    failures: Failures,
    /// The reason that was published last.
    reported: String,
}

impl Reconciler {
    /// Reads the table; nothing is written yet. `overrides` are those that the previous agent has saved.
    pub(crate) async fn new(
        mut client: IpvsClient,
        config: &Config,
        overrides: Overrides,
        state_writer: Option<StateWriter<Overrides>>,
        events: Publisher,
    ) -> Result<Self, IpvsError> {
        let known = client.table().await?;
        let is_dry_run = config.agent.mode == Mode::Observe;
        let rights = Rights { adopts: config.adopts(), dry_run: is_dry_run.then(|| known.clone()) };
        let executor = if is_dry_run {
            Executor::observing(events.clone())
        } else {
            Executor::applying(client, config.agent.vip_marks, events.clone())
        };
        let planner = Planner::new(known, config.agent.foreign, rights, overrides, config.agent.vip_marks);
        let (snapshots, _) = watch::channel(Arc::new(planner.snapshot()));
        let (asked, asking) = mpsc::channel(ASKING);
        Ok(Self {
            executor,
            planner,
            state_writer,
            events,
            unsaved: false,
            snapshots,
            lanes_of_others: BTreeSet::new(),
            ready: watch::Sender::default(),
            desired: DesiredTable::default(),
            poller: Some(TablePoller::new(DEFAULT_TIMEOUT)),
            poll_in_progress: None,
            next_poll: Instant::now(),
            outage: None,
            asked,
            asking,
        })
    }

    /// The services that are in the table now.
    pub(crate) fn adopt(&self, config: &Config) -> Adopted {
        let Snapshot { table, overrides } = self.planner.snapshot();
        adopt(&table, &overrides, config)
    }

    /// The table now, and whenever other programs have changed it.
    pub(crate) fn snapshots(&self) -> watch::Receiver<Arc<Snapshot>> {
        self.snapshots.subscribe()
    }

    /// The marks of probes to VIPs that lead to their servers.
    pub(crate) fn ready_lanes(&self) -> watch::Receiver<Arc<BTreeSet<u32>>> {
        self.ready.subscribe()
    }

    /// The edits of a dry run; `None` where edits are made.
    pub(crate) fn dry_run(&self) -> Option<DryRunLog> {
        self.executor.dry_run()
    }

    /// Where the weights in the kernel's table can be asked for: as of the last look, and of the edits since.
    pub(crate) fn weights(&self) -> mpsc::Sender<WeightsRequest> {
        self.asked.clone()
    }

    /// Where the controller writes the desired state.
    pub(crate) fn desired(&self) -> DesiredTable {
        self.desired.clone()
    }

    /// Makes the table as `wanted`, as far as possible; failures are logged and retried by [`Reconciler::run`].
    pub(crate) async fn write(&mut self, wanted: Wanted) {
        self.planner.want(Changes { table: Some(wanted), ..Changes::default() }, Instant::now());
        // No probe may use what is taken away now.
        self.show_ready_lanes();
        while self.step().await {}
        self.show_ready_lanes();
    }

    /// Tells the prober which lanes lead to their servers.
    fn show_ready_lanes(&mut self) {
        let Some(Lanes { ready, of_others }) = self.planner.changed_lanes() else { return };
        for key in of_others.difference(&self.lanes_of_others) {
            warn!(
                "the kernel's table has service {key} of somebody else's, whose mark is that of this agent's probes to a \
                 VIP: it is left alone, and the server is asked at its own address instead; choose other `vip-marks` in \
                 `[agent]`"
            );
        }
        self.lanes_of_others = of_others;
        self.ready.send_if_modified(|before| {
            let is_other = **before != ready;
            if is_other {
                *before = Arc::new(ready);
            }
            is_other
        });
    }

    /// Reconciles until `shutdown`; then makes the table as `last` says, if it says anything.
    pub(crate) async fn run(mut self, shutdown: CancellationToken, last: impl FnOnce() -> Option<Wanted>) {
        let desired = self.desired.clone();
        let mut taken = 0;
        while !shutdown.is_cancelled() {
            if desired.has_changes() {
                let changes = desired.take();
                taken = changes.number;
                self.planner.want(changes, Instant::now());
                self.show_ready_lanes();
            }
            if self.step().await {
                continue;
            }
            self.show_ready_lanes();
            desired.settle(taken, self.outage.is_none() && !self.planner.is_failing());
            self.save_overrides();
            tokio::select! {
                () = shutdown.cancelled() => break,
                () = desired.changed() => {}
                ended = poll_end(&mut self.poll_in_progress), if self.poll_in_progress.is_some() =>
                    self.poll_ended(ended),
                () = tokio::time::sleep_until(self.next_poll.into()), if self.poll_in_progress.is_none() =>
                    self.start_poll(),
                // Never none: this task has a sender itself.
                Some(reply) = self.asking.recv() => self.tell_weights(reply),
            }
        }
        if let Some(last) = last() {
            self.planner.keep_foreign();
            // A failure has been logged; there is no later try.
            self.write(last).await;
        }
        self.save_overrides();
    }

    /// Nothing is known of a table that can't be read.
    fn tell_weights(&self, reply: WeightsRequest) {
        let weights = if self.outage.is_none() { self.planner.weights() } else { HashMap::new() };
        // Who asked may have given up.
        reply.send(weights).ok();
    }

    /// Saves the overrides, if they have changed.
    fn save_overrides(&mut self) {
        if let Some(state_writer) = self.state_writer.as_ref().filter(|_| self.unsaved) {
            // No edit depends on it.
            drop(state_writer.save(self.planner.overrides()));
        }
        self.unsaved = false;
    }

    /// Records the overrides that a plan leads to. Where only the table knows a server's own weight, they are saved
    /// before the weight is changed.
    async fn expect(&mut self, plan: &Plan) {
        if !self.planner.expect(plan) {
            return;
        }
        match &self.state_writer {
            Some(state_writer) if self.planner.adopts() => {
                drop(state_writer.save(self.planner.overrides()).written(PATIENCE).await);
            }
            _ => self.unsaved = true,
        }
    }

    /// Carries out the next plan; `false` if there is none.
    async fn step(&mut self) -> bool {
        if self.outage.is_some() {
            return false;
        }
        let Some(plan) = self.planner.next() else { return false };
        self.edit(plan).await;
        true
    }

    /// Makes the edits of one service until something more urgent is desired. Every edit of the kernel's table goes
    /// through here.
    async fn edit(&mut self, plan: Plan) {
        self.expect(&plan).await;
        let (desired, urgent) = (self.desired.clone(), plan.is_urgent());
        let Plan { service, edits, .. } = plan;
        let planned = edits.len();
        let stop = move |made: &AppliedEdit| made.outcome.is_err() || desired.has_changes();
        let attempts = match self.executor.apply_each(edits, stop).await {
            Ok(attempts) => attempts,
            Err(error) => return self.table_unreachable(&error.to_string()),
        };
        let (tried, mut succeeded) = (attempts.len(), true);
        for made in attempts {
            match &made.outcome {
                Ok(()) => {
                    self.executor.publish(&made);
                    self.unsaved |= self.planner.made(&made.edit);
                }
                Err(error) => {
                    succeeded = false;
                    self.failed(&made, error);
                }
            }
        }
        if succeeded && tried == planned {
            self.planner.done(&service);
        } else if succeeded {
            self.planner.interrupted(service, urgent);
        }
    }

    fn failed(&mut self, made: &AppliedEdit, error: &IpvsError) {
        let now = Instant::now();
        self.planner.failed(&made.edit, error, now);
        if backoff::affects_whole_table(error) {
            return self.table_unreachable(&error.to_string());
        }
        let retry_at = self.planner.retry_at(&made.edit.service());
        self.events.publish(Event::EditFailed {
            edit: made.edit.clone(),
            error: error.to_string(),
            again: retry_at.map(|at| at.saturating_duration_since(now)),
        });
        self.poll_soon();
    }

    /// Makes no edits until the table can be read again, which is tried after a pause.
    fn table_unreachable(&mut self, reason: &str) {
        let before = self.outage.take();
        let previous = before.as_ref().map(|outage| outage.failures);
        let failures = Failures::after(previous, backoff::MAX_PAUSE_TABLE, Instant::now());
        if before.is_none_or(|outage| outage.reported != reason) {
            self.events.publish(Event::TableUnreachable { reason: reason.to_owned() });
        }
        self.next_poll = failures.until;
        self.outage = Some(Outage { failures, reported: reason.to_owned() });
    }

    fn poll_soon(&mut self) {
        if let (Some(poller), None) = (&self.poller, &self.outage) {
            self.next_poll = self.next_poll.min(Instant::now() + poller.pause(true));
        }
    }

    /// Starts to read the table in a thread of its own: that can take long.
    fn start_poll(&mut self) {
        let mut poller = self.poller.take().unwrap_or_else(|| TablePoller::new(DEFAULT_TIMEOUT));
        let recheck = self.planner.poll_started();
        self.poll_in_progress = Some(spawn_blocking(move || {
            let delta = poller.poll(&recheck);
            (poller, delta)
        }));
    }

    /// The table was read, or could not be.
    fn poll_ended(&mut self, ended: Result<(TablePoller, Result<TableDelta, IpvsError>), JoinError>) {
        self.poll_in_progress = None;
        let (poller, delta) = match ended {
            Ok(ended) => ended,
            Err(error) => return self.table_unreachable(&error.to_string()),
        };
        let pause = poller.pause(false);
        self.poller = Some(poller);
        match delta {
            Ok(delta) => {
                if self.outage.take().is_some() {
                    self.events.publish(Event::TableReachable);
                }
                let now = Instant::now();
                let findings = self.planner.observed(delta, now);
                self.events.publish_all(interference::events(findings, now));
                if self.planner.adopts()
                    && let Some(snapshot) = self.planner.changed_snapshot()
                {
                    self.snapshots.send_replace(Arc::new(snapshot));
                }
                self.next_poll = now + pause;
            }
            Err(error) if backoff::affects_whole_table(&error) => self.table_unreachable(&error.to_string()),
            Err(error) => {
                warn!("reading the table again: {error}");
                self.next_poll = Instant::now() + pause;
            }
        }
        if self.planner.needs_recheck() {
            self.poll_soon();
        }
    }
}

/// Waits for the end of a poll, if one is in progress.
async fn poll_end<T>(poll_in_progress: &mut Option<JoinHandle<T>>) -> Result<T, JoinError> {
    match poll_in_progress {
        Some(poll_in_progress) => poll_in_progress.await,
        None => std::future::pending().await,
    }
}
