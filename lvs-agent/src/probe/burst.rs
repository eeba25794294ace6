//! The confirming burst: a suspicion is followed by a few probes in quick succession.
//!
//! The probes start as their [`Rhythm`] says and don't wait for each other: against a silent server they overlap. After
//! a RST the next one starts at once: that is an answer, not a loss, and there is nothing to wait for. The first that
//! succeeds ends the burst; until then those that are unanswered wait for its end, as a late answer is one. They ask
//! what the passive signal doubts: for a TCP connection, for a page, or by ping. When the second connection is due, one
//! ping runs along, to tell a host that is down from one whose port is.

use std::{sync::Arc, time::Duration};

use tokio::{sync::mpsc, task::JoinSet, time};

use super::{Failure, FailureReason, Outcome, Probe, ProbeTarget, Rhythm, VipFailure};
use crate::model::CheckKind;

/// What is to be confirmed.
#[derive(Clone, Debug, PartialEq)]
pub struct Burst {
    /// Whom to ask: the real server itself, at the port that the passive signal is about.
    pub target: ProbeTarget,
    /// What.
    pub question: Arc<CheckKind>,
    /// How often, and when.
    pub rhythm: Rhythm,
}

/// What came of one of the probes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BurstProbe {
    /// Which probe, from 0.
    pub index: u32,
    /// What came of it.
    pub outcome: Outcome,
    /// How long it was allowed to take.
    pub allowed: Duration,
}

/// What a task of the burst has found.
enum Found {
    Probe(BurstProbe),
    Host(Outcome),
}

/// Runs a burst. Each probe's result is sent to `reports` as it comes. Gives what came of the ping that ran along, if
/// there was one and it ended in time. Takes no longer than its rhythm says, as long as the reports are taken; room for
/// all of them makes sure of that. Dropping the future ends the probes.
pub async fn run<A: Probe>(asker: &A, burst: &Burst, reports: &mpsc::Sender<BurstProbe>) -> Option<Outcome> {
    let mut course = Course::begin(asker, burst);
    let mut host = None;
    while let Some(found) = course.next().await {
        let probe = match found {
            Found::Probe(probe) => probe,
            Found::Host(outcome) => {
                host = Some(outcome);
                continue;
            }
        };
        let is_answered = probe.outcome.is_ok();
        if is_refusal(&probe.outcome) {
            course.start_next();
        }
        if reports.send(probe).await.is_err() {
            tracing::debug!(server = %burst.target.address, "nobody takes the results of confirming probes any more");
        }
        if is_answered {
            break;
        }
    }
    host
}

/// Whether the server's kernel has answered that nobody takes the connection.
fn is_refusal(outcome: &Outcome) -> bool {
    let reason = outcome.as_ref().err().map(|Failure { reason, .. }| reason);
    let at_vip = |failure: &VipFailure| *failure == VipFailure::Refused;
    match reason {
        Some(FailureReason::AtVip { failure, .. }) => at_vip(failure),
        reason => matches!(reason, Some(FailureReason::Refused | FailureReason::Reset)),
    }
}

/// A burst that is under way; its probes end when it is dropped.
struct Course<'a, A> {
    asker: &'a A,
    burst: &'a Burst,
    begin: time::Instant,
    tasks: JoinSet<Found>,
    /// How many probes have started.
    started: u32,
    /// How many have not ended.
    unanswered: u32,
    /// Whether the ping has yet to start.
    ping_is_due: bool,
}

impl<'a, A: Probe> Course<'a, A> {
    /// Starts the first probe.
    fn begin(asker: &'a A, burst: &'a Burst) -> Self {
        let mut course = Self {
            asker,
            burst,
            begin: time::Instant::now(),
            tasks: JoinSet::new(),
            started: 0,
            unanswered: 0,
            ping_is_due: *burst.question == CheckKind::Connect,
        };
        // A timer is only precise to the next millisecond: the first one waits for none.
        course.start_next();
        course
    }

    /// The next thing that is found; `None` once all probes have ended.
    async fn next(&mut self) -> Option<Found> {
        // A probe that panicked never ends.
        while (self.unanswered > 0 && !self.tasks.is_empty()) || self.has_more() {
            let second = self.begin + self.burst.rhythm.start_of(1);
            let due = self.begin + self.burst.rhythm.start_of(self.started);
            tokio::select! {
                Some(ended) = self.tasks.join_next() => match ended {
                    Ok(found) => {
                        self.unanswered -= u32::from(matches!(found, Found::Probe(_)));
                        return Some(found);
                    }
                    Err(error) => {
                        let server = self.burst.target.address;
                        tracing::error!(%server, %error, "a confirming probe panicked");
                    }
                },
                () = time::sleep_until(due), if self.has_more() => self.start_next(),
                () = time::sleep_until(second), if self.ping_is_due => self.start_ping(),
            }
        }
        None
    }

    fn has_more(&self) -> bool {
        self.started < self.burst.rhythm.count.get()
    }

