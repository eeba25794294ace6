//! Who writes the state file: whoever has something to write, where the file is in memory and short; else a task, so that a
//! disk keeps nobody waiting for long.

use std::{
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use nix::sys::statfs::{TMPFS_MAGIC, statfs};
use tokio::{
    sync::{mpsc, watch},
    task::spawn_blocking,
    time::timeout,
};
use tracing::debug;

use super::{
    Orders, SavedState,
    file::{read, write},
    scope::Scope,
};
use crate::event::{Event, Publisher, StateFileChange};
use crate::ipvs::overrides::Overrides;

/// Up to so many destinations are written down at once: some 40 KiB, which take a tenth of a millisecond.
const SHORT: usize = 256;
/// There is something to be written: once is enough.
const NEWS: usize = 1;

/// The file, and what is to be in it.
struct Shared {
    path: PathBuf,
    scope: Scope,
    events: Publisher,
    /// Whether writing it takes no disk.
    in_memory: bool,
    /// Never locked for longer than it takes to look.
    wanted: Mutex<Numbered>,
    /// Locked while it is written.
    file: Mutex<Condition>,
    /// How many states were written, or could not be.
    written: watch::Sender<u64>,
}

/// What is to be in the file, and how many states there were before.
#[derive(Clone)]
struct Numbered {
    number: u64,
    overrides: Arc<Overrides>,
    orders: Arc<Orders>,
}

/// How the file was when it was last written.
enum Condition {
    Works,
    Fails,
}

/// Writes down what was handed over.
pub(crate) struct StateFile {
    shared: Arc<Shared>,
    news: mpsc::Receiver<()>,
}

/// Takes what is to be written.
pub(crate) struct StateWriter<T> {
    shared: Arc<Shared>,
    put: fn(&mut Numbered, Arc<T>),
    news: mpsc::Sender<()>,
}

/// What is to be written, to be waited for.
#[derive(Debug)]
pub(crate) struct WriteReceipt {
    number: u64,
    written: watch::Receiver<u64>,
}

/// What the last agent has left, and how this one leaves something.
pub(crate) struct Opened {
    pub(crate) left: SavedState,
    pub(crate) overrides: StateWriter<Overrides>,
    pub(crate) orders: StateWriter<Orders>,
    pub(crate) file: StateFile,
}

impl StateFile {
    /// Reads what is at `path`. `None` where nothing can be kept.
    pub(crate) fn open(path: PathBuf, events: Publisher) -> Option<Opened> {
        let scope = match Scope::here() {
            Ok(scope) => scope,
            Err(error) => {
                let change = StateFileChange::Unavailable { error: error.to_string() };
                events.publish(Event::StateFile { path: None, change });
                return None;
            }
        };
        let left = read(&path, &scope).unwrap_or_else(|why| {
            let change = StateFileChange::Ignored { reason: why.to_string() };
            events.publish(Event::StateFile { path: Some(path.clone()), change });
            SavedState::default()
        });
        let wanted = Numbered {
            number: 0,
            overrides: left.overrides.clone().into(),
            orders: left.orders.clone().into(),
        };
        let shared = Arc::new(Shared {
            in_memory: is_in_memory(&path),
            path,
            scope,
            events,
            wanted: Mutex::new(wanted),
            file: Mutex::new(Condition::Works),
            written: watch::channel(0).0,
        });
        let (news_tx, news) = mpsc::channel(NEWS);
        let overrides = StateWriter {
            shared: shared.clone(),
            put: |wanted, overrides| wanted.overrides = overrides,
            news: news_tx.clone(),
        };
        let orders = StateWriter {
            shared: shared.clone(),
            put: |wanted, orders| wanted.orders = orders,
            news: news_tx,
        };
        Some(Opened { left, overrides, orders, file: Self { shared, news } })
    }

    /// Until nothing further can be handed over.
    pub(crate) async fn run(mut self) {
        while self.news.recv().await.is_some() {
            let shared = self.shared.clone();
            let written = spawn_blocking(move || {
                let file = shared.file.lock().unwrap_or_else(PoisonError::into_inner);
                shared.write(file);
            });
            if let Err(error) = written.await {
                self.shared.publish(StateFileChange::NotWritten { error: error.to_string() });
            }
        }
    }
}

/// Whether a file is, or would be, in a file system in memory, as `/run` is (file-hierarchy(7)).
fn is_in_memory(path: &Path) -> bool {
    let folder = path.ancestors().skip(1).find(|folder| folder.exists());
    folder.and_then(|folder| statfs(folder).ok()).is_some_and(|found| found.filesystem_type() == TMPFS_MAGIC)
}

impl Shared {
    /// Writes what is wanted by now, unless that was written already.
    fn write(&self, mut file: MutexGuard<'_, Condition>) {
        let Numbered { number, overrides, orders } = self.wanted().clone();
        if *self.written.borrow() >= number {
            return;
        }
        let failed = write(&self.path, &self.scope, &overrides, &orders).err();
        self.tell(&file, failed.as_ref());
        *file = if failed.is_none() { Condition::Works } else { Condition::Fails };
        self.written.send_replace(number);
    }

    fn wanted(&self) -> MutexGuard<'_, Numbered> {
        self.wanted.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Publishes failures once.
    fn tell(&self, before: &Condition, failed: Option<&std::io::Error>) {
        match (before, failed) {
            (Condition::Works, Some(error)) => {
                self.publish(StateFileChange::Fails { error: error.to_string() })
            }
            (Condition::Fails, None) => self.publish(StateFileChange::Works),
            _ => {}
        }
    }

    fn publish(&self, change: StateFileChange) {
        self.events.publish(Event::StateFile { path: Some(self.path.clone()), change });
    }
}

impl<T: Clone> StateWriter<T> {
    /// From now on this is to be in the file.
    pub(crate) fn keep(&self, state: &T) -> WriteReceipt {
        let state = Arc::new(state.clone());
        let mut wanted = self.shared.wanted();
        wanted.number += 1;
        (self.put)(&mut wanted, state);
        let (number, is_short) = (wanted.number, wanted.overrides.len() <= SHORT);
        drop(wanted);
        let file = self.shared.file.try_lock().ok().filter(|_| self.shared.in_memory && is_short);
        match file {
            Some(file) => self.shared.write(file),
            // If there is news already, what was put just now is part of it.
            None => drop(self.news.try_send(())),
        }
        WriteReceipt { number, written: self.shared.written.subscribe() }
    }
}

impl WriteReceipt {
    /// Waits until it is written, or it can't be, but never for longer than `patience`.
    pub(crate) async fn written(mut self, patience: Duration) {
        let number = self.number;
        let done = timeout(patience, self.written.wait_for(|written| *written >= number)).await;
        if done.is_err() {
            debug!("the state file takes longer than {patience:?}; it isn't waited for");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        model::{AddressFamily, DestinationKey, ServiceKey},
        pool::{AdminCommands, Drain},
    };

    const LONG: Duration = Duration::from_secs(30);

    fn orders(mark: u32) -> Orders {
        let service = ServiceKey::Mark { mark, family: AddressFamily::V4 };
        let key = DestinationKey { service, server: "10.0.0.1:80".parse().unwrap() };
        Orders::from([(key, AdminCommands { drain: Some(Drain::Quiesce), maintenance: false })])
    }

    #[tokio::test]
    async fn what_is_kept_is_there_for_the_next_agent_once_it_is_told_so() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("state.json");
        let Opened { left, overrides, orders: writer, file } =
            StateFile::open(path.clone(), Publisher::default()).unwrap();
        assert_eq!(left, SavedState::default());
        let task = tokio::spawn(file.run());
        for mark in 1..20 {
            writer.keep(&orders(mark)).written(LONG).await;
            assert_eq!(
                StateFile::open(path.clone(), Publisher::default()).unwrap().left.orders,
                orders(mark)
            );
        }
        // The last word is written although its writer has gone.
        drop(overrides);
        writer.keep(&orders(99));
        drop(writer);
        task.await.unwrap();
        assert_eq!(StateFile::open(path, Publisher::default()).unwrap().left.orders, orders(99));
    }

    #[tokio::test]
    async fn what_is_short_and_in_memory_needs_no_task() {
        let folder = tempfile::tempdir_in("/dev/shm").unwrap();
        let path = folder.path().join("run/state.json");
        let Opened { overrides: _held, orders: writer, file: _not_run, .. } =
            StateFile::open(path.clone(), Publisher::default()).unwrap();
        for mark in 1..20 {
            let receipt = writer.keep(&orders(mark));
            assert_eq!(
                StateFile::open(path.clone(), Publisher::default()).unwrap().left.orders,
                orders(mark)
            );
            receipt.written(LONG).await;
        }
    }

    #[tokio::test]
    async fn nobody_waits_for_a_file_that_cant_be_written() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("no/such/folder/state.json");
        let Opened { overrides, orders: writer, file, .. } =
            StateFile::open(path, Publisher::default()).unwrap();
        let task = tokio::spawn(file.run());
        writer.keep(&orders(1)).written(LONG).await;
        drop((overrides, writer));
        task.await.unwrap();
    }
}
