//! Other configurations that are run along with this one, as ldirectord's `execute` does: each by an agent of its own.

use std::{path::PathBuf, process::Stdio};

use nix::sys::signal::Signal;
use tokio::{task::JoinSet, time::timeout};
use tokio_util::sync::CancellationToken;
use tracing::{error, info, warn};

use super::STOP;
use crate::process::ProcessGroup;

/// The option that tells an agent that it was started so.
const BESIDE: &str = "--beside";

/// Runs an agent for each file until `shutdown`, and stops them then. One that ends by itself is told of, and not started
/// again.
pub(crate) async fn run(files: Vec<PathBuf>, shutdown: CancellationToken) {
    let mut agents: JoinSet<()> = files.into_iter().map(|file| one(file, shutdown.clone())).collect();
    while agents.join_next().await.is_some() {}
}

async fn one(file: PathBuf, shutdown: CancellationToken) {
    let name = file.display();
    let started = std::env::current_exe().and_then(|program| {
        let arguments = ["run".as_ref(), BESIDE.as_ref(), "--config".as_ref(), file.as_os_str()];
        ProcessGroup::start_with(program, arguments, Stdio::null(), Stdio::inherit())
    });
    let mut agent = match started {
        Ok(agent) => agent,
        Err(error) => return error!(event = "execute", "cannot start a second agent for {name}: {error}"),
    };
    info!(event = "execute", "a second agent runs for {name}");
    tokio::select! {
        ended = agent.wait() => match ended {
            Ok(status) => error!(event = "execute", "the second agent for {name} has ended: {status}"),
            Err(error) => error!(event = "execute", "the second agent for {name} is lost: {error}"),
        },
        () = shutdown.cancelled() => {
            if let Err(error) = agent.signal(Signal::SIGTERM) {
                warn!(event = "execute", "cannot stop the second agent for {name}: {error}");
            }
            // What takes longer is killed as this is dropped.
            if timeout(STOP.mul_f64(0.8), agent.wait()).await.is_err() {
                warn!(event = "execute", "the second agent for {name} did not stop in time");
            }
        }
    }
}
