//! Who looks at the agent: open status pages, people at a terminal, and scrapers.

use std::{
    io::{Read as _, Write as _},
    net::TcpStream,
    process::Command,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    thread::JoinHandle,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, anyhow, ensure};

use crate::lab::{
    agent::config::METRICS,
    namespace::Namespace,
    process::{programs, terminal::OnTerminal},
};

/// How long a program may take until it shows the table.
const SHOWN: Duration = Duration::from_secs(20);
/// How often a terminal is read.
const READ: Duration = Duration::from_millis(50);

/// Readers of the page's messages.
pub(super) struct Pages {
    streams: Vec<TcpStream>,
    readers: Vec<JoinHandle<Result<()>>>,
    closed: Arc<AtomicBool>,
    bytes: Arc<AtomicU64>,
}

impl Pages {
    pub(super) fn open(director: &Namespace, count: u8) -> Result<Self> {
        let (closed, bytes) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
        let (mut streams, mut readers) = (Vec::new(), Vec::new());
        for _ in 0..count {
            let mut stream = director.run(|| Ok(TcpStream::connect(METRICS)?))?;
            write!(stream, "GET /events HTTP/1.1\r\nHost: {METRICS}\r\n\r\n")?;
            streams.push(stream.try_clone()?);
            let (closed, bytes) = (closed.clone(), bytes.clone());
            readers.push(director.thread("page", move || {
                let mut buffer = vec![0; 1 << 20];
                loop {
                    let read = stream.read(&mut buffer)?;
                    if read == 0 {
                        ensure!(closed.load(Ordering::Relaxed), "the agent has closed a page that reads");
                        return Ok(());
                    }
                    bytes.fetch_add(read as u64, Ordering::Relaxed);
                }
            })?);
        }
        Ok(Self { streams, readers, closed, bytes })
    }

    /// Closes all; how many bytes they were told, which is an error if it is nothing.
    pub(super) fn close(self) -> Result<u64> {
        self.closed.store(true, Ordering::Relaxed);
        for stream in &self.streams {
            stream.shutdown(std::net::Shutdown::Both)?;
        }
        for reader in self.readers {
            join(reader)?;
        }
        let bytes = self.bytes.load(Ordering::Relaxed);
        ensure!(bytes > 0, "the pages were told nothing");
        Ok(bytes)
    }
}

/// `lvs-agent top` and `lvs-agent status --watch`, each on a terminal of its own that is read.
pub(super) struct Watchers {
    ended: Arc<AtomicBool>,
    readers: Vec<JoinHandle<Result<()>>>,
}

impl Watchers {
    /// They show the table once this returns.
    pub(super) fn start(director: &Namespace) -> Result<Self> {
        let mut watchers = Self { ended: Arc::default(), readers: Vec::new() };
        watchers.add(director, &["top"])?;
        watchers.add(director, &["status", "--watch"])?;
        Ok(watchers)
    }

    /// `top` alone.
    pub(super) fn top(director: &Namespace) -> Result<Self> {
        let mut watchers = Self { ended: Arc::default(), readers: Vec::new() };
        watchers.add(director, &["top"])?;
        Ok(watchers)
    }

    fn add(&mut self, director: &Namespace, words: &[&str]) -> Result<()> {
        let mut command = Command::new(programs::agent()?);
        command.args(words);
        let mut shown = director.run(|| OnTerminal::spawn(command))?;
        shown.wait_for("service 0", SHOWN).with_context(|| words.join(" "))?;
        let ended = self.ended.clone();
        self.readers.push(director.thread("terminal", move || {
            while !ended.load(Ordering::Relaxed) {
                shown.drain()?;
                std::thread::sleep(READ);
            }
            Ok(())
        })?);
        Ok(())
    }

    pub(super) fn end(self) -> Result<()> {
        self.ended.store(true, Ordering::Relaxed);
        self.readers.into_iter().try_for_each(join)
    }
}

/// Scrapes at a steady rate, as far as there are answers.
pub(super) struct Scraper {
    ended: Arc<AtomicBool>,
    readers: Vec<JoinHandle<Result<u64>>>,
    begun: Instant,
}

impl Scraper {
    /// Scrapers that come together, each of them so many times a second.
    pub(super) fn start(director: &Namespace, scrapers: u32, each: u32) -> Result<Self> {
        let ended = Arc::<AtomicBool>::default();
        let mut readers = Vec::new();
        for _ in 0..scrapers {
            let ended = ended.clone();
            readers.push(director.thread("scraper", move || {
                let mut next = Instant::now();
                let (mut count, mut text) = (0, Vec::new());
                while !ended.load(Ordering::Relaxed) {
                    text.clear();
                    let mut stream = TcpStream::connect(METRICS)?;
                    write!(stream, "GET /metrics HTTP/1.1\r\nHost: {METRICS}\r\nConnection: close\r\n\r\n")?;
                    stream.read_to_end(&mut text)?;
                    ensure!(text.starts_with(b"HTTP/1.1 200"), "a scrape was refused");
                    // The port serves so many connections of an address at once.
                    drop(stream);
                    count += 1;
                    next += Duration::from_secs(1) / each;
                    std::thread::sleep(next.saturating_duration_since(Instant::now()));
                }
                Ok(count)
            })?);
        }
        Ok(Self { ended, readers, begun: Instant::now() })
    }

    /// Ends it; how many scrapes a second were answered.
    pub(super) fn end(self) -> Result<f64> {
        self.ended.store(true, Ordering::Relaxed);
        let mut answered = 0;
        for reader in self.readers {
            answered += join(reader)?;
        }
        #[expect(clippy::cast_precision_loss, reason = "small numbers")]
        Ok(answered as f64 / self.begun.elapsed().as_secs_f64())
    }
}

fn join<T>(thread: JoinHandle<Result<T>>) -> Result<T> {
    thread.join().map_err(|_panic| anyhow!("a visitor panicked"))?
}
