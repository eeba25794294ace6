//! Writes the state file: at once where it is short and in memory, else in a task, so that nothing waits long for a
//! disk.

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
    SavedCommands, SavedRole, SavedState,
    file::{take_over, write},
    scope::Scope,
};
use crate::event::{Event, Publisher, StateFileChange};
use crate::ipvs::overrides::Overrides;

/// Up to so many overrides are written at once: some 40 KiB, which take a tenth of a millisecond.
const SHORT: usize = 256;
/// From a write that has failed to the next try: what people have ordered is to be in the file soon after there is
/// room.
const RETRY: Duration = Duration::from_secs(5);
/// How many wake-ups of the task may wait: it writes the latest state, so one is enough.
const WAKE_UPS: usize = 1;

/// The file and its desired content.
struct Shared {
    path: PathBuf,
    scope: Scope,
    events: Publisher,
    /// Whether the file is in a file system in memory.
    in_memory: bool,
    /// Locked only for moments.
    wanted: Mutex<Revision>,
    /// Locked while the file is written.
    file: Mutex<Condition>,
    /// The last revision that was written, or could not be.
    written: watch::Sender<Attempt>,
}

/// The last try to write.
#[derive(Clone, Debug, Default)]
struct Attempt {
    /// Which revision.
    number: u64,
    /// Why it is not in the file.
    failed: Option<Arc<str>>,
}

/// Whether what was saved is there for the next agent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Kept {
    /// It is in the file.
    Written,
    /// The file can't be written, for this reason. It is tried again.
    Failed(String),
    /// The file system hasn't answered yet.
    Pending,
}

/// The content of the file, with a number that grows.
#[derive(Clone)]
struct Revision {
    number: u64,
    overrides: Arc<Overrides>,
    commands: Arc<SavedCommands>,
    role: Arc<SavedRole>,
}

/// Whether the last write has worked.
enum Condition {
    Works,
    Fails,
}

/// The task that writes what the writers save.
pub(crate) struct StateFile {
    shared: Arc<Shared>,
    wake_ups: mpsc::Receiver<()>,
}

/// Saves one part of the state.
pub(crate) struct StateWriter<T> {
    shared: Arc<Shared>,
    set: fn(&mut Revision, Arc<T>),
    wake: mpsc::Sender<()>,
}

/// Waits until a revision is written.
#[derive(Debug)]
pub(crate) struct WriteReceipt {
    number: u64,
    written: watch::Receiver<Attempt>,
}

/// The state that the previous agent has saved, and the writers of the new one.
pub(crate) struct Opened {
    pub(crate) saved: SavedState,
    pub(crate) overrides: StateWriter<Overrides>,
    pub(crate) commands: StateWriter<SavedCommands>,
    pub(crate) role: StateWriter<SavedRole>,
    pub(crate) file: StateFile,
}

impl StateFile {
    /// Reads the file at `path`. `None` if nothing can be saved.
    pub(crate) fn open(path: PathBuf, events: Publisher) -> Option<Opened> {
        let scope = match Scope::here() {
            Ok(scope) => scope,
            Err(error) => {
                let change = StateFileChange::Unavailable { error: error.to_string() };
                events.publish(Event::StateFile { path: None, change });
                return None;
            }
        };
        let saved = take_over(&path, &scope).unwrap_or_else(|ignored| {
            let change = StateFileChange::Ignored { reason: ignored.to_string() };
            events.publish(Event::StateFile { path: Some(path.clone()), change });
            SavedState::default()
        });
        let wanted = Revision {
            number: 0,
            overrides: saved.overrides.clone().into(),
            commands: saved.commands.clone().into(),
            role: saved.role.into(),
        };
        let shared = Arc::new(Shared {
            in_memory: is_in_memory(&path),
            path,
            scope,
            events,
            wanted: Mutex::new(wanted),
            file: Mutex::new(Condition::Works),
            written: watch::channel(Attempt::default()).0,
        });
        let (wake, wake_ups) = mpsc::channel(WAKE_UPS);
        let overrides = StateWriter {
            shared: shared.clone(),
            set: |wanted, overrides| wanted.overrides = overrides,
            wake: wake.clone(),
        };
        let commands = StateWriter {
            shared: shared.clone(),
            set: |wanted, commands| wanted.commands = commands,
            wake: wake.clone(),
        };
        let role = StateWriter { shared: shared.clone(), set: |wanted, role| wanted.role = role, wake };
        Some(Opened { saved, overrides, commands, role, file: Self { shared, wake_ups } })
    }

