//! The set of the agent's tasks: each has a name, and a way to end. No task may outlive the agent.

use std::{
    fmt,
    sync::{Arc, OnceLock},
    time::Duration,
};

use tokio::{
    task::JoinHandle,
    time::{Instant, sleep, timeout},
};
use tokio_util::sync::CancellationToken;
use tracing::{error, warn};

use super::{caught::caught, fault, spawn::detached};
use crate::backoff::Backoff;

/// How long a task may take to stop.
pub(crate) const STOP: Duration = Duration::from_secs(5);

/// The pauses before a task is started again.
const RESTART: Backoff = Backoff::new(Duration::from_millis(100), Duration::from_secs(30));

/// A task that has worked for so long is started again as after its first panic.
const WELL: Duration = Duration::from_mins(1);

/// What the end of a task means for the agent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TaskKind {
    /// The agent can't do without it, and ends.
    Needed,
    /// After a panic it is started again.
    Restarted,
}

/// Makes [`TaskName`], so that no list of tasks is without one.
macro_rules! tasks {
    ($($(#[$doc:meta])* $name:ident $text:literal $kind:ident,)+) => {
        /// All tasks.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum TaskName { $($(#[$doc])* $name,)+ }

        impl TaskName {
            /// Each of them.
            pub const ALL: &[Self] = &[$(Self::$name,)+];

            /// What its end means.
            #[must_use]
            pub fn kind(self) -> TaskKind {
                match self { $(Self::$name => TaskKind::$kind,)+ }
            }
        }

        impl fmt::Display for TaskName {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(match self { $(Self::$name => $text,)+ })
            }
        }
    };
}

tasks! {
    /// The baseline checks.
    Checks "checks" Needed,
    /// Idle connections.
    Idle "idle" Needed,
    /// The passive signal.
    Monitor "monitor" Needed,
    /// The engine.
    Controller "controller" Needed,
    /// The kernel's table.
    Table "table" Needed,
    /// The kernel's synchronisation daemons.
    SyncDaemons "sync-daemons" Restarted,
    /// This host's addresses.
    Addresses "addresses" Restarted,
    /// The source addresses of probes to VIPs.
    ProbeSources "probe-sources" Restarted,
    /// The services of the kernel's table, where they are adopted.
    Adoption "adoption" Restarted,
    /// The state file.
    State "state" Needed,
    /// Connections that have just begun, where they get a second chance.
    SecondChance "second-chance" Restarted,
    /// The configuration in force.
    Reload "reload" Needed,
    /// The maintenance directory.
    Maintenance "maintenance" Restarted,
    /// What others read of services.
    Announce "announce" Restarted,
    /// Mails, commands and lines in files.
    Notify "notify" Restarted,
    /// Agents for other configurations.
    Children "children" Restarted,
    /// The metrics' port.
    Metrics "metrics" Restarted,
    /// The control socket.
    Control "control" Restarted,
    /// What the service manager is told.
    ServiceManager "service-manager" Restarted,
}

/// Why the agent can't go on: a task that it can't do without has ended.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the task {task} has ended: {reason}; the kernel's table stays as it is")]
pub(crate) struct Failure {
    task: TaskName,
    reason: String,
}

/// Work that can begin anew after a panic: what it keeps is whole at any await.
pub(crate) trait Restartable: Send + 'static {
    /// Works until `shutdown`, or until there is nothing left to do.
    fn run(&mut self, shutdown: &CancellationToken) -> impl Future<Output = ()> + Send;
}

struct Task {
    name: TaskName,
    handle: JoinHandle<()>,
}

/// All tasks of an agent, and the token that stops them.
pub(crate) struct TaskSet {
    shutdown: CancellationToken,
    failure: Arc<OnceLock<Failure>>,
    tasks: Vec<Task>,
}

impl TaskSet {
    pub(crate) fn new() -> Self {
        Self { shutdown: CancellationToken::new(), failure: Arc::default(), tasks: Vec::new() }
    }

    /// Cancelled when the agent stops, or when it can't go on.
    pub(crate) fn shutdown(&self) -> &CancellationToken {
        &self.shutdown
    }

    /// Why the agent can't go on, once it can't.
    pub(crate) fn failure(&self) -> Arc<OnceLock<Failure>> {
        self.failure.clone()
    }

    /// Starts a task that the agent can't do without. It ends by itself once the token is cancelled; if it panics or
    /// ends sooner, the agent fails.
    pub(crate) fn spawn(&mut self, name: TaskName, task: impl Future<Output = ()> + Send + 'static) {
        debug_assert_eq!(name.kind(), TaskKind::Needed, "{name}");
        let (shutdown, failure) = (self.shutdown.clone(), self.failure.clone());
        self.start(name, async move {
            let reason = match caught(fault::unless_wanted(&name.to_string(), task)).await {
                Ok(()) if shutdown.is_cancelled() => return,
                Ok(()) => "nobody has stopped it".to_owned(),
                Err(panicked) => panicked.to_string(),
            };
            // The first one is the cause.
            let failed = failure.get_or_init(|| Failure { task: name, reason });
            error!("{failed}");
            shutdown.cancel();
        });
    }

