//! Writes keepalived's lines to a FIFO. As in keepalived it is open for reading and writing, so that lines wait in it
//! for a reader that is started later, and a line for which there is no room is lost.

use std::{
    fs::{File, OpenOptions},
    io::{self, Write as _},
    os::unix::fs::{FileTypeExt as _, OpenOptionsExt as _},
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use nix::{libc, sys::stat::Mode, unistd::mkfifo};
use tokio::{
    sync::mpsc,
    time::{sleep, timeout},
};

use super::{fifo_line, trouble::Trouble};
use crate::{
    event::{AnnounceWay, Event, Publisher, Record, Subscriber},
    file_work,
    telemetry::metrics::count_lost_lines,
};

/// Lines that may wait: each server of a large director may change once while the disk with the FIFO hangs.
const LINES: usize = 4096;
/// Lines that are written at once.
const BATCH: usize = 64;
/// How long opening the FIFO and writing a batch may take.
const LIMIT: Duration = Duration::from_secs(5);

/// Queues the lines of events.
pub(super) struct FifoLines {
    lines: mpsc::Sender<String>,
    lost: Arc<AtomicU64>,
}

impl Subscriber for FifoLines {
    fn on_event(&mut self, record: &Record) {
        if let Some(line) = fifo_line::of(&record.event)
            && self.lines.try_send(line).is_err()
        {
            self.lost.fetch_add(1, Ordering::Relaxed);
        }
    }
}

/// The FIFO, and the lines for it.
#[derive(Debug)]
pub(super) struct Fifo {
    path: PathBuf,
    lines: mpsc::Receiver<String>,
    lost: Arc<AtomicU64>,
    events: Publisher,
    file: Option<Arc<File>>,
    trouble: Trouble,
}

impl Fifo {
    /// A FIFO, and what queues lines for it.
    pub(super) fn new(path: PathBuf, events: Publisher) -> (Self, FifoLines) {
        let (sender, lines) = mpsc::channel(LINES);
        let lost = Arc::new(AtomicU64::new(0));
        let fifo = Self { path, lines, lost: lost.clone(), events, file: None, trouble: Trouble::default() };
        (fifo, FifoLines { lines: sender, lost })
    }

    /// Writes lines until it is dropped.
    pub(super) async fn keep(&mut self) {
        let mut batch = Vec::with_capacity(BATCH);
        loop {
            if self.file.is_none() {
                self.open().await;
            }
            if self.file.is_none() {
                sleep(self.trouble.pause()).await;
                continue;
            }
            batch.clear();
            if self.lines.recv_many(&mut batch, BATCH).await == 0 {
                return;
            }
            self.write(std::mem::take(&mut batch)).await;
        }
    }

    async fn open(&mut self) {
        let path = self.path.clone();
        let opened = within(file_work::on_file(&self.path, move || open(&path))).await;
        self.file = opened.as_ref().ok().cloned();
        self.note(opened.map(drop));
    }

    async fn write(&mut self, batch: Vec<String>) {
        let Some(file) = self.file.clone() else { return };
        let count = batch.len();
        let written = within(file_work::on_file(&self.path, move || Ok(write(&file, &batch)))).await;
        let (done, ended) = written.unwrap_or_else(|error| (0, Err(error)));
        let lost = u64::try_from(count - done).unwrap_or(u64::MAX);
        self.lost.fetch_add(lost, Ordering::Relaxed);
        if ended.as_ref().is_err_and(|error| error.kind() != io::ErrorKind::WouldBlock) {
            self.file = None;
        }
        self.note(ended);
        count_lost_lines(self.lost.swap(0, Ordering::Relaxed));
    }

    fn note(&mut self, outcome: io::Result<()>) {
        let words = |error: &io::Error| match error.kind() {
            io::ErrorKind::WouldBlock => "nobody reads it, and it is full".to_owned(),
            _ => error.to_string(),
        };
        let change = self.trouble.note(AnnounceWay::Fifo, outcome, words);
        let what = self.path.display().to_string();
        self.events.publish_all(change.map(|change| Event::Announcing {
            way: AnnounceWay::Fifo,
            what,
            change,
        }));
    }
}

async fn within<T>(work: impl Future<Output = io::Result<T>>) -> io::Result<T> {
    timeout(LIMIT, work).await.unwrap_or_else(|_late| {
        Err(io::Error::new(io::ErrorKind::TimedOut, format!("it takes longer than {LIMIT:?}")))
    })
}

/// Opens the FIFO, which is made if it isn't there. Nothing is written to what is none.
fn open(path: &Path) -> io::Result<Arc<File>> {
    match mkfifo(path, Mode::S_IRUSR | Mode::S_IWUSR | Mode::S_IRGRP | Mode::S_IROTH) {
        Ok(()) | Err(nix::errno::Errno::EEXIST) => {}
        Err(errno) => return Err(errno.into()),
    }
    let file = OpenOptions::new()
        .read(true)
        .write(true)
        .custom_flags(libc::O_NONBLOCK | libc::O_NOFOLLOW)
        .open(path)?;
    if file.metadata()?.file_type().is_fifo() {
        return Ok(Arc::new(file));
    }
    Err(io::Error::new(io::ErrorKind::InvalidInput, "it is not a FIFO; remove it, or name another path"))
}

/// Writes lines, each whole or not at all (pipe(7), `PIPE_BUF`); how many were written. A FIFO that was deleted is
/// written to no more.
fn write(mut file: &File, lines: &[String]) -> (usize, io::Result<()>) {
    use std::os::unix::fs::MetadataExt as _;
    match file.metadata() {
        Ok(data) if data.nlink() > 0 => {}
        Ok(_) => return (0, Err(io::Error::new(io::ErrorKind::NotFound, "it was deleted"))),
        Err(error) => return (0, Err(error)),
    }
    for (done, line) in lines.iter().enumerate() {
        if let Err(error) = file.write_all(line.as_bytes()) {
            return (done, Err(error));
        }
    }
    (lines.len(), Ok(()))
}

/// Whether something at `path` is a FIFO.
#[cfg(test)]
fn is_fifo(path: &Path) -> bool {
    std::fs::symlink_metadata(path).is_ok_and(|data| data.file_type().is_fifo())
}

#[cfg(test)]
mod tests {
    use std::{fs, io::Read as _};

    use super::*;
    use crate::{event::Recorded, model::ServiceKey, pool::PoolEvent};

    fn quorum(publisher: &Publisher, change: PoolEvent) {
        let address = ([192, 0, 2, 80], 80).into();
        let key = ServiceKey::Address { protocol: crate::model::Protocol::Tcp, address };
        publisher.publish(Event::Pool { service: "web".into(), key, change });
    }

    #[tokio::test]
    async fn lines_wait_for_a_reader_and_what_has_no_room_is_lost_and_told_once() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("fifo");
        let (publisher, recorded) = (Publisher::default(), Recorded::default());
        let (mut fifo, lines) = Fifo::new(path.clone(), publisher.clone());
        publisher.subscribe(lines);
        publisher.subscribe(recorded.clone());
        quorum(&publisher, PoolEvent::QuorumBack);
        quorum(&publisher, PoolEvent::QuorumLost);
        let limit = Duration::from_millis(300);
        assert!(timeout(limit, fifo.keep()).await.is_err(), "it goes on");
        assert!(is_fifo(&path));
        let mut reader = OpenOptions::new().read(true).custom_flags(libc::O_NONBLOCK).open(&path).unwrap();
        let mut text = [0; 4096];
        let length = reader.read(&mut text).unwrap();
        let expected = "VS [192.0.2.80]:tcp:80 UP\nVS [192.0.2.80]:tcp:80 DOWN\n";
        assert_eq!(String::from_utf8_lossy(&text[..length]), expected);
        recorded.take();
        // More than a pipe holds, 64 KiB, and nobody reads.
        for _ in 0..3000 {
            quorum(&publisher, PoolEvent::QuorumBack);
        }
        assert!(timeout(Duration::from_secs(5), fifo.keep()).await.is_err());
        let events: Vec<_> = recorded.take().into_iter().map(|record| record.event).collect();
        let told = |event: &&Event| matches!(event, Event::Announcing { .. });
        assert_eq!(events.iter().filter(told).count(), 1);
    }

    #[test]
    fn nothing_is_written_to_what_is_no_fifo() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("file");
        fs::write(&path, "mine").unwrap();
        assert!(open(&path).unwrap_err().to_string().contains("not a FIFO"));
        assert_eq!(fs::read(&path).unwrap(), b"mine");
        let fifo = folder.path().join("fifo");
        let file = open(&fifo).unwrap();
        fs::remove_file(&fifo).unwrap();
        assert!(write(&file, &["x\n".to_owned()]).1.is_err(), "it was deleted");
    }
}
