//! The confirming burst: a suspicion is followed by a few probes in quick succession.
//!
//! The probes start a gap apart and don't wait for each other, so a dead server is known after the gaps and one
//! timeout. The first that succeeds ends the burst. They ask what the passive signal doubts: for a TCP connection, for
//! a page, or by ping. Beside connections one ping runs along, to tell a host that is down from one whose port is.

use std::{num::NonZeroU32, sync::Arc, time::Duration};

use tokio::{sync::mpsc, task::JoinSet, time};

use super::{Outcome, Probe, ProbeTarget};
use crate::model::{BurstSettings, CheckKind};

/// What is to be confirmed.
#[derive(Clone, Debug, PartialEq)]
pub struct Burst {
    /// Whom to ask: the real server itself, at the port that the passive signal is about.
    pub target: ProbeTarget,
    /// What.
    pub question: Arc<CheckKind>,
    /// How many probes, as long as none succeeds.
    pub count: NonZeroU32,
    /// From the start of one probe to the start of the next.
    pub gap: Duration,
    /// How long one probe may take.
    pub timeout: Duration,
}

impl Burst {
    /// A burst of `count` probes with the operator's gap, and with the time that this server may take.
    #[must_use]
    pub fn new(
        target: ProbeTarget,
        question: Arc<CheckKind>,
        count: NonZeroU32,
        settings: &BurstSettings,
        timeout: Duration,
    ) -> Self {
        Self { target, question, count, gap: settings.gap, timeout }
    }
}

/// What came of one of the probes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BurstProbe {
    /// Which probe, from 0.
    pub index: u32,
    /// What came of it.
    pub outcome: Outcome,
}

/// What a task of the burst has found.
enum Found {
    Probe(BurstProbe),
    Host(Outcome),
}

/// Runs a burst. Each probe's result is sent to `reports` as it comes. Gives what came of the ping that ran along, if
/// there was one and it ended in time. Takes no longer than the gaps and one timeout, as long as the reports are taken;
/// room for `count` of them makes sure of that. Dropping the future ends the probes.
pub async fn run<A: Probe>(asker: &A, burst: &Burst, reports: &mpsc::Sender<BurstProbe>) -> Option<Outcome> {
    let mut tasks = start(asker, burst);
    let mut host = None;
    let mut ended = 0;
    while ended < burst.count.get() {
        let probe = match tasks.join_next().await {
            Some(Ok(Found::Probe(probe))) => probe,
            Some(Ok(Found::Host(outcome))) => {
                host = Some(outcome);
                continue;
            }
            Some(Err(error)) => {
                tracing::error!(server = %burst.target.address, %error, "a confirming probe panicked");
                continue;
            }
            None => break,
        };
        ended += 1;
        let is_answered = probe.outcome.is_ok();
        if reports.send(probe).await.is_err() {
            tracing::debug!(server = %burst.target.address, "nobody takes the results of confirming probes any more");
        }
        if is_answered {
            break;
        }
    }
    host
}

/// Starts the probes, and the ping that runs along; they end when the set is dropped.
fn start<A: Probe>(asker: &A, burst: &Burst) -> JoinSet<Found> {
    let begin = time::Instant::now();
    let mut tasks = JoinSet::new();
    for index in 0..burst.count.get() {
        let (asker, question) = (asker.clone(), burst.question.clone());
        let Burst { target, gap, timeout, .. } = *burst;
        tasks.spawn(async move {
            // A timer is only precise to the next millisecond: the first one waits for none.
            if index > 0 {
                time::sleep_until(begin + gap * index).await;
            }
            let outcome = asker.probe(target, &question, timeout).await;
            Found::Probe(BurstProbe { index, outcome })
        });
    }
    if *burst.question == CheckKind::Connect {
        let (asker, target, timeout) = (asker.clone(), burst.target, burst.timeout);
        tasks.spawn(async move { Found::Host(asker.probe(target, &CheckKind::Ping, timeout).await) });
    }
    tasks
}