    /// Starts a task whose end changes nothing for the others. If it panics, it is started again after a pause, which
    /// doubles each time.
    pub(crate) fn spawn_restarted(&mut self, name: TaskName, mut work: impl Restartable) {
        debug_assert_eq!(name.kind(), TaskKind::Restarted, "{name}");
        let shutdown = self.shutdown.clone();
        self.start(name, async move {
            let mut attempt = 0;
            loop {
                let begun = Instant::now();
                let ended = caught(fault::unless_wanted(&name.to_string(), work.run(&shutdown))).await;
                let Err(panicked) = ended else { return };
                attempt = if begun.elapsed() > WELL { 0 } else { attempt + 1 };
                let pause = RESTART.delay(attempt);
                error!("the task {name} has ended: {panicked}; it starts again in {} ms", pause.as_millis());
                sleep(pause).await;
            }
        });
    }

    fn start(&mut self, name: TaskName, task: impl Future<Output = ()> + Send + 'static) {
        let shutdown = self.shutdown.clone();
        let handle = detached(async move {
            tokio::select! {
                () = task => {}
                () = async {
                    shutdown.cancelled().await;
                    sleep(STOP).await;
                } => {}
            }
        });
        self.tasks.push(Task { name, handle });
    }

    /// Cancels the token and waits for every task, each for at most [`STOP`].
    pub(crate) async fn stop(self) {
        self.shutdown.cancel();
        let mut late = Vec::new();
        for Task { name, handle } in self.tasks {
            let abort = handle.abort_handle();
            if timeout(STOP, handle).await.is_err() {
                abort.abort();
                late.push(name);
            }
        }
        for name in late {
            warn!("the task {name} did not stop in time");
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{
        future,
        sync::atomic::{AtomicBool, AtomicU32, Ordering},
    };

    use super::*;

    #[tokio::test]
    async fn a_task_that_ends_by_the_token_is_no_failure() {
        let mut tasks = TaskSet::new();
        let ended = Arc::new(AtomicBool::new(false));
        let (shutdown, flag) = (tasks.shutdown().clone(), ended.clone());
        tasks.spawn(TaskName::Table, async move {
            shutdown.cancelled().await;
            flag.store(true, Ordering::Relaxed);
        });
        let failure = tasks.failure();
        timeout(STOP, tasks.stop()).await.expect("it ends at once");
        assert!(ended.load(Ordering::Relaxed));
        assert_eq!(failure.get(), None);
    }

    #[tokio::test(start_paused = true)]
    async fn a_task_that_does_not_end_is_ended() {
        let mut tasks = TaskSet::new();
        tasks.spawn(TaskName::Table, future::pending());
        timeout(2 * STOP, tasks.stop()).await.expect("stopping has a limit");
    }

    #[tokio::test]
    async fn a_panic_and_an_early_end_are_failures_with_their_reasons() {
        let cases: [(bool, &str); 2] = [(true, "it panicked: as a test"), (false, "nobody has stopped it")];
        for (panics, reason) in cases {
            let mut tasks = TaskSet::new();
            tasks.spawn(TaskName::Controller, async move {
                assert!(!panics, "as a test");
            });
            timeout(STOP, tasks.shutdown().cancelled()).await.expect("the failure cancels the token");
            let failure = tasks.failure();
            tasks.stop().await;
            let expected = Failure { task: TaskName::Controller, reason: reason.to_owned() };
            assert_eq!(failure.get(), Some(&expected));
        }
    }

    /// Panics the first two times.
    struct Clumsy(Arc<AtomicU32>);

    impl Restartable for Clumsy {
        async fn run(&mut self, shutdown: &CancellationToken) {
            assert!(self.0.fetch_add(1, Ordering::Relaxed) >= 2, "as a test");
            shutdown.cancelled().await;
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_restarted_task_is_no_failure() {
        let mut tasks = TaskSet::new();
        let started = Arc::new(AtomicU32::new(0));
        let begin = Instant::now();
        tasks.spawn_restarted(TaskName::Control, Clumsy(started.clone()));
        while started.load(Ordering::Relaxed) < 3 {
            sleep(Duration::from_millis(1)).await;
        }
        assert!(begin.elapsed() >= Duration::from_millis(600), "pauses of 200 and 400 ms");
        let failure = tasks.failure();
        tasks.stop().await;
        assert_eq!((started.load(Ordering::Relaxed), failure.get()), (3, None));
    }
}