    /// Starts the next probe, if there is one to start.
    fn start_next(&mut self) {
        if !self.has_more() {
            return;
        }
        let (index, allowed) = (self.started, self.left());
        self.started += 1;
        self.unanswered += 1;
        let (asker, question, target) = (self.asker.clone(), self.burst.question.clone(), self.burst.target);
        self.tasks.spawn(async move {
            let outcome = asker.probe(target, &question, allowed).await;
            Found::Probe(BurstProbe { index, outcome, allowed })
        });
        if index > 0 && self.ping_is_due {
            self.start_ping();
        }
    }

    fn start_ping(&mut self) {
        self.ping_is_due = false;
        let (asker, target, allowed) = (self.asker.clone(), self.burst.target.host(), self.left());
        self.tasks.spawn(async move { Found::Host(asker.probe(target, &CheckKind::Ping, allowed).await) });
    }

    /// How long answers still count.
    fn left(&self) -> Duration {
        (self.begin + self.burst.rhythm.lasts).saturating_duration_since(time::Instant::now())
    }
}

#[cfg(test)]
mod tests {
    use std::{net::Ipv4Addr, num::NonZeroU32, sync::Mutex, time::Instant};

    use super::*;
    use crate::{
        model::HttpCheck,
        probe::{LocalFault, Patience, Phase, Success, Verdict},
    };

    /// What a probe is to come to, and after how many milliseconds; beyond the timeout it times out.
    type Plan = (u64, Result<(), FailureReason>);

    /// Answers connects and pages in the order of their plans, and pings by a plan of their own.
    #[derive(Clone)]
    struct Planned {
        connects: Arc<Mutex<Vec<Plan>>>,
        pages: Arc<Mutex<Vec<Plan>>>,
        ping: Plan,
        /// What the probes ask, …
        asks: CheckKind,
        /// … and when each of them started.
        started: Arc<Mutex<Vec<Instant>>>,
    }

    impl Probe for Planned {
        async fn probe(&self, _target: ProbeTarget, question: &CheckKind, timeout: Duration) -> Outcome {
            if *question == self.asks {
                self.started.lock().unwrap().push(now());
            }
            let (takes, result) = match question {
                CheckKind::Connect => self.connects.lock().unwrap().remove(0),
                CheckKind::Ping => self.ping.clone(),
                CheckKind::Http(_) => self.pages.lock().unwrap().remove(0),
                other => panic!("nothing is planned for {other:?}"),
            };
            let after = Duration::from_millis(takes).min(timeout);
            time::sleep(after).await;
            match result {
                _ if after == timeout => {
                    Err(Failure { reason: FailureReason::TimedOut { phase: Phase::Connect }, after })
                }
                Ok(()) => Ok(Success { latency: after, connect: None, weight: None }),
                Err(reason) => Err(Failure { reason, after }),
            }
        }
    }

    fn refused() -> Result<(), FailureReason> {
        Err(FailureReason::Refused)
    }

    fn local() -> Result<(), FailureReason> {
        Err(LocalFault::new("connect", &std::io::Error::from_raw_os_error(24)).into())
    }

    /// The time. Follows tokio's clock, which the tests stop.
    fn now() -> Instant {
        time::Instant::now().into_std()
    }

    /// What a burst came to, with times in ms since its start.
    struct Came {
        /// The outcome of the ping that ran along.
        host: Option<Outcome>,
        /// The verdicts of the probes that were reported, in that order.
        verdicts: Vec<Verdict>,
        /// Their indices, and when they started and were reported.
        times: Vec<(u32, u128, u128)>,
        /// When the burst ended.
        took: u128,
    }

    /// Runs a burst of so many probes: the second 10 ms after the first, 20 ms from each of the others to the next;
    /// each has 100 ms, and all of them at least 120 ms.
    async fn burst(kind: CheckKind, count: u32, plans: Vec<Plan>, ping: Plan) -> Came {
        let (connects, pages) =
            if matches!(kind, CheckKind::Http(_)) { (vec![], plans) } else { (plans, vec![]) };
        let (connects, pages) = (Arc::new(Mutex::new(connects)), Arc::new(Mutex::new(pages)));
        // A ping beside connections is none of the probes.
        let (asks, started) = (kind.clone(), Arc::default());
        let asker = Planned { connects, pages, ping, asks, started };
        let target = ProbeTarget::at((Ipv4Addr::LOCALHOST, 80).into());
        let count = NonZeroU32::new(count).unwrap();
        let ms = Duration::from_millis;
        let patience = Patience { usual: ms(10), probe: ms(100), burst: ms(120) };
        let rhythm = Rhythm::new(count, patience.usual, ms(20), patience);
        let burst = Burst { target, question: kind.into(), rhythm };
        let (reports, mut received) = mpsc::channel(16);
        let begin = now();
        let since = |at: Instant| (at - begin).as_millis();
        let running = async {
            let host = run(&asker, &burst, &reports).await;
            drop(reports);
            (host, since(now()))
        };
        let receiving = async {
            let mut probes = Vec::new();
            while let Some(probe) = received.recv().await {
                probes.push((probe, since(now())));
            }
            probes
        };
        let ((host, took), probes) = tokio::join!(running, receiving);
        let started = asker.started.lock().unwrap();
        let times =
            |(probe, ended): &(BurstProbe, u128)| (probe.index, since(started[probe.index as usize]), *ended);
        let verdicts = probes.iter().map(|(probe, _)| Verdict::of(&probe.outcome)).collect();
        Came { host, verdicts, times: probes.iter().map(times).collect(), took }
    }

