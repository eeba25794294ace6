//! Confirming bursts: who is asked what when a server is suspected, and the tasks that ask.

use std::{num::NonZeroU32, sync::Arc};

use lvs_common::ServerId;
use tokio::{sync::mpsc, task::JoinSet};

use crate::{
    config::{BurstSettings, Check, Question},
    probe::{
        CheckId, Outcome, ProbeTarget, Prober,
        burst::{self, Burst, BurstProbe},
    },
    service::DestinationKey,
};

/// One question that settles a suspicion, and the destinations that it settles it for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Ask {
    /// Who is asked.
    pub(super) target: ProbeTarget,
    /// What.
    pub(super) question: Question,
    /// The destinations that the answer is about.
    pub(super) destinations: Arc<[DestinationKey]>,
}

/// The question that the signal has doubted, as far as the check asks it too.
pub(super) fn question(check: &Check) -> Question {
    check.question.confirming()
}

/// What a burst reports.
#[derive(Debug)]
pub(super) enum Report {
    /// One of its probes has ended.
    Probe {
        /// The server that was suspected.
        server: ServerId,
        /// What was asked.
        ask: Ask,
        /// Which probe for this suspicion, from 1.
        number: u32,
        /// What came of it.
        probe: BurstProbe,
    },
    /// It is over.
    Ended {
        /// The server that was suspected.
        server: ServerId,
        /// What was asked.
        ask: Ask,
        /// What the ping beside it has shown, if it came to anything.
        host: Option<Outcome>,
    },
}

/// The bursts of one server that are under way.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Confirmation {
    /// How many bursts have not ended yet.
    pub(super) running: u32,
    /// How many of their probes may still fail.
    pub(super) in_flight: u32,
    /// How many probes were started in all.
    pub(super) started: u32,
    /// A probe has succeeded.
    pub(super) cleared: bool,
    /// A probe has failed.
    pub(super) failed: bool,
}

/// Starts bursts, each a task of its own, and ends them all when it is dropped.
pub(super) struct Bursts {
    prober: Prober,
    settings: BurstSettings,
    reports: mpsc::Sender<Report>,
    tasks: JoinSet<()>,
}

impl Bursts {
    pub(super) fn new(prober: Prober, settings: BurstSettings, reports: mpsc::Sender<Report>) -> Self {
        Self { prober, settings, reports, tasks: JoinSet::new() }
    }

    /// Asks `count` times, or until there is an answer; `before` probes were started for this suspicion already.
    pub(super) fn start(&mut self, server: ServerId, ask: Ask, before: u32, count: NonZeroU32) {
        // Finished tasks are only kept until they are looked at.
        while self.tasks.try_join_next().is_some() {}
        let burst = Burst::new(CheckId(server.0), ask.target, ask.question.clone(), count, &self.settings);
        self.tasks.spawn(run(self.prober.clone(), burst, server, ask, before, self.reports.clone()));
    }
}

async fn run(
    prober: Prober,
    burst: Burst,
    server: ServerId,
    ask: Ask,
    before: u32,
    reports: mpsc::Sender<Report>,
) {
    // Room for all of them: the burst never waits for whoever reads.
    let (sender, mut ended) = mpsc::channel(burst.count.get() as usize);
    let asking = async {
        let verdict = burst::run(&prober, &burst, &sender).await;
        drop(sender);
        verdict
    };
    let forwarding = async {
        while let Some(probe) = ended.recv().await {
            let number = before + probe.index + 1;
            // Nobody listens any more only at shutdown.
            reports.send(Report::Probe { server, ask: ask.clone(), number, probe }).await.ok();
        }
    };
    let (verdict, ()) = tokio::join!(asking, forwarding);
    reports.send(Report::Ended { server, ask: ask.clone(), host: verdict.host }).await.ok();
}
