//! The real server's program: answers every GET with its own name.

use std::{
    io,
    net::{Ipv4Addr, SocketAddr},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use anyhow::{Context as _, Result};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpSocket, TcpStream},
    signal::unix::{SignalKind, signal},
    sync::Semaphore,
    time::timeout,
};

use crate::http::{self, MAX_MESSAGE};

/// Connections at once; more wait in the accept queue.
const MAX_CONNECTIONS: usize = 4096;
/// How long a connection may be silent, and how long a client may take to read an answer.
const PATIENCE: Duration = Duration::from_mins(2);

/// How a real server behaves.
#[derive(Clone, Debug, clap::Args)]
pub struct ServeOptions {
    /// The name it answers with
    #[arg(long)]
    pub name: String,
    /// The port it listens at, on all its addresses
    #[arg(long, default_value_t = 80)]
    pub port: u16,
    /// Length of the accept queue
    #[arg(long, default_value_t = 1024)]
    pub backlog: u32,
}

/// Serves until it is killed. SIGUSR1 turns its answers into status 500, and back.
pub fn serve(options: &ServeOptions) -> Result<()> {
    tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(run(options))
}

async fn run(options: &ServeOptions) -> Result<()> {
    let listener = listen(options).with_context(|| format!("cannot listen at port {}", options.port))?;
    let mut toggle = signal(SignalKind::user_defined1())?;
    let server = Arc::new(Server { name: options.name.clone(), sick: AtomicBool::new(false) });
    let places = Arc::new(Semaphore::new(MAX_CONNECTIONS));
    loop {
        let place = Arc::clone(&places).acquire_owned().await?;
        tokio::select! {
            accepted = listener.accept() => {
                let (stream, _) = accepted?;
                let server = Arc::clone(&server);
                // The task's end is bounded by PATIENCE, their number by the places.
                tokio::spawn(async move {
                    server.converse(stream).await;
                    drop(place);
                });
            }
            _ = toggle.recv() => { server.sick.fetch_xor(true, Ordering::Relaxed); }
        }
    }
}

fn listen(options: &ServeOptions) -> io::Result<TcpListener> {
    let socket = TcpSocket::new_v4()?;
    // A server that is started again must not wait for the old connections' TIME_WAIT.
    socket.set_reuseaddr(true)?;
    socket.bind(SocketAddr::from((Ipv4Addr::UNSPECIFIED, options.port)))?;
    socket.listen(options.backlog)
}

#[derive(Debug)]
struct Server {
    name: String,
    sick: AtomicBool,
}

impl Server {
    /// Answers a client's requests until either side ends the connection. A client's errors are its own matter.
    async fn converse(&self, mut stream: TcpStream) {
        let mut bytes = Vec::with_capacity(MAX_MESSAGE);
        while let Ok(Some(request)) = next_request(&mut stream, &mut bytes).await {
            let status = if self.sick.load(Ordering::Relaxed) { 500 } else { 200 };
            let answer = http::answer(&self.name, status, request.close);
            let sent = timeout(PATIENCE, stream.write_all(answer.as_bytes())).await;
            if request.close || !matches!(sent, Ok(Ok(()))) {
                return;
            }
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
