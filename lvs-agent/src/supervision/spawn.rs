//! The one place that starts tasks.

use tokio::task::JoinHandle;
use tokio_util::task::AbortOnDropHandle;

/// Starts a task that ends when the handle is dropped. Its owner has to notice its end, which may be a panic: the hook
/// has logged it then.
pub(crate) fn spawn<T: Send + 'static>(
    task: impl Future<Output = T> + Send + 'static,
) -> AbortOnDropHandle<T> {
    AbortOnDropHandle::new(detached(task))
}

/// Starts a task that outlives its handle.
pub(super) fn detached<T: Send + 'static>(task: impl Future<Output = T> + Send + 'static) -> JoinHandle<T> {
    tokio::spawn(task)
}
