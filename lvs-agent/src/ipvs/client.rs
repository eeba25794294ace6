//! The kernel's table over generic netlink.

use std::time::{Duration, Instant};

use neli::consts::{nl::NlmF, socket::NlFamily};
use nix::errno::Errno;
use tokio::task::{JoinError, spawn_blocking};

use super::{
    codec::{self, AttributeList, Command, Daemon, DecodeError, EncodeError, Info, Message, Timeouts},
    edit::Edit,
    editor::TableEditor,
    error::{IpvsError, Operation},
    family,
    reader::{Snapshot, TableReader},
    table::Table,
};
use crate::{
    clock::monotonic_ns,
    netlink::{Netlink, NetlinkError},
};

/// A connection to the IPVS of the network namespace that it was made in.
///
/// It does one thing at a time and dumps can be long: whoever must not wait for a dump has a client of its own.
/// After a failure it may be used again: it opens a new socket when it must, and notices when the module was
/// loaded anew.
pub struct IpvsClient {
    netlink: Netlink,
    family: u16,
    reader: TableReader,
    editor: TableEditor,
    timeout: Duration,
}

/// What became of an edit.
#[derive(Debug)]
pub struct Made {
    /// The edit.
    pub edit: Edit,
    /// Whether the kernel made it.
    pub outcome: Result<(), IpvsError>,
    /// When it answered, on the monotonic clock, in nanoseconds.
    pub at_ns: u64,
    /// How long it took.
    pub took: Duration,
}

impl IpvsClient {
    /// Connects to IPVS in the calling thread's network namespace. The kernel has `timeout` for each answer;
    /// [`crate::netlink::DEFAULT_TIMEOUT`] does.
    ///
    /// This loads no module. Newer kernels do so by themselves when they are asked (6.1 does, 5.10 doesn't).
    pub async fn connect(timeout: Duration) -> Result<Self, IpvsError> {
        let mut netlink = Netlink::connect(NlFamily::Generic, timeout)
            .await
            .map_err(|error| IpvsError::new(Operation::Connect, error))?;
        let family = family::resolve(&mut netlink).await?;
        let (reader, editor) = (TableReader::new(timeout), TableEditor::new(timeout));
        Ok(Self { netlink, family, reader, editor, timeout })
    }

    /// Version and size. Needs the same privileges as everything else: good for a first try.
    pub async fn info(&mut self) -> Result<Info, IpvsError> {
        let request = Request::get(Command::GetInfo, AttributeList::new());
        self.single(&Operation::ReadInfo, request, |message| codec::unpack_info(message.attrs())).await
    }

    /// How long idle connections are remembered.
    pub async fn timeouts(&mut self) -> Result<Timeouts, IpvsError> {
        let request = Request::get(Command::GetConfig, AttributeList::new());
        self.single(&Operation::ReadTimeouts, request, |message| codec::unpack_timeouts(message.attrs()))
            .await
    }

    /// Changes how long idle connections are remembered.
    pub async fn set_timeouts(&mut self, timeouts: &Timeouts) -> Result<(), IpvsError> {
        let operation = Operation::SetTimeouts;
        let attributes = codec::pack_timeouts(timeouts).map_err(question(&operation))?;
        let request = Request { command: Command::SetConfig, flags: NlmF::ACK, attributes };
        self.exchange(&operation, &request, |_| ()).await?;
        Ok(())
    }

    /// The synchronisation daemons that run; at most one of each role.
    pub async fn daemons(&mut self) -> Result<Vec<Daemon>, IpvsError> {
        let request = Request::dump(Command::GetDaemon, AttributeList::new());
        self.listed(&Operation::ReadDaemons, &request, codec::unpack_daemon).await
    }

    /// All services and destinations. Entries of a kind that this program has no word for are left out.
    pub async fn table(&mut self) -> Result<Table, IpvsError> {
        Ok(self.snapshot().await?.table)
    }

    /// All services and destinations, with what the kernel counted.
    pub async fn snapshot(&mut self) -> Result<Snapshot, IpvsError> {
        // The kernel takes its time over a long table, and nothing else is to wait for that.
        let mut reader = std::mem::replace(&mut self.reader, TableReader::new(self.timeout));
        let reading = spawn_blocking(move || (reader.snapshot(), reader));
        match reading.await {
            Ok((snapshot, reader)) => {
                self.reader = reader;
                snapshot
            }
            Err(error) => {
                Err(IpvsError::Socket { operation: Operation::ReadServices, reason: error.to_string() })
            }
        }
    }

