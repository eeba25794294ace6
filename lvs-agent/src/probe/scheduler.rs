//! Runs the baseline checks: the thin shell of time and tasks around the pure [`Schedule`].

use std::{
    num::NonZeroUsize,
    sync::{
        Arc,
        atomic::{AtomicU32, AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use tokio::{
    select,
    sync::mpsc,
    task::{JoinError, JoinHandle},
    time,
};
use tokio_util::{sync::CancellationToken, task::JoinMap};

use super::{Ask, Outcome, ProbeTarget, Verdict, schedule::Schedule};
use crate::{
    keyed::KeyMap,
    model::{Check, CheckKind},
};

/// How many commands may wait: the scheduler takes them at once, so this only has to smooth a burst of changes.
const COMMANDS: usize = 64;
/// A check that starts so long after it was due is late. Timers have a resolution of 1 ms, and the scheduler has other
/// checks to start.
const LATE: Duration = Duration::from_millis(10);

/// With less than this part of its timeout left, a question is not asked after a connection that failed.
const ENOUGH_PART: u32 = 4;

/// The caller's name for a baseline check. Not to be used again for another one: a result may still be on its way.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct CheckId(pub u32);

/// A question that is asked again and again. Whoever needs the same answer shares the check: the scheduler asks each of
/// its checks, and doesn't compare them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BaselineCheck {
    /// Its name.
    pub id: CheckId,
    /// Whom it asks.
    pub target: ProbeTarget,
    /// What, how often and how long. Shared by all servers of a service.
    pub check: Arc<Check>,
}

/// What came of one run of a check.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CheckResult {
    /// Which check.
    pub id: CheckId,
    /// When it started.
    pub started: Instant,
    /// How long after it was due.
    pub late: Duration,
    /// Whether the question itself was asked, not only for a connection ([`Check::connects_between`]).
    pub whole: bool,
    /// What came of it.
    pub outcome: Outcome,
}

/// How the checks are going. Monotonic.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Checks that were started.
    pub started: u64,
    /// Those of them that started more than 10 ms after they were due: all slots were taken, or the director is busy.
    pub late: u64,
}

/// The scheduler has stopped: on request, or because nobody takes its results any more.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the scheduler of the checks has stopped")]
pub struct Stopped;

/// A running scheduler. Ends with the token that it was given, when its results are no longer received, or when this
/// value is dropped; checks that are under way end with it.
#[derive(Debug)]
pub struct Scheduler {
    commands: mpsc::Sender<Command>,
    counters: Arc<Counters>,
    task: JoinHandle<()>,
}

impl Scheduler {
    /// How many checks may be under way at once unless there is reason for another number: 10,000 servers that are
    /// asked each second and answer within 100 ms take 1000. Each takes a file descriptor.
    pub const DEFAULT_LIMIT: NonZeroUsize = NonZeroUsize::new(1024).unwrap();

    /// Starts asking. The first run of each check comes within its interval.
    ///
    /// `limit` is how many checks may be under way at once; the others wait and are counted as late. A check keeps its
    /// place until its result is taken from `results`, so a slow receiver slows the checks down and nothing piles up.
    pub fn spawn<A: Ask>(
        checks: Vec<BaselineCheck>,
        asker: A,
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
            asker,
            results,
            counters: counters.clone(),
        };
        for check in checks {
            runner.add(check);
        }
        let task = tokio::spawn(runner.run(receiver, shutdown));
        Self { commands, counters, task }
    }

    /// Adds a check. One with the same id is replaced.
    pub async fn add(&self, check: BaselineCheck) -> Result<(), Stopped> {
        self.send(Command::Add(check)).await
    }

    /// Takes a check out; if it is under way, it ends. A result may still be on its way.
    pub async fn remove(&self, id: CheckId) -> Result<(), Stopped> {
        self.send(Command::Remove(id)).await
    }

    /// Asks more or less often from now on. The timeout stays: a check that takes longer than the new interval starts
    /// again when it ends.
    pub async fn set_interval(&self, id: CheckId, interval: Duration) -> Result<(), Stopped> {
        self.send(Command::SetInterval(id, interval)).await
    }

    /// A way to change the pace of the checks without waiting. While there is one, dropping the scheduler doesn't end it.
    #[must_use]
    pub fn handle(&self) -> SchedulerHandle {
        SchedulerHandle { commands: self.commands.clone() }
    }

    /// How the checks are going.
    #[must_use]
    pub fn counts(&self) -> Counts {
        Counts {
            started: self.counters.started.load(Ordering::Relaxed),
            late: self.counters.late.load(Ordering::Relaxed),
        }
    }

    /// Waits until it has stopped, which takes no longer than it takes the checks under way to be dropped.
    pub async fn stopped(self) -> Result<(), JoinError> {
        self.task.await
    }

    async fn send(&self, command: Command) -> Result<(), Stopped> {
        self.commands.send(command).await.map_err(|_| Stopped)
    }
}

