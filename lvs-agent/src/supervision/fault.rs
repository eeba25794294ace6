//! A panic on purpose, for tests: `LVS_PANIC=TASK` makes that task panic once, some seconds after its start.

use std::{
    env,
    sync::atomic::{AtomicBool, Ordering},
    time::Duration,
};

/// The name of a task, as [`super::TaskName`] displays it.
const VARIABLE: &str = "LVS_PANIC";
/// Long enough for the agent to be at work.
const AFTER: Duration = Duration::from_secs(4);

/// Whether the panic is still to come.
static ARMED: AtomicBool = AtomicBool::new(true);

/// Runs `task`, unless a test wants the task of this name to panic.
pub(super) async fn unless_wanted<T>(name: &str, task: impl Future<Output = T>) -> T {
    if env::var(VARIABLE).as_deref() != Ok(name) || !ARMED.load(Ordering::Relaxed) {
        return task.await;
    }
    tokio::select! {
        ended = task => ended,
        () = tokio::time::sleep(AFTER) => panic_once(name, &ARMED),
    }
}

#[expect(clippy::panic, reason = "somebody has asked for it")]
fn panic_once(name: &str, armed: &AtomicBool) -> ! {
    armed.store(false, Ordering::Relaxed);
    panic!("{VARIABLE}={name}");
}
