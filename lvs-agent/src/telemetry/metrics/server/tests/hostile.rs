//! Clients that mean no good, or know no better: each gets an error, and none takes what others need.

use std::{
    net::{Ipv4Addr, SocketAddr},
    sync::Arc,
    time::Duration,
};

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpSocket, TcpStream},
    time::{sleep, timeout},
};

use super::super::{
    clients::{MAX_HEAD, PER_ADDRESS},
    testing::{Told, ask, serve, start, told},
};
use crate::control::{ServiceStatus, Status};

/// Far longer than anything here takes.
const LIMIT: Duration = Duration::from_secs(30);

async fn rest_of(mut stream: TcpStream) -> String {
    let mut reply = Vec::new();
    timeout(LIMIT, stream.read_to_end(&mut reply)).await.expect("it is closed in time").unwrap_or_default();
    String::from_utf8_lossy(&reply).into_owned()
}

/// Waits until there is room for a client again.
async fn serves_again(address: SocketAddr) {
    let asking = async {
        loop {
            let mut stream = TcpStream::connect(address).await.unwrap();
            // One too many may be closed before it has asked.
            stream.write_all(b"GET /healthz HTTP/1.1\r\nHost: here\r\n\r\n").await.ok();
            if rest_of(stream).await.starts_with("HTTP/1.1 200") {
                return;
            }
            sleep(Duration::from_millis(20)).await;
        }
    };
    timeout(LIMIT, asking).await.expect("there is room again");
}

