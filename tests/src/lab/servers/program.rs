//! The real server's program: answers every GET, and every datagram, with its own name.

use std::{
    io,
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use anyhow::{Context as _, Result};
use socket2::{Domain, Protocol, SockRef, Socket, Type};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream, UdpSocket},
    signal::unix::{SignalKind, signal},
    sync::{Semaphore, watch},
    task::JoinSet,
    time::{sleep, timeout},
};

use crate::lab::http::{self, MAX_MESSAGE};

/// Connections at once; more wait in the accept queue.
const MAX_CONNECTIONS: usize = 4096;
/// How long a connection may be silent, and how long a client may take to read an answer.
const PATIENCE: Duration = Duration::from_mins(2);
/// How much later a slow server answers: as during a garbage collection, or with a cold cache.
pub const SLOWNESS: Duration = Duration::from_millis(500);
/// Length of the accept queue.
const BACKLOG: i32 = 1024;
/// The same of a server that doesn't accept: soon full.
const SHORT_BACKLOG: i32 = 8;

/// How a real server behaves.
#[derive(Clone, Debug, clap::Args)]
pub struct ServeOptions {
    /// The name it answers with
    #[arg(long)]
    pub name: String,
    /// Where it listens for TCP; may be given several times
    #[arg(long, required = true)]
    pub listen: Vec<SocketAddr>,
    /// Where it takes datagrams; may be given several times
    #[arg(long)]
    pub datagrams: Vec<SocketAddr>,
}

/// Serves until it is killed. SIGHUP lets it answer half a second later, and back. SIGUSR1 turns its answers into
/// status 500, and back. SIGUSR2 lets it accept no more
/// connections and have a short accept queue, and back; connections that it has accepted go on.
pub fn serve(options: &ServeOptions) -> Result<()> {
    tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(run(options))
}

async fn run(options: &ServeOptions) -> Result<()> {
    let server = Arc::new(Server {
        name: options.name.clone(),
        failing: AtomicBool::new(false),
        slow: AtomicBool::new(false),
        slots: Arc::new(Semaphore::new(MAX_CONNECTIONS)),
    });
    let (accepting, _) = watch::channel(true);
    let mut tasks = JoinSet::new();
    for address in &options.datagrams {
        let socket = UdpSocket::bind(address).await;
        let socket = socket.with_context(|| format!("cannot take datagrams at {address}"))?;
        let server = Arc::clone(&server);
        tasks.spawn(async move { server.echo(socket).await });
    }
    for address in &options.listen {
        let listener = listen(*address).with_context(|| format!("cannot listen at {address}"))?;
        let (server, accepting) = (Arc::clone(&server), accepting.subscribe());
        tasks.spawn(async move { server.accept(listener, accepting).await });
    }
    let mut slow = signal(SignalKind::hangup())?;
    let mut failing = signal(SignalKind::user_defined1())?;
    let mut full = signal(SignalKind::user_defined2())?;
    loop {
        tokio::select! {
            _ = slow.recv() => { server.slow.fetch_xor(true, Ordering::Relaxed); }
            _ = failing.recv() => { server.failing.fetch_xor(true, Ordering::Relaxed); }
            _ = full.recv() => { accepting.send_modify(|accepting| *accepting = !*accepting); }
            Some(ended) = tasks.join_next() => return ended?,
        }
    }
}

fn listen(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    if address.is_ipv6() {
        socket.set_only_v6(true)?;
    }
    // A server that is started again must not wait for the old connections' TIME_WAIT.
    socket.set_reuse_address(true)?;
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    TcpListener::from_std(socket.into())
}

#[derive(Debug)]
struct Server {
    name: String,
    failing: AtomicBool,
    slow: AtomicBool,
    slots: Arc<Semaphore>,
}

impl Server {
    /// Takes connections as long as `accepting` is true.
    async fn accept(
        self: Arc<Self>,
        listener: TcpListener,
        mut accepting: watch::Receiver<bool>,
    ) -> Result<()> {
        loop {
            let wanted = *accepting.borrow_and_update();
            SockRef::from(&listener).listen(if wanted { BACKLOG } else { SHORT_BACKLOG })?;
            let slot = Arc::clone(&self.slots).acquire_owned().await?;
            tokio::select! {
                accepted = listener.accept(), if wanted => {
                    let (stream, _) = accepted?;
                    let server = Arc::clone(&self);
                    // The task's end is bounded by PATIENCE, their number by the slots.
                    tokio::spawn(async move {
                        server.serve_connection(stream).await;
                        drop(slot);
                    });
                }
                changed = accepting.changed() => changed?,
            }
        }
    }

    /// Answers a client's requests until either side ends the connection. A client's errors are its own matter.
    async fn serve_connection(&self, mut stream: TcpStream) {
        let mut bytes = Vec::with_capacity(MAX_MESSAGE);
        while let Ok(Some(request)) = next_request(&mut stream, &mut bytes).await {
            if self.slow.load(Ordering::Relaxed) {
                sleep(SLOWNESS).await;
            }
            let status = if self.failing.load(Ordering::Relaxed) { 500 } else { 200 };
            let answer = http::answer(&self.name, status, request.close);
            let sent = timeout(PATIENCE, stream.write_all(answer.as_bytes())).await;
            if request.close || !matches!(sent, Ok(Ok(()))) {
                return;
            }
        }
    }

    /// Answers every datagram.
    async fn echo(self: Arc<Self>, socket: UdpSocket) -> Result<()> {
        let mut bytes = [0; MAX_MESSAGE];
        loop {
            // Errors of an earlier answer are reported here, and is that client's own matter.
            let Ok((_, client)) = socket.recv_from(&mut bytes).await else { continue };
            socket.send_to(self.name.as_bytes(), client).await.ok();
        }
    }
}

/// The next request of a connection, or `None` at its end. What follows stays in `bytes`.
async fn next_request(stream: &mut TcpStream, bytes: &mut Vec<u8>) -> Result<Option<http::Request>> {
    loop {
        if let Some(request) = http::parse_request(bytes)? {
            bytes.drain(..request.length);
            return Ok(Some(request));
        }
        if timeout(PATIENCE, stream.read_buf(bytes)).await?? == 0 {
            return Ok(None);
        }
    }
}
