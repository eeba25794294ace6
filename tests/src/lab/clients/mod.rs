//! The clients: an open-loop load of new connections, or flows that live long, each from another client network.

pub mod requests;

use std::{
    io,
    net::{IpAddr, SocketAddr},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    thread::JoinHandle,
    time::Duration,
};

use anyhow::{Context as _, Result, anyhow};
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpSocket, TcpStream, UdpSocket},
    task::JoinSet,
    time::{Instant, sleep, sleep_until, timeout},
};

use crate::lab::{
    clients::requests::{Outcome, Request},
    clock::Moment,
    http,
    layout::{Family, Layout, Method, client_address},
    namespace::Namespace,
};

/// What the clients do.
#[derive(Clone, Debug)]
pub struct LoadPlan {
    /// What they connect to, in turn.
    pub targets: Vec<SocketAddr>,
    /// How they ask.
    pub transport: Transport,
    /// How many client addresses there are: the next one asks with each request, and then the first again.
    pub clients: u32,
    /// From one client's number to the next's: 1 for networks of their own, 256 for one network.
    pub step: u32,
    /// The pattern of their requests.
    pub pattern: Pattern,
    /// How long a client waits for its answer.
    pub patience: Duration,
    /// No more requests than this, whatever happens.
    pub limit: usize,
}

/// How clients ask.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Transport {
    /// HTTP over TCP.
    Tcp,
    /// A datagram, and one in answer.
    Udp,
}

/// The pattern of the clients' requests.
#[derive(Clone, Copy, Debug)]
pub enum Pattern {
    /// New connections with one request each, this many a second, equally spaced, whether or not earlier ones are
    /// answered.
    Paced(f64),
    /// The same with the gaps of a Poisson process.
    Poisson(f64),
    /// This many connections that stay, with a request on each of them after each pause.
    LongLived {
        /// How many connections.
        flows: u32,
        /// From an answer to the next request.
        pause: Duration,
    },
}

impl LoadPlan {
    /// New connections to the IPv4 lab's first service, `rate` a second, equally spaced.
    #[must_use]
    pub fn paced(rate: f64) -> Self {
        Self {
            targets: vec![Layout::new(Method::Masquerade).service()],
            transport: Transport::Tcp,
            clients: u32::MAX,
            step: 1,
            pattern: Pattern::Paced(rate),
            patience: Duration::from_secs(3),
            limit: 1_000_000,
        }
    }

    /// The same, but to other services in turn.
    #[must_use]
    pub fn to(self, targets: &[SocketAddr]) -> Self {
        Self { targets: targets.to_vec(), ..self }
    }

    /// The requests in turn: who asks whom.
    pub(crate) fn pairs(&self) -> impl Iterator<Item = (IpAddr, SocketAddr)> {
        let targets = self.targets.iter().cycle().copied();
        let numbers = (0..self.clients).map(|number| number.wrapping_mul(self.step)).cycle();
        numbers.zip(targets).take(self.limit).map(|(number, target)| {
            let family = if target.is_ipv4() { Family::V4 } else { Family::V6 };
            (client_address(family, number), target)
        })
    }
}

/// Clients at work. Dropping it ends them.
#[derive(Debug)]
pub struct Load {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<Result<()>>>,
}

#[derive(Debug, Default)]
struct Shared {
    stop: AtomicBool,
    done: Mutex<Vec<Request>>,
}

