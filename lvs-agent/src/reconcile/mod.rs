//! The one task that writes to the kernel's table: always the difference between what is there and what is wanted, the
//! urgent first. It looks at the table again and again, and repairs what others have changed.

mod adopted;
mod backoff;
mod contention;
mod desired;
mod executor;
mod interference;
mod planner;
mod poller;
pub(crate) mod sysctl;

use crate::event::{Event, Publisher};
use std::{
    sync::Arc,
    time::{Duration, Instant},
};
use tracing::warn;

use tokio::{
    sync::watch,
    task::{JoinError, JoinHandle, spawn_blocking},
};
use tokio_util::sync::CancellationToken;

use self::{
    backoff::Failing,
    desired::Changes,
    executor::Executor,
    planner::{Plan, Planner, Rights},
    poller::{TableDelta, TablePoller},
};
pub(crate) use self::{desired::DesiredTable, executor::DryRunLog};
use crate::{
    engine::discovery::{Adopted, adopt},
    ipvs::{
        AppliedEdit, IpvsClient, IpvsError, Table, Wanted,
        overrides::{Overrides, Snapshot},
    },
    model::{Config, Mode},
    netlink::DEFAULT_TIMEOUT,
    state_file::StateWriter,
};

/// How long an edit waits for what is written down before it where that isn't done at once.
const PATIENCE: Duration = Duration::from_millis(2);

/// Keeps the kernel's table in step with what is wanted.
pub(crate) struct Reconciler {
    executor: Executor,
    planner: Planner,
    /// Where it is written down whom this agent holds out.
    state_writer: Option<StateWriter<Overrides>>,
    events: Publisher,
    /// Whether there is something new to write down.
    unwritten: bool,
    seen: watch::Sender<Arc<Snapshot>>,
    desired: DesiredTable,
    poller: Option<TablePoller>,
    /// The look under way.
    looking: Option<JoinHandle<(TablePoller, Result<TableDelta, IpvsError>)>>,
    next_look: Instant,
    /// While nothing can be done to the table.
    outage: Option<Outage>,
}

/// Nothing can be done to the table.
struct Outage {
    failing: Failing,
    /// The reason that was told last.
    told: String,
}

impl Reconciler {
    /// Reads the table; nothing is written yet. `overrides` are those that the last agent has left.
    pub(crate) async fn new(
        mut client: IpvsClient,
        config: &Config,
        overrides: Overrides,
        state_writer: Option<StateWriter<Overrides>>,
        events: Publisher,
    ) -> Result<Self, IpvsError> {
        let known = client.table().await?;
        let observes = config.agent.mode == Mode::Observe;
        let rights = Rights { adopts: config.adopts(), dry_run: observes.then(|| known.clone()) };
        let executor = if observes {
            Executor::observing(events.clone())
        } else {
            Executor::applying(client, events.clone())
        };
        let planner = Planner::new(known, config.agent.foreign, rights, overrides);
        let (seen, _) = watch::channel(Arc::new(planner.see()));
        Ok(Self {
            executor,
            planner,
            state_writer,
            events,
            unwritten: false,
            seen,
            desired: DesiredTable::default(),
            poller: Some(TablePoller::new(DEFAULT_TIMEOUT)),
            looking: None,
            next_look: Instant::now(),
            outage: None,
        })
    }

    /// The services of the table as it is.
    pub(crate) fn adopt(&self, config: &Config) -> Adopted {
        let Snapshot { table, overrides } = self.planner.see();
        adopt(&table, &overrides, config)
    }

    /// The table as it is, and as others change it.
    pub(crate) fn seen(&self) -> watch::Receiver<Arc<Snapshot>> {
        self.seen.subscribe()
    }

    /// The edits that would have been made; `None` where they are made.
    pub(crate) fn dry_run(&self) -> Option<DryRunLog> {
        self.executor.dry_run()
    }

    /// The table as last read, with the edits since.
    pub(crate) fn known(&self) -> &Table {
        self.planner.known()
    }

    /// Where what is wanted from now on is to be written.
    pub(crate) fn desired(&self) -> DesiredTable {
        self.desired.clone()
    }

    /// Makes the table as wanted, as far as it can be; what can't is logged and tried again by [`Reconciler::run`].
    pub(crate) async fn write(&mut self, wanted: Wanted) {
        self.planner.want(Changes { whole: Some(wanted), ..Changes::default() }, Instant::now());
        while self.step().await {}
    }

    /// Reconciles until `shutdown`; then makes the table as `last` wants it, if it wants anything.
    pub(crate) async fn run(mut self, shutdown: CancellationToken, last: impl FnOnce() -> Option<Wanted>) {
        let desired = self.desired.clone();
        let mut taken = 0;
        while !shutdown.is_cancelled() {
            if desired.has_news() {
                let changes = desired.take();
                taken = changes.number;
                self.planner.want(changes, Instant::now());
            }
            if self.step().await {
                continue;
            }
            desired.rest(taken, self.outage.is_none() && !self.planner.is_failing());
            self.write_down();
            tokio::select! {
                () = shutdown.cancelled() => break,
                () = desired.news() => {}
                ended = look_end(&mut self.looking), if self.looking.is_some() => self.looked(ended),
                () = tokio::time::sleep_until(self.next_look.into()), if self.looking.is_none() => self.look(),
            }
        }
        if let Some(last) = last() {
            self.planner.keep_foreign();
            // A failure has been logged; there is no later time to try again.
            self.write(last).await;
        }
        self.write_down();
    }

