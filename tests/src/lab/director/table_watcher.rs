//! An observer of the kernel's IPVS table that sees each change within milliseconds.

use std::{
    fs::File,
    io::{Read as _, Seek as _},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    thread::{self, JoinHandle},
    time::Duration,
};

use anyhow::{Context as _, Result, anyhow, bail};

use crate::lab::{
    clock::Moment,
    director::table::{Change, Table},
    namespace::Namespace,
};

/// Where the kernel shows the table of the calling thread's namespace. (`/proc/net` is that of the first thread.)
pub const PROC_FILE: &str = "/proc/thread-self/net/ip_vs";

/// Time between two polls.
const PAUSE: Duration = Duration::from_millis(2);

/// A state of the table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TableState {
    /// When it was first seen; it was not there yet one poll earlier.
    pub at: Moment,
    /// The table.
    pub table: Table,
}

/// A change of the table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TimedChange {
    /// When it was first seen.
    pub at: Moment,
    /// What changed.
    pub change: Change,
}

/// The observer. Dropping it ends it.
#[derive(Debug)]
pub struct TableWatcher {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<Result<()>>>,
}

#[derive(Debug)]
struct Shared {
    stop: AtomicBool,
    history: Mutex<Vec<TableState>>,
}

impl TableWatcher {
    /// Starts to watch the table of `director`, from its present state on.
    pub fn start(director: &Namespace) -> Result<Self> {
        let first = TableState { table: director.run(|| read(&mut open()?))?, at: Moment::now() };
        let shared = Arc::new(Shared { stop: AtomicBool::new(false), history: Mutex::new(vec![first]) });
        let theirs = Arc::clone(&shared);
        let thread = director.thread("table watch", move || theirs.watch())?;
        Ok(Self { shared, thread: Some(thread) })
    }

    /// The states so far, each different from the one before; never empty.
    pub fn history(&self) -> Result<Vec<TableState>> {
        self.check()?;
        Ok(self.shared.lock().clone())
    }

    /// The present state.
    pub fn table(&self) -> Result<Table> {
        self.check()?;
        self.shared.lock().last().map(|seen| seen.table.clone()).context("the first reading of the table")
    }

    /// An error if the thread has ended.
    fn check(&self) -> Result<()> {
        let ended = self.thread.as_ref().is_some_and(JoinHandle::is_finished);
        if ended && !self.shared.stop.load(Ordering::Relaxed) {
            bail!("the observer of the IPVS table has failed");
        }
        Ok(())
    }

    fn end(&mut self) -> Result<()> {
        self.shared.stop.store(true, Ordering::Relaxed);
        match self.thread.take() {
            Some(thread) => thread.join().map_err(|_panic| anyhow!("the observer panicked"))?,
            None => Ok(()),
        }
    }
}

impl Drop for TableWatcher {
    fn drop(&mut self) {
        if let Err(error) = self.end() {
            crate::warn(&format!("the observer of the IPVS table has failed: {error:#}"));
        }
    }
}

impl Shared {
    fn lock(&self) -> std::sync::MutexGuard<'_, Vec<TableState>> {
        self.history.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn watch(&self) -> Result<()> {
        let mut file = open()?;
        while !self.stop.load(Ordering::Relaxed) {
            let table = read(&mut file)?;
            let at = Moment::now();
            let mut history = self.lock();
            if history.last().is_none_or(|last| last.table != table) {
                history.push(TableState { at, table });
            }
            drop(history);
            thread::sleep(PAUSE);
        }
        Ok(())
    }
}

fn open() -> Result<File> {
    File::open(PROC_FILE).with_context(|| format!("no IPVS in this kernel: cannot open {PROC_FILE}"))
}

fn read(file: &mut File) -> Result<Table> {
    let mut text = String::with_capacity(4096);
    file.rewind()?;
    file.read_to_string(&mut text)?;
    Table::parse(&text)
}

/// Every change from one state to the next.
#[must_use]
pub fn changes(history: &[TableState]) -> Vec<TimedChange> {
    let steps = history.iter().zip(history.iter().skip(1));
    steps
        .flat_map(|(before, after)| {
            let changes = before.table.changes_to(&after.table).into_iter();
            changes.map(|change| TimedChange { at: after.at, change })
        })
        .collect()
}