#[tokio::test]
async fn what_is_no_good_request_gets_an_error_and_not_a_reset() {
    let (address, _guard) = start();
    let many_headers = "x: y\r\n".repeat(500);
    let cases = [
        ("hello\r\n\r\n".to_owned(), "400"),
        (format!("GET /{} HTTP/1.1\r\n\r\n", "x".repeat(2 * MAX_HEAD)), "4"),
        (format!("GET / HTTP/1.1\r\nHost: here\r\nx: {}\r\n\r\n", "y".repeat(200 * 1024)), "431"),
        (format!("GET / HTTP/1.1\r\nHost: here\r\n{many_headers}\r\n"), "431"),
        ("GET / HTTP/1.1\r\nHost: here\r\nContent-Length: 5\r\n\r\nhello".to_owned(), "400"),
        ("GET /metrics HTTP/1.1\r\nHost: here\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n".to_owned(), "400"),
        (format!("GET / HTTP/1.1\r\nContent-Length: 100000\r\n\r\n{}", "z".repeat(100_000)), "400"),
        (format!("POST /metrics HTTP/1.1\r\nContent-Length: 100000\r\n\r\n{}", "z".repeat(100_000)), "405"),
        ("GET / HTTP/1.1\r\nContent-Length: -1\r\n\r\n".to_owned(), "400"),
        ("\0\0\0\0\r\n\r\n".to_owned(), "400"),
        ("GET http://[ HTTP/1.1\r\n\r\n".to_owned(), "400"),
        ("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_owned(), ""),
    ];
    for (request, expected) in cases {
        let mut stream = TcpStream::connect(address).await.unwrap();
        // It may be refused before it is sent to its end.
        stream.write_all(request.as_bytes()).await.ok();
        let reply = rest_of(stream).await;
        let start: String = request.chars().take(60).collect();
        assert!(
            reply.starts_with(&format!("HTTP/1.1 {expected}")) || expected.is_empty(),
            "{start}: {reply:.200}"
        );
        assert!(!reply.contains("HTTP/1.1 2"), "{start}: {reply:.200}");
    }
    assert!(ask(address, "GET /healthz HTTP/1.1\r\n\r\n").await.starts_with("HTTP/1.1 200"));
}

#[tokio::test]
async fn of_requests_in_a_row_the_first_is_answered() {
    let (address, _guard) = start();
    let reply = ask(address, &"GET /healthz HTTP/1.1\r\nHost: here\r\n\r\n".repeat(1000)).await;
    assert!(
        reply.starts_with("HTTP/1.1 200") && reply.to_lowercase().contains("connection: close"),
        "{reply:.300}"
    );
    assert_eq!(reply.matches("HTTP/1.1").count(), 1);
}

/// A byte now and then, as slowloris does: 5 s for the head of a request, and others are served meanwhile.
#[tokio::test]
async fn who_takes_for_ever_is_told_so() {
    let (address, _guard) = start();
    let mut slow = Vec::new();
    for _ in 0..PER_ADDRESS {
        let mut stream = TcpStream::connect(address).await.unwrap();
        stream.write_all(b"GET / HTTP/1.1\r\n").await.unwrap();
        slow.push(stream);
    }
    let one_more = rest_of(TcpStream::connect(address).await.unwrap()).await;
    assert!(one_more.starts_with("HTTP/1.1 503"), "{one_more}");
    let other = TcpSocket::new_v4().unwrap();
    other.bind((Ipv4Addr::new(127, 0, 0, 2), 0).into()).unwrap();
    let mut other = other.connect(address).await.unwrap();
    other.write_all(b"GET /healthz HTTP/1.1\r\nHost: here\r\n\r\n").await.unwrap();
    assert!(rest_of(other).await.starts_with("HTTP/1.1 200"));
    for mut stream in slow {
        stream.write_all(b"x: y\r\n").await.ok();
        let reply = rest_of(stream).await;
        assert!(reply.starts_with("HTTP/1.1 408"), "{reply:.100}");
    }
    serves_again(address).await;
}

/// Ten thousand connections, at most a hundred of them at once from each of a hundred addresses.
#[tokio::test]
async fn ten_thousand_connections_take_no_more_descriptors_than_a_few_do() {
    let (address, _guard) = start();
    let open = || std::fs::read_dir("/proc/self/fd").unwrap().count();
    let before = open();
    let mut most = 0;
    for round in 0..100_u8 {
        let mut crowd = Vec::new();
        for _ in 0..100 {
            let socket = TcpSocket::new_v4().unwrap();
            socket.bind((Ipv4Addr::new(127, 1, 0, round + 1), 0).into()).unwrap();
            crowd.push(socket.connect(address).await.unwrap());
        }
        // The ends of this crowd are ours.
        most = most.max(open() - crowd.len());
    }
    // Both ends of those that wait to be accepted, and those that are served, twice.
    assert!(most < before + 2 * super::super::clients::CONNECTIONS + 200, "{before}, then {most}");
    serves_again(address).await;
}

/// A page that does not read its stream is closed, and the others go on.
#[tokio::test(flavor = "multi_thread")]
async fn a_page_that_does_not_read_is_dropped() {
    let agent = Arc::new(Told::default());
    let (server, address) = told(&agent);
    let _guard = serve(server);
    let open = || async {
        let socket = TcpSocket::new_v4().unwrap();
        // As little as the kernel allows, so that the rest is the server's.
        socket.set_recv_buffer_size(2048).unwrap();
        let mut stream = socket.connect(address).await.unwrap();
        stream.write_all(b"GET /events HTTP/1.1\r\nHost: here\r\n\r\n").await.unwrap();
        stream
    };
    let (deaf, mut good) = (open().await, open().await);
    // A status that differs each time, and is large each time.
    let changing = agent.clone();
    let changes = tokio::spawn(async move {
        for number in 0_u64.. {
            let service = |index: u64| ServiceStatus {
                key: format!("tcp 192.0.2.1:{}", index + 1),
                name: format!("{number} {}", "x".repeat(3000)),
                ..ServiceStatus::default()
            };
            *changing.status.lock().unwrap() =
                Status { services: (0..1000).map(service).collect(), ..Status::default() };
            sleep(Duration::from_millis(200)).await;
        }
    });
    let reading = tokio::spawn(async move {
        let (mut buffer, mut read) = (vec![0; 65536], 0);
        while let Ok(some @ 1..) = good.read(&mut buffer).await {
            read += some;
            if read > 30_000_000 {
                return read;
            }
        }
        read
    });
    let read = timeout(2 * LIMIT, reading).await.expect("in time").unwrap();
    assert!(read > 30_000_000, "the one that reads gets all: {read}");
    changes.abort();
    let left = rest_of(deaf).await;
    assert!(left.len() < 10_000_000, "{} bytes were kept for it", left.len());
}
