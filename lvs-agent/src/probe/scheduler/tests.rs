use std::{
    collections::BTreeMap,
    net::{Ipv4Addr, SocketAddr},
    sync::{
        Mutex,
        atomic::{AtomicBool, AtomicUsize},
    },
};

use tokio::time;

use super::*;
use crate::{
    model::CheckKind,
    probe::{Failure, FailureReason, Phase, Success},
};

const SECOND: Duration = Duration::from_secs(1);

/// Answers after a time that the target's port gives, in milliseconds; port 1 panics.
#[derive(Clone, Default)]
struct FakeProber {
    running: Arc<AtomicUsize>,
    most: Arc<AtomicUsize>,
}

/// Counts a probe as running while it lives.
struct RunningProbe(Arc<AtomicUsize>);

impl Drop for RunningProbe {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::SeqCst);
    }
}

impl Probe for FakeProber {
    async fn probe(&self, target: ProbeTarget, _kind: &CheckKind, timeout: Duration) -> Outcome {
        let now = self.running.fetch_add(1, Ordering::SeqCst) + 1;
        let _running = RunningProbe(self.running.clone());
        self.most.fetch_max(now, Ordering::SeqCst);
        assert_ne!(target.address.port(), 1, "the port that panics");
        let latency = Duration::from_millis(target.address.port().into());
        time::sleep(latency.min(timeout)).await;
        let failure = Failure { reason: FailureReason::TimedOut { phase: Phase::Connect }, after: timeout };
        if latency < timeout { Ok(Success { latency, connect: None, weight: None }) } else { Err(failure) }
    }
}

/// A check each second that takes so many milliseconds.
fn check(id: u32, takes: u16) -> BaselineCheck {
    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, takes));
    BaselineCheck { id: CheckId(id), target: ProbeTarget::at(address), check: Arc::default() }
}

struct Running {
    prober: FakeProber,
    scheduler: Scheduler,
    results: mpsc::Receiver<CheckResult>,
    shutdown: CancellationToken,
}

fn start(checks: Vec<BaselineCheck>, limit: usize, room: usize) -> Running {
    let (sender, results) = mpsc::channel(room);
    let (prober, shutdown) = (FakeProber::default(), CancellationToken::new());
    let limit = NonZeroUsize::new(limit).unwrap();
    let scheduler = Scheduler::spawn(checks, prober.clone(), limit, sender, shutdown.clone());
    Running { prober, scheduler, results, shutdown }
}

impl Running {
    /// How many results of each check come within `time`.
    async fn results_within(&mut self, time: Duration) -> BTreeMap<u32, Vec<CheckResult>> {
        let end = time::Instant::now() + time;
        let mut by_check: BTreeMap<u32, Vec<CheckResult>> = BTreeMap::new();
        while let Ok(Some(result)) = time::timeout_at(end, self.results.recv()).await {
            by_check.entry(result.id.0).or_default().push(result);
        }
        by_check
    }
}

#[tokio::test(start_paused = true)]
async fn each_check_runs_every_interval() {
    let mut running = start((0..100).map(|id| check(id, 20)).collect(), 1024, 16);
    let results = running.results_within(10 * SECOND).await;
    assert_eq!(results.len(), 100);
    for (id, results) in &results {
        assert!((9..=10).contains(&results.len()), "{id}: {}", results.len());
        assert!(results.iter().all(|result| result.outcome.is_ok()));
    }
    assert!(running.prober.most.load(Ordering::SeqCst) < 10, "the starts are not spread");
    assert_eq!(running.scheduler.counts().late, 0);
}

