mod browser;
mod hostile;

use std::{net::Ipv4Addr, sync::atomic::Ordering};

use hyper::header::{ACCEPT, HeaderMap, HeaderValue};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    time::timeout,
};

use super::{
    answers::wants_open_metrics,
    clients::{CONNECTIONS, MAX_HEAD, PER_ADDRESS},
    testing::{ask, closed, serve as served, start},
    *,
};
use crate::{log, model::LogTarget, telemetry::metrics::recorder};

#[tokio::test]
async fn each_path_has_its_answer() {
    let (address, _guard) = start();
    let cases = [
        ("GET /metrics", "200 OK"),
        ("HEAD /metrics", "200 OK"),
        ("GET /metrics?name[]=lvs_server_up", "200 OK"),
        ("GET /healthz", "200 OK"),
        ("GET /", "200 OK"),
        ("HEAD /", "200 OK"),
        ("HEAD /events", "200 OK"),
        ("GET /favicon.ico", "404 Not Found"),
        ("GET /../etc/passwd", "404 Not Found"),
        ("DELETE /", "405 Method Not Allowed"),
        ("POST /metrics", "405 Method Not Allowed"),
    ];
    for (request, expected) in cases {
        let reply = ask(address, &format!("{request} HTTP/1.1\r\nHost: here\r\n\r\n")).await;
        assert!(reply.starts_with(&format!("HTTP/1.1 {expected}")), "{request}: {reply}");
    }
}

#[tokio::test]
async fn what_is_no_request_gets_an_error() {
    let (address, _guard) = start();
    for request in ["hello\r\n\r\n".to_owned(), format!("GET /{} HTTP/1.1\r\n\r\n", "x".repeat(2 * MAX_HEAD))]
    {
        let reply = ask(address, &request).await;
        assert!(reply.starts_with("HTTP/1.1 4"), "{reply}");
    }
}

/// As many connections as one address may have, and then one more than all may.
#[tokio::test]
async fn idle_clients_do_not_keep_others_out_and_are_few() {
    let (address, _guard) = start();
    let mut idle = Vec::new();
    for _ in 0..2 * CONNECTIONS {
        idle.push(TcpStream::connect(address).await.unwrap());
    }
    let mut closed = 0;
    for stream in &mut idle {
        let mut byte = [0];
        // Those that were refused are told so and are at their end soon; those that are served wait.
        if timeout(Duration::from_millis(20), stream.read(&mut byte)).await.is_ok() {
            closed += 1;
        }
    }
    assert_eq!(closed, 2 * CONNECTIONS - PER_ADDRESS);
    let other = tokio::net::TcpSocket::new_v4().unwrap();
    other.bind((Ipv4Addr::new(127, 0, 0, 2), 0).into()).unwrap();
    let mut other = other.connect(address).await.unwrap();
    other.write_all(b"GET /healthz HTTP/1.1\r\nHost: here\r\n\r\n").await.unwrap();
    let mut reply = String::new();
    other.read_to_string(&mut reply).await.unwrap();
    assert!(reply.starts_with("HTTP/1.1 200"), "{reply}");
}

#[tokio::test]
async fn clients_that_come_together_share_a_page() {
    let (_, exposition) = recorder().unwrap();
    let (_, thread) = log::open(&LogTarget::Standard).unwrap();
    let (table, source) = (TableGauges::default(), SourceSlot::default());
    let mut scrapes = Scrapes { exposition, lost_lines: thread.lost(), table, source, last: None };
    let (first, second) = (scrapes.text().await, scrapes.text().await);
    assert_eq!(first.as_ptr(), second.as_ptr());
}

#[tokio::test]
async fn it_is_ready_once_the_agent_is() {
    let (server, address) = closed();
    let ready = server.ready();
    let _guard = served(server);
    let request = "GET /readyz HTTP/1.1\r\nHost: here\r\n\r\n";
    let before = ask(address, request).await;
    assert!(before.starts_with("HTTP/1.1 503"), "{before}");
    ready.store(true, Ordering::Relaxed);
    let after = ask(address, request).await;
    assert!(after.starts_with("HTTP/1.1 200"), "{after}");
}

#[tokio::test]
async fn who_asks_for_open_metrics_gets_it() {
    let (address, _guard) = start();
    let request = "GET /metrics HTTP/1.1\r\nHost: here\r\nAccept: application/openmetrics-text\r\n\r\n";
    let reply = ask(address, request).await;
    assert!(reply.contains("content-type: application/openmetrics-text; version=1.0.0"), "{reply}");
    assert!(reply.ends_with("# EOF\n"), "{reply}");
}

#[test]
fn the_format_is_the_one_that_a_client_prefers() {
    let cases = [
        ("", false),
        ("*/*", false),
        ("text/html,application/xhtml+xml,*/*;q=0.8", false),
        ("application/openmetrics-text", true),
        ("application/openmetrics-text;version=1.0.0;q=0.5,text/plain;version=0.0.4;q=0.2,*/*;q=0.1", true),
        ("application/openmetrics-text;version=1.0.0;q=0.1,text/plain;version=0.0.4;q=0.2", false),
        ("application/openmetrics-text;version=9.0.0;q=0.9,text/plain;q=0.2", false),
        ("application/openmetrics-text;q=0", false),
    ];
    for (accept, expected) in cases {
        let mut headers = HeaderMap::new();
        headers.insert(ACCEPT, HeaderValue::from_static(accept));
        assert_eq!(wants_open_metrics(&headers), expected, "{accept}");
    }
}

#[tokio::test]
async fn a_panic_in_the_thread_is_an_error_and_another_thread_serves() {
    let panics = in_thread(|| async { assert!(thread::current().name().is_none(), "as a test") });
    let ended = timeout(Duration::from_secs(20), panics).await.expect("it isn't waited for in vain");
    assert_eq!(ended.unwrap_err().to_string(), "its thread has ended");
    assert_eq!(in_thread(|| async { 7 }).await.unwrap(), 7);
}
