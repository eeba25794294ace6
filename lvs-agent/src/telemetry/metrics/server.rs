//! The port that Prometheus scrapes. It has a thread of its own, so that no scraper, however many there are, takes time
//! from a decision. Connections are few and short, and what cannot be served is closed at once: descriptors and memory
//! are needed for probes.

use std::{
    cell::RefCell,
    collections::HashMap,
    convert::Infallible,
    io,
    net::{IpAddr, SocketAddr, TcpListener as BlockingListener},
    rc::Rc,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use anyhow::Context as _;
use bytes::Bytes;
use http_body_util::Full;
use hyper::{
    Method, Request, Response, StatusCode,
    body::Incoming,
    header::{ACCEPT, ALLOW, CONTENT_TYPE, HeaderMap, HeaderValue, VARY},
    server::conn::http1,
    service::service_fn,
};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::{
    net::{TcpListener, TcpStream},
    sync::oneshot,
    task::{JoinSet, LocalSet},
    time::{interval, sleep, timeout},
};
use tokio_util::sync::CancellationToken;
use tracing::{debug, warn};

use super::{
    exposition::{Exposition, open_metrics},
    refresh_log,
};
use crate::{
    log::LostLines,
    supervision::{Restartable, unless_wanted},
};

/// Connections at once: a few Prometheus servers and people with browsers.
const CONNECTIONS: usize = 64;
/// Connections of one address at once, so that one cannot keep out the others. Browsers open six.
const PER_ADDRESS: usize = 16;
/// How long a client may take for the head of its request.
const HEAD: Duration = Duration::from_secs(5);
/// How long a connection may take for all, reading the answer included: Prometheus gives up after 10 s.
const WHOLE: Duration = Duration::from_secs(15);
/// The longest head of a request.
const MAX_HEAD: usize = 16 * 1024;
/// How old a page may be that several clients share.
const FRESH: Duration = Duration::from_millis(100);
/// From a failure to accept (no descriptors left) to the next try.
const PAUSE: Duration = Duration::from_millis(500);
/// From the end of the thread that serves to the next one.
const AGAIN: Duration = Duration::from_secs(1);
/// How often histograms that nobody scrapes are folded; else their samples would pile up.
const UPKEEP: Duration = Duration::from_secs(5);

/// What Prometheus' text format is called (<https://prometheus.io/docs/instrumenting/exposition_formats/>).
const TEXT: &str = "text/plain; version=0.0.4; charset=utf-8";
/// And OpenMetrics' (RFC draft-richih-opsawg-openmetrics, 5).
const OPEN_METRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";
/// And what else is answered.
const PLAIN: &str = "text/plain; charset=utf-8";

/// The port, before and while it is served.
pub(crate) struct MetricsServer {
    listener: BlockingListener,
    exposition: Exposition,
    lost_lines: LostLines,
    ready: Arc<AtomicBool>,
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
        Ok(Self { listener, exposition, lost_lines, ready: Arc::default() })
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
        let page = Page {
            exposition: self.exposition.clone(),
            lost_lines: self.lost_lines.clone(),
            ready: self.ready.clone(),
            last: None,
        };
        let serving = move || unless_wanted("metrics-thread", serve(listener, page, shutdown));
        in_thread(serving).await?.context("accepting connections")
    }
}

/// Runs `work` in a thread with a runtime of its own. A panic is an error.
async fn in_thread<T: Send + 'static, F: Future<Output = T>>(
    work: impl FnOnce() -> F + Send + 'static,
) -> anyhow::Result<T> {
    let (ended, end) = oneshot::channel();
    let work = move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        // Nobody waits any more only at shutdown.
        ended.send(runtime.block_on(LocalSet::new().run_until(work()))).ok();
        io::Result::Ok(())
    };
    thread::Builder::new().name("metrics".to_owned()).spawn(work).context("starting its thread")?;
    end.await.context("its thread has ended")
}

/// The page as it was rendered last.
struct Page {
    exposition: Exposition,
    lost_lines: LostLines,
    ready: Arc<AtomicBool>,
    last: Option<(Instant, Bytes)>,
}

impl Page {
    /// All metrics, at most [`FRESH`] old. Clients that come together share one text.
    fn text(&mut self) -> Bytes {
        if let Some((at, text)) = &self.last
            && at.elapsed() < FRESH
        {
            return text.clone();
        }
        refresh_log(&self.lost_lines);
        let text = Bytes::from(self.exposition.render());
        self.last = Some((Instant::now(), text.clone()));
        text
    }
}

async fn serve(listener: BlockingListener, page: Page, shutdown: CancellationToken) -> io::Result<()> {
    let listener = TcpListener::from_std(listener)?;
    let page = Rc::new(RefCell::new(page));
    let mut clients = Clients::default();
    let mut upkeep = interval(UPKEEP);
    loop {
        tokio::select! {
            () = shutdown.cancelled() => return Ok(()),
            _ = upkeep.tick() => page.borrow().exposition.run_upkeep(),
            Some(address) = clients.ended() => clients.forget(address),
            accepted = listener.accept() => match accepted {
                Ok((stream, client)) => clients.take(stream, client.ip(), &page),
                Err(error) => {
                    debug!("metrics port: {error}");
                    sleep(PAUSE).await;
                }
            },
        }
    }
}

