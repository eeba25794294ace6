//! Where the log goes: standard error, a file, the local syslog, or the systemd journal. A thread of its own writes,
//! and whoever logs never waits for it, and never hears of a failure: a terminal may be gone, a pipe full, a disk may
//! hang. What doesn't fit into its queue is counted, and the count is logged as soon as there is room.

mod daemon;
mod file;
mod filter;
mod journal;
mod syslog;

use std::{
    io, panic,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
        mpsc::{self, Receiver, RecvTimeoutError, SyncSender},
    },
    thread,
    time::Duration,
};

use tracing::{Level, Metadata};
use tracing_subscriber::fmt::MakeWriter;

use self::{file::LogFile, journal::Journal, syslog::Syslog};
pub use self::{
    filter::{LogFilter, parse},
    journal::stderr_is_journal,
};
use crate::model::LogTarget;

/// Lines that may wait: what a director with thousands of servers says while a disk hangs for some seconds.
const QUEUE: usize = 8192;
/// How long the end of the program may take for the lines that wait.
const LAST: Duration = Duration::from_secs(2);

/// A whole line of the log.
struct Line {
    level: Level,
    text: Vec<u8>,
}

/// What the lines are written to.
enum Sink {
    Standard,
    File(LogFile),
    Syslog(Syslog),
    Journal(Journal),
}

/// Where the lines of the log go in.
#[derive(Clone, Debug)]
pub struct LogWriter {
    lines: SyncSender<Line>,
    lost: Arc<Lost>,
}

/// Lines that were lost.
#[derive(Debug, Default)]
struct Lost {
    /// Since the last line that told of it.
    untold: AtomicU64,
    total: AtomicU64,
}

impl Lost {
    fn count(&self) {
        self.untold.fetch_add(1, Ordering::Relaxed);
        self.total.fetch_add(1, Ordering::Relaxed);
    }
}

/// How many lines were lost since the start.
#[derive(Clone, Debug)]
pub struct LostLines(Arc<Lost>);

impl LostLines {
    /// Now.
    #[must_use]
    pub fn total(&self) -> u64 {
        self.0.total.load(Ordering::Relaxed)
    }
}

/// The thread that writes. Dropping it waits until it has written what waits, for a while.
#[derive(Debug)]
pub struct LogThread {
    lost: Arc<Lost>,
    reopen: Arc<AtomicBool>,
    end: Arc<AtomicBool>,
    ended: Receiver<()>,
}

impl LogThread {
    /// The count of lines that were lost.
    #[must_use]
    pub fn lost(&self) -> LostLines {
        LostLines(Arc::clone(&self.lost))
    }

    /// Who has the file opened anew.
    #[must_use]
    pub fn reopener(&self) -> Reopener {
        Reopener(Arc::clone(&self.reopen))
    }
}

/// Has the file opened anew before the next line, as after SIGHUP. What was rotated away is noticed without that.
#[derive(Clone, Debug)]
pub struct Reopener(Arc<AtomicBool>);