    /// Makes one change. One question and one answer: nothing is read before or after.
    pub async fn apply(&mut self, edit: &Edit) -> Result<(), IpvsError> {
        let failed =
            |reason: String| IpvsError::Socket { operation: Operation::Edit(Box::new(edit.clone())), reason };
        let outcomes = self.apply_each(vec![edit.clone()], |_| false).await;
        let last = outcomes.map_err(|error| failed(error.to_string()))?.pop();
        last.map_or_else(|| Err(failed("not asked".to_owned())), |made| made.outcome)
    }

    /// Makes changes one after the other, until there are no more or `ends` says so of what became of one. They are made
    /// together on a thread that may block; what became of each that was tried is in their order.
    pub async fn apply_each(
        &mut self,
        edits: Vec<Edit>,
        mut ends: impl FnMut(&Made) -> bool + Send + 'static,
    ) -> Result<Vec<Made>, JoinError> {
        let mut editor = std::mem::replace(&mut self.editor, TableEditor::new(self.timeout));
        let (editor, made) = spawn_blocking(move || {
            let mut all = Vec::with_capacity(edits.len());
            for edit in edits {
                let begun = Instant::now();
                let outcome = editor.apply(&edit);
                let made = Made { edit, outcome, at_ns: monotonic_ns(), took: begun.elapsed() };
                let ended = ends(&made);
                all.push(made);
                if ended {
                    break;
                }
            }
            (editor, all)
        })
        .await?;
        self.editor = editor;
        Ok(made)
    }

    /// What a dump's answers have in their one attribute.
    async fn listed<T>(
        &mut self,
        operation: &Operation,
        request: &Request,
        unpack: fn(&[u8]) -> Result<T, DecodeError>,
    ) -> Result<Vec<T>, IpvsError> {
        let entries = self
            .exchange(operation, request, |message| {
                message.attrs().iter().next().map(|attribute| unpack(attribute.nla_payload().as_ref()))
            })
            .await?;
        let mut known = Vec::with_capacity(entries.len());
        for entry in entries.into_iter().flatten() {
            match entry {
                Ok(entry) => known.push(entry),
                // Whatever it is, this program didn't make it, and it must not keep others from being read.
                Err(error @ DecodeError::Unknown { .. }) => {
                    tracing::debug!(%operation, %error, "entry left out");
                }
                Err(source) => return Err(IpvsError::Answer { operation: operation.clone(), source }),
            }
        }
        Ok(known)
    }

    /// The one answer to a question.
    async fn single<T>(
        &mut self,
        operation: &Operation,
        request: Request,
        unpack: impl FnMut(&Message) -> Result<T, DecodeError>,
    ) -> Result<T, IpvsError> {
        let answers = self.exchange(operation, &request, unpack).await?;
        let answer = answers.into_iter().next().ok_or_else(|| IpvsError::NoAnswer(operation.clone()))?;
        answer.map_err(|source| IpvsError::Answer { operation: operation.clone(), source })
    }

    /// Sends a request and reads the answers. "No such entry" is also what the kernel says to an old family
    /// number, so then the number is asked for again, and if it has changed, so is the question.
    async fn exchange<T>(
        &mut self,
        operation: &Operation,
        request: &Request,
        mut read: impl FnMut(&Message) -> T,
    ) -> Result<Vec<T>, IpvsError> {
        let mut outcome = self.send(operation, request, &mut read).await?;
        if outcome.as_ref().is_err_and(|error| *error == NetlinkError::Kernel(Errno::ENOENT)) {
            let family = family::resolve(&mut self.netlink).await?;
            if family != self.family {
                self.family = family;
                outcome = self.send(operation, request, &mut read).await?;
            }
        }
        outcome.map_err(|error| IpvsError::new(operation.clone(), error))
    }

    async fn send<T>(
        &mut self,
        operation: &Operation,
        request: &Request,
        read: impl FnMut(&Message) -> T,
    ) -> Result<Result<Vec<T>, NetlinkError>, IpvsError> {
        let message = request.message().map_err(question(operation))?;
        Ok(self.netlink.ask(self.family, request.flags, message, read).await)
    }
}

/// A question to IPVS.
struct Request {
    command: Command,
    flags: NlmF,
    attributes: AttributeList,
}

impl Request {
    fn get(command: Command, attributes: AttributeList) -> Self {
        Self { command, flags: NlmF::empty(), attributes }
    }

    fn dump(command: Command, attributes: AttributeList) -> Self {
        Self { command, flags: NlmF::DUMP, attributes }
    }

    fn message(&self) -> Result<Message, EncodeError> {
        codec::message(self.command, self.attributes.clone())
    }
}

fn question(operation: &Operation) -> impl FnOnce(EncodeError) -> IpvsError {
    let operation = operation.clone();
    move |source| IpvsError::Question { operation, source }
}