    /// Saves the overrides, if that is new.
    fn write_down(&mut self) {
        if let Some(state_writer) = self.state_writer.as_ref().filter(|_| self.unwritten) {
            // Nobody waits for that.
            drop(state_writer.keep(self.planner.overrides()));
        }
        self.unwritten = false;
    }

    /// Notes what is about to be done. Where the table is the only one to know a server's own weight, that is written down
    /// before it is changed.
    async fn expect(&mut self, plan: &Plan) {
        if !self.planner.expect(plan) {
            return;
        }
        match &self.state_writer {
            Some(state_writer) if self.planner.adopts() => {
                state_writer.keep(self.planner.overrides()).written(PATIENCE).await
            }
            _ => self.unwritten = true,
        }
    }

    /// Does the next thing that there is to do; whether there was one.
    async fn step(&mut self) -> bool {
        if self.outage.is_some() {
            return false;
        }
        let Some(plan) = self.planner.next() else { return false };
        self.edit(plan).await;
        true
    }

    /// Makes the edits of one service, as long as there is nothing more urgent. Every edit of the kernel's table goes
    /// through here.
    async fn edit(&mut self, plan: Plan) {
        self.expect(&plan).await;
        let (desired, urgent) = (self.desired.clone(), plan.is_urgent());
        let Plan { service, edits, .. } = plan;
        let planned = edits.len();
        let ends = move |made: &AppliedEdit| made.outcome.is_err() || desired.has_news();
        let all = match self.executor.apply_each(edits, ends).await {
            Ok(all) => all,
            Err(error) => return self.out_of_reach(&error.to_string()),
        };
        let (tried, mut clean) = (all.len(), true);
        for made in all {
            match &made.outcome {
                Ok(()) => {
                    self.executor.publish(&made);
                    self.unwritten |= self.planner.made(&made.edit);
                }
                Err(error) => {
                    clean = false;
                    self.failed(&made, error);
                }
            }
        }
        if clean && tried == planned {
            self.planner.done(&service);
        } else if clean {
            self.planner.left(service, urgent);
        }
    }

    fn failed(&mut self, made: &AppliedEdit, error: &IpvsError) {
        let now = Instant::now();
        self.planner.failed(&made.edit, error, now);
        if backoff::is_of_all(error) {
            return self.out_of_reach(&error.to_string());
        }
        let again = self.planner.tried_again(&made.edit.service());
        self.events.publish(Event::EditFailed {
            edit: made.edit.clone(),
            error: error.to_string(),
            again: again.map(|at| at.saturating_duration_since(now)),
        });
        self.look_soon();
    }

    /// Nothing is tried until some time has passed.
    fn out_of_reach(&mut self, why: &str) {
        let before = self.outage.take();
        let failing =
            Failing::after(before.as_ref().map(|outage| outage.failing), backoff::WHOLE, Instant::now());
        if before.is_none_or(|outage| outage.told != why) {
            self.events.publish(Event::TableUnreachable { reason: why.to_owned() });
        }
        self.next_look = failing.until;
        self.outage = Some(Outage { failing, told: why.to_owned() });
    }

    fn look_soon(&mut self) {
        if let (Some(poller), None) = (&self.poller, &self.outage) {
            self.next_look = self.next_look.min(Instant::now() + poller.pause(true));
        }
    }

    /// Begins to read the table, elsewhere: that can take long.
    fn look(&mut self) {
        let mut poller = self.poller.take().unwrap_or_else(|| TablePoller::new(DEFAULT_TIMEOUT));
        let recheck = self.planner.begin_look();
        self.looking = Some(spawn_blocking(move || {
            let look = poller.look(&recheck);
            (poller, look)
        }));
    }

    /// The table was read, or could not be.
    fn looked(&mut self, ended: Result<(TablePoller, Result<TableDelta, IpvsError>), JoinError>) {
        self.looking = None;
        let (poller, look) = match ended {
            Ok(ended) => ended,
            Err(error) => return self.out_of_reach(&error.to_string()),
        };
        let pause = poller.pause(false);
        self.poller = Some(poller);
        match look {
            Ok(look) => {
                if self.outage.take().is_some() {
                    self.events.publish(Event::TableReachable);
                }
                let now = Instant::now();
                let findings = self.planner.looked(look, now);
                self.events.publish_all(interference::events(findings, now));
                if self.planner.adopts()
                    && let Some(seen) = self.planner.seen()
                {
                    self.seen.send_replace(Arc::new(seen));
                }
                self.next_look = now + pause;
            }
            Err(error) if backoff::is_of_all(&error) => self.out_of_reach(&error.to_string()),
            Err(error) => {
                warn!("reading the table again: {error}");
                self.next_look = Instant::now() + pause;
            }
        }
        if self.planner.is_in_doubt() {
            self.look_soon();
        }
    }
}

/// Waits for the end of a look, if there is one.
async fn look_end<T>(looking: &mut Option<JoinHandle<T>>) -> Result<T, JoinError> {
    match looking {
        Some(looking) => looking.await,
        None => std::future::pending().await,
    }
}
