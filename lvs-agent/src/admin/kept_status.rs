//! The status that was made last, for those who look again and again: they share one.

use std::{
    sync::{Arc, OnceLock},
    time::{Duration, Instant},
};

use tokio::{
    sync::{Mutex, MutexGuard},
    time::timeout,
};

use super::request::TIMEOUT;
use crate::control::{ReplyLine, Status};

/// The status of all services, and the line that it is on the control socket, which is written for the first who wants
/// it.
#[derive(Clone, Debug)]
pub(super) struct SharedStatus {
    pub(super) status: Arc<Status>,
    line: Arc<OnceLock<ReplyLine>>,
}

impl SharedStatus {
    /// The line. The error is for people.
    pub(super) fn line(&self) -> Result<ReplyLine, String> {
        if let Some(line) = self.line.get() {
            return Ok(line.clone());
        }
        let line = ReplyLine::status(&self.status).map_err(|error| error.to_string())?;
        Ok(self.line.get_or_init(|| line).clone())
    }
}

/// Keeps it. Clones share it.
#[derive(Clone, Debug, Default)]
pub(super) struct KeptStatus(Arc<Mutex<Option<Kept>>>);

#[derive(Debug)]
struct Kept {
    at: Instant,
    /// The number of the last event before it.
    event: u64,
    shared: SharedStatus,
}

impl KeptStatus {
    /// The one that is kept, if it is as young as `max_age` and nothing has happened since, with `event` the number of
    /// the last event; else the one that `make` makes. Who comes meanwhile waits for that one. The error is for people.
    pub(super) async fn get(
        &self,
        max_age: Duration,
        event: u64,
        make: impl Future<Output = Result<Status, String>>,
    ) -> Result<SharedStatus, String> {
        let mut kept: MutexGuard<'_, Option<Kept>> = timeout(TIMEOUT, self.0.lock())
            .await
            .map_err(|_| format!("the agent has not made its status within {} s", TIMEOUT.as_secs()))?;
        // Who has waited for another's finds it here.
        let young = kept.as_ref().filter(|kept| kept.event >= event && kept.at.elapsed() <= max_age);
        if let Some(kept) = young {
            return Ok(kept.shared.clone());
        }
        let at = Instant::now();
        let shared = SharedStatus { status: Arc::new(make.await?), line: Arc::default() };
        *kept = Some(Kept { at, event, shared: shared.clone() });
        Ok(shared)
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use super::*;
    use crate::control::AgentStatus;

    #[tokio::test]
    async fn who_comes_soon_shares_one_unless_something_has_happened() {
        let (kept, made) = (KeptStatus::default(), Cell::new(0));
        let status = || async {
            made.set(made.get() + 1);
            let agent = AgentStatus { uptime_ms: made.get(), ..AgentStatus::default() };
            Ok(Status { agent, ..Status::default() })
        };
        let hour = Duration::from_hours(1);
        let number =
            async |max_age, event| kept.get(max_age, event, status()).await.unwrap().status.agent.uptime_ms;
        assert_eq!((number(hour, 7).await, number(hour, 7).await), (1, 1), "shared");
        assert_eq!((number(hour, 8).await, number(hour, 8).await), (2, 2), "something has happened");
        assert_eq!(number(hour, 7).await, 2, "it is newer than what was asked for");
        assert_eq!(number(Duration::ZERO, 8).await, 3, "too old");
        let failed = kept.get(Duration::ZERO, 8, async { Err("stopping".to_owned()) }).await;
        assert_eq!(failed.unwrap_err(), "stopping");
        assert_eq!(number(hour, 8).await, 3, "what was kept still is");
    }

    #[tokio::test]
    async fn the_line_is_written_once() {
        let kept = KeptStatus::default();
        let shared = kept.get(Duration::ZERO, 0, async { Ok(Status::default()) }).await.unwrap();
        let [first, second] = [shared.line().unwrap(), shared.clone().line().unwrap()];
        assert!(std::ptr::eq(first.bytes(), second.bytes()));
        let reply = crate::control::Reply::Status(Status::default());
        assert_eq!(first.bytes(), ReplyLine::new(&reply).unwrap().bytes(), "as any other status");
    }
}
