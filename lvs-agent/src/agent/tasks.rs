//! The set of the agent's tasks: each has a name, and a way to end. No task may outlive the agent.

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
    /// It doesn't watch the token: it is aborted.
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

    /// Starts a task that ends by itself once the token is cancelled. If it panics, the whole agent stops rather than
    /// going on without it.
    pub(super) fn spawn(&mut self, name: &'static str, task: impl Future<Output = ()> + Send + 'static) {
        self.start(name, Ending::OnToken, task);
    }

    /// Starts a task that never ends by itself: it is aborted when the agent stops.
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
    async fn a_task_ends_by_itself_and_an_endless_one_is_aborted() {
        let mut tasks = TaskSet::new();
        let ended = Arc::new(AtomicBool::new(false));
        let (shutdown, flag) = (tasks.shutdown().clone(), ended.clone());
        tasks.spawn("polite", async move {
            shutdown.cancelled().await;
            flag.store(true, Ordering::Relaxed);
        });
        tasks.spawn_endless("server", future::pending());
        timeout(STOP, tasks.stop()).await.expect("both tasks end at once");
        assert!(ended.load(Ordering::Relaxed));
    }

    #[tokio::test]
    async fn a_panic_stops_the_agent_and_the_end_of_a_task_does_not() {
        let mut tasks = TaskSet::new();
        tasks.spawn("short", async {});
        tasks.spawn("faulty", async { panic!("as a test") });
        timeout(STOP, tasks.shutdown().cancelled()).await.expect("the panic cancels the token");
        tasks.stop().await;
    }
}
