//! Runs the baseline checks: the tasks and the clock around the pure [`Schedule`].

use std::{
    num::NonZeroUsize,
    sync::{
        Arc,
        atomic::{AtomicU32, AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use tokio::{select, sync::mpsc, task::JoinError};
use tokio_util::{
    sync::CancellationToken,
    task::{AbortOnDropHandle, JoinMap},
};

use super::{
    outcome::{Outcome, Verdict},
    prober::Probe,
    schedule::{CheckId, Schedule},
    target::ProbeTarget,
    timer::{now, sleep_until},
};
use crate::{
    keyed::KeyMap,
    model::{Check, CheckKind},
    supervision,
};

/// How many commands may be queued. The scheduler takes them at once, so this only smooths a burst of changes.
const COMMANDS: usize = 64;
/// A check that starts so long after it was due is late. Timers have a resolution of 1 ms, and the scheduler has other
/// checks to start.
const LATE: Duration = Duration::from_millis(10);

/// After a connect that failed, the full check follows only if at least this part (a quarter) of the timeout is left.
const ENOUGH_PART: u32 = 4;

/// A check that runs at an interval. Services that need the same result share one check: the scheduler runs all that it
/// is given and doesn't look for duplicates.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BaselineCheck {
    /// The caller's number.
    pub id: CheckId,
    /// The server to probe.
    pub target: ProbeTarget,
    /// Kind, interval and timeout. Shared by all servers of a service.
    pub check: Arc<Check>,
}

/// The result of one run of a check.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CheckResult {
    /// The check.
    pub id: CheckId,
    /// When it started.
    pub started: Instant,
    /// How long after it was due it started.
    pub late: Duration,
    /// Whether the full check ran, not only a connect in between ([`Check::connects_between`]).
    pub is_full: bool,
    /// Success, or the reason of the failure.
    pub outcome: Outcome,
}

/// Totals since the start. They only grow.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Checks that were started.
    pub started: u64,
    /// Checks that started more than 10 ms after they were due: all slots were taken, or the director is busy.
    pub late: u64,
}

/// The scheduler has stopped: on request, or because its results are no longer received.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the scheduler of the checks has stopped")]
pub struct Stopped;

/// A running scheduler. Ends with the token that it was given, when its results are no longer received, or when this
/// value is dropped; checks that are under way end with it.
#[derive(Debug)]
pub struct Scheduler {
    commands: mpsc::Sender<Command>,
    counters: Arc<Counters>,
    task: AbortOnDropHandle<()>,
}

impl Scheduler {
    /// The default for how many checks may run at once: 10,000 servers that are checked each second and answer within
    /// 100 ms take 1000. Each takes a file descriptor.
    pub const DEFAULT_LIMIT: NonZeroUsize = NonZeroUsize::new(1024).unwrap();

    /// Starts the scheduler's task. The first run of each check comes within its interval.
    ///
    /// At most `limit` checks run at once; the others wait and are counted as late. A check keeps its slot until its
    /// result is taken from `results`, so a slow receiver slows the checks down and nothing piles up.
    pub fn spawn<P: Probe>(
        checks: Vec<BaselineCheck>,
        prober: P,
        limit: NonZeroUsize,
        results: mpsc::Sender<CheckResult>,
        shutdown: CancellationToken,
    ) -> Self {
        let (commands, receiver) = mpsc::channel(COMMANDS);
        let counters = Arc::new(Counters::default());
        let mut runner = Runner {
            schedule: Schedule::new(now()),
            checks: KeyMap::default(),
            running: JoinMap::new(),
            limit: limit.get(),
            prober,
            results,
            counters: counters.clone(),
        };
        for check in checks {
            runner.add(check);
        }
        let task = supervision::spawn(runner.run(receiver, shutdown));
        Self { commands, counters, task }
    }

    /// Adds a check. One with the same id is replaced.
    pub async fn add(&self, check: BaselineCheck) -> Result<(), Stopped> {
        self.send(Command::Add(check)).await
    }