#[tokio::test(start_paused = true)]
async fn a_hung_check_delays_no_other() {
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
async fn no_more_checks_run_than_the_limit() {
    let mut running = start((0..10).map(|id| check(id, 500)).collect(), 2, 16);
    let results = running.results_within(10 * SECOND).await;
    assert_eq!(running.prober.most.load(Ordering::SeqCst), 2);
    // Two slots have time for four checks a second of the ten that are wanted; each gets its turn.
    let total: usize = results.values().map(Vec::len).sum();
    assert!((36..=40).contains(&total), "{total}");
    assert!(results.len() == 10 && results.values().all(|results| results.len() >= 2), "{results:?}");
    let counts = running.scheduler.counts();
    assert!(counts.late > 20 && counts.late <= counts.started, "{counts:?}");
}

#[tokio::test(start_paused = true)]
async fn a_slow_receiver_delays_checks_but_no_command() {
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
async fn checks_are_added_removed_and_given_another_interval() {
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
async fn a_removed_check_is_aborted_and_a_replaced_one_restarts() {
    let mut running = start(vec![check(1, 900), check(2, 900)], 1024, 16);
    while running.prober.running.load(Ordering::SeqCst) < 2 {
        time::sleep(Duration::from_millis(1)).await;
    }
    running.scheduler.remove(CheckId(1)).await.unwrap();
    running.scheduler.add(check(2, 20)).await.unwrap();
    let results = running.results_within(5 * SECOND).await;
    assert!(!results.contains_key(&1));
    let latencies = results[&2].iter().map(|result| result.outcome.clone().unwrap().latency);
    assert!(latencies.into_iter().all(|latency| latency == Duration::from_millis(20)));
}

/// Passes the full check only while it is `healthy`, and accepts connections only while it `listens`; both without
/// delay.
#[derive(Clone, Default)]
struct Server {
    healthy: Arc<AtomicBool>,
    listens: Arc<AtomicBool>,
    probed: Arc<Mutex<Vec<CheckKind>>>,
}

impl Probe for Server {
    async fn probe(&self, _target: ProbeTarget, kind: &CheckKind, timeout: Duration) -> Outcome {
        self.probed.lock().unwrap().push(kind.clone());
        let answers = if *kind == CheckKind::Connect { &self.listens } else { &self.healthy };
        if answers.load(Ordering::SeqCst) {
            return Ok(Success { latency: Duration::ZERO, connect: None, weight: None });
        }
        // The failure tells how much time the check had.
        Err(Failure { reason: FailureReason::Refused, after: timeout })
    }
}

#[tokio::test(start_paused = true)]
async fn connects_run_between_full_checks() {
    let page = CheckKind::Off;
    let settings = Check { kind: page.clone(), connects_between: 3, ..Check::default() };
    let check = BaselineCheck {
        id: CheckId(1),
        target: ProbeTarget::at((Ipv4Addr::LOCALHOST, 80).into()),
        check: settings.into(),
    };
    let server = Server::default();
    server.healthy.store(true, Ordering::SeqCst);
    server.listens.store(true, Ordering::SeqCst);
    let (sender, mut results) = mpsc::channel(1);
    let limit = NonZeroUsize::MIN;
    let shutdown = CancellationToken::new();
    let _scheduler = Scheduler::spawn(vec![check], server.clone(), limit, sender, shutdown);
    let mut next = async || results.recv().await.map(|result| (result.is_full, result.outcome.is_ok()));
    for _ in 0..2 {
        assert_eq!(next().await, Some((true, true)), "the check comes first, and again");
        for _ in 0..3 {
            assert_eq!(next().await, Some((false, true)));
        }
    }
    assert_eq!(next().await, Some((true, true)));
    // Nothing listens, but the full check succeeds: it runs at once, and decides.
    server.listens.store(false, Ordering::SeqCst);
    server.probed.lock().unwrap().clear();
    assert_eq!(next().await, Some((true, true)));
    assert_eq!(*server.probed.lock().unwrap(), [CheckKind::Connect, page.clone()]);
    server.healthy.store(false, Ordering::SeqCst);
    server.probed.lock().unwrap().clear();
    for _ in 0..3 {
        assert_eq!(next().await, Some((true, false)));
    }
    let probed = server.probed.lock().unwrap().clone();
    assert_eq!(
        probed,
        [CheckKind::Connect, page.clone(), page.clone(), page],
        "no connects while the full check fails"
    );
}

#[tokio::test(start_paused = true)]
async fn a_connect_that_takes_the_whole_timeout_leaves_none_for_the_full_check() {
    let settings = Check { kind: CheckKind::Off, connects_between: 1, ..Check::default() };
    let target = ProbeTarget::at((Ipv4Addr::LOCALHOST, 5000).into());
    let alternating = Alternation::new(BaselineCheck { id: CheckId(1), target, check: settings.into() });
    alternating.connects_left.store(1, Ordering::Relaxed);
    let begun = now();
    let (whole, outcome) = alternating.run(&FakeProber::default(), begun).await;
    assert!(!whole && outcome.is_err());
    assert_eq!(now() - begun, SECOND, "the timeout is the whole check's");
    assert!(alternating.run(&FakeProber::default(), now()).await.0, "the check is next");
}

#[tokio::test(start_paused = true)]
async fn a_handle_changes_intervals_without_waiting() {
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
async fn a_check_that_panics_runs_again() {
    let mut running = start(vec![check(1, 1), check(2, 20)], 1024, 16);
    let results = running.results_within(5 * SECOND).await;
    assert!(!results.contains_key(&1) && results[&2].len() >= 4);
    assert!(running.scheduler.counts().started >= 8, "{:?}", running.scheduler.counts());
}

#[tokio::test(start_paused = true)]
async fn a_stopped_scheduler_aborts_its_checks() {
    let mut running = start(vec![check(1, 900)], 1024, 16);
    while running.prober.running.load(Ordering::SeqCst) == 0 {
        time::sleep(Duration::from_millis(1)).await;
    }
    running.shutdown.cancel();
    assert_eq!(running.results.recv().await, None);
    assert_eq!(running.prober.running.load(Ordering::SeqCst), 0);
    assert_eq!(running.scheduler.add(check(2, 20)).await, Err(Stopped));
    running.scheduler.stopped().await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn it_stops_when_its_results_are_not_received_or_it_is_dropped() {
    let running = start(vec![check(1, 20)], 1024, 16);
    drop(running.results);
    running.scheduler.stopped().await.unwrap();

    let mut running = start(vec![check(1, 900)], 1024, 16);
    drop(running.scheduler);
    assert_eq!(running.results.recv().await, None);
}
