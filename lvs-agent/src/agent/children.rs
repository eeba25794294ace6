//! Other configurations that are run along with this one, as ldirectord's `execute` does: each by an agent of its own.

use std::{path::PathBuf, process::Stdio};

use nix::sys::signal::Signal;
use tokio::{task::JoinSet, time::timeout};
use tokio_util::sync::CancellationToken;

use super::tasks::STOP;
use crate::{
    event::{Event, InstanceChange, Publisher},
    process::ProcessGroup,
};

/// The option that tells an agent that it was started so.
const BESIDE: &str = "--beside";

/// Runs an agent for each file until `shutdown`, and stops them then. One that ends by itself is not started again.
pub(crate) async fn run(files: Vec<PathBuf>, events: Publisher, shutdown: CancellationToken) {
    let mut agents: JoinSet<()> =
        files.into_iter().map(|file| one(file, events.clone(), shutdown.clone())).collect();
    while agents.join_next().await.is_some() {}
}

async fn one(file: PathBuf, events: Publisher, shutdown: CancellationToken) {
    let publish = |change| events.publish(Event::Instance { name: file.display().to_string(), change });
    let started = std::env::current_exe().and_then(|program| {
        let arguments = ["run".as_ref(), BESIDE.as_ref(), "--config".as_ref(), file.as_os_str()];
        ProcessGroup::start_with(program, arguments, Stdio::null(), Stdio::inherit())
    });
    let mut agent = match started {
        Ok(agent) => agent,
        Err(error) => return publish(InstanceChange::NotStarted { error: error.to_string() }),
    };
    publish(InstanceChange::Started);
    tokio::select! {
        ended = agent.wait() => publish(match ended {
            Ok(status) => InstanceChange::Ended { status: status.to_string() },
            Err(error) => InstanceChange::Lost { error: error.to_string() },
        }),
        () = shutdown.cancelled() => {
            if let Err(error) = agent.signal(Signal::SIGTERM) {
                publish(InstanceChange::NotStopped { error: error.to_string() });
            }
            // What takes longer is killed as this is dropped.
            if timeout(STOP.mul_f64(0.8), agent.wait()).await.is_err() {
                publish(InstanceChange::StopsLate);
            }
        }
    }
}