    /// Removes a check; if it is running, it is aborted. A result may still be queued.
    pub async fn remove(&self, id: CheckId) -> Result<(), Stopped> {
        self.send(Command::Remove(id)).await
    }

    /// Changes a check's interval from now on. The timeout stays: a check that takes longer than the new interval
    /// starts again when it ends.
    pub async fn set_interval(&self, id: CheckId, interval: Duration) -> Result<(), Stopped> {
        self.send(Command::SetInterval(id, interval)).await
    }

    /// A handle that changes checks without waiting.
    #[must_use]
    pub fn handle(&self) -> SchedulerHandle {
        SchedulerHandle { commands: self.commands.clone() }
    }

    /// How many checks have started, and how many of them late.
    #[must_use]
    pub fn counts(&self) -> Counts {
        Counts {
            started: self.counters.started.load(Ordering::Relaxed),
            late: self.counters.late.load(Ordering::Relaxed),
        }
    }

    /// Waits until the task has ended. An error means that it panicked.
    pub async fn stopped(self) -> Result<(), JoinError> {
        self.task.await
    }

    async fn send(&self, command: Command) -> Result<(), Stopped> {
        self.commands.send(command).await.map_err(|_| Stopped)
    }
}

/// Changes the intervals of checks without waiting, and which checks there are.
#[derive(Clone, Debug)]
pub struct SchedulerHandle {
    commands: mpsc::Sender<Command>,
}

impl SchedulerHandle {
    /// As [`Scheduler::set_interval`], without waiting. `false`: the queue of commands is full, and nothing changes.
    #[must_use]
    pub fn try_set_interval(&self, id: CheckId, interval: Duration) -> bool {
        self.commands.try_send(Command::SetInterval(id, interval)).is_ok()
    }

    /// Makes checks now rather than when they are due next, without waiting. If the queue of commands is full they come
    /// when they are due.
    pub fn check_now(&self, ids: Vec<CheckId>) {
        if !ids.is_empty() && self.commands.try_send(Command::CheckNow(ids)).is_err() {
            tracing::debug!("checks are not brought forward: the queue of commands is full");
        }
    }

    /// Removes and adds checks in one step. Waits only for room in the queue of commands, which the scheduler makes
    /// even while its results aren't received.
    pub async fn exchange(&self, added: Vec<BaselineCheck>, removed: Vec<CheckId>) -> Result<(), Stopped> {
        self.commands.send(Command::Exchange { added, removed }).await.map_err(|_| Stopped)
    }
}

/// A change of a running scheduler.
#[derive(Debug)]
enum Command {
    Add(BaselineCheck),
    Remove(CheckId),
    Exchange { added: Vec<BaselineCheck>, removed: Vec<CheckId> },
    SetInterval(CheckId, Duration),
    CheckNow(Vec<CheckId>),
}

#[derive(Debug, Default)]
struct Counters {
    started: AtomicU64,
    late: AtomicU64,
}

/// The state of the scheduler's task.
struct Runner<P> {
    schedule: Schedule,
    checks: KeyMap<CheckId, Alternation>,
    running: JoinMap<CheckId, ()>,
    limit: usize,
    prober: P,
    results: mpsc::Sender<CheckResult>,
    counters: Arc<Counters>,
}

impl<P: Probe> Runner<P> {
    /// Runs until it is stopped. Nothing in the loop waits for the receiver of the results, which may itself be waiting
    /// for a command to be taken.
    async fn run(mut self, mut commands: mpsc::Receiver<Command>, shutdown: CancellationToken) {
        let results = self.results.clone();
        loop {
            self.start_due();
            let has_slot = self.running.len() < self.limit;
            let next = self.schedule.next().filter(|_| has_slot);
            select! {
                () = shutdown.cancelled() => break,
                () = results.closed() => break,
                command = commands.recv() => match command {
                    Some(command) => self.apply(command),
                    None => break,
                },
                Some((id, ended)) = self.running.join_next() => self.ended(id, ended),
                () = sleep_until(next) => {}
            }
        }
        self.running.shutdown().await;
    }

