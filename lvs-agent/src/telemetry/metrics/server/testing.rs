//! A server for tests, and an agent that answers it as told.

use std::{
    net::{Ipv4Addr, SocketAddr},
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
};
use tokio_util::sync::{CancellationToken, DropGuard};

use super::MetricsServer;
use crate::{
    control::{Events, Status},
    log,
    model::LogTarget,
    supervision::Restartable as _,
    telemetry::{
        metrics::recorder,
        source::{Asked, StatusSource, TableWeight},
    },
};

/// A server on the loopback address that nobody serves yet.
pub(super) fn closed() -> (MetricsServer, SocketAddr) {
    let (_, exposition) = recorder().unwrap();
    let (_, thread) = log::open(&LogTarget::Standard).unwrap();
    let server = MetricsServer::open((Ipv4Addr::LOCALHOST, 0).into(), exposition, thread.lost()).unwrap();
    let address = server.listener.local_addr().unwrap();
    (server, address)
}

impl MetricsServer {
    /// The same port once more, for a server that comes after this one.
    pub(super) fn again(&self) -> Self {
        Self {
            listener: self.listener.try_clone().unwrap(),
            exposition: self.exposition.clone(),
            lost_lines: self.lost_lines.clone(),
            ready: self.ready.clone(),
            source: self.source.clone(),
        }
    }
}

/// Serves until the guard is dropped.
pub(super) fn serve(mut server: MetricsServer) -> DropGuard {
    let shutdown = CancellationToken::new();
    let token = shutdown.clone();
    tokio::spawn(async move { server.run(&token).await });
    shutdown.drop_guard()
}

/// A server that is served, and ends with the guard.
pub(super) fn start() -> (SocketAddr, DropGuard) {
    let (server, address) = closed();
    (address, serve(server))
}

/// All that the server sends after `text`, to the end of the connection.
pub(super) async fn ask(address: SocketAddr, text: &str) -> String {
    let mut stream = TcpStream::connect(address).await.unwrap();
    stream.write_all(text.as_bytes()).await.unwrap();
    let mut reply = String::new();
    stream.read_to_string(&mut reply).await.unwrap();
    reply
}

/// An agent that answers with what it is given.
#[derive(Default)]
pub(super) struct Told {
    pub(super) status: Mutex<Status>,
    pub(super) events: Mutex<Events>,
    /// How often it was asked for its status.
    pub(super) asked: AtomicUsize,
}

impl StatusSource for Told {
    fn table_weights(&self) -> Asked<'_, Vec<TableWeight>> {
        Box::pin(async { Ok(Vec::new()) })
    }

    fn status(&self, _: Duration) -> Asked<'_, Arc<Status>> {
        self.asked.fetch_add(1, Ordering::Relaxed);
        Box::pin(async { Ok(Arc::new(self.status.lock().unwrap().clone())) })
    }

    fn events(&self, after: Option<(u64, u64)>, _: usize) -> Asked<'_, Events> {
        let mut events = self.events.lock().unwrap().clone();
        events.lines.retain(|line| after.is_none_or(|(_, last)| line.number > last));
        Box::pin(async { Ok(events) })
    }
}

/// A server whose agent answers.
pub(super) fn told(told: &Arc<Told>) -> (MetricsServer, SocketAddr) {
    let (server, address) = closed();
    let source: Arc<dyn StatusSource> = told.clone();
    assert!(server.source().set(source).is_ok());
    (server, address)
}