/// Changes the pace of checks without waiting, and which checks there are.
#[derive(Clone, Debug)]
pub struct SchedulerHandle {
    commands: mpsc::Sender<Command>,
}

impl SchedulerHandle {
    /// As [`Scheduler::set_interval`]; says whether it was taken: there may be no room just now.
    #[must_use]
    pub fn try_set_interval(&self, id: CheckId, interval: Duration) -> bool {
        self.commands.try_send(Command::SetInterval(id, interval)).is_ok()
    }

    /// Takes checks out and adds others, all at once: waits for no more than room for one command, which the scheduler
    /// makes whatever becomes of its results.
    pub async fn exchange(&self, added: Vec<BaselineCheck>, removed: Vec<CheckId>) -> Result<(), Stopped> {
        self.commands.send(Command::Exchange { added, removed }).await.map_err(|_| Stopped)
    }
}

/// What can be changed while it runs.
#[derive(Debug)]
enum Command {
    Add(BaselineCheck),
    Remove(CheckId),
    Exchange { added: Vec<BaselineCheck>, removed: Vec<CheckId> },
    SetInterval(CheckId, Duration),
}

#[derive(Debug, Default)]
struct Counters {
    started: AtomicU64,
    late: AtomicU64,
}

/// The scheduler's task.
struct Runner<A> {
    schedule: Schedule,
    checks: KeyMap<CheckId, Turns>,
    running: JoinMap<CheckId, ()>,
    limit: usize,
    asker: A,
    results: mpsc::Sender<CheckResult>,
    counters: Arc<Counters>,
}

impl<A: Ask> Runner<A> {
    /// Until it is told to stop. Nothing in the loop waits for the receiver of the results: it may itself be waiting
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
                    Some(command) => self.obey(command),
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
            if let Some(turns) = self.checks.get(&due.id) {
                let task = ask(self.asker.clone(), turns.clone(), due.late, self.results.clone());
                // On its way into a task a future is moved several times.
                self.running.spawn(due.id, Box::pin(task));
            }
        }
    }

    fn obey(&mut self, command: Command) {
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
        self.checks.insert(check.id, Turns::new(check));
    }

    /// A check has ended. One that was aborted isn't in the schedule any more, or is in it anew.
    fn ended(&mut self, id: CheckId, ended: Result<(), JoinError>) {
        if let Err(error) = ended
            && error.is_panic()
        {
            tracing::error!(check = id.0, %error, "a check panicked; it will be asked again");
        }
        self.schedule.finished(id, now());
    }
}

/// A check, and whose turn it is: the question's, or a connection's before the next time that it is.
#[derive(Clone, Debug)]
struct Turns {
    check: Arc<BaselineCheck>,
    /// How many connections are left before the question. Only the one run at a time looks at it.
    connects: Arc<AtomicU32>,
}

impl Turns {
    /// The question comes first.
    fn new(check: BaselineCheck) -> Self {
        Self { check: Arc::new(check), connects: Arc::new(AtomicU32::new(0)) }
    }

    /// Asks what is to be asked now. A connection that fails brings the question at once, which then decides, as long as the
    /// check has time for it; otherwise it is asked the next time.
    async fn ask<A: Ask>(&self, asker: &A, started: Instant) -> (bool, Outcome) {
        let BaselineCheck { target, check, .. } = &*self.check;
        let mut left = check.timeout;
        if let Some(connects) = self.connects.load(Ordering::Relaxed).checked_sub(1) {
            let outcome = asker.ask(*target, &CheckKind::Connect, check.timeout).await;
            if Verdict::of(&outcome) != Verdict::Dead {
                self.connects.store(connects, Ordering::Relaxed);
                return (false, outcome);
            }
            self.connects.store(0, Ordering::Relaxed);
            left = left.saturating_sub(now().saturating_duration_since(started));
            if left < check.timeout / ENOUGH_PART {
                return (false, outcome);
            }
        }
        let outcome = asker.ask(*target, &check.kind, left).await;
        if outcome.is_ok() {
            self.connects.store(check.connects_between, Ordering::Relaxed);
        }
        (true, outcome)
    }
}