    /// Runs until all writers are dropped.
    pub(crate) async fn run(mut self) {
        while self.is_due().await {
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

    /// Waits until there is something to write: anew, or again after a failure. `false`: all writers are dropped.
    async fn is_due(&mut self) -> bool {
        let failing = self.shared.written.borrow().failed.is_some();
        let woken = self.wake_ups.recv();
        if failing {
            timeout(RETRY, woken).await.map_or(true, |woken| woken.is_some())
        } else {
            woken.await.is_some()
        }
    }
}

/// Whether a file is, or would be, in a file system in memory, as `/run` is (file-hierarchy(7)).
fn is_in_memory(path: &Path) -> bool {
    let directory = path.ancestors().skip(1).find(|directory| directory.exists());
    directory
        .and_then(|directory| statfs(directory).ok())
        .is_some_and(|system| system.filesystem_type() == TMPFS_MAGIC)
}

impl Shared {
    /// Writes the latest revision, unless it was written already.
    fn write(&self, mut file: MutexGuard<'_, Condition>) {
        let Revision { number, overrides, commands, role } = self.wanted().clone();
        let is_written = {
            let last = self.written.borrow();
            last.number >= number && last.failed.is_none()
        };
        if is_written {
            return;
        }
        let failed = write(&self.path, &self.scope, &overrides, &commands, *role).err();
        self.report(&file, failed.as_ref());
        *file = if failed.is_none() { Condition::Works } else { Condition::Fails };
        let failed = failed.map(|error| error.to_string().into());
        self.written.send_replace(Attempt { number, failed });
    }

    fn wanted(&self) -> MutexGuard<'_, Revision> {
        self.wanted.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Publishes the first of several failures, and the first success after them.
    fn report(&self, before: &Condition, failed: Option<&std::io::Error>) {
        match (before, failed) {
            (Condition::Works, Some(error)) => {
                self.publish(StateFileChange::Fails { error: error.to_string() });
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
    /// From now on `state` is to be in the file.
    pub(crate) fn save(&self, state: &T) -> WriteReceipt {
        let state = Arc::new(state.clone());
        let mut wanted = self.shared.wanted();
        wanted.number += 1;
        (self.set)(&mut wanted, state);
        let (number, is_short) = (wanted.number, wanted.overrides.len() <= SHORT);
        drop(wanted);
        let file = self.shared.file.try_lock().ok().filter(|_| self.shared.in_memory && is_short);
        let is_done = file.is_some_and(|file| {
            self.shared.write(file);
            self.shared.written.borrow().failed.is_none()
        });
        if !is_done {
            // If a wake-up waits already, the task will write this revision, too.
            self.wake.try_send(()).ok();
        }
        WriteReceipt { number, written: self.shared.written.subscribe() }
    }

    /// Tells what becomes of all that was saved so far.
    pub(crate) fn latest(&self) -> WriteReceipt {
        WriteReceipt { number: self.shared.wanted().number, written: self.shared.written.subscribe() }
    }
}

impl WriteReceipt {
    /// Waits until the revision is written or could not be, but for at most `patience`.
    pub(crate) async fn written(mut self, patience: Duration) -> Kept {
        let number = self.number;
        match timeout(patience, self.written.wait_for(|written| written.number >= number)).await {
            Ok(Ok(attempt)) => match &attempt.failed {
                None => Kept::Written,
                Some(reason) => Kept::Failed(reason.to_string()),
            },
            // The task has ended: the agent is about to, and writes nothing any more.
            Ok(Err(_ended)) => Kept::Pending,
            Err(_late) => {
                debug!("the state file takes longer than {patience:?}; it isn't waited for");
                Kept::Pending
            }
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

    fn commands(mark: u32) -> SavedCommands {
        let service = ServiceKey::Mark { mark, family: AddressFamily::V4 };
        let key = DestinationKey { service, server: "10.0.0.1:80".parse().unwrap() };
        SavedCommands::from([(key, AdminCommands { drain: Some(Drain::Quiesce), maintenance: false })])
    }

    #[tokio::test]
    async fn what_is_saved_is_there_for_the_next_agent_once_the_receipt_says_so() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("state.json");
        let Opened { saved, overrides, commands: writer, file, .. } =
            StateFile::open(path.clone(), Publisher::default()).unwrap();
        assert_eq!(saved, SavedState::default());
        let task = tokio::spawn(file.run());
        for mark in 1..20 {
            assert_eq!(writer.save(&commands(mark)).written(LONG).await, Kept::Written);
            assert_eq!(
                StateFile::open(path.clone(), Publisher::default()).unwrap().saved.commands,
                commands(mark)
            );
        }
        // The last revision is written although its writer is dropped.
        drop(overrides);
        writer.save(&commands(99));
        drop(writer);
        task.await.unwrap();
        assert_eq!(StateFile::open(path, Publisher::default()).unwrap().saved.commands, commands(99));
    }

    #[tokio::test]
    async fn a_short_file_in_memory_needs_no_task() {
        let directory = tempfile::tempdir_in("/dev/shm").unwrap();
        let path = directory.path().join("run/state.json");
        let Opened { overrides: _unused, commands: writer, file: _not_run, .. } =
            StateFile::open(path.clone(), Publisher::default()).unwrap();
        for mark in 1..20 {
            let receipt = writer.save(&commands(mark));
            assert_eq!(
                StateFile::open(path.clone(), Publisher::default()).unwrap().saved.commands,
                commands(mark)
            );
            receipt.written(LONG).await;
        }
    }

    #[tokio::test]
    async fn a_file_that_cannot_be_written_blocks_nothing() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("no/such/directory/state.json");
        let Opened { overrides, commands: writer, file, .. } =
            StateFile::open(path, Publisher::default()).unwrap();
        let task = tokio::spawn(file.run());
        let kept = writer.save(&commands(1)).written(LONG).await;
        assert!(matches!(&kept, Kept::Failed(reason) if reason.contains("No such file")), "{kept:?}");
        assert_eq!(writer.latest().written(LONG).await, kept, "who asks again is told again");
        drop((overrides, writer));
        task.await.unwrap();
    }

    /// Both ways to write: at once, and by the task.
    #[tokio::test]
    async fn what_could_not_be_written_is_written_once_it_can_be() {
        tokio::time::pause();
        for memory in ["/dev/shm", "/var/tmp"] {
            let directory = tempfile::tempdir_in(memory).unwrap();
            let path = directory.path().join("run/state.json");
            // In the place of the folder.
            let obstacle = directory.path().join("run");
            std::fs::write(&obstacle, "").unwrap();
            let Opened { overrides, commands: writer, file, .. } =
                StateFile::open(path.clone(), Publisher::default()).unwrap();
            let task = tokio::spawn(file.run());
            let kept = writer.save(&commands(1)).written(LONG).await;
            assert!(matches!(kept, Kept::Failed(_)), "{memory}: {kept:?}");
            std::fs::remove_file(&obstacle).unwrap();
            // Nothing new is saved.
            while writer.latest().written(LONG).await != Kept::Written {
                tokio::time::sleep(Duration::from_secs(1)).await;
            }
            assert_eq!(StateFile::open(path, Publisher::default()).unwrap().saved.commands, commands(1));
            drop((overrides, writer));
            task.await.unwrap();
        }
    }
}