impl Reopener {
    /// Before the next line.
    pub fn reopen(&self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

impl Drop for LogThread {
    fn drop(&mut self) {
        self.end.store(true, Ordering::Relaxed);
        // It ends this channel with its own end. If it hangs, nobody can be told.
        self.ended.recv_timeout(LAST).ok();
    }
}

/// Opens the target and starts the thread.
pub fn open(target: &LogTarget) -> io::Result<(LogWriter, LogThread)> {
    let sink = match target {
        LogTarget::Standard => Sink::Standard,
        LogTarget::File(path) => Sink::File(LogFile::open(path)?),
        LogTarget::Syslog(facility) => Sink::Syslog(Syslog::open(*facility)?),
        LogTarget::Journal => Sink::Journal(Journal::open()?),
    };
    start(sink, QUEUE)
}

fn start(sink: Sink, queue: usize) -> io::Result<(LogWriter, LogThread)> {
    let (lines, waiting) = mpsc::sync_channel(queue);
    let (ending, ended) = mpsc::channel();
    let (reopen, end) = (Arc::<AtomicBool>::default(), Arc::<AtomicBool>::default());
    let lost = Arc::<Lost>::default();
    let mut work = Work {
        sink,
        waiting,
        lost: Arc::clone(&lost),
        reopen: Arc::clone(&reopen),
        end: Arc::clone(&end),
        failed: false,
        _ending: ending,
    };
    thread::Builder::new().name("log".to_owned()).spawn(move || work.run())?;
    Ok((LogWriter { lines, lost: Arc::clone(&lost) }, LogThread { lost, reopen, end, ended }))
}

struct Work {
    sink: Sink,
    waiting: Receiver<Line>,
    lost: Arc<Lost>,
    reopen: Arc<AtomicBool>,
    end: Arc<AtomicBool>,
    /// Whether the last line could not be written.
    failed: bool,
    /// Dropped at the end.
    _ending: mpsc::Sender<()>,
}

impl Work {
    /// How often it is looked whether it is the end while there is nothing to write.
    const LOOK: Duration = Duration::from_millis(50);

    fn run(&mut self) {
        loop {
            match self.waiting.recv_timeout(Self::LOOK) {
                Ok(line) => self.take(&line),
                Err(RecvTimeoutError::Timeout) if !self.end.load(Ordering::Relaxed) => {}
                Err(_) => break,
            }
        }
    }

    fn take(&mut self, line: &Line) {
        let lost = self.lost.untold.swap(0, Ordering::Relaxed);
        if lost > 0 {
            let text = format!("{lost} lines of the log were lost: what they went to was too slow\n");
            self.write(&Line { level: Level::WARN, text: text.into_bytes() });
        }
        self.write(line);
    }

    /// What can't be written goes to standard error, the first of it with the reason; what can't go there is lost.
    fn write(&mut self, line: &Line) {
        let written = match &mut self.sink {
            Sink::Standard => {
                if io::Write::write_all(&mut io::stderr(), &line.text).is_err() {
                    self.lost.count();
                }
                return;
            }
            Sink::File(file) => file.write(&line.text, self.reopen.swap(false, Ordering::Relaxed)),
            Sink::Syslog(syslog) => syslog.write(line.level, &line.text),
            Sink::Journal(journal) => journal.write(line.level, &line.text),
        };
        let Err(error) = &written else {
            self.failed = false;
            return;
        };
        let mut stderr = io::stderr();
        if !self.failed {
            // Nothing is left to tell it to where standard error is closed.
            io::Write::write_fmt(&mut stderr, format_args!("cannot write to the log: {error}\n")).ok();
        }
        self.failed = true;
        if io::Write::write_all(&mut stderr, &line.text).is_err() {
            self.lost.count();
        }
    }
}

/// The severity of RFC 5424, 6.2.1.
fn severity(level: Level) -> u8 {
    match level {
        Level::ERROR => 3,
        Level::WARN => 4,
        Level::INFO => 6,
        _ => 7,
    }
}

/// From now on the log hears of every panic, with its place, and standard error hears of none.
pub fn log_panics() {
    panic::set_hook(Box::new(|panic| {
        let text = panic.to_string().replace('\n', " ");
        tracing::error!("internal error, please report it: {text}");
    }));
}

/// One line on its way.
#[derive(Debug)]
pub struct LineWriter<'a> {
    to: &'a LogWriter,
    level: Level,
}

impl io::Write for LineWriter<'_> {
    /// Takes a whole line, as `tracing-subscriber` hands them over. Never waits.
    fn write(&mut self, text: &[u8]) -> io::Result<usize> {
        let line = Line { level: self.level, text: text.to_vec() };
        if self.to.lines.try_send(line).is_err() {
            self.to.lost.count();
        }
        Ok(text.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl<'a> MakeWriter<'a> for LogWriter {
    type Writer = LineWriter<'a>;

    fn make_writer(&'a self) -> Self::Writer {
        LineWriter { to: self, level: Level::INFO }
    }

    fn make_writer_for(&'a self, metadata: &Metadata<'_>) -> Self::Writer {
        LineWriter { to: self, level: *metadata.level() }
    }
}

#[cfg(test)]
mod tests;