/// One run of a check, until its result is taken.
async fn ask<A: Ask>(asker: A, turns: Turns, late: Duration, results: mpsc::Sender<CheckResult>) {
    let started = now();
    let (whole, outcome) = turns.ask(&asker, started).await;
    let id = turns.check.id;
    if results.send(CheckResult { id, started, late, whole, outcome }).await.is_err() {
        tracing::debug!(check = id.0, "nobody takes the results of checks any more");
    }
}

/// The time. Follows tokio's clock, which tests can stop.
fn now() -> Instant {
    time::Instant::now().into_std()
}

/// Waits until then, or for ever.
async fn sleep_until(at: Option<Instant>) {
    match at {
        Some(at) => time::sleep_until(at.into()).await,
        None => std::future::pending().await,
    }
}

#[cfg(test)]
mod tests {
    use std::{
        collections::BTreeMap,
        net::{Ipv4Addr, SocketAddr},
        sync::{
            Mutex,
            atomic::{AtomicBool, AtomicUsize},
        },
    };

    use super::*;
    use crate::{
        model::CheckKind,
        probe::{Failure, FailureReason, Phase, Success},
    };

    const SECOND: Duration = Duration::from_secs(1);

    /// Answers after a time that the target's port gives, in milliseconds; port 1 panics.
    #[derive(Clone, Default)]
    struct Invented {
        under_way: Arc<AtomicUsize>,
        most: Arc<AtomicUsize>,
    }

    /// Counts a check as under way while it lives.
    struct UnderWay(Arc<AtomicUsize>);

    impl Drop for UnderWay {
        fn drop(&mut self) {
            self.0.fetch_sub(1, Ordering::SeqCst);
        }
    }

    impl Ask for Invented {
        async fn ask(&self, target: ProbeTarget, _question: &CheckKind, timeout: Duration) -> Outcome {
            let now = self.under_way.fetch_add(1, Ordering::SeqCst) + 1;
            let _under_way = UnderWay(self.under_way.clone());
            self.most.fetch_max(now, Ordering::SeqCst);
            assert_ne!(target.address.port(), 1, "invented");
            let latency = Duration::from_millis(target.address.port().into());
            time::sleep(latency.min(timeout)).await;
            let failure =
                Failure { reason: FailureReason::TimedOut { phase: Phase::Connect }, after: timeout };
            if latency < timeout {
                Ok(Success { latency, connect: None, weight: None })
            } else {
                Err(failure)
            }
        }
    }

