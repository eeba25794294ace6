//! The task that tells others. It asks the controller how well services are served, at once after events and every
//! second, and has files, addresses and lines follow. Each of the three has its own pace, so that a disk that hangs
//! delays no address.

use std::{collections::BTreeMap, sync::Arc, time::Duration, time::Instant};

use tokio::{
    sync::{Notify, mpsc, oneshot, watch},
    time::{sleep, timeout},
};
use tokio_util::sync::CancellationToken;

use super::{
    devices::Devices,
    fifo::{Fifo, FifoLines},
    files::{Folder, Wishes},
    judged::{Judged, Memory, SILENCE, Vips, at_stop},
};
use crate::{
    event::{AnnounceWay, Event, Publisher, Record, Subscriber},
    messages::{ServedNow, ServedRequest},
    model::Config,
    supervision::Restartable,
};

/// How often the controller is asked, whether anything has happened or not.
const ASK: Duration = Duration::from_secs(1);
/// The least time between two questions: a failure of many servers is many events within a moment.
const REST: Duration = Duration::from_millis(20);
/// How long files and addresses may take at a clean stop, each.
const STOP: Duration = Duration::from_secs(2);

/// What the task is made of.
pub(crate) struct Parts {
    /// To the controller.
    pub(crate) served: mpsc::Sender<ServedRequest>,
    pub(crate) in_force: watch::Receiver<Arc<Config>>,
    pub(crate) events: Publisher,
    /// Whether no other agent announces anything in this network namespace.
    pub(crate) is_sole: bool,
}

/// The task that tells others.
pub(crate) struct Announcer {
    asking: Asking,
    folders: [Option<Folder>; 2],
    devices: Devices,
    fifo: Option<Fifo>,
    /// Whether the end is a failure: all stays as it is then.
    has_failed: Box<dyn Fn() -> bool + Send + Sync>,
}

/// What decides what is told.
struct Asking {
    served: mpsc::Sender<ServedRequest>,
    in_force: watch::Receiver<Arc<Config>>,
    judge: Memory,
    nudge: Arc<Notify>,
    files: [watch::Sender<Wishes>; 2],
    vips: watch::Sender<Vips>,
    last: Judged,
}

/// Wakes the task when something has happened that may change what is told.
struct Nudge(Arc<Notify>);

impl Subscriber for Nudge {
    fn on_event(&mut self, record: &Record) {
        if let Event::Pool { .. }
        | Event::Weight { .. }
        | Event::Transition { .. }
        | Event::Services { .. }
        | Event::Role { .. } = record.event
        {
            self.0.notify_one();
        }
    }
}

impl Announcer {
    /// The task; it subscribes to the events. `has_failed` says at the end whether it is a failure's.
    pub(crate) fn new(parts: Parts, has_failed: impl Fn() -> bool + Send + Sync + 'static) -> Self {
        let Parts { served, in_force, events, is_sole } = parts;
        let nudge = Arc::new(Notify::new());
        events.subscribe(Nudge(nudge.clone()));
        let settings = in_force.borrow().announce.clone();
        let track = settings.track_files.map(|files| (files.folder, AnnounceWay::TrackFiles));
        let ready = settings.ready_files.map(|folder| (folder, AnnounceWay::ReadyFiles));
        let folders =
            [track, ready].map(|folder| folder.map(|(path, way)| Folder::new(path, way, events.clone())));
        let fifo = settings.notify_fifo.map(|path| {
            let (fifo, lines): (Fifo, FifoLines) = Fifo::new(path, events.clone());
            events.subscribe(lines);
            fifo
        });
        let empty = || watch::Sender::new(Wishes::new(BTreeMap::new()));
        let asking = Asking {
            served,
            in_force,
            judge: Memory::default(),
            nudge,
            files: [empty(), empty()],
            vips: watch::Sender::new(Vips::default()),
            last: Judged::default(),
        };
        Self {
            asking,
            folders,
            devices: Devices::new(events, is_sole),
            fifo,
            has_failed: Box::new(has_failed),
        }
    }

    /// Leaves what is to be found after a clean stop.
    async fn stop(&mut self) {
        if (self.has_failed)() {
            return;
        }
        let config = self.asking.in_force.borrow().clone();
        let left = at_stop(&self.asking.last, config.announce.track_files.as_ref());
        let [track, ready] = &mut self.folders;
        let files = [(track, left.track), (ready, left.ready)];
        let files = async {
            for (folder, wishes) in files {
                if let Some(folder) = folder {
                    folder.pass(Arc::new(wishes), STOP / 2).await;
                }
            }
        };
        // Who takes longer is left as he is.
        let vips = async { timeout(STOP, self.devices.stop(left.vips)).await.ok() };
        tokio::join!(files, vips);
    }
}

impl Restartable for Announcer {
    async fn run(&mut self, shutdown: &CancellationToken) {
        let work = async {
            let Self { asking, folders: [track, ready], devices, fifo, .. } = &mut *self;
            let [track_wishes, ready_wishes] = asking.files.each_ref().map(watch::Sender::subscribe);
            let vips = asking.vips.subscribe();
            tokio::join!(
                asking.run(),
                keep(track.as_mut(), track_wishes),
                keep(ready.as_mut(), ready_wishes),
                devices.keep(vips),
                async {
                    if let Some(fifo) = fifo {
                        fifo.keep().await;
                    }
                }
            );
        };
        if shutdown.run_until_cancelled(work).await.is_none() {
            self.stop().await;
        }
    }
}

async fn keep(folder: Option<&mut Folder>, mut wishes: watch::Receiver<Wishes>) {
    let Some(folder) = folder else { return };
    // Before the first word nothing is stale.
    if wishes.wait_for(|wishes| !wishes.is_empty()).await.is_ok() {
        folder.keep(wishes).await;
    }
}

impl Asking {
    /// Asks, and passes on what is to be told.
    async fn run(&mut self) {
        loop {
            let served = self.ask().await;
            let config = self.in_force.borrow_and_update().clone();
            let judged = self.judge.judge(served.as_ref(), &config, Instant::now());
            self.pass_on(&judged);
            let due = judged.due.map(|due| due.saturating_duration_since(Instant::now()));
            self.last = judged;
            sleep(REST).await;
            tokio::select! {
                () = self.nudge.notified() => {}
                () = sleep(due.unwrap_or(ASK).min(ASK)) => {}
                Ok(()) = self.in_force.changed() => {}
            }
        }
    }

    /// How well services are served; `None`: nobody decides.
    async fn ask(&self) -> Option<ServedNow> {
        let (reply, answer) = oneshot::channel();
        let exchange = async {
            self.served.send(reply).await.ok()?;
            answer.await.ok()
        };
        timeout(SILENCE, exchange).await.ok().flatten()
    }

    fn pass_on(&self, judged: &Judged) {
        let [track, ready] = &self.files;
        for (sender, wishes) in [(track, &judged.track), (ready, &judged.ready)] {
            sender.send_if_modified(|known| {
                let is_news = **known != *wishes;
                if is_news {
                    *known = Arc::new(wishes.clone());
                }
                is_news
            });
        }
        self.vips.send_if_modified(|known| {
            let is_news = *known != judged.vips;
            if is_news {
                known.clone_from(&judged.vips);
            }
            is_news
        });
    }
}
