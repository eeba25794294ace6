//! What one run of a probe works with: target, deadline, TLS, and whom commands run as. One deadline bounds the whole
//! run; each step may have a timeout of its own.

use std::time::Duration;

use tokio::time::{self, Instant};

use super::{FailureReason, Phase, ProbeTarget};
use crate::{model::Via, privileges::RunAs};

/// The deadline of one run, and the timeouts of its steps.
#[derive(Clone, Copy, Debug)]
pub(super) struct Deadline {
    started: Instant,
    end: Instant,
    /// For connecting and for the TLS handshake.
    connect: Option<Duration>,
    /// For each wait for a reply.
    read: Option<Duration>,
}

impl Deadline {
    /// For a run that starts now and takes no longer than `timeout`.
    pub(super) fn new(timeout: Duration, via: &Via) -> Self {
        let started = Instant::now();
        Self { started, end: started + timeout, connect: via.connect_timeout, read: via.read_timeout }
    }

    /// The time since the run started.
    pub(super) fn elapsed(&self) -> Duration {
        self.started.elapsed()
    }

    /// Waits for `work`, no longer than the deadline and the timeout for `phase`; then [`FailureReason::TimedOut`].
    pub(super) async fn within<T>(
        &self,
        phase: Phase,
        work: impl Future<Output = Result<T, FailureReason>>,
    ) -> Result<T, FailureReason> {
        let limit = if matches!(phase, Phase::Connect | Phase::Tls) { self.connect } else { self.read };
        let until = limit.map_or(self.end, |limit| self.end.min(Instant::now() + limit));
        time::timeout_at(until, work).await.unwrap_or(Err(FailureReason::TimedOut { phase }))
    }

    /// Waits for `work`, no longer than the deadline.
    pub(super) async fn until_end<T>(
        &self,
        phase: Phase,
        work: impl Future<Output = Result<T, FailureReason>>,
    ) -> Result<T, FailureReason> {
        time::timeout_at(self.end, work).await.unwrap_or(Err(FailureReason::TimedOut { phase }))
    }
}

/// One run of a probe.
#[derive(Clone, Copy, Debug)]
pub(super) struct ProbeContext<'a> {
    pub(super) target: ProbeTarget,
    pub(super) deadline: Deadline,
    pub(super) tls: &'a super::tls::TlsClients,
    pub(super) rests: &'a super::http::Rests,
    /// Whom commands run as.
    pub(super) run_as: &'a RunAs,
}
