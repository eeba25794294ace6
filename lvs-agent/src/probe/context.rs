//! The times that a check has: one deadline for the whole, and a limit for each wait.

use std::time::Duration;

use tokio::time::{self, Instant};

use super::{FailureReason, Phase, ProbeTarget};
use crate::model::Via;

/// The times that one run of a check has.
#[derive(Clone, Copy, Debug)]
pub(super) struct Deadline {
    started: Instant,
    deadline: Instant,
    connect: Option<Duration>,
    read: Option<Duration>,
}

impl Deadline {
    /// A run that starts now and takes no longer than `timeout`.
    pub(super) fn new(timeout: Duration, via: &Via) -> Self {
        let started = Instant::now();
        Self { started, deadline: started + timeout, connect: via.connect_timeout, read: via.read_timeout }
    }

    /// How long ago it started.
    pub(super) fn elapsed(&self) -> Duration {
        self.started.elapsed()
    }

    /// What `work` gives, unless the deadline or the limit for such a wait comes first.
    pub(super) async fn within<T>(
        &self,
        phase: Phase,
        work: impl Future<Output = Result<T, FailureReason>>,
    ) -> Result<T, FailureReason> {
        let limit = if matches!(phase, Phase::Connect | Phase::Tls) { self.connect } else { self.read };
        let until = limit.map_or(self.deadline, |limit| self.deadline.min(Instant::now() + limit));
        time::timeout_at(until, work).await.unwrap_or(Err(FailureReason::TimedOut { phase }))
    }

    /// The same with the deadline alone.
    pub(super) async fn whole<T>(
        &self,
        phase: Phase,
        work: impl Future<Output = Result<T, FailureReason>>,
    ) -> Result<T, FailureReason> {
        time::timeout_at(self.deadline, work).await.unwrap_or(Err(FailureReason::TimedOut { phase }))
    }
}

/// One run of a check: who is asked, in which time, and by whose means.
#[derive(Clone, Copy, Debug)]
pub(super) struct ProbeContext<'a> {
    pub(super) target: ProbeTarget,
    pub(super) deadline: Deadline,
    pub(super) tls: &'a super::tls::TlsClients,
}
