//! Adds lines to files, such as ldirectord's `monitorfile`.

use std::{
    collections::HashMap,
    fs::OpenOptions,
    io::{self, Write as _},
    mem,
    os::unix::fs::OpenOptionsExt as _,
    path::{Path, PathBuf},
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};

use nix::libc;
use tokio::{
    sync::mpsc::Receiver,
    time::{Instant, sleep_until},
};
use tokio_util::task::JoinMap;

use super::Lost;
use crate::event::{Event, LineFile, Publisher};

/// How long the disk may take for a batch of lines.
const LIMIT: Duration = Duration::from_secs(10);
/// Lines that are taken at once.
const BATCH: usize = 256;
/// Bytes that may wait for one file while it is written to: some minutes of a service of ten servers.
const WAITING: usize = 256 * 1024;

/// A line at the end of a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Line {
    /// The file, which is created if it doesn't exist.
    pub file: PathBuf,
    /// The line, without its end.
    pub text: String,
}

/// Writes lines in their order, until all senders are dropped. A file that can't be written to is reported once; one
/// that hangs holds up no other. `lost` counts the lines for which there was no room.
pub(super) async fn write_all(lines: &mut Receiver<Line>, events: &Publisher, lost: &AtomicU64) {
    write_by(append, lines, events, lost).await;
}

async fn write_by(append: Append, lines: &mut Receiver<Line>, events: &Publisher, lost: &AtomicU64) {
    let mut batch = Vec::with_capacity(BATCH);
    let mut files = Files { append, known: HashMap::new(), writing: JoinMap::new() };
    let mut is_open = true;
    while is_open || !files.writing.is_empty() {
        let due = files.due();
        tokio::select! {
            count = lines.recv_many(&mut batch, BATCH), if is_open => {
                is_open = count > 0;
                for Line { file, text } in batch.drain(..) {
                    if !files.add(file, &text) {
                        lost.fetch_add(1, Ordering::Relaxed);
                    }
                }
            }
            Some((path, ended)) = files.writing.join_next() => {
                let ended = ended.unwrap_or_else(|error| Err(io::Error::other(error)));
                let change = files.ended(&path, ended);
                events.publish_all(change.map(|change| Event::LineFile { path, change }));
            }
            () = until(due) => {
                for (path, change) in files.late() {
                    events.publish(Event::LineFile { path, change });
                }
                if !is_open {
                    // Whoever hangs at the end is left: the thread can't be ended.
                    break;
                }
            }
        }
        files.start();
        Lost::publish("line", lost, events);
    }
}

/// Adds text to a file.
type Append = fn(&Path, &[u8]) -> io::Result<()>;

/// All files that have had lines. What is written to one file at a time is one batch, in a thread that nobody waits
/// for.
struct Files {
    append: Append,
    known: HashMap<PathBuf, LineQueue>,
    writing: JoinMap<PathBuf, io::Result<()>>,
}

/// The lines of one file.
#[derive(Default)]
struct LineQueue {
    waiting: String,
    /// Since when a batch is being written.
    since: Option<Instant>,
    /// Whether it has been reported that it can't be written to.
    is_failing: bool,
}

impl Files {
    /// Queues a line, unless there is no room.
    fn add(&mut self, file: PathBuf, text: &str) -> bool {
        let queue = self.known.entry(file).or_default();
        if queue.waiting.len() + text.len() > WAITING {
            return false;
        }
        queue.waiting.push_str(text);
        queue.waiting.push('\n');
        true
    }

    /// Writes what waits to the files that are written to no more.
    fn start(&mut self) {
        for (path, queue) in &mut self.known {
            if queue.since.is_none() && !queue.waiting.is_empty() {
                queue.since = Some(Instant::now());
                let (append, file, text) = (self.append, path.clone(), mem::take(&mut queue.waiting));
                self.writing.spawn_blocking(path.clone(), move || append(&file, text.as_bytes()));
            }
        }
    }

    /// A batch was written, or not.
    fn ended(&mut self, path: &Path, ended: io::Result<()>) -> Option<LineFile> {
        let queue = self.known.get_mut(path)?;
        queue.since = None;
        let was_failing = mem::replace(&mut queue.is_failing, ended.is_err());
        match ended {
            Ok(()) => was_failing.then_some(LineFile::Works),
            Err(error) => (!was_failing).then(|| LineFile::Fails { error: error.to_string() }),
        }
    }

    /// When the next one of those that are written to is too slow.
    fn due(&self) -> Option<Instant> {
        let slow = self.known.values().filter(|queue| !queue.is_failing);
        slow.filter_map(|queue| queue.since).min().map(|since| since + LIMIT)
    }