impl Load {
    /// Starts the clients in their namespace.
    pub fn start(clients: &Namespace, plan: LoadPlan) -> Result<Self> {
        allow_many_sockets()?;
        let shared = Arc::new(Shared::default());
        let theirs = Arc::clone(&shared);
        let thread = clients.thread("clients", move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
            runtime.block_on(generate(&plan, &theirs));
            Ok(())
        })?;
        Ok(Self { shared, thread: Some(thread) })
    }

    /// What has an outcome so far, in the order of the starts.
    #[must_use]
    pub fn requests(&self) -> Vec<Request> {
        let mut requests = self.shared.done.lock().unwrap_or_else(PoisonError::into_inner).clone();
        requests.sort_by_key(|request| request.started);
        requests
    }

    /// How many requests `wanted` is true for, of those that have an outcome.
    pub fn count(&self, wanted: impl Fn(&Request) -> bool) -> usize {
        let done = self.shared.done.lock().unwrap_or_else(PoisonError::into_inner);
        done.iter().filter(|request| wanted(request)).count()
    }

    /// How many requests, sent since then, the server of this name has answered.
    pub fn served_since(&self, server: &str, since: Moment) -> usize {
        let done = self.shared.done.lock().unwrap_or_else(PoisonError::into_inner);
        // In the order of their outcomes: what ended before then was not sent since.
        let recent = done.iter().rev().take_while(|request| request.ended >= since);
        recent.filter(|request| request.started >= since && request.outcome.server() == Some(server)).count()
    }

    /// Starts no more requests, waits for the outcome of all, and gives them in the order of their starts.
    pub fn stop(&mut self) -> Result<Vec<Request>> {
        self.end()?;
        Ok(self.requests())
    }

    fn end(&mut self) -> Result<()> {
        self.shared.stop.store(true, Ordering::Relaxed);
        match self.thread.take() {
            Some(thread) => thread.join().map_err(|_panic| anyhow!("the clients panicked"))?,
            None => Ok(()),
        }
    }
}

impl Drop for Load {
    fn drop(&mut self) {
        if let Err(error) = self.end() {
            crate::warn(&format!("cannot end the clients: {error:#}"));
        }
    }
}

impl Shared {
    fn note(&self, request: Request) {
        self.done.lock().unwrap_or_else(PoisonError::into_inner).push(request);
    }

    fn stopped(&self) -> bool {
        self.stop.load(Ordering::Relaxed)
    }
}

/// Clients that wait for a dead server pile up: raises the limit of open files as far as it goes.
fn allow_many_sockets() -> Result<()> {
    let (_, hard) = getrlimit(Resource::RLIMIT_NOFILE)?;
    setrlimit(Resource::RLIMIT_NOFILE, hard, hard).context("cannot raise the limit of open files")
}

async fn generate(plan: &LoadPlan, shared: &Arc<Shared>) {
    match plan.pattern {
        Pattern::Paced(rate) => arrivals(plan, shared, || 1.0 / rate).await,
        Pattern::Poisson(rate) => {
            let mut random = fastrand::Rng::with_seed(1);
            arrivals(plan, shared, || -(1.0 - random.f64()).ln() / rate).await;
        }
        Pattern::LongLived { flows, pause } => long_lived(plan, shared, flows, pause).await,
    }
}

/// Starts a new connection after each `gap` (seconds), until it is stopped; then waits for the outcomes.
async fn arrivals(plan: &LoadPlan, shared: &Arc<Shared>, mut gap: impl FnMut() -> f64) {
    let mut next = Instant::now();
    let mut open = JoinSet::new();
    for (client, target) in plan.pairs() {
        sleep_until(next).await;
        if shared.stopped() {
            break;
        }
        next += Duration::from_secs_f64(gap());
        let (transport, patience, shared) = (plan.transport, plan.patience, Arc::clone(shared));
        open.spawn(async move { shared.note(single(client, target, transport, patience).await) });
        while open.try_join_next().is_some() {}
    }
    while open.join_next().await.is_some() {}
}

/// One connection with one request.
async fn single(client: IpAddr, target: SocketAddr, transport: Transport, patience: Duration) -> Request {
    let started = Moment::now();
    let mut connected = None;
    let exchange = async {
        if transport == Transport::Udp {
            return exchange_datagrams(client, target).await;
        }
        let mut stream = connect(client, target).await?;
        connected = Some(Moment::now());
        ask(&mut stream, true).await
    };
    let outcome = outcome_of(timeout(patience, exchange).await);
    Request { client, started, connected, ended: Moment::now(), outcome }
}

