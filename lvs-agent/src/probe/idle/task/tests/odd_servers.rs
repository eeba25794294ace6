//! Servers that do not go together with a connection on which nothing is sent: no loop of connections, and told once.
//! One that greets is in the file above.

use std::{
    collections::BTreeMap,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use super::*;

/// Longer than four connections take with the waits between them, 1, 2 and 4 s and half as much again.
const GIVEN_UP: Duration = Duration::from_secs(40);

/// A server that ends each connection as soon as it is there: by a FIN, or by a RST as a SYN proxy does whose server
/// refuses. Its address, and how many there were.
async fn ending(end: IdleEnd) -> (SocketAddr, Arc<AtomicUsize>, tokio::task::JoinHandle<()>) {
    let (listener, address) = listen().await;
    let accepted = Arc::new(AtomicUsize::new(0));
    let counted = accepted.clone();
    let server = tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            counted.fetch_add(1, Ordering::Relaxed);
            if end == IdleEnd::Reset {
                connection::reset_at_drop(&stream);
            }
        }
    });
    (address, accepted, server)
}

#[tokio::test]
async fn who_accepts_and_ends_it_at_once_is_given_up_after_four_and_told_once() {
    let (closing, closed, server) = ending(IdleEnd::Finished).await;
    let (proxy, reset, other_server) = ending(IdleEnd::Reset).await;
    let mut running = Running::start(8);
    running.handle.replace(vec![wish(0, closing), wish(1, proxy)]);
    let mut told: BTreeMap<SocketAddr, usize> = BTreeMap::new();
    let all = async {
        while told.len() < 2 {
            let IdleReport::Server { destinations, change } = running.report().await else { continue };
            if let IdleChange::Off(why) = change {
                // A RST that comes before the connection is noticed is a refusal.
                assert!(matches!(why, IdleOff::Cut { .. } | IdleOff::Refused), "{why:?}");
                *told.entry(destinations[0].server).or_default() += 1;
            }
        }
    };
    time::timeout(GIVEN_UP, all).await.expect("both are given up");
    assert_eq!(told, BTreeMap::from([(closing, 1), (proxy, 1)]));
    assert_eq!((closed.load(Ordering::Relaxed), reset.load(Ordering::Relaxed)), (4, 4));
    for (number, address) in [(0, closing), (1, proxy)] {
        let state = running.handle.state(&wish(number, address).destination);
        assert!(state.as_deref().is_some_and(|state| state.starts_with("off: ")), "{state:?}");
    }
    // Another list of servers with these in it is no reason to try again.
    let (listener, address) = listen().await;
    running.handle.replace(vec![wish(0, closing), wish(1, proxy), wish(2, address)]);
    let _other = accept(&listener).await;
    assert_eq!(running.change().await, IdleChange::Opened);
    assert_eq!((closed.load(Ordering::Relaxed), reset.load(Ordering::Relaxed)), (4, 4));
    running.stop().await;
    server.abort();
    other_server.abort();
}

/// A SYN proxy answers for a server that says nothing, and a backlog holds what the server has not accepted: either is
/// a connection like another.
#[tokio::test]
async fn a_backlog_of_one_is_enough_and_a_full_one_is_waited_for() {
    let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
    socket.bind(&any_port().into()).unwrap();
    socket.listen(1).unwrap();
    socket.set_nonblocking(true).unwrap();
    let listener = TcpListener::from_std(socket.into()).unwrap();
    let address = listener.local_addr().unwrap();
    let mut running = Running::start(8);
    running.handle.replace(vec![wish(0, address)]);
    assert_eq!(running.change().await, IdleChange::Opened);
    let _first = accept(&listener).await;
    running.handle.replace(vec![]);
    assert_eq!(sign(running.change().await), (IdleEnd::Closed, IdleSign::Nothing));
    // Linux has room for one more than the backlog says (`sk_acceptq_is_full`, include/net/sock.h).
    let full = [TcpStream::connect(address).await.unwrap(), TcpStream::connect(address).await.unwrap()];
    running.handle.replace(vec![wish(0, address)]);
    assert_eq!(sign(running.change().await), (IdleEnd::Unanswered, IdleSign::Nothing), "no news for checks");
    for _ in &full {
        drop(accept(&listener).await);
    }
    assert_eq!(running.change().await, IdleChange::Opened, "once there is room");
    let mut connection = accept(&listener).await;
    running.stop().await;
    assert_eq!(end(&mut connection).await, Ok(0), "one connection, and no byte on it");
    let another = listener.into_std().unwrap().accept();
    assert_eq!(another.unwrap_err().kind(), std::io::ErrorKind::WouldBlock, "nor another one beside it");
}
