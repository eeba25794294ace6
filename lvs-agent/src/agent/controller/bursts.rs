//! The tasks that ask, each a burst of confirming probes.

use std::num::NonZeroU32;

use tokio::{sync::mpsc, task::JoinSet};

use crate::{
    engine::confirmation::ProbeRequest,
    model::BurstSettings,
    probe::{
        Outcome, Prober,
        burst::{self, Burst},
    },
    supervision::caught,
};

/// What a burst reports.
#[derive(Debug)]
pub(crate) enum Report {
    /// One of its probes has ended.
    Probe {
        /// What was asked.
        request: ProbeRequest,
        /// Which probe for this suspicion, from 1.
        number: u32,
        /// What came of it.
        outcome: Outcome,
    },
    /// It is over.
    Ended {
        /// What was asked.
        request: ProbeRequest,
        /// What the ping beside it has shown, if it came to anything.
        host: Option<Outcome>,
    },
}

/// Starts bursts, each a task of its own, and ends them all when it is dropped.
pub(crate) struct Bursts {
    prober: Prober,
    settings: BurstSettings,
    reports: mpsc::Sender<Report>,
    tasks: JoinSet<()>,
}

impl Bursts {
    pub(crate) fn new(prober: Prober, settings: BurstSettings, reports: mpsc::Sender<Report>) -> Self {
        Self { prober, settings, reports, tasks: JoinSet::new() }
    }

    /// Asks `count` times, or until there is an answer. The first of the probes has the number `number_from`.
    pub(super) fn start(&mut self, request: ProbeRequest, number_from: u32, count: NonZeroU32) {
        // Finished tasks are only kept until they are looked at.
        while self.tasks.try_join_next().is_some() {}
        let ProbeRequest { target, timeout, .. } = request;
        let burst = Burst::new(target, request.question.clone(), count, &self.settings, timeout);
        let (reports, over) = (self.reports.clone(), Report::Ended { request: request.clone(), host: None });
        let burst = run(self.prober.clone(), burst, request, number_from, reports.clone());
        self.tasks.spawn(async move {
            // Without its report the suspicion would never be settled, and the server never be suspected again.
            if caught(burst).await.is_err() {
                reports.send(over).await.ok();
            }
        });
    }
}

async fn run(
    prober: Prober,
    burst: Burst,
    request: ProbeRequest,
    number_from: u32,
    reports: mpsc::Sender<Report>,
) {
    // Room for all of them: the burst never waits for whoever reads.
    let (sender, mut ended) = mpsc::channel(burst.count.get() as usize);
    let asking = async {
        let host = burst::run(&prober, &burst, &sender).await;
        drop(sender);
        host
    };
    let forwarding = async {
        while let Some(probe) = ended.recv().await {
            let (request, number) = (request.clone(), number_from + probe.index);
            // Nobody listens any more only at shutdown.
            reports.send(Report::Probe { request, number, outcome: probe.outcome }).await.ok();
        }
    };
    let (host, ()) = tokio::join!(asking, forwarding);
    reports.send(Report::Ended { request, host }).await.ok();
}
