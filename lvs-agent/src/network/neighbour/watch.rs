//! Changes of the neighbour table as they happen.

use std::{io::Cursor, time::Duration};

use neli::{
    FromBytesWithInput,
    consts::{rtnl::Rtm, socket::NlFamily},
    err::SocketError,
    rtnl::Ndmsg,
    socket::asynchronous::NlSocketHandle,
    types::Buffer,
    utils::Groups,
};
use nix::errno::Errno;
use tokio::sync::mpsc;
use tokio_util::task::AbortOnDropHandle;

use super::{NeighbourChange, NeighbourState, Neighbours, mirror::Mirror, read};
use crate::{
    netlink::NetlinkError,
    network::error::NetworkError,
    supervision::{self, caught},
};

/// `RTNLGRP_NEIGH` (`include/uapi/linux/rtnetlink.h`).
const GROUP: u32 = 3;

/// Room for the changes of a rack of servers at once. A reader that is slower than that holds up the watcher, the
/// socket's buffer overflows, and the table is read anew: nothing is lost but what was in between.
const ROOM: usize = 256;

/// The kernel's buffer for changes that the watcher hasn't read yet, in bytes. A message takes some 800 with its
/// overhead.
const BUFFER: usize = 512 * 1024;

/// From a failure to the next try.
const PAUSE: Duration = Duration::from_secs(1);

/// A task that watches the neighbour table; it ends when this is dropped, or the receiver of its changes.
#[derive(Debug)]
pub struct NeighbourWatch {
    _task: AbortOnDropHandle<()>,
}

impl NeighbourWatch {
    /// Starts to watch in the calling thread's network namespace. First come all entries that there are, then their
    /// changes. After an overrun the table is read again, and what was missed is made up for.
    ///
    /// Should watching fail later on, it is tried again each second; what happened meanwhile comes then.
    pub async fn start(timeout: Duration) -> Result<(Self, mpsc::Receiver<NeighbourChange>), NetworkError> {
        let source = Source::open(timeout).await?;
        let (sender, receiver) = mpsc::channel(ROOM);
        let task = supervision::spawn(watch(source, timeout, sender));
        Ok((Self { _task: task }, receiver))
    }
}

/// Why a round of watching ended.
enum End {
    /// The receiver is gone.
    Closed,
    /// The socket's buffer has overflowed.
    Overrun,
    /// Something failed.
    Failed(NetworkError),
}

/// The two sockets: one for notifications, one for requests.
struct Source {
    notifications: NlSocketHandle,
    requests: Neighbours,
}

impl Source {
    /// Listens first and reads the table second, so that nothing falls between the two. What comes twice, or in the
    /// wrong order, is put right by the last message of each entry.
    async fn open(timeout: Duration) -> Result<Self, NetworkError> {
        let failed = |error: SocketError| {
            let source = NetlinkError::Socket(error.to_string());
            NetworkError::Netlink { doing: "watch the neighbour table".to_owned(), error: source }
        };
        let notifications =
            NlSocketHandle::connect(NlFamily::Route, None, Groups::new_groups(&[GROUP])).map_err(failed)?;
        notifications.set_recv_buffer_size(BUFFER).map_err(failed)?;
        Ok(Self { notifications, requests: Neighbours::connect(timeout).await? })
    }

    /// Passes everything on until something happens that it takes a new reading of the table for.
    async fn run(&mut self, mirror: &mut Mirror, sender: &mpsc::Sender<NeighbourChange>) -> End {
        let table = match self.requests.dump().await {
            Ok(table) => table,
            Err(error) => return End::Failed(error),
        };
        if pass_on(mirror.replace(table), sender).await.is_err() {
            return End::Closed;
        }
        loop {
            let received = tokio::select! {
                () = sender.closed() => return End::Closed,
                received = receive(&self.notifications) => received,
            };
            let changes: Vec<_> = match received {
                Ok(entries) => entries.into_iter().filter_map(|entry| mirror.note(entry)).collect(),
                Err(end) => return end,
            };
            if pass_on(changes, sender).await.is_err() {
                return End::Closed;
            }
        }
    }
}

async fn watch(mut source: Source, timeout: Duration, sender: mpsc::Sender<NeighbourChange>) {
    let mut mirror = Mirror::default();
    loop {
        let pause = match caught(source.run(&mut mirror, &sender)).await {
            // The hook has logged it. What the mirror lacks, the next reading of the table brings.
            Err(_panicked) => PAUSE,
            Ok(End::Closed) => return,
            Ok(End::Overrun) => {
                tracing::debug!("the neighbour table changes too fast to follow; reading it again");
                Duration::ZERO
            }
            Ok(End::Failed(error)) => {
                tracing::warn!(%error, "the neighbour table can't be watched; trying again");
                PAUSE
            }
        };
        // A new socket even after an overrun: what still waits in the old one is older than the table that is read
        // now, and the messages that would put it right are those that were lost.
        let Some(opened) = reopen(pause, timeout, &sender).await else { return };
        source = opened;
    }
}

/// Opens the sockets anew, after a pause, as often as it takes; `None` when the receiver is gone.
async fn reopen(
    mut pause: Duration,
    timeout: Duration,
    sender: &mpsc::Sender<NeighbourChange>,
) -> Option<Source> {
    loop {
        tokio::select! {
            () = sender.closed() => return None,
            () = tokio::time::sleep(pause) => pause = PAUSE,
        }
        match Source::open(timeout).await {
            Ok(source) => return Some(source),
            Err(error) => tracing::warn!(%error, "the neighbour table can't be watched; trying again"),
        }
    }
}

/// Waits for messages and reads them.
async fn receive(socket: &NlSocketHandle) -> Result<Vec<NeighbourChange>, End> {
    let (messages, _groups) = socket.recv::<Rtm, Buffer>().await.map_err(failure)?;
    let mut entries = Vec::new();
    for message in messages {
        let message = message.map_err(failure)?;
        let gone = match message.nl_type() {
            Rtm::Newneigh => false,
            Rtm::Delneigh => true,
            _ => continue,
        };
        let entry = message.get_payload().and_then(|payload| {
            let bytes = payload.as_ref();
            Ndmsg::from_bytes_with_input(&mut Cursor::new(bytes), bytes.len()).ok()
        });
        let entry = entry.as_ref().and_then(read);
        entries.extend(entry.map(|entry| {
            if gone { NeighbourChange { state: NeighbourState::Gone, ..entry } } else { entry }
        }));
    }
    Ok(entries)
}

fn failure(error: SocketError) -> End {
    match error {
        SocketError::Io(error) if error.raw_os_error() == Some(Errno::ENOBUFS as i32) => End::Overrun,
        error => {
            let source = NetlinkError::Socket(error.to_string());
            End::Failed(NetworkError::Netlink {
                doing: "watch the neighbour table".to_owned(),
                error: source,
            })
        }
    }
}

async fn pass_on(
    changes: Vec<NeighbourChange>,
    sender: &mpsc::Sender<NeighbourChange>,
) -> Result<(), mpsc::error::SendError<NeighbourChange>> {
    for change in changes {
        sender.send(change).await?;
    }
    Ok(())
}
