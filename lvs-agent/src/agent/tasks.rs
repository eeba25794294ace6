//! The tasks of an agent: each has a name, an owner, and an end.

use std::time::Duration;

use tokio::{task::JoinHandle, time::timeout};
use tokio_util::sync::CancellationToken;
use tracing::{error, warn};

/// How long a task may take to stop.
pub(super) const STOP: Duration = Duration::from_secs(5);

/// How a task ends at shutdown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Ending {
    /// By itself, soon after the token is cancelled.
    OnToken,
    /// It knows no token: it is aborted.
    Abort,
}

struct Task {
    name: &'static str,
    handle: JoinHandle<()>,
}

/// All tasks of an agent, and the token that stops them.
pub(super) struct TaskSet {
    shutdown: CancellationToken,
    tasks: Vec<Task>,
}

impl TaskSet {
    pub(super) fn new() -> Self {
        Self { shutdown: CancellationToken::new(), tasks: Vec::new() }
    }

    /// Cancelled when the agent stops, or when a task has panicked.
    pub(super) fn shutdown(&self) -> &CancellationToken {
        &self.shutdown
    }

    /// Starts a task that ends by itself once the token is cancelled. If it panics, the whole agent stops rather than going
    /// on without it.
    pub(super) fn spawn(&mut self, name: &'static str, task: impl Future<Output = ()> + Send + 'static) {
        self.start(name, Ending::OnToken, task);
    }

    /// Starts a task that has no end of its own, and is aborted when the agent stops.
    pub(super) fn spawn_endless(
        &mut self,
        name: &'static str,
        task: impl Future<Output = ()> + Send + 'static,
    ) {
        self.start(name, Ending::Abort, task);
    }

    fn start(&mut self, name: &'static str, ending: Ending, task: impl Future<Output = ()> + Send + 'static) {
        let guard = self.shutdown.clone();
        let handle = tokio::spawn(async move {
            let inner = tokio::spawn(task);
            let abort = inner.abort_handle();
            tokio::select! {
                ended = inner => if let Err(error) = ended {
                    error!("task {name}: {error}");
                    guard.cancel();
                },
                () = async {
                    guard.cancelled().await;
                    if ending == Ending::OnToken {
                        tokio::time::sleep(STOP).await;
                    }
                } => abort.abort(),
            }
        });
        self.tasks.push(Task { name, handle });
    }

    /// Cancels the token and waits for every task, each for at most [`STOP`].
    pub(super) async fn stop(self) {
        self.shutdown.cancel();
        for Task { name, handle } in self.tasks {
            if timeout(STOP, handle).await.is_err() {
                warn!("task {name} did not stop in time");
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{
        future,
        sync::{
            Arc,
            atomic::{AtomicBool, Ordering},
        },
    };

    use super::*;

    #[tokio::test]
    async fn a_task_has_its_last_words_and_an_endless_one_is_aborted() {
        let mut tasks = TaskSet::new();
        let said = Arc::new(AtomicBool::new(false));
        let (shutdown, last) = (tasks.shutdown().clone(), said.clone());
        tasks.spawn("talker", async move {
            shutdown.cancelled().await;
            last.store(true, Ordering::Relaxed);
        });
        tasks.spawn_endless("server", future::pending());
        timeout(STOP, tasks.stop()).await.expect("nothing is waited for");
        assert!(said.load(Ordering::Relaxed));
    }

    #[tokio::test]
    async fn a_panic_stops_all_and_an_end_does_not() {
        let mut tasks = TaskSet::new();
        tasks.spawn("short", async {});
        tasks.spawn("faulty", async { panic!("as a test") });
        timeout(STOP, tasks.shutdown().cancelled()).await.expect("the panic cancels the token");
        tasks.stop().await;
    }
}
