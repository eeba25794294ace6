//! Runs an agent of its own for each further configuration, as ldirectord's `execute` does. A child that ends is never
//! restarted.

use std::path::PathBuf;

use nix::sys::signal::Signal;
use tokio::{task::JoinSet, time::timeout};
use tokio_util::sync::CancellationToken;

use crate::{
    event::{Event, InstanceChange, Publisher},
    process::ProcessGroup,
    supervision::{Restartable, STOP},
};

/// The option that makes an agent a secondary one.
const BESIDE: &str = "--beside";

/// An agent for each file.
pub(crate) struct Children {
    files: Vec<PathBuf>,
    events: Publisher,
}

impl Children {
    pub(crate) fn new(files: Vec<PathBuf>, events: Publisher) -> Self {
        Self { files, events }
    }
}

impl Restartable for Children {
    /// Runs them until `shutdown`, then stops them. An agent that ends by itself is not restarted.
    async fn run(&mut self, shutdown: &CancellationToken) {
        let files = self.files.iter().cloned();
        let mut agents: JoinSet<()> =
            files.map(|file| run_agent(file, self.events.clone(), shutdown.clone())).collect();
        while agents.join_next().await.is_some() {}
    }
}

async fn run_agent(file: PathBuf, events: Publisher, shutdown: CancellationToken) {
    let publish = |change| events.publish(Event::Instance { name: file.display().to_string(), change });
    let started = std::env::current_exe().and_then(|program| {
        let arguments = ["run".as_ref(), BESIDE.as_ref(), "--config".as_ref(), file.as_os_str()];
        ProcessGroup::start_agent(program, arguments)
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
            // An agent that takes longer is killed as `agent` is dropped.
            if timeout(STOP.mul_f64(0.8), agent.wait()).await.is_err() {
                publish(InstanceChange::StopsLate);
            }
        }
    }
}
