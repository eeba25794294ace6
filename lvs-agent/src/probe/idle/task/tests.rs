//! The task with real sockets, on loopback.

mod odd_servers;

use std::{net::SocketAddr, num::NonZeroU16};

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpListener,
};

use tokio::time;

use super::*;
use crate::{
    model::{Protocol, ServiceKey},
    probe::{
        idle::{IdleEnd, IdleOff, IdleSign},
        testing::{LONG, any_port},
    },
};

/// The task, and what is known of it from outside.
struct Running {
    handle: IdleHandle,
    reports: mpsc::Receiver<IdleReport>,
    shutdown: CancellationToken,
    task: tokio::task::JoinHandle<()>,
}

impl Running {
    fn start(capacity: usize) -> Self {
        let (connections, handle, reports) = IdleConnections::with_capacity(capacity);
        let shutdown = CancellationToken::new();
        let task = tokio::spawn(connections.run(shutdown.clone()));
        Self { handle, reports, shutdown, task }
    }

    async fn report(&mut self) -> IdleReport {
        time::timeout(LONG, self.reports.recv()).await.expect("a report in time").expect("the task runs")
    }

    async fn change(&mut self) -> IdleChange {
        match self.report().await {
            IdleReport::Server { change, .. } => change,
            limited @ IdleReport::Limited { .. } => panic!("{limited:?}"),
        }
    }

    async fn stop(self) {
        self.shutdown.cancel();
        time::timeout(LONG, self.task).await.expect("it stops in time").expect("and does not panic");
    }
}

fn wish(number: u16, server: SocketAddr) -> IdleWish {
    let port = NonZeroU16::MIN.saturating_add(number).get();
    let service =
        ServiceKey::Address { protocol: Protocol::Tcp, address: SocketAddr::from(([192, 0, 2, 1], port)) };
    IdleWish {
        destination: DestinationKey { service, server },
        target: ProbeTarget::at(server),
        unasked: Unasked::GiveUp,
        condition: Condition::Up,
    }
}

async fn listen() -> (TcpListener, SocketAddr) {
    let listener = TcpListener::bind(any_port()).await.unwrap();
    let address = listener.local_addr().unwrap();
    (listener, address)
}

async fn accept(listener: &TcpListener) -> TcpStream {
    time::timeout(LONG, listener.accept()).await.expect("a connection in time").unwrap().0
}

/// What the server reads at the end: nothing but the end.
async fn end(stream: &mut TcpStream) -> Result<usize, std::io::ErrorKind> {
    let read = time::timeout(LONG, stream.read(&mut [0; 16])).await.expect("an end in time");
    read.map_err(|error| error.kind())
}

