//! The confirming burst: a suspicion is followed by a few probes in quick succession, and they give a verdict.
//!
//! The probes start a gap apart and don't wait for each other, so a dead server is known after the gaps and one
//! timeout. The first that succeeds ends the burst. They ask what the passive signal doubts: for a TCP connection, for a
//! page, or by ping. Beside connections one ping runs along, to tell a host that is down from one whose port is: it is
//! told, and never changes the verdict.

use std::{
    num::NonZeroU32,
    sync::Arc,
    time::{Duration, Instant},
};

use tokio::{sync::mpsc, task::JoinSet, time};

use super::{CheckId, Outcome, Probe, ProbeTarget, Verdict};
use crate::model::{BurstSettings, CheckKind};

/// What is to be confirmed.
#[derive(Clone, Debug, PartialEq)]
pub struct Burst {
    /// The caller's name for it, found again in each [`BurstProbe`].
    pub id: CheckId,
    /// Whom to ask: the real server itself, at the port that the passive signal is about.
    pub target: ProbeTarget,
    /// What.
    pub question: Arc<CheckKind>,
    /// How many probes; all of them must fail for the verdict that the server is dead.
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
        id: CheckId,
        target: ProbeTarget,
        question: Arc<CheckKind>,
        count: NonZeroU32,
        settings: &BurstSettings,
        timeout: Duration,
    ) -> Self {
        Self { id, target, question, count, gap: settings.gap, timeout }
    }
}

/// What came of one of the probes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BurstProbe {
    /// Which burst.
    pub id: CheckId,
    /// Which probe, from 0.
    pub index: u32,
    /// When it started.
    pub started: Instant,
    /// When it ended.
    pub finished: Instant,
    /// What came of it.
    pub outcome: Outcome,
}

/// What a burst has shown.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BurstVerdict {
    /// Alive after one success; dead if all probes failed; unknown if there was no success and the director could not
    /// make all of them.
    pub verdict: Verdict,
    /// What came of the ping that ran along, if there was one and it ended in time.
    pub host: Option<Outcome>,
}

/// What a task of the burst has found.
enum Found {
    Probe(BurstProbe),
    Host(Outcome),
}

/// Runs a burst. Each probe's result is sent to `reports` as it comes; the verdict follows at the end. Takes no longer
/// than the gaps and one timeout, as long as the reports are taken; room for `count` of them makes sure of that.
/// Dropping the future ends the probes.
pub async fn run<A: Probe>(asker: &A, burst: &Burst, reports: &mpsc::Sender<BurstProbe>) -> BurstVerdict {
    let mut tasks = start(asker, burst);
    let mut host = None;
    let mut failed = 0;
    let mut ended = 0;
    while ended < burst.count.get() {
        let probe = match tasks.join_next().await {
            Some(Ok(Found::Probe(probe))) => probe,
            Some(Ok(Found::Host(outcome))) => {
                host = Some(outcome);
                continue;
            }
            Some(Err(error)) => {
                tracing::error!(check = burst.id.0, %error, "a confirming probe panicked");
                continue;
            }
            None => break,
        };
        ended += 1;
        let verdict = Verdict::of(&probe.outcome);
        if reports.send(probe).await.is_err() {
            tracing::debug!(check = burst.id.0, "nobody takes the results of confirming probes any more");
        }
        match verdict {
            Verdict::Alive => return BurstVerdict { verdict, host },
            Verdict::Dead => failed += 1,
            Verdict::Unknown => {}
        }
    }
    let verdict = if failed == burst.count.get() { Verdict::Dead } else { Verdict::Unknown };
    BurstVerdict { verdict, host }
}

/// Starts the probes, and the ping that runs along; they end when the set is dropped.
fn start<A: Probe>(asker: &A, burst: &Burst) -> JoinSet<Found> {
    let begin = time::Instant::now();
    let mut tasks = JoinSet::new();
    for index in 0..burst.count.get() {
        let (asker, question) = (asker.clone(), burst.question.clone());
        let Burst { id, target, gap, timeout, .. } = *burst;
        tasks.spawn(async move {
            // A timer is only precise to the next millisecond: the first one waits for none.
            if index > 0 {
                time::sleep_until(begin + gap * index).await;
            }
            let started = now();
            let outcome = asker.probe(target, &question, timeout).await;
            Found::Probe(BurstProbe { id, index, started, finished: now(), outcome })
        });
    }
    if *burst.question == CheckKind::Connect {
        let (asker, target, timeout) = (asker.clone(), burst.target, burst.timeout);
        tasks.spawn(async move { Found::Host(asker.probe(target, &CheckKind::Ping, timeout).await) });
    }
    tasks
}

/// The time. Follows tokio's clock, which tests can stop.
fn now() -> Instant {
    time::Instant::now().into_std()
}

#[cfg(test)]
mod tests {
    use std::{net::Ipv4Addr, sync::Mutex};

    use super::*;
    use crate::{
        model::HttpCheck,
        probe::{Failure, FailureReason, LocalFault, Phase, Success},
    };