    /// Those that are too slow now, unless that was reported.
    fn late(&mut self) -> Vec<(PathBuf, LineFile)> {
        let error = || format!("writing takes longer than {} s", LIMIT.as_secs());
        let late = self.known.iter_mut().filter_map(|(path, queue)| {
            let is_late = queue.since.is_some_and(|since| since.elapsed() >= LIMIT);
            let is_new = is_late && !mem::replace(&mut queue.is_failing, true);
            is_new.then(|| (path.clone(), LineFile::Fails { error: error() }))
        });
        late.collect()
    }
}

async fn until(due: Option<Instant>) {
    match due {
        Some(due) => sleep_until(due).await,
        None => std::future::pending().await,
    }
}

/// Adds text to a file. It is opened each time, as it may be rotated away between two lines.
fn append(file: &Path, text: &[u8]) -> io::Result<()> {
    // A pipe that nobody reads is refused at once.
    OpenOptions::new().create(true).append(true).custom_flags(libc::O_NONBLOCK).open(file)?.write_all(text)
}

#[cfg(test)]
mod tests {
    use std::{
        sync::{Arc, atomic::AtomicBool},
        thread,
    };

    use super::*;
    use crate::notify::Notifier;

    #[tokio::test]
    async fn lines_are_added_in_order_and_a_bad_file_delays_no_other() {
        let directory = tempfile::tempdir().unwrap();
        let (good, bad) = (directory.path().join("good"), directory.path().join("none/bad"));
        std::fs::write(&good, "first\n").unwrap();
        let (notifier, mut notify) = Notifier::new(Publisher::default());
        for number in 0..1000 {
            notifier.line(bad.clone(), number.to_string());
            notifier.line(good.clone(), number.to_string());
        }
        drop(notifier);
        write_all(&mut notify.lines, &Publisher::default(), &AtomicU64::new(0)).await;
        let expected = (0..1000).fold("first\n".to_owned(), |text, number| text + &format!("{number}\n"));
        assert_eq!(std::fs::read_to_string(good).unwrap(), expected);
        assert!(!bad.exists());
    }

    /// How often it is written to the file that hangs, and whether it still does.
    static BEGUN: AtomicU64 = AtomicU64::new(0);
    static HANGS: AtomicBool = AtomicBool::new(true);

    /// A file system that hangs where the name says so.
    fn append_or_hang(file: &Path, text: &[u8]) -> io::Result<()> {
        if file.ends_with("hangs") {
            BEGUN.fetch_add(1, Ordering::SeqCst);
            while HANGS.load(Ordering::SeqCst) {
                thread::yield_now();
            }
        }
        append(file, text)
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn a_file_that_hangs_has_one_thread_and_delays_no_other() {
        let directory = tempfile::tempdir().unwrap();
        let (good, hangs) = (directory.path().join("good"), directory.path().join("hangs"));
        let (notifier, mut notify) = Notifier::new(Publisher::default());
        let lost = Arc::new(AtomicU64::new(0));
        let count = lost.clone();
        let task = tokio::spawn(async move {
            write_by(append_or_hang, &mut notify.lines, &Publisher::default(), &count).await;
        });
        let written = |file: &Path| std::fs::read_to_string(file).unwrap_or_default().lines().count();
        for number in 0..20 {
            notifier.line(hangs.clone(), number.to_string());
            notifier.line(good.clone(), number.to_string());
            while written(&good) <= number {
                tokio::task::yield_now().await;
            }
        }
        assert_eq!(BEGUN.load(Ordering::SeqCst), 1);
        HANGS.store(false, Ordering::SeqCst);
        drop(notifier);
        task.await.unwrap();
        assert_eq!((written(&hangs), BEGUN.load(Ordering::SeqCst), lost.load(Ordering::SeqCst)), (20, 2, 0));
    }

    #[tokio::test(start_paused = true)]
    async fn a_file_that_hangs_is_reported_once_and_again_when_it_works() {
        let path = Path::new("/hangs");
        let mut files = Files { append: |_, _| Ok(()), known: HashMap::new(), writing: JoinMap::new() };
        assert!(files.add(path.to_owned(), "a"));
        files.start();
        assert_eq!(files.late(), []);
        tokio::time::advance(LIMIT).await;
        assert_eq!(files.due(), Some(Instant::now()));
        let error = "writing takes longer than 10 s".to_owned();
        assert_eq!(files.late(), [(path.to_owned(), LineFile::Fails { error })]);
        assert_eq!((files.late(), files.due()), (vec![], None));
        // What waits meanwhile has a bound.
        let line = "x".repeat(1000);
        let taken = (0..1000).filter(|_| files.add(path.to_owned(), &line)).count();
        assert_eq!(taken, WAITING / 1001);
        assert_eq!(files.ended(path, Ok(())), Some(LineFile::Works));
    }

    #[tokio::test]
    async fn a_pipe_that_nobody_reads_is_refused_at_once() {
        let directory = tempfile::tempdir().unwrap();
        let pipe = directory.path().join("pipe");
        nix::unistd::mkfifo(&pipe, nix::sys::stat::Mode::S_IRWXU).unwrap();
        assert!(append(&pipe, b"x\n").is_err());
    }
}