/// The connections that are open.
#[derive(Default)]
struct Clients {
    serving: JoinSet<IpAddr>,
    by_address: HashMap<IpAddr, usize>,
}

impl Clients {
    /// Serves a client, or closes its connection if there are too many.
    fn take(&mut self, stream: TcpStream, address: IpAddr, page: &Rc<RefCell<Page>>) {
        let of_address = self.by_address.entry(address).or_default();
        if self.serving.len() >= CONNECTIONS || *of_address >= PER_ADDRESS {
            if *of_address == 0 {
                self.by_address.remove(&address);
            }
            return;
        }
        *of_address += 1;
        let page = Rc::clone(page);
        self.serving.spawn_local(async move {
            if timeout(WHOLE, connection(stream, page)).await.is_err() {
                debug!("metrics port: {address} was too slow");
            }
            address
        });
    }

    /// The address of a client whose connection has ended; `None` if there is no connection.
    async fn ended(&mut self) -> Option<IpAddr> {
        self.serving.join_next().await?.ok()
    }

    fn forget(&mut self, address: IpAddr) {
        let Some(left) = self.by_address.get_mut(&address) else { return };
        *left -= 1;
        if *left == 0 {
            self.by_address.remove(&address);
        }
    }
}

/// Answers one request; the connection is closed after it, as a scraper's next one is seconds away.
async fn connection(stream: TcpStream, page: Rc<RefCell<Page>>) {
    let service = service_fn(|request| {
        let answer = answer(&request, &page);
        async move { Ok::<_, Infallible>(answer) }
    });
    let served = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD)
        .max_buf_size(MAX_HEAD)
        .keep_alive(false)
        .serve_connection(TokioIo::new(stream), service)
        .await;
    if let Err(error) = served {
        debug!("metrics port: {error}");
    }
}

fn answer(request: &Request<Incoming>, page: &RefCell<Page>) -> Response<Full<Bytes>> {
    let (status, kind, text) = match (request.method(), request.uri().path()) {
        (&Method::GET | &Method::HEAD, "/metrics") => {
            let text = page.borrow_mut().text();
            if wants_open_metrics(request.headers()) {
                let open = std::str::from_utf8(&text).map(open_metrics).unwrap_or_default();
                (StatusCode::OK, OPEN_METRICS, Bytes::from(open))
            } else {
                (StatusCode::OK, TEXT, text)
            }
        }
        (&Method::GET | &Method::HEAD, "/healthz" | "/health") => (StatusCode::OK, PLAIN, "OK\n".into()),
        (&Method::GET | &Method::HEAD, "/readyz") if page.borrow().ready.load(Ordering::Relaxed) => {
            (StatusCode::OK, PLAIN, "OK\n".into())
        }
        (&Method::GET | &Method::HEAD, "/readyz") => {
            (StatusCode::SERVICE_UNAVAILABLE, PLAIN, "the agent starts or stops\n".into())
        }
        (&Method::GET | &Method::HEAD, "/") => {
            (StatusCode::OK, PLAIN, "lvs-agent; its metrics are at /metrics\n".into())
        }
        (&Method::GET | &Method::HEAD, _) => {
            (StatusCode::NOT_FOUND, PLAIN, "not found; the metrics are at /metrics\n".into())
        }
        _ => (StatusCode::METHOD_NOT_ALLOWED, PLAIN, "only GET and HEAD\n".into()),
    };
    let mut response = Response::new(Full::new(text));
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(kind));
    response.headers_mut().insert(VARY, HeaderValue::from_static("Accept"));
    if status == StatusCode::METHOD_NOT_ALLOWED {
        response.headers_mut().insert(ALLOW, HeaderValue::from_static("GET, HEAD"));
    }
    response
}

/// Whether a client would rather have OpenMetrics than Prometheus' older format (RFC 9110, 12.5.1). Prometheus says so;
/// browsers and scripts take what comes.
fn wants_open_metrics(headers: &HeaderMap) -> bool {
    let accepted = headers.get_all(ACCEPT).iter().filter_map(|value| value.to_str().ok());
    let (mut open, mut older) = (0.0, 0.0);
    for range in accepted.flat_map(|value| value.split(',')) {
        let mut parts = range.split(';').map(str::trim);
        let kind = parts.next().unwrap_or_default().to_ascii_lowercase();
        let (mut quality, mut is_known) = (1.0_f64, true);
        for part in parts {
            match part.split_once('=') {
                Some(("q", value)) => quality = value.trim().parse().unwrap_or(0.0),
                Some(("version", version)) => {
                    is_known = ["1.0.0", "0.0.4"].contains(&version.trim_matches('"'));
                }
                _ => {}
            }
        }
        let best = match kind.as_str() {
            "application/openmetrics-text" if is_known => &mut open,
            "text/plain" | "text/*" | "*/*" if is_known => &mut older,
            _ => continue,
        };
        *best = quality.max(*best);
    }
    open > 0.0 && open >= older
}

#[cfg(test)]
mod tests;
