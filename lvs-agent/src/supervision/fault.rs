//! A panic on purpose, for tests: `LVS_PANIC=TASK` makes that task panic once, some seconds after its start. Several
//! tasks may be named, with commas between them; one that is named several times panics again after each new start.

use std::{
    env,
    sync::{LazyLock, Mutex, PoisonError},
    time::Duration,
};

/// The names of tasks, as [`super::TaskName`] displays them.
const VARIABLE: &str = "LVS_PANIC";
/// Long enough for the agent to be at work.
const AFTER: Duration = Duration::from_secs(4);

/// The tasks whose panic is still to come.
static WANTED: LazyLock<Mutex<Vec<String>>> = LazyLock::new(|| {
    let names = env::var(VARIABLE).unwrap_or_default();
    Mutex::new(names.split(',').map(str::to_owned).collect())
});

/// Runs `task`, unless a test wants the task of this name to panic.
pub(crate) async fn unless_wanted<T>(name: &str, task: impl Future<Output = T>) -> T {
    if !wanted().iter().any(|wanted| wanted == name) {
        return task.await;
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
