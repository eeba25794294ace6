//! The kernel's table for async tasks: what blocks runs on blocking threads.

use std::{
    mem,
    time::{Duration, Instant},
};

use tokio::task::{JoinError, spawn_blocking};

use super::{
    codec::{Daemon, Info, Timeouts},
    edit::Edit,
    editor::TableEditor,
    error::{IpvsError, Operation},
    reader::{CountedTable, TableReader},
    settings::Settings,
    table::Table,
};
use crate::clock::monotonic_ns;

/// A connection to the IPVS of the network namespace that it was made in: the runtime's threads have to be in the same.
///
/// It does one thing at a time and dumps can be long: a task that can't wait for a dump has a client of its own.
/// After a failure it can be used again: it opens a new socket when it must, and notices when the module was
/// loaded anew.
pub struct IpvsClient {
    reader: TableReader,
    editor: TableEditor,
    settings: Settings,
    timeout: Duration,
}

/// An edit that was sent to the kernel, and its answer.
#[derive(Debug)]
pub struct AppliedEdit {
    /// The edit.
    pub edit: Edit,
    /// The kernel's answer. After [`IpvsError::Timeout`] the edit may have been made all the same.
    pub outcome: Result<(), IpvsError>,
    /// When it answered: nanoseconds of [`monotonic_ns`].
    pub at_ns: u64,
    /// From the request to the answer.
    pub took: Duration,
}

impl IpvsClient {
    /// Connects to IPVS. The kernel has `timeout` for each answer; [`crate::netlink::DEFAULT_TIMEOUT`] does.
    ///
    /// This loads no module. Newer kernels do so by themselves at the first request (6.1 does, 5.10 doesn't).
    pub async fn connect(timeout: Duration) -> Result<Self, IpvsError> {
        let mut client = Self {
            reader: TableReader::new(timeout),
            editor: TableEditor::new(timeout),
            settings: Settings::new(timeout),
            timeout,
        };
        let connecting = blocking(&mut client.editor, TableEditor::new(timeout), TableEditor::connect);
        connecting.await.unwrap_or_else(stopped(Operation::Connect))?;
        Ok(client)
    }

    /// Version and size. Needs the same privileges as everything else: good for a first try.
    pub async fn info(&mut self) -> Result<Info, IpvsError> {
        self.settings(Operation::ReadInfo, Settings::info).await
    }

    /// The kernel's timeouts of idle connections.
    pub async fn timeouts(&mut self) -> Result<Timeouts, IpvsError> {
        self.settings(Operation::ReadTimeouts, Settings::timeouts).await
    }

    /// Sets the kernel's timeouts of idle connections.
    pub async fn set_timeouts(&mut self, timeouts: &Timeouts) -> Result<(), IpvsError> {
        let timeouts = *timeouts;
        self.settings(Operation::SetTimeouts, move |settings| settings.set_timeouts(&timeouts)).await
    }

    /// The synchronisation daemons that run; at most one of each role.
    pub async fn daemons(&mut self) -> Result<Vec<Daemon>, IpvsError> {
        self.settings(Operation::ReadDaemons, Settings::daemons).await
    }

    /// All services and destinations. Entries of a kind that this program doesn't know are left out.
    pub async fn table(&mut self) -> Result<Table, IpvsError> {
        self.read(TableReader::table).await
    }

    /// All services and destinations, with the kernel's counters.
    pub async fn counted_table(&mut self) -> Result<CountedTable, IpvsError> {
        self.read(TableReader::counted_table).await
    }

    /// Makes one edit: one request and one answer; nothing is read before or after.
    pub async fn apply(&mut self, edit: &Edit) -> Result<(), IpvsError> {
        let failed =
            |reason: String| IpvsError::Socket { operation: Operation::Edit(Box::new(edit.clone())), reason };
        let outcomes = self.apply_each(vec![edit.clone()], |_| false).await;
        let last = outcomes.map_err(|error| failed(error.to_string()))?.pop();
        last.map_or_else(|| Err(failed("no answer".to_owned())), |applied| applied.outcome)
    }

    /// Makes edits one after the other on one blocking thread, until none is left or `ends` returns `true`. Returns
    /// those that were sent, in their order. An error means that the thread panicked.
    pub async fn apply_each(
        &mut self,
        edits: Vec<Edit>,
        mut ends: impl FnMut(&AppliedEdit) -> bool + Send + 'static,
    ) -> Result<Vec<AppliedEdit>, JoinError> {
        blocking(&mut self.editor, TableEditor::new(self.timeout), move |editor| {
            let mut applied = Vec::with_capacity(edits.len());
            for edit in edits {
                let begun = Instant::now();
                let outcome = editor.apply(&edit);
                let edit = AppliedEdit { edit, outcome, at_ns: monotonic_ns(), took: begun.elapsed() };
                let ended = ends(&edit);
                applied.push(edit);
                if ended {
                    break;
                }
            }
            applied
        })
        .await
    }

    async fn read<R: Send + 'static>(
        &mut self,
        read: fn(&mut TableReader) -> Result<R, IpvsError>,
    ) -> Result<R, IpvsError> {
        let reading = blocking(&mut self.reader, TableReader::new(self.timeout), read);
        reading.await.unwrap_or_else(stopped(Operation::ReadServices))
    }

    async fn settings<R: Send + 'static>(
        &mut self,
        operation: Operation,
        exchange: impl FnOnce(&mut Settings) -> Result<R, IpvsError> + Send + 'static,
    ) -> Result<R, IpvsError> {
        let exchanged = blocking(&mut self.settings, Settings::new(self.timeout), exchange);
        exchanged.await.unwrap_or_else(stopped(operation))
    }
}

/// Lends `part` to `work` on a thread that may block. If the caller doesn't wait for the end, or the work panics,
/// `fresh` stays in its place.
async fn blocking<P: Send + 'static, R: Send + 'static>(
    part: &mut P,
    fresh: P,
    work: impl FnOnce(&mut P) -> R + Send + 'static,
) -> Result<R, JoinError> {
    let mut lent = mem::replace(part, fresh);
    let (outcome, returned) = spawn_blocking(move || (work(&mut lent), lent)).await?;
    *part = returned;
    Ok(outcome)
}

/// The thread didn't finish its work.
fn stopped<R>(operation: Operation) -> impl FnOnce(JoinError) -> Result<R, IpvsError> {
    move |error| Err(IpvsError::Socket { operation, reason: error.to_string() })
}
