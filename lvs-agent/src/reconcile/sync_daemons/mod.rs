//! Keeps the kernel's synchronisation daemons as `[sync]` says. It is their one writer, as the [reconciler] is the
//! table's, and a task of its own, so that an edit of the table never waits for a daemon that starts or stops.
//!
//! [reconciler]: super::Reconciler

mod planner;

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use nix::net::if_::if_nametoindex;
use tokio::{
    sync::watch,
    task::{JoinError, spawn_blocking},
    time::sleep_until,
};
use tokio_util::sync::CancellationToken;

use self::planner::DaemonPlanner;
use crate::{
    event::Publisher,
    ipvs::{Daemon, DaemonEdit, DaemonEditor, DaemonReader, DaemonRole, IpvsError, Operation, WantedDaemon},
    model::{Config, Mode, SyncSettings},
    netlink::DEFAULT_TIMEOUT,
    supervision::Restartable,
};

/// From one look at the daemons to the next: as often as the table is read.
const PAUSE: Duration = Duration::from_millis(700);
/// How long the kernel has for a daemon: one that stops may have to send what it has gathered first.
const EDIT_TIMEOUT: Duration = Duration::from_secs(5);

/// The daemons that are to run, each with what is wrong with it.
pub(crate) type WantedDaemons = Arc<[(WantedDaemon, Option<String>)]>;

/// The task around the daemons.
pub(crate) struct SyncDaemons {
    planner: DaemonPlanner,
    in_force: watch::Receiver<Arc<Config>>,
    shown: watch::Sender<WantedDaemons>,
    events: Publisher,
    /// Whether the agent leaves nothing behind.
    removes_at_exit: Box<dyn Fn() -> bool + Send>,
}

impl SyncDaemons {
    /// Nothing is read or changed yet. `removes_at_exit` is asked when the agent stops.
    pub(crate) fn new(
        in_force: watch::Receiver<Arc<Config>>,
        events: Publisher,
        removes_at_exit: impl Fn() -> bool + Send + 'static,
    ) -> Self {
        let (shown, planner) = (watch::channel(WantedDaemons::from([])).0, DaemonPlanner::default());
        Self { planner, in_force, shown, events, removes_at_exit: Box::new(removes_at_exit) }
    }

    /// The daemons that are to run, and what is wrong with them, from now on.
    pub(crate) fn shown(&self) -> watch::Receiver<WantedDaemons> {
        self.shown.subscribe()
    }

    /// Makes the daemons as the configuration says, as far as that is possible now.
    async fn keep(&mut self) {
        let settings = wanted(&self.in_force.borrow_and_update());
        self.planner.want(settings);
        if self.planner.is_idle() {
            return self.show();
        }
        match look(self.planner.device().map(str::to_owned)).await {
            Ok((running, device)) => {
                let events = self.planner.observed(running, device, Instant::now());
                self.events.publish_all(events);
                self.events.publish_all(self.planner.deaf());
                for role in DaemonRole::ALL {
                    self.edit(role).await;
                }
            }
            Err(error) => {
                let roles: Vec<_> = self.planner.wanted().map(|(daemon, _)| daemon.role).collect();
                for role in roles {
                    let event = self.planner.failed(role, error.to_string(), Instant::now());
                    self.events.publish_all(event);
                }
            }
        }
        self.show();
    }

    async fn edit(&mut self, role: DaemonRole) {
        let found = self.planner.found(role);
        for edit in self.planner.edits(role, Instant::now()) {
            match make(edit.clone()).await {
                Ok(()) => {
                    let is_replaced = matches!(edit, DaemonEdit::Start(_));
                    let instead_of = if is_replaced { &found[..] } else { &[] };
                    let event = self.planner.made(&edit, instead_of, Instant::now());
                    self.events.publish(event);
                }
                Err(error) => {
                    let event = self.planner.failed(role, error.to_string(), Instant::now());
                    return self.events.publish_all(event);
                }
            }
        }
    }

    fn show(&self) {
        let now: WantedDaemons =
            self.planner.wanted().map(|(daemon, fault)| (daemon.clone(), fault.map(str::to_owned))).collect();
        self.shown.send_if_modified(|shown| {
            let is_other = **shown != *now;
            *shown = now;
            is_other
        });
    }

    /// Looks again after a while, or sooner where an edit is due.
    async fn pause(&mut self) {
        if self.planner.is_idle() {
            // Its sender is gone once the agent stops.
            if self.in_force.changed().await.is_err() {
                std::future::pending::<()>().await;
            }
            return;
        }
        let now = Instant::now();
        let next = self.planner.next_due(now).into_iter().chain([now + PAUSE]).min().unwrap_or(now);
        tokio::select! {
            Ok(()) = self.in_force.changed() => {}
            () = sleep_until(next.into()) => {}
        }
    }
}

impl Restartable for SyncDaemons {
    async fn run(&mut self, shutdown: &CancellationToken) {
        while !shutdown.is_cancelled() {
            self.keep().await;
            tokio::select! {
                () = shutdown.cancelled() => {}
                () = self.pause() => {}
            }
        }
        if (self.removes_at_exit)() {
            self.planner.want(None);
            for role in DaemonRole::ALL {
                self.edit(role).await;
            }
        }
    }
}

/// What a configuration says of the daemons, if they are this agent's.
fn wanted(config: &Config) -> Option<SyncSettings> {
    config.sync.clone().filter(|_| config.agent.mode == Mode::Manage)
}

/// The daemons that run, and the number of a device: in a thread of its own.
async fn look(device: Option<String>) -> Result<(Vec<Daemon>, Option<u32>), IpvsError> {
    let looking = spawn_blocking(move || {
        let daemons = DaemonReader::new(DEFAULT_TIMEOUT).daemons()?;
        Ok((daemons, device.and_then(|name| if_nametoindex(name.as_str()).ok())))
    });
    looking.await.unwrap_or_else(|ended| Err(stopped(Operation::ReadDaemons, &ended)))
}

/// The daemons that run, for who shows them.
pub(crate) async fn running() -> Result<Vec<Daemon>, IpvsError> {
    look(None).await.map(|(daemons, _)| daemons)
}

/// Makes an edit in a thread of its own.
async fn make(edit: DaemonEdit) -> Result<(), IpvsError> {
    let operation = Operation::Daemon(edit.clone());
    let making = spawn_blocking(move || DaemonEditor::new(EDIT_TIMEOUT).apply(&edit));
    making.await.unwrap_or_else(|ended| Err(stopped(operation, &ended)))
}

fn stopped(operation: Operation, ended: &JoinError) -> IpvsError {
    IpvsError::Socket { operation, reason: ended.to_string() }
}