#[cfg(test)]
mod tests {
    use std::{net::Ipv4Addr, sync::Mutex, time::Instant};

    use super::*;
    use crate::{
        model::HttpCheck,
        probe::{Failure, FailureReason, LocalFault, Phase, Success, Verdict},
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
    struct Course {
        /// The outcome of the ping that ran along.
        host: Option<Outcome>,
        /// The verdicts of the probes that were reported, in that order.
        verdicts: Vec<Verdict>,
        /// Their indices, and when they started and were reported.
        times: Vec<(u32, u128, u128)>,
        /// When the burst ended.
        took: u128,
    }

    /// Runs a burst of as many probes as are planned.
    async fn burst(kind: CheckKind, count: u32, plans: Vec<Plan>, ping: Plan) -> Course {
        let (connects, pages) =
            if matches!(kind, CheckKind::Http(_)) { (vec![], plans) } else { (plans, vec![]) };
        let (connects, pages) = (Arc::new(Mutex::new(connects)), Arc::new(Mutex::new(pages)));
        // A ping beside connections is none of the probes.
        let (asks, started) = (kind.clone(), Arc::default());
        let asker = Planned { connects, pages, ping, asks, started };
        let target = ProbeTarget::at((Ipv4Addr::LOCALHOST, 80).into());
        let count = NonZeroU32::new(count).unwrap();
        let settings = BurstSettings::default();
        let burst = Burst::new(target, kind.into(), count, &settings, settings.timeout);
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
        Course { host, verdicts, times: probes.iter().map(times).collect(), took }
    }

    #[tokio::test(start_paused = true)]
    async fn a_silent_server_is_known_after_the_gaps_and_one_timeout() {
        let silent = vec![(1000, Ok(())); 3];
        let course = burst(CheckKind::Connect, 3, silent, (1, Ok(()))).await;
        assert_eq!(course.verdicts, [Verdict::Dead; 3], "the host answers, which is no veto");
        let latency = Duration::from_millis(1);
        assert_eq!(course.host, Some(Ok(Success { latency, connect: None, weight: None })));
        assert_eq!(course.times, [(0, 0, 100), (1, 20, 120), (2, 40, 140)]);
        assert_eq!(course.took, 140);
    }

    #[tokio::test(start_paused = true)]
    async fn a_refusing_server_is_known_after_the_gaps() {
        let refusals = vec![(1, refused()); 3];
        let course = burst(CheckKind::Connect, 3, refusals, (1000, Ok(()))).await;
        assert_eq!((course.verdicts, course.host), (vec![Verdict::Dead; 3], None), "waits for no ping");
        assert_eq!(course.times, [(0, 0, 1), (1, 20, 21), (2, 40, 41)]);
        assert_eq!(course.took, 41);
    }

    #[tokio::test(start_paused = true)]
    async fn the_first_success_ends_it() {
        let plans = vec![(1000, Ok(())), (5, Ok(())), (1, refused())];
        let course = burst(CheckKind::Connect, 3, plans, (1000, Ok(()))).await;
        assert_eq!(course.verdicts, [Verdict::Alive]);
        assert_eq!(course.times, [(1, 20, 25)], "neither the first, which is still waiting, nor the third");
        assert_eq!(course.took, 25);
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
        let course = burst(page, 1, vec![(1, refused())], (0, Ok(()))).await;
        assert_eq!((course.verdicts, course.host), (vec![Verdict::Dead], None), "no ping beside a page");
        // Nothing is planned for connects: one would panic.
        let course = burst(CheckKind::Ping, 2, vec![], (1000, Ok(()))).await;
        assert_eq!((course.verdicts, course.host), (vec![Verdict::Dead; 2], None));
        assert_eq!(course.times, [(0, 0, 100), (1, 20, 120)]);
    }
}
