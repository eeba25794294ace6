//! The tasks that ask, each a burst of confirming probes.

use tokio::{sync::mpsc, task::JoinSet};

use super::{
    Outcome, Probe,
    burst::{self, Burst, BurstProbe},
};
use crate::supervision::caught;

/// What a burst reports. `R` is what it was started for, as the caller named it.
#[derive(Debug)]
pub(crate) enum Report<R> {
    /// One of its probes has ended.
    Probe {
        /// What was asked.
        request: R,
        /// Which probe for this request, counted from the number that the burst was given.
        number: u32,
        /// What came of it.
        probe: BurstProbe,
    },
    /// It is over.
    Ended {
        /// What was asked.
        request: R,
        /// What the ping beside it has shown, if it came to anything.
        host: Option<Outcome>,
    },
}

/// Starts bursts, each a task of its own, and ends them all when it is dropped.
pub(crate) struct Bursts<A, R> {
    asker: A,
    reports: mpsc::Sender<Report<R>>,
    tasks: JoinSet<()>,
}

impl<A: Probe, R: Clone + Send + Sync + 'static> Bursts<A, R> {
    pub(crate) fn new(asker: A, reports: mpsc::Sender<Report<R>>) -> Self {
        Self { asker, reports, tasks: JoinSet::new() }
    }

    /// Starts a burst. The first of its probes has the number `number_from`.
    pub(crate) fn start(&mut self, burst: Burst, request: R, number_from: u32) {
        // Finished tasks are only kept until they are looked at.
        while self.tasks.try_join_next().is_some() {}
        let (reports, over) = (self.reports.clone(), Report::Ended { request: request.clone(), host: None });
        let burst = run(self.asker.clone(), burst, request, number_from, reports.clone());
        self.tasks.spawn(async move {
            // Without its report the suspicion would never be settled, and the server never be suspected again.
            if caught(burst).await.is_err() {
                reports.send(over).await.ok();
            }
        });
    }
}

async fn run<A: Probe, R: Clone>(
    asker: A,
    burst: Burst,
    request: R,
    number_from: u32,
    reports: mpsc::Sender<Report<R>>,
) {
    // Room for all of them: the burst never waits for whoever reads.
    let (sender, mut ended) = mpsc::channel(burst.rhythm.count.get() as usize);
    let asking = async {
        let host = burst::run(&asker, &burst, &sender).await;
        drop(sender);
        host
    };
    let forwarding = async {
        while let Some(probe) = ended.recv().await {
            let (request, number) = (request.clone(), number_from + probe.index);
            // Nobody listens any more only at shutdown.
            reports.send(Report::Probe { request, number, probe }).await.ok();
        }
    };
    let (host, ()) = tokio::join!(asking, forwarding);
    reports.send(Report::Ended { request, host }).await.ok();
}
