//! A fault on purpose, for tests: `LVS_PANIC=TASK` makes that task panic once, some seconds after its start, and
//! `LVS_HANG=TASK` has it do nothing more from then on. Several tasks may be named, with commas between them; one that
//! is to panic and is named several times panics again after each new start.

use std::{
    env,
    pin::pin,
    sync::{LazyLock, Mutex, PoisonError},
    time::Duration,
};

/// The names of tasks that panic, as [`super::TaskName`] displays them.
const VARIABLE: &str = "LVS_PANIC";
/// The names of tasks that hang.
const HANG: &str = "LVS_HANG";
/// Long enough for the agent to be at work.
const AFTER: Duration = Duration::from_secs(4);

/// The tasks whose panic is still to come.
static WANTED: LazyLock<Mutex<Vec<String>>> = LazyLock::new(|| Mutex::new(names(VARIABLE)));

/// The tasks that hang, however often they are started.
static HANGING: LazyLock<Vec<String>> = LazyLock::new(|| names(HANG));

fn names(variable: &str) -> Vec<String> {
    env::var(variable).unwrap_or_default().split(',').map(str::to_owned).collect()
}

/// Runs `task`, unless a test wants the task of this name to panic or to hang.
pub(crate) async fn unless_wanted<T>(name: &str, task: impl Future<Output = T>) -> T {
    let hangs = HANGING.iter().any(|hanging| hanging == name);
    if !hangs && !wanted().iter().any(|wanted| wanted == name) {
        return task.await;
    }
    let mut task = pin!(task);
    if hangs {
        return tokio::select! {
            ended = &mut task => ended,
            // It keeps what it has, its channels among them.
            () = tokio::time::sleep(AFTER) => std::future::pending().await,
        };
    }
    tokio::select! {
        ended = task => ended,
        () = tokio::time::sleep(AFTER) => panic_once(name),
    }
}

fn wanted() -> std::sync::MutexGuard<'static, Vec<String>> {
    WANTED.lock().unwrap_or_else(PoisonError::into_inner)
}

#[expect(clippy::panic, reason = "somebody has asked for it")]
fn panic_once(name: &str) -> ! {
    let mut wanted = wanted();
    if let Some(place) = wanted.iter().position(|wanted| wanted == name) {
        wanted.swap_remove(place);
    }
    drop(wanted);
    panic!("{VARIABLE}={name}");
}