fn sign(change: IdleChange) -> (IdleEnd, IdleSign) {
    match change {
        IdleChange::Ended { end, sign, .. } => (end, sign),
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn a_fin_and_a_rst_are_hints_at_once() {
    for expected in [IdleEnd::Finished, IdleEnd::Reset] {
        let (listener, address) = listen().await;
        let mut running = Running::start(8);
        running.handle.replace(vec![wish(0, address)]);
        let stream = accept(&listener).await;
        assert_eq!(running.change().await, IdleChange::Opened);
        assert_eq!(running.handle.state(&wish(0, address).destination).as_deref(), Some("open"));
        if expected == IdleEnd::Reset {
            connection::reset_at_drop(&stream);
        }
        drop(stream);
        assert_eq!(sign(running.change().await), (expected, IdleSign::Hint));
        // The server lives: the next one is there soon.
        let _next = accept(&listener).await;
        assert_eq!(running.change().await, IdleChange::Opened);
        running.stop().await;
    }
}

#[tokio::test]
async fn a_process_that_dies_is_a_hint_and_then_a_suspicion() {
    let (listener, address) = listen().await;
    let mut running = Running::start(8);
    running.handle.replace(vec![wish(0, address)]);
    let stream = accept(&listener).await;
    assert_eq!(running.change().await, IdleChange::Opened);
    drop((listener, stream));
    assert_eq!(sign(running.change().await), (IdleEnd::Finished, IdleSign::Hint));
    assert_eq!(sign(running.change().await), (IdleEnd::Refused, IdleSign::Suspicion));
    running.stop().await;
}

#[tokio::test]
async fn a_connection_that_nobody_has_accepted_yet_shows_the_end_as_well() {
    let (listener, address) = listen().await;
    let mut running = Running::start(8);
    running.handle.replace(vec![wish(0, address)]);
    assert_eq!(running.change().await, IdleChange::Opened);
    drop(listener);
    assert_eq!(sign(running.change().await), (IdleEnd::Reset, IdleSign::Hint));
    running.stop().await;
}

#[tokio::test]
async fn nothing_is_sent_and_a_stop_is_quiet() {
    let (listener, address) = listen().await;
    let mut running = Running::start(8);
    running.handle.replace(vec![wish(0, address)]);
    let mut stream = accept(&listener).await;
    assert_eq!(running.change().await, IdleChange::Opened);
    running.stop().await;
    assert_eq!(end(&mut stream).await, Ok(0), "a FIN, and no byte before it");
}

#[tokio::test]
async fn a_server_that_is_down_has_no_connection_until_it_is_up() {
    let (listener, address) = listen().await;
    let mut running = Running::start(8);
    let wish = wish(0, address);
    running.handle.replace(vec![wish]);
    let mut stream = accept(&listener).await;
    assert_eq!(running.change().await, IdleChange::Opened);
    running.handle.set(wish.destination, Condition::Down);
    assert_eq!(sign(running.change().await), (IdleEnd::Closed, IdleSign::Nothing));
    assert_eq!(end(&mut stream).await, Err(std::io::ErrorKind::ConnectionReset));
    assert_eq!(running.handle.state(&wish.destination).as_deref(), Some("not open"));
    running.handle.set(wish.destination, Condition::Up);
    let _stream = accept(&listener).await;
    assert_eq!(running.change().await, IdleChange::Opened);
    running.stop().await;
}

#[tokio::test]
async fn destinations_share_the_connection_to_their_server_and_it_goes_with_the_last_of_them() {
    let (listener, address) = listen().await;
    let (other_listener, other) = listen().await;
    let mut running = Running::start(8);
    let (first, second) = (wish(0, address), wish(1, address));
    // A server is as well as the best of its destinations.
    let down = IdleWish { condition: Condition::Down, ..first };
    running.handle.replace(vec![down, second]);
    let mut stream = accept(&listener).await;
    let IdleReport::Server { destinations, change: IdleChange::Opened } = running.report().await else {
        panic!("no connection")
    };
    assert_eq!(*destinations, [first.destination, second.destination]);
    // One of them goes, another server comes: the connection stays.
    running.handle.replace(vec![second, wish(2, other)]);
    let mut other_stream = accept(&other_listener).await;
    assert_eq!(running.change().await, IdleChange::Opened);
    assert_eq!(running.handle.state(&first.destination), None);
    running.handle.replace(vec![wish(2, other)]);
    assert_eq!(sign(running.change().await), (IdleEnd::Closed, IdleSign::Nothing));
    assert_eq!(end(&mut stream).await, Ok(0), "a FIN: the server is well");
    running.stop().await;
    assert_eq!(end(&mut other_stream).await, Ok(0));
}

#[tokio::test]
async fn a_banner_is_read_and_the_server_is_left_alone() {
    let (listener, address) = listen().await;
    let mut running = Running::start(8);
    running.handle.replace(vec![wish(0, address)]);
    let mut stream = accept(&listener).await;
    assert_eq!(running.change().await, IdleChange::Opened);
    stream.write_all(b"220 mail.example.org ESMTP\r\n").await.unwrap();
    assert_eq!(sign(running.change().await), (IdleEnd::Closed, IdleSign::Nothing));
    assert_eq!(running.change().await, IdleChange::Off(IdleOff::Greets));
    assert_eq!(end(&mut stream).await, Ok(0));
    let state = running.handle.state(&wish(0, address).destination);
    assert!(state.is_some_and(|state| state.starts_with("off: the server speaks first")));
    running.stop().await;
}

#[tokio::test]
async fn a_server_that_talks_without_end_is_left_alone() {
    let (listener, address) = listen().await;
    let mut running = Running::start(8);
    running.handle.replace(vec![IdleWish { unasked: Unasked::Discard, ..wish(0, address) }]);
    let mut stream = accept(&listener).await;
    let flood = tokio::spawn(async move { while stream.write_all(&[b'x'; 4096]).await.is_ok() {} });
    assert_eq!(running.change().await, IdleChange::Opened);
    assert_eq!(sign(running.change().await), (IdleEnd::Closed, IdleSign::Nothing));
    assert_eq!(running.change().await, IdleChange::Off(IdleOff::Talks));
    time::timeout(LONG, flood).await.expect("the connection is closed").unwrap();
    running.stop().await;
}

#[tokio::test]
async fn without_descriptors_some_have_none_and_that_is_told_once() {
    let (listener, address) = listen().await;
    let (other_listener, other) = listen().await;
    let mut running = Running::start(1);
    running.handle.replace(vec![wish(0, address), wish(1, other)]);
    let (mut limited, mut opened) = (0, 0);
    while (limited, opened) != (1, 1) {
        match running.report().await {
            IdleReport::Limited { wanted: 2, limit: 1 } => limited += 1,
            IdleReport::Server { change: IdleChange::Opened, .. } => opened += 1,
            other => panic!("{other:?}"),
        }
    }
    // A third one changes nothing, and is not told.
    let (_third_listener, third) = listen().await;
    running.handle.replace(vec![wish(0, address), wish(1, other), wish(2, third)]);
    drop((listener, other_listener));
    assert_eq!(sign(running.change().await).1, IdleSign::Hint);
    running.stop().await;
}