/// Connections that stay, each with one request after another.
async fn long_lived(plan: &LoadPlan, shared: &Arc<Shared>, flows: u32, pause: Duration) {
    let mut open = JoinSet::new();
    let share = plan.limit / flows.max(1) as usize;
    for ((client, target), number) in plan.pairs().zip(0..flows) {
        let (plan, shared) = (plan.clone(), Arc::clone(shared));
        // Clients don't ask all at the same moment.
        let first = pause * number / flows;
        open.spawn(async move {
            sleep(first).await;
            flow(client, target, &plan, &shared, pause, share).await;
        });
    }
    while open.join_next().await.is_some() {}
}

/// One connection that stays until a request on it fails. Its SYN is part of its first request.
async fn flow(
    client: IpAddr,
    target: SocketAddr,
    plan: &LoadPlan,
    shared: &Shared,
    pause: Duration,
    limit: usize,
) {
    let mut stream = None;
    let mut connected = None;
    for _ in 0..limit {
        let started = Moment::now();
        let exchange = async {
            if stream.is_none() {
                stream = Some(connect(client, target).await?);
                connected = Some(Moment::now());
            }
            match &mut stream {
                Some(stream) => ask(stream, false).await,
                None => Err(io::ErrorKind::NotConnected.into()),
            }
        };
        let outcome = outcome_of(timeout(plan.patience, exchange).await);
        let failed = !outcome.is_success();
        shared.note(Request { client, started, connected, ended: Moment::now(), outcome });
        if failed || shared.stopped() {
            return;
        }
        sleep(pause).await;
    }
}

async fn exchange_datagrams(client: IpAddr, target: SocketAddr) -> io::Result<http::Answer> {
    let socket = UdpSocket::bind((client, 0)).await?;
    socket.connect(target).await?;
    socket.send(b"who?").await?;
    let mut bytes = [0; http::MAX_MESSAGE];
    let length = socket.recv(&mut bytes).await?;
    let server = String::from_utf8_lossy(&bytes[..length]).into_owned();
    Ok(http::Answer { status: 200, server })
}

async fn connect(client: IpAddr, target: SocketAddr) -> io::Result<TcpStream> {
    let socket = if client.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() }?;
    socket.bind(SocketAddr::from((client, 0)))?;
    let stream = socket.connect(target).await?;
    stream.set_nodelay(true)?;
    Ok(stream)
}

/// One request on a connection and its answer.
async fn ask(stream: &mut TcpStream, close: bool) -> io::Result<http::Answer> {
    stream.write_all(http::request(close).as_bytes()).await?;
    let mut bytes = Vec::with_capacity(http::MAX_MESSAGE);
    loop {
        if stream.read_buf(&mut bytes).await? == 0 {
            return Err(io::ErrorKind::ConnectionReset.into());
        }
        if let Some(answer) = http::parse_answer(&bytes).map_err(io::Error::other)? {
            return Ok(answer);
        }
    }
}

fn outcome_of(ended: Result<io::Result<http::Answer>, tokio::time::error::Elapsed>) -> Outcome {
    let Ok(result) = ended else { return Outcome::TimedOut };
    match result {
        Ok(answer) if answer.status == 200 => Outcome::Answered(answer.server),
        Ok(answer) => Outcome::ErrorStatus(answer.server, answer.status),
        Err(error) => match error.kind() {
            io::ErrorKind::ConnectionRefused => Outcome::Refused,
            io::ErrorKind::ConnectionReset | io::ErrorKind::BrokenPipe => Outcome::Reset,
            io::ErrorKind::TimedOut => Outcome::TimedOut,
            io::ErrorKind::HostUnreachable | io::ErrorKind::NetworkUnreachable => Outcome::Unreachable,
            _ => Outcome::Broken(error.to_string()),
        },
    }
}
