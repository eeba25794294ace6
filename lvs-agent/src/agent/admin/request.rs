//! Questions from one task to another: each has a way back of its own, and a time within which it is answered.

use std::time::Duration;

use tokio::{
    sync::{mpsc, oneshot},
    time::timeout,
};

/// How long a task may take that has the answer at hand.
pub(crate) const PATIENCE: Duration = Duration::from_secs(2);

/// Asks `task`, as people know it, which may have ended or be busy. `request` is the question with its way back.
pub(crate) async fn ask<Inquiry, Told>(
    task: &str,
    desk: &mpsc::Sender<Inquiry>,
    patience: Duration,
    request: impl FnOnce(oneshot::Sender<Told>) -> Inquiry,
) -> Result<Told, String> {
    let ended = || format!("the agent's {task} has ended; see the log");
    let (reply, answer) = oneshot::channel();
    let asking = async {
        desk.send(request(reply)).await.map_err(|_| ended())?;
        answer.await.map_err(|_| ended())
    };
    timeout(patience, asking)
        .await
        .unwrap_or_else(|_| Err(format!("the agent's {task} did not answer in time; try again")))
}
