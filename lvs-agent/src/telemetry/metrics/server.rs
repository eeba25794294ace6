//! The port that Prometheus scrapes. It has a thread of its own, so that no scraper, however many there are, takes time
//! from a decision. Connections are few and short, and what cannot be served is closed at once: descriptors and memory
//! are needed for probes.

mod answers;
mod clients;
mod visit;

use std::{
    io,
    net::{SocketAddr, TcpListener as BlockingListener},
    rc::Rc,
    sync::{Arc, atomic::AtomicBool},
    thread,
    time::{Duration, Instant},
};

use anyhow::Context as _;
use bytes::Bytes;
use rustix::process::setpriority_process;
use tokio::{
    net::TcpListener,
    sync::{Mutex, oneshot},
    task::LocalSet,
    time::{interval, sleep},
};
use tokio_util::sync::CancellationToken;
use tracing::{debug, warn};

use self::clients::Clients;
use super::{exposition::Exposition, refresh_log, table::TableGauges};
use crate::{
    log::LostLines,
    supervision::{Restartable, unless_wanted},
    telemetry::{page::Feed, source::SourceSlot},
};

/// How old a page may be that several clients share.
const FRESH: Duration = Duration::from_millis(100);
/// From a failure to accept (no descriptors left) to the next try.
const PAUSE: Duration = Duration::from_millis(500);
/// From the end of the thread that serves to the next one.
const AGAIN: Duration = Duration::from_secs(1);
/// Of the thread (nice(1)): where the processors are busy, it gets a third of the time of one that decides
/// (`sched_prio_to_weight` in the kernel's `kernel/sched/core.c`).
const NICENESS: i32 = 5;
/// How often histograms that nobody scrapes are folded; else their samples would pile up.
const UPKEEP: Duration = Duration::from_secs(5);

/// The port, before and while it is served.
pub(crate) struct MetricsServer {
    listener: BlockingListener,
    exposition: Exposition,
    lost_lines: LostLines,
    ready: Arc<AtomicBool>,
    source: SourceSlot,
}

impl MetricsServer {
    /// Opens the port.
    pub(super) fn open(
        address: SocketAddr,
        exposition: Exposition,
        lost_lines: LostLines,
    ) -> io::Result<Self> {
        let listener = BlockingListener::bind(address)?;
        listener.set_nonblocking(true)?;
        Ok(Self { listener, exposition, lost_lines, ready: Arc::default(), source: SourceSlot::default() })
    }

    /// Whom visits ask, once the agent can answer.
    pub(crate) fn source(&self) -> SourceSlot {
        self.source.clone()
    }

    /// What `/readyz` says; false at first.
    pub(crate) fn ready(&self) -> Arc<AtomicBool> {
        self.ready.clone()
    }
}

impl Restartable for MetricsServer {
    async fn run(&mut self, shutdown: &CancellationToken) {
        // A panic ends the thread, and not this task.
        while let Err(error) = self.serve(shutdown.clone()).await {
            warn!("metrics are not served for {} s: {error:#}", AGAIN.as_secs());
            sleep(AGAIN).await;
        }
    }
}

impl MetricsServer {
    /// Serves in a thread of its own until `shutdown`, or until this future is dropped: a task that panics leaves no
    /// thread to the one that takes its place.
    async fn serve(&self, shutdown: CancellationToken) -> anyhow::Result<()> {
        let shutdown = shutdown.child_token();
        let _stop = shutdown.clone().drop_guard();
        let listener = self.listener.try_clone().context("the listening socket")?;
        let scrapes = Scrapes {
            exposition: self.exposition.clone(),
            lost_lines: self.lost_lines.clone(),
            table: TableGauges::default(),
            source: self.source.clone(),
            last: None,
        };
        let feed = Feed::new(self.source.clone());
        let port = Port { scrapes: Mutex::new(scrapes), ready: self.ready.clone(), feed };
        let serving = move || unless_wanted("metrics-thread", serve(listener, port, shutdown));
        in_thread(serving).await?.context("accepting connections")
    }
}

/// Runs `work` in a thread with a runtime of its own, which gives way to those that decide. A panic is an error.
async fn in_thread<T: Send + 'static, F: Future<Output = T>>(
    work: impl FnOnce() -> F + Send + 'static,
) -> anyhow::Result<T> {
    let (ended, end) = oneshot::channel();
    let work = move || {
        // On Linux this is the thread's, not the process's (setpriority(2), "C library/kernel differences").
        if let Err(error) = setpriority_process(None, NICENESS) {
            debug!("metrics port: its thread keeps the usual priority: {error}");
        }
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        // Nobody waits any more only at shutdown.
        ended.send(runtime.block_on(LocalSet::new().run_until(work()))).ok();
        io::Result::Ok(())
    };
    thread::Builder::new().name("metrics".to_owned()).spawn(work).context("starting its thread")?;
    end.await.context("its thread has ended")
}

/// What connections share.
struct Port {
    /// Behind a lock that is held while the agent is asked: clients that come together wait for the same text.
    scrapes: Mutex<Scrapes>,
    ready: Arc<AtomicBool>,
    feed: Feed,
}

/// The metrics as they were rendered last.
struct Scrapes {
    exposition: Exposition,
    lost_lines: LostLines,
    table: TableGauges,
    source: SourceSlot,
    last: Option<(Instant, Bytes)>,
}

impl Scrapes {
    /// All metrics, at most [`FRESH`] old. Clients that come together share one text.
    async fn text(&mut self) -> Bytes {
        if let Some((at, text)) = &self.last
            && at.elapsed() < FRESH
        {
            return text.clone();
        }
        refresh_log(&self.lost_lines);
        let source = self.source.get().cloned();
        let weights = match &source {
            Some(source) => source.table_weights().await.unwrap_or_default(),
            None => Vec::new(),
        };
        self.table.show(weights);
        let text = Bytes::from(self.exposition.render());
        self.last = Some((Instant::now(), text.clone()));
        text
    }
}

async fn serve(listener: BlockingListener, port: Port, shutdown: CancellationToken) -> io::Result<()> {
    let listener = TcpListener::from_std(listener)?;
    let exposition = port.scrapes.lock().await.exposition.clone();
    let port = Rc::new(port);
    let mut clients = Clients::default();
    let mut upkeep = interval(UPKEEP);
    let feed = port.feed.run();
    tokio::pin!(feed);
    loop {
        tokio::select! {
            () = shutdown.cancelled() => return Ok(()),
            () = &mut feed => {}
            _ = upkeep.tick() => exposition.run_upkeep(),
            Some(address) = clients.ended() => clients.forget(address),
            accepted = listener.accept() => match accepted {
                Ok((stream, client)) => clients.take(stream, client.ip(), &port),
                Err(error) => {
                    debug!("metrics port: {error}");
                    sleep(PAUSE).await;
                }
            },
        }
    }
}

#[cfg(test)]
mod testing;
#[cfg(test)]
mod tests;