    /// Starts what is due, as long as there are slots.
    fn start_due(&mut self) {
        let now = now();
        while self.running.len() < self.limit
            && let Some(due) = self.schedule.start(now)
        {
            self.counters.started.fetch_add(1, Ordering::Relaxed);
            if due.late > LATE {
                self.counters.late.fetch_add(1, Ordering::Relaxed);
            }
            if let Some(check) = self.checks.get(&due.id) {
                let task = run_once(self.prober.clone(), check.clone(), due.late, self.results.clone());
                // Boxed: a future is moved several times on its way into a task.
                self.running.spawn(due.id, Box::pin(task));
            }
        }
    }

    fn apply(&mut self, command: Command) {
        match command {
            Command::Add(check) => self.add(check),
            Command::Remove(id) => self.remove(id),
            Command::Exchange { added, removed } => {
                for id in removed {
                    self.remove(id);
                }
                for check in added {
                    self.add(check);
                }
            }
            Command::SetInterval(id, interval) => self.schedule.set_interval(id, interval, now()),
            Command::CheckNow(ids) => ids.into_iter().for_each(|id| self.schedule.bring_forward(id, now())),
        }
    }

    fn remove(&mut self, id: CheckId) {
        self.schedule.remove(id);
        self.checks.remove(&id);
        self.running.abort(&id);
    }

    fn add(&mut self, check: BaselineCheck) {
        self.running.abort(&check.id);
        self.schedule.add(check.id, check.check.interval, now());
        self.checks.insert(check.id, Alternation::new(check));
    }

    /// A check has ended. One that was aborted isn't in the schedule any more, or is in it anew.
    fn ended(&mut self, id: CheckId, ended: Result<(), JoinError>) {
        if let Err(error) = ended
            && error.is_panic()
        {
            tracing::error!(check = id.0, %error, "a check panicked; it will run again");
        }
        self.schedule.finished(id, now());
    }
}

/// A check, and what runs next: the full check, or a connect in between ([`Check::connects_between`]).
#[derive(Clone, Debug)]
struct Alternation {
    check: Arc<BaselineCheck>,
    /// How many connects come before the next full check. A check runs once at a time, so nobody else writes this.
    connects_left: Arc<AtomicU32>,
}

impl Alternation {
    /// The full check comes first.
    fn new(check: BaselineCheck) -> Self {
        Self { check: Arc::new(check), connects_left: Arc::new(AtomicU32::new(0)) }
    }

    /// Runs what is next; returns whether that was the full check, and its outcome. If a connect fails, the full check
    /// follows at once and decides, as long as the timeout leaves time for it; otherwise it comes the next time.
    async fn run<P: Probe>(&self, prober: &P, started: Instant) -> (bool, Outcome) {
        let BaselineCheck { target, check, .. } = &*self.check;
        let mut left = check.timeout;
        if let Some(connects) = self.connects_left.load(Ordering::Relaxed).checked_sub(1) {
            let outcome = prober.probe(*target, &CheckKind::Connect, check.timeout).await;
            if Verdict::of(&outcome) != Verdict::Dead {
                self.connects_left.store(connects, Ordering::Relaxed);
                return (false, outcome);
            }
            self.connects_left.store(0, Ordering::Relaxed);
            left = left.saturating_sub(now().saturating_duration_since(started));
            if left < check.timeout / ENOUGH_PART {
                return (false, outcome);
            }
        }
        let outcome = prober.probe(*target, &check.kind, left).await;
        if outcome.is_ok() {
            self.connects_left.store(check.connects_between, Ordering::Relaxed);
        }
        (true, outcome)
    }
}

/// One run of a check, until its result is taken.
async fn run_once<P: Probe>(
    prober: P,
    check: Alternation,
    late: Duration,
    results: mpsc::Sender<CheckResult>,
) {
    let started = now();
    let (is_full, outcome) = check.run(&prober, started).await;
    let id = check.check.id;
    if results.send(CheckResult { id, started, late, is_full, outcome }).await.is_err() {
        tracing::debug!(check = id.0, "the results of checks are no longer received");
    }
}

#[cfg(test)]
mod tests;
