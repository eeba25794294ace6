//! Requests from the control socket to a task, each with a reply and a time limit.

use std::time::Duration;

use tokio::{
    sync::{mpsc, oneshot},
    time::timeout,
};

/// How long a reply may take that needs no work.
pub(crate) const TIMEOUT: Duration = Duration::from_secs(2);

/// Sends the request that `compose` makes, and waits for the reply at most for `limit`. The error is for people.
pub(crate) async fn request<Request, Reply>(
    requests: &mpsc::Sender<Request>,
    limit: Duration,
    compose: impl FnOnce(oneshot::Sender<Reply>) -> Request,
) -> Result<Reply, String> {
    // A task that doesn't take requests or drops them has ended, which stops the agent.
    let stopping = || "the agent is stopping; see the log".to_owned();
    let (reply, answer) = oneshot::channel();
    let exchange = async {
        requests.send(compose(reply)).await.map_err(|_| stopping())?;
        answer.await.map_err(|_| stopping())
    };
    timeout(limit, exchange).await.unwrap_or_else(|_| Err("the agent is busy; try again".to_owned()))
}