    /// A check each second that takes so many milliseconds.
    fn check(id: u32, takes: u16) -> BaselineCheck {
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, takes));
        BaselineCheck { id: CheckId(id), target: ProbeTarget::at(address), check: Arc::default() }
    }

    struct Running {
        asker: Invented,
        scheduler: Scheduler,
        results: mpsc::Receiver<CheckResult>,
        shutdown: CancellationToken,
    }

    fn start(checks: Vec<BaselineCheck>, limit: usize, room: usize) -> Running {
        let (sender, results) = mpsc::channel(room);
        let (asker, shutdown) = (Invented::default(), CancellationToken::new());
        let limit = NonZeroUsize::new(limit).unwrap();
        let scheduler = Scheduler::spawn(checks, asker.clone(), limit, sender, shutdown.clone());
        Running { asker, scheduler, results, shutdown }
    }

    impl Running {
        /// How many results of each check come within `time`.
        async fn results_within(&mut self, time: Duration) -> BTreeMap<u32, Vec<CheckResult>> {
            let end = time::Instant::now() + time;
            let mut all: BTreeMap<u32, Vec<CheckResult>> = BTreeMap::new();
            while let Ok(Some(result)) = time::timeout_at(end, self.results.recv()).await {
                all.entry(result.id.0).or_default().push(result);
            }
            all
        }
    }

    #[tokio::test(start_paused = true)]
    async fn each_check_is_asked_every_interval() {
        let mut running = start((0..100).map(|id| check(id, 20)).collect(), 1024, 16);
        let results = running.results_within(10 * SECOND).await;
        assert_eq!(results.len(), 100);
        for (id, results) in &results {
            assert!((9..=10).contains(&results.len()), "{id}: {}", results.len());
            assert!(results.iter().all(|result| result.outcome.is_ok()));
        }
        assert!(running.asker.most.load(Ordering::SeqCst) < 10, "the starts are not spread");
        assert_eq!(running.scheduler.counts().late, 0);
    }

    #[tokio::test(start_paused = true)]
    async fn a_hung_check_holds_up_no_other() {
        let mut running = start(vec![check(1, 20), check(2, 60_000)], 1024, 16);
        let results = running.results_within(10 * SECOND).await;
        assert!((9..=10).contains(&results[&1].len()));
        let hung = &results[&2];
        assert!((8..=10).contains(&hung.len()), "{}", hung.len());
        assert!(hung.iter().all(|result| result.outcome.is_err()));
        for pair in hung.windows(2) {
            assert!(pair[1].started - pair[0].started >= SECOND, "overlaps itself");
        }
        assert_eq!(running.scheduler.counts().late, 0, "it was in nobody's way, not even its own");
    }

    #[tokio::test(start_paused = true)]
    async fn no_more_than_the_limit_are_under_way() {
        let mut running = start((0..10).map(|id| check(id, 500)).collect(), 2, 16);
        let results = running.results_within(10 * SECOND).await;
        assert_eq!(running.asker.most.load(Ordering::SeqCst), 2);
        // Two slots have time for four checks a second of the ten that are wanted; each gets its turn.
        let total: usize = results.values().map(Vec::len).sum();
        assert!((36..=40).contains(&total), "{total}");
        assert!(results.len() == 10 && results.values().all(|results| results.len() >= 2), "{results:?}");
        let counts = running.scheduler.counts();
        assert!(counts.late > 20 && counts.late <= counts.started, "{counts:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn a_slow_receiver_slows_checks_down_but_no_command() {
        let mut running = start((0..10).map(|id| check(id, 20)).collect(), 4, 1);
        time::sleep(10 * SECOND).await;
        // One result is in the channel, and as many checks as there are slots wait for room.
        assert_eq!(running.scheduler.counts().started, 5);
        for id in 10..200 {
            running.scheduler.add(check(id, 20)).await.unwrap();
        }
        for id in 0..200 {
            running.scheduler.remove(CheckId(id)).await.unwrap();
        }
        running.scheduler.add(check(1000, 20)).await.unwrap();
        let results = running.results_within(10 * SECOND).await;
        assert!((9..=10).contains(&results[&1000].len()), "{results:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn checks_come_and_go_and_change_their_pace() {
        let mut running = start(vec![check(1, 20), check(2, 20)], 1024, 16);
        running.results_within(3 * SECOND).await;
        running.scheduler.set_interval(CheckId(1), SECOND / 10).await.unwrap();
        running.scheduler.remove(CheckId(2)).await.unwrap();
        running.scheduler.add(check(3, 20)).await.unwrap();
        let results = running.results_within(4 * SECOND).await;
        assert!((38..=41).contains(&results[&1].len()), "{}", results[&1].len());
        assert!(!results.contains_key(&2));
        assert!((3..=4).contains(&results[&3].len()));
    }

    #[tokio::test(start_paused = true)]
    async fn a_removed_check_ends_and_one_replaced_starts_anew() {
        let mut running = start(vec![check(1, 900), check(2, 900)], 1024, 16);
        while running.asker.under_way.load(Ordering::SeqCst) < 2 {
            time::sleep(Duration::from_millis(1)).await;
        }
        running.scheduler.remove(CheckId(1)).await.unwrap();
        running.scheduler.add(check(2, 20)).await.unwrap();
        let results = running.results_within(5 * SECOND).await;
        assert!(!results.contains_key(&1));
        let latencies = results[&2].iter().map(|result| result.outcome.clone().unwrap().latency);
        assert!(latencies.into_iter().all(|latency| latency == Duration::from_millis(20)));
    }

    /// Answers the question only while it is `well`, and connections only while it `listens`; both at once.
    #[derive(Clone, Default)]
    struct Server {
        well: Arc<AtomicBool>,
        listens: Arc<AtomicBool>,
        asked: Arc<Mutex<Vec<CheckKind>>>,
    }

    impl Ask for Server {
        async fn ask(&self, _target: ProbeTarget, question: &CheckKind, timeout: Duration) -> Outcome {
            self.asked.lock().unwrap().push(question.clone());
            let answers = if *question == CheckKind::Connect { &self.listens } else { &self.well };
            if answers.load(Ordering::SeqCst) {
                return Ok(Success { latency: Duration::ZERO, connect: None, weight: None });
            }
            // A question that fails says with how much time.
            Err(Failure { reason: FailureReason::Refused, after: timeout })
        }
    }

    #[tokio::test(start_paused = true)]
    async fn connections_between_questions() {
        let page = CheckKind::Off;
        let asked = Check { kind: page.clone(), connects_between: 3, ..Check::default() };
        let check = BaselineCheck {
            id: CheckId(1),
            target: ProbeTarget::at((Ipv4Addr::LOCALHOST, 80).into()),
            check: asked.into(),
        };
        let server = Server::default();
        server.well.store(true, Ordering::SeqCst);
        server.listens.store(true, Ordering::SeqCst);
        let (sender, mut results) = mpsc::channel(1);
        let limit = NonZeroUsize::MIN;
        let shutdown = CancellationToken::new();
        let _scheduler = Scheduler::spawn(vec![check], server.clone(), limit, sender, shutdown);
        let mut next = async || results.recv().await.map(|result| (result.whole, result.outcome.is_ok()));
        for _ in 0..2 {
            assert_eq!(next().await, Some((true, true)), "the question comes first, and again");
            for _ in 0..3 {
                assert_eq!(next().await, Some((false, true)));
            }
        }
        assert_eq!(next().await, Some((true, true)));
        // Nothing listens, but the question is answered all the same: it decides, at once.
        server.listens.store(false, Ordering::SeqCst);
        server.asked.lock().unwrap().clear();
        assert_eq!(next().await, Some((true, true)));
        assert_eq!(*server.asked.lock().unwrap(), [CheckKind::Connect, page.clone()]);
        server.well.store(false, Ordering::SeqCst);
        server.asked.lock().unwrap().clear();
        for _ in 0..3 {
            assert_eq!(next().await, Some((true, false)));
        }
        let asked = server.asked.lock().unwrap().clone();
        assert_eq!(
            asked,
            [CheckKind::Connect, page.clone(), page.clone(), page],
            "no connections without an answer"
        );
    }

    #[tokio::test(start_paused = true)]
    async fn a_connection_that_takes_all_the_time_leaves_none_for_the_question() {
        let asked = Check { kind: CheckKind::Off, connects_between: 1, ..Check::default() };
        let target = ProbeTarget::at((Ipv4Addr::LOCALHOST, 5000).into());
        let turns = Turns::new(BaselineCheck { id: CheckId(1), target, check: asked.into() });
        turns.connects.store(1, Ordering::Relaxed);
        let begun = now();
        let (whole, outcome) = turns.ask(&Invented::default(), begun).await;
        assert!(!whole && outcome.is_err());
        assert_eq!(now() - begun, SECOND, "the timeout is the whole check's");
        assert!(turns.ask(&Invented::default(), now()).await.0, "the question is next");
    }

    #[tokio::test(start_paused = true)]
    async fn a_pacer_never_waits() {
        let mut running = start(vec![check(1, 20)], 1024, 16);
        let scheduler = running.scheduler.handle();
        assert!(scheduler.try_set_interval(CheckId(1), SECOND / 10));
        let results = running.results_within(4 * SECOND).await;
        assert!(results[&1].len() >= 38, "{}", results[&1].len());
        // Nobody takes a command while nobody else runs.
        let taken = (0..2 * COMMANDS).filter(|_| scheduler.try_set_interval(CheckId(1), SECOND)).count();
        assert_eq!(taken, COMMANDS);
    }

    #[tokio::test(start_paused = true)]
    async fn a_check_that_panics_is_asked_again() {
        let mut running = start(vec![check(1, 1), check(2, 20)], 1024, 16);
        let results = running.results_within(5 * SECOND).await;
        assert!(!results.contains_key(&1) && results[&2].len() >= 4);
        assert!(running.scheduler.counts().started >= 8, "{:?}", running.scheduler.counts());
    }

    #[tokio::test(start_paused = true)]
    async fn it_stops_on_request_and_takes_its_checks_along() {
        let mut running = start(vec![check(1, 900)], 1024, 16);
        while running.asker.under_way.load(Ordering::SeqCst) == 0 {
            time::sleep(Duration::from_millis(1)).await;
        }
        running.shutdown.cancel();
        assert_eq!(running.results.recv().await, None);
        assert_eq!(running.asker.under_way.load(Ordering::SeqCst), 0);
        assert_eq!(running.scheduler.add(check(2, 20)).await, Err(Stopped));
        running.scheduler.stopped().await.unwrap();
    }

    #[tokio::test(start_paused = true)]
    async fn it_stops_when_nobody_listens_or_it_is_dropped() {
        let running = start(vec![check(1, 20)], 1024, 16);
        drop(running.results);
        running.scheduler.stopped().await.unwrap();

        let mut running = start(vec![check(1, 900)], 1024, 16);
        drop(running.scheduler);
        assert_eq!(running.results.recv().await, None);
    }
}
