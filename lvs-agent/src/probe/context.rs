//! What one run of a probe works with: target, deadline, TLS, and whom commands run as. One deadline bounds the whole
//! run; each step may have a timeout of its own.

use std::time::Duration;

use tokio::time::{self, Instant};

use super::{FailureReason, Phase, ProbeTarget, steps::StepLog};
use crate::{model::Via, privileges::RunAs};

/// The deadline of one run, and the timeouts of its steps.
#[derive(Clone, Copy, Debug)]
pub(super) struct Deadline<'a> {
    started: Instant,
    end: Instant,
    /// For connecting and for the TLS handshake.
    connect: Option<Duration>,
    /// For each wait for a reply.
    read: Option<Duration>,
    /// Where the steps are noted, if anybody wants to see them.
    steps: Option<&'a StepLog>,
}

impl<'a> Deadline<'a> {
    /// For a run that starts now and takes no longer than `timeout`.
    pub(super) fn new(timeout: Duration, via: &Via) -> Self {
        let started = Instant::now();
        Self {
            started,
            end: started + timeout,
            connect: via.connect_timeout,
            read: via.read_timeout,
            steps: None,
        }
    }

    /// The same, with its steps noted.
    pub(super) fn noted_in(self, steps: Option<&'a StepLog>) -> Self {
        Self { steps, ..self }
    }

    /// The time since the run started.
    pub(super) fn elapsed(&self) -> Duration {
        self.started.elapsed()
    }

    /// When the run must have ended.
    pub(super) fn end(&self) -> Instant {
        self.end
    }

    /// When half of the time is over that a connection may take.
    pub(super) fn half_of_connect(&self) -> Instant {
        let whole = self.end.saturating_duration_since(self.started);
        self.started + self.connect.unwrap_or(whole).min(whole) / 2
    }

    /// Waits for `work`, no longer than the deadline and the timeout for `phase`; then [`FailureReason::TimedOut`].
    pub(super) async fn within<T>(
        &self,
        phase: Phase,
        work: impl Future<Output = Result<T, FailureReason>>,
    ) -> Result<T, FailureReason> {
        let limit = if matches!(phase, Phase::Connect | Phase::Tls) { self.connect } else { self.read };
        let until = limit.map_or(self.end, |limit| self.end.min(Instant::now() + limit));
        self.noted(phase, time::timeout_at(until, work))
            .await
            .unwrap_or(Err(FailureReason::TimedOut { phase }))
    }

    /// Waits for `work`, no longer than the deadline.
    pub(super) async fn until_end<T>(
        &self,
        phase: Phase,
        work: impl Future<Output = Result<T, FailureReason>>,
    ) -> Result<T, FailureReason> {
        self.noted(phase, time::timeout_at(self.end, work))
            .await
            .unwrap_or(Err(FailureReason::TimedOut { phase }))
    }

    /// Does `work`, and notes it as a step.
    pub(super) async fn noted<T>(&self, phase: Phase, work: impl Future<Output = T>) -> T {
        let Some(steps) = self.steps else { return work.await };
        let from = self.elapsed();
        let done = work.await;
        steps.add(phase, from, self.elapsed());
        done
    }
}

/// One run of a probe.
#[derive(Clone, Copy, Debug)]
pub(super) struct ProbeContext<'a> {
    pub(super) target: ProbeTarget,
    pub(super) deadline: Deadline<'a>,
    pub(super) tls: &'a super::tls::TlsClients,
    pub(super) rests: &'a super::http::Rests,
    /// Whom commands run as.
    pub(super) run_as: &'a RunAs,
}