    #[tokio::test(start_paused = true)]
    async fn the_probes_of_a_silent_server_overlap_and_end_together() {
        let silent = vec![(1000, Ok(())); 3];
        let came = burst(CheckKind::Connect, 3, silent, (1, Ok(()))).await;
        assert_eq!(came.verdicts, [Verdict::Dead; 3], "the host answers, which is no veto");
        let latency = Duration::from_millis(1);
        assert_eq!(came.host, Some(Ok(Success { latency, connect: None, weight: None })));
        let mut times = came.times;
        times.sort_unstable();
        assert_eq!(times, [(0, 0, 130), (1, 10, 130), (2, 30, 130)], "two gaps and one timeout");
        assert_eq!(came.took, 130);
    }

    #[tokio::test(start_paused = true)]
    async fn an_answer_that_is_later_than_usual_still_counts() {
        for (late, answered) in [(119, true), (120, false)] {
            let came = burst(CheckKind::Connect, 1, vec![(late, Ok(()))], (1000, Ok(()))).await;
            assert_eq!((came.verdicts[0] == Verdict::Alive, came.took), (answered, u128::from(late)));
        }
        // The first one's answer, after the others have started.
        let plans = vec![(110, Ok(())), (1000, Ok(())), (1000, Ok(()))];
        let came = burst(CheckKind::Connect, 3, plans, (1000, Ok(()))).await;
        assert_eq!((came.verdicts, came.took), (vec![Verdict::Alive], 110));
    }

    #[tokio::test(start_paused = true)]
    async fn after_a_refusal_the_next_probe_starts_at_once() {
        let refusals = vec![(1, refused()); 3];
        let came = burst(CheckKind::Connect, 3, refusals, (1000, Ok(()))).await;
        assert_eq!((came.verdicts, came.host), (vec![Verdict::Dead; 3], None), "waits for no ping");
        assert_eq!(came.times, [(0, 0, 1), (1, 1, 2), (2, 2, 3)]);
        assert_eq!(came.took, 3);
    }

    #[tokio::test(start_paused = true)]
    async fn after_another_failure_the_next_probe_waits_for_its_time() {
        let failing = || Err(FailureReason::Protocol("no HTTP".into()));
        let page = CheckKind::Http(HttpCheck::get("/"));
        let came = burst(page, 3, vec![(1, failing()); 3], (1000, Ok(()))).await;
        assert_eq!(came.times, [(0, 0, 1), (1, 10, 11), (2, 30, 31)]);
    }

    #[tokio::test(start_paused = true)]
    async fn the_first_success_ends_it() {
        let plans = vec![(1000, Ok(())), (5, Ok(())), (1, refused())];
        let came = burst(CheckKind::Connect, 3, plans, (1000, Ok(()))).await;
        assert_eq!(came.verdicts, [Verdict::Alive]);
        assert_eq!(came.times, [(1, 10, 15)], "neither the first, which is still waiting, nor the third");
        assert_eq!(came.took, 15);
    }

    #[tokio::test(start_paused = true)]
    async fn a_server_that_answers_is_sent_one_probe_and_no_ping() {
        // Nothing more is planned: a second connection would panic.
        let came = burst(CheckKind::Connect, 3, vec![(1, Ok(()))], (0, Ok(()))).await;
        assert_eq!((came.verdicts, came.host, came.took), (vec![Verdict::Alive], None, 1));
    }

    #[tokio::test(start_paused = true)]
    async fn a_probe_that_could_not_be_sent_ends_nothing() {
        for at in 0..3 {
            let mut plans = vec![(1, refused()); 3];
            plans[at] = (1, local());
            let mut expected = [Verdict::Dead; 3];
            expected[at] = Verdict::Unknown;
            assert_eq!(burst(CheckKind::Connect, 3, plans, (1, Ok(()))).await.verdicts, expected);
        }
        let plans = vec![(1, local()), (1, local()), (1, Ok(()))];
        let verdicts = burst(CheckKind::Connect, 3, plans, (1, Ok(()))).await.verdicts;
        assert_eq!(verdicts, [Verdict::Unknown, Verdict::Unknown, Verdict::Alive]);
    }

    #[tokio::test(start_paused = true)]
    async fn the_question_decides_what_is_asked() {
        let page = CheckKind::Http(HttpCheck::get("/"));
        let came = burst(page, 1, vec![(20, refused())], (0, Ok(()))).await;
        assert_eq!((came.verdicts, came.host), (vec![Verdict::Dead], None), "no ping beside a page");
        // Nothing is planned for connects: one would panic.
        let came = burst(CheckKind::Ping, 2, vec![], (1000, Ok(()))).await;
        assert_eq!((came.verdicts, came.host), (vec![Verdict::Dead; 2], None));
        assert_eq!(came.took, 120);
    }
}