    /// What a probe is to come to, and after how many milliseconds; beyond the timeout it times out.
    type Plan = (u64, Result<(), FailureReason>);

    /// Answers connects and pages in the order of their plans, and pings by a plan of their own.
    #[derive(Clone)]
    struct Planned {
        connects: Arc<Mutex<Vec<Plan>>>,
        pages: Arc<Mutex<Vec<Plan>>>,
        ping: Plan,
    }

    impl Probe for Planned {
        async fn probe(&self, _target: ProbeTarget, question: &CheckKind, timeout: Duration) -> Outcome {
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

    /// Runs a burst of as many probes as are planned: the verdict, when the reports came (index, start and end in ms)
    /// and when the verdict.
    async fn burst(
        kind: CheckKind,
        count: u32,
        plans: Vec<Plan>,
        ping: Plan,
    ) -> (BurstVerdict, Vec<(u32, u128, u128)>, u128) {
        let (connects, pages) =
            if matches!(kind, CheckKind::Http(_)) { (vec![], plans) } else { (plans, vec![]) };
        let (connects, pages) = (Arc::new(Mutex::new(connects)), Arc::new(Mutex::new(pages)));
        let asker = Planned { connects, pages, ping };
        let target = ProbeTarget::at((Ipv4Addr::LOCALHOST, 80).into());
        let count = NonZeroU32::new(count).unwrap();
        let settings = BurstSettings::default();
        let burst = Burst::new(CheckId(7), target, kind.into(), count, &settings, settings.timeout);
        let (reports, mut received) = mpsc::channel(16);
        let begin = now();
        let verdict = run(&asker, &burst, &reports).await;
        let took = (now() - begin).as_millis();
        drop(reports);
        let mut probes = Vec::new();
        while let Some(probe) = received.recv().await {
            assert_eq!(probe.id, CheckId(7));
            let since = |at: Instant| (at - begin).as_millis();
            probes.push((probe.index, since(probe.started), since(probe.finished)));
        }
        (verdict, probes, took)
    }

    #[tokio::test(start_paused = true)]
    async fn a_silent_server_is_dead_after_the_gaps_and_one_timeout() {
        let silent = vec![(1000, Ok(())); 3];
        let (verdict, probes, took) = burst(CheckKind::Connect, 3, silent, (1, Ok(()))).await;
        assert_eq!(verdict.verdict, Verdict::Dead, "the host answers, which is no veto");
        assert_eq!(
            verdict.host,
            Some(Ok(Success { latency: Duration::from_millis(1), connect: None, weight: None }))
        );
        assert_eq!(probes, [(0, 0, 100), (1, 20, 120), (2, 40, 140)]);
        assert_eq!(took, 140);
    }

    #[tokio::test(start_paused = true)]
    async fn a_refusing_server_is_dead_after_the_gaps() {
        let refusals = vec![(1, refused()); 3];
        let (verdict, probes, took) = burst(CheckKind::Connect, 3, refusals, (1000, Ok(()))).await;
        assert_eq!(verdict, BurstVerdict { verdict: Verdict::Dead, host: None }, "waits for no ping");
        assert_eq!(probes, [(0, 0, 1), (1, 20, 21), (2, 40, 41)]);
        assert_eq!(took, 41);
    }

    #[tokio::test(start_paused = true)]
    async fn the_first_success_ends_it() {
        let plans = vec![(1000, Ok(())), (5, Ok(())), (1, refused())];
        let (verdict, probes, took) = burst(CheckKind::Connect, 3, plans, (1000, Ok(()))).await;
        assert_eq!(verdict.verdict, Verdict::Alive);
        assert_eq!(probes, [(1, 20, 25)], "neither the first, which is still waiting, nor the third");
        assert_eq!(took, 25);
    }

    #[tokio::test(start_paused = true)]
    async fn without_all_probes_nothing_is_known() {
        for at in 0..3 {
            let mut plans = vec![(1, refused()); 3];
            plans[at] = (1, local());
            let (verdict, probes, _) = burst(CheckKind::Connect, 3, plans, (1, Ok(()))).await;
            assert_eq!((verdict.verdict, probes.len()), (Verdict::Unknown, 3));
        }
        let plans = vec![(1, local()), (1, local()), (1, Ok(()))];
        assert_eq!(burst(CheckKind::Connect, 3, plans, (1, Ok(()))).await.0.verdict, Verdict::Alive);
    }

    #[tokio::test(start_paused = true)]
    async fn the_question_decides_what_is_asked() {
        let page = CheckKind::Http(HttpCheck::get("/"));
        let (verdict, ..) = burst(page, 1, vec![(1, refused())], (0, Ok(()))).await;
        assert_eq!(verdict, BurstVerdict { verdict: Verdict::Dead, host: None }, "no ping beside a page");
        // Nothing is planned for connects: one would panic.
        let (verdict, probes, _) = burst(CheckKind::Ping, 2, vec![], (1000, Ok(()))).await;
        assert_eq!(verdict, BurstVerdict { verdict: Verdict::Dead, host: None });
        assert_eq!(probes, [(0, 0, 100), (1, 20, 120)]);
    }
}
