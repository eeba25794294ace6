//! HTTP GET: does the service answer as it should?
//!
//! The whole check has one deadline, whatever the server does: it may send its head byte by byte, headers or a body
//! without end, or anything but HTTP. Memory is bounded by [`MAX_HEAD`] and [`MAX_BODY`]. Redirects are not followed:
//! their status counts like any other. Where no text is wanted, the body is not waited for.

use std::{error::Error, io, net::SocketAddr, time::Duration};

use http_body_util::{BodyExt, Empty};
use hyper::{
    Request,
    body::{Bytes, Incoming},
    client::conn::http1,
    header,
};
use hyper_util::rt::TokioIo;
use memchr::memmem::Finder;
use tokio::time::{self, Instant};
use tokio_util::task::AbortOnDropHandle;

use super::{
    FailureReason, LocalFault, Phase, ProbeTarget,
    connect::{self, Handshake},
};
use crate::config::HttpQuestion;

/// How many bytes the status line and the headers may have together.
const MAX_HEAD: usize = 64 << 10;
/// How many headers there may be.
const MAX_HEADERS: usize = 100;
/// How many bytes of the body are searched.
const MAX_BODY: usize = 256 << 10;
/// What the agent calls itself in the servers' logs.
const USER_AGENT: &str = concat!("lvs-agent/", env!("CARGO_PKG_VERSION"));

/// Asks `target` for a page, and judges it. Returns how long the connection took.
pub(super) async fn ask(
    target: ProbeTarget,
    question: &HttpQuestion,
    timeout: Duration,
) -> Result<Duration, FailureReason> {
    let started = Instant::now();
    let deadline = started + timeout;
    let request = request(target.address, question)?;
    let stream = within(deadline, Phase::Connect, connect::open(target, Handshake::Full)).await?;
    let connected = started.elapsed();
    let (mut sender, connection) = http1::Builder::new()
        .max_buf_size(MAX_HEAD)
        .max_headers(MAX_HEADERS)
        .handshake(TokioIo::new(stream))
        .await
        .map_err(|error| failed(&error, Phase::Reply))?;
    // Ends with this check, however that ends.
    let _connection = AbortOnDropHandle::new(tokio::spawn(async move {
        if let Err(error) = connection.await {
            tracing::trace!(%target.address, %error, "the connection of an HTTP check has ended");
        }
    }));
    let response = async { sender.send_request(request).await.map_err(|error| failed(&error, Phase::Reply)) };
    let response = within(deadline, Phase::Reply, response).await?;
    let got = response.status().as_u16();
    if !question.status.contains(&got) {
        return Err(FailureReason::WrongStatus { got, wanted: question.status.clone() });
    }
    if let Some(text) = &question.text {
        within(deadline, Phase::Body, search(response.into_body(), text.as_bytes())).await?;
    }
    Ok(connected)
}

/// What `work` gives, unless the deadline comes first.
async fn within<T>(
    deadline: Instant,
    phase: Phase,
    work: impl Future<Output = Result<T, FailureReason>>,
) -> Result<T, FailureReason> {
    time::timeout_at(deadline, work).await.unwrap_or(Err(FailureReason::TimedOut { phase }))
}

/// The request. A fault in it can only be in the question, which says nothing about the server.
fn request(address: SocketAddr, question: &HttpQuestion) -> Result<Request<Empty<Bytes>>, FailureReason> {
    let host = match (&question.host, address) {
        (Some(host), _) => host.clone(),
        (None, SocketAddr::V4(address)) if address.port() == 80 => address.ip().to_string(),
        (None, SocketAddr::V6(address)) if address.port() == 80 => format!("[{}]", address.ip()),
        (None, address) => address.to_string(),
    };
    Request::get(&question.path)
        .header(header::HOST, host)
        .header(header::USER_AGENT, USER_AGENT)
        .header(header::ACCEPT, "*/*")
        .header(header::CONNECTION, "close")
        .body(Empty::new())
        .map_err(|error| {
            LocalFault::new("make the request", &io::Error::new(io::ErrorKind::InvalidInput, error)).into()
        })
}

/// Whether `text` is in the first [`MAX_BODY`] bytes of the body. Reads no further than it must.
async fn search(mut body: Incoming, text: &[u8]) -> Result<(), FailureReason> {
    let finder = Finder::new(text);
    let mut read: Vec<u8> = Vec::new();
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|error| failed(&error, Phase::Body))?;
        let Ok(data) = frame.into_data() else { continue };
        // Where the text could begin that this piece completes.
        let from = read.len().saturating_sub(text.len().saturating_sub(1));
        read.extend_from_slice(&data[..data.len().min(MAX_BODY - read.len())]);
        if finder.find(&read[from..]).is_some() {
            return Ok(());
        }
        if read.len() == MAX_BODY {
            return Err(FailureReason::TextNotFound { searched: MAX_BODY, cut: true });
        }
    }
    Err(FailureReason::TextNotFound { searched: read.len(), cut: false })
}

/// What an error of the HTTP library means.
fn failed(error: &hyper::Error, phase: Phase) -> FailureReason {
    let io_error = error.source().and_then(|source| source.downcast_ref::<io::Error>());
    if let Some(io_error) = io_error
        && (io_error.raw_os_error().is_some() || io_error.kind() == io::ErrorKind::UnexpectedEof)
    {
        return FailureReason::from_io(io_error, "use the connection", phase);
    }
    if error.is_incomplete_message() || error.is_closed() || error.is_canceled() {
        return FailureReason::Closed { phase };
    }
    if error.is_parse_too_large() {
        return FailureReason::Protocol(format!("more than {MAX_HEAD} bytes or {MAX_HEADERS} headers"));
    }
    // The library's own words for what came, with the cause if it knows one.
    match error.source() {
        Some(source) => FailureReason::Protocol(format!("{error}: {source}")),
        None => FailureReason::Protocol(error.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use tokio::{
        io::{AsyncReadExt, AsyncWriteExt},
        net::TcpStream,
        sync::mpsc,
    };

    use super::*;
    use crate::probe::testing::{LONG, SHORT, closed_port, server, silent_port};

    /// Reads a request to its end.
    async fn read_request(stream: &mut TcpStream) -> String {
        let mut request = Vec::new();
        while !request.ends_with(b"\r\n\r\n") {
            request.push(stream.read_u8().await.unwrap());
        }
        String::from_utf8(request).unwrap()
    }

    /// A server that answers each request with `answer`, and closes.
    async fn answering(answer: impl Into<Vec<u8>>) -> SocketAddr {
        let answer = Bytes::from(answer.into());
        server(move |mut stream| {
            let answer = answer.clone();
            async move {
                read_request(&mut stream).await;
                // The check may have heard enough before the end.
                if stream.write_all(&answer).await.is_ok() {
                    stream.shutdown().await.unwrap_or_default();
                }
            }
        })
        .await
    }

    /// A server that sends `first`, and then `again` for ever, with a pause each time.
    async fn dripping(first: &'static str, again: impl Into<Bytes>, pause: Duration) -> SocketAddr {
        let again = again.into();
        server(move |mut stream| {
            let again = again.clone();
            async move {
                read_request(&mut stream).await;
                let mut sent = stream.write_all(first.as_bytes()).await;
                while sent.is_ok() {
                    time::sleep(pause).await;
                    sent = stream.write_all(&again).await;
                }
            }
        })
        .await
    }

    fn question(text: Option<&str>) -> HttpQuestion {
        let text = text.map(str::to_owned);
        HttpQuestion { path: "/health?full=1".to_owned(), host: None, status: 200..=299, text }
    }

    async fn page(address: SocketAddr, text: Option<&str>, timeout: Duration) -> Result<(), FailureReason> {
        ask(ProbeTarget { address }, &question(text), timeout).await.map(drop)
    }

    #[tokio::test]
    async fn the_request_is_whole() {
        let (sender, mut requests) = mpsc::channel(1);
        let address = server(move |mut stream| {
            let sender = sender.clone();
            async move {
                sender.send(read_request(&mut stream).await).await.unwrap();
            }
        })
        .await;
        let closed = Err(FailureReason::Closed { phase: Phase::Reply });
        assert_eq!(page(address, None, LONG).await, closed);
        let request = requests.recv().await.unwrap();
        let (line, headers) = request.split_once("\r\n").unwrap();
        assert_eq!(line, "GET /health?full=1 HTTP/1.1");
        assert!(headers.contains(&format!("host: {address}\r\n")), "{headers}");
        assert!(headers.contains("connection: close\r\n"), "{headers}");

        let named = HttpQuestion { host: Some("www.example.org:81".to_owned()), ..question(None) };
        assert_eq!(ask(ProbeTarget { address }, &named, LONG).await.map(drop), closed);
        assert!(requests.recv().await.unwrap().contains("host: www.example.org:81\r\n"));
    }

    #[test]
    fn the_host_header_without_a_name() {
        let cases = [
            ("10.0.0.1:80", "10.0.0.1"),
            ("10.0.0.1:81", "10.0.0.1:81"),
            ("[2001:db8::1]:80", "[2001:db8::1]"),
            ("[2001:db8::1]:81", "[2001:db8::1]:81"),
        ];
        for (address, host) in cases {
            let request = request(address.parse().unwrap(), &question(None)).unwrap();
            assert_eq!(request.headers()[header::HOST], host);
        }
    }

    #[test]
    fn a_question_that_cannot_be_asked_says_nothing_about_the_server() {
        for path in ["/a b", "/\r\nx: y"] {
            let question = HttpQuestion { path: path.to_owned(), ..question(None) };
            let reason = request(closed_port(), &question).unwrap_err();
            assert!(matches!(reason, FailureReason::Local(_)), "{path:?}: {reason}");
        }
        let question = HttpQuestion { host: Some("a\r\nx: y".to_owned()), ..question(None) };
        let reason = request(closed_port(), &question).unwrap_err();
        assert!(matches!(reason, FailureReason::Local(_)), "{reason}");
    }

    /// What answers are worth where "ok" is wanted with a status from 200 to 299.
    #[tokio::test]
    async fn answers_are_judged() {
        let not_found = |searched, cut| Err(FailureReason::TextNotFound { searched, cut });
        let wrong = |got| Err(FailureReason::WrongStatus { got, wanted: 200..=299 });
        let body = |phase| Err(FailureReason::Closed { phase });
        let cases: Vec<(&str, Result<(), FailureReason>)> = vec![
            ("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok", Ok(())),
            ("HTTP/1.0 200 OK\r\n\r\nall ok here", Ok(())),
            ("HTTP/1.1 299 -\r\nTransfer-Encoding: chunked\r\n\r\n1\r\no\r\n1\r\nk\r\n0\r\n\r\n", Ok(())),
            ("HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok", Ok(())),
            // The rest of the body never comes, and is not waited for.
            ("HTTP/1.1 200 OK\r\nContent-Length: 99\r\n\r\nok", Ok(())),
            ("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nko", not_found(2, false)),
            ("HTTP/1.1 204 No Content\r\n\r\n", not_found(0, false)),
            ("HTTP/1.1 200 OK\r\nContent-Length: 99\r\n\r\no", body(Phase::Body)),
            ("HTTP/1.1 500 Oh\r\nContent-Length: 2\r\n\r\nok", wrong(500)),
            ("HTTP/1.1 302 Found\r\nLocation: /\r\nContent-Length: 0\r\n\r\n", wrong(302)),
            ("", body(Phase::Reply)),
            ("HTTP/1.1 200 OK\r\n", body(Phase::Reply)),
        ];
        for (answer, expected) in cases {
            let address = answering(answer).await;
            assert_eq!(page(address, Some("ok"), LONG).await, expected, "{answer:?}");
        }
    }

    #[tokio::test]
    async fn where_no_text_is_wanted_the_body_is_not_waited_for() {
        let address = dripping("HTTP/1.1 200 OK\r\n\r\n", "x", SHORT).await;
        assert_eq!(page(address, None, LONG).await, Ok(()));
    }

    #[tokio::test]
    async fn what_is_no_http_violates_the_protocol() {
        let many = format!("HTTP/1.1 200 OK\r\n{}\r\n", "a: b\r\n".repeat(MAX_HEADERS + 1));
        let long = format!("HTTP/1.1 200 OK\r\na: {}\r\n\r\n", "b".repeat(2 * MAX_HEAD));
        let cases = [
            "SSH-2.0-OpenSSH_9.6\r\n",
            "HTTP/1.1 abc OK\r\n\r\n",
            "\0\u{1}\u{2}\r\n\r\n",
            "HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nok",
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\nok\r\n",
            &many,
            &long,
        ];
        for answer in cases {
            let address = answering(answer).await;
            let result = page(address, Some("ok"), LONG).await;
            let start: String = answer.chars().take(60).collect();
            assert!(matches!(result, Err(FailureReason::Protocol(_))), "{start:?}: {result:?}");
        }
    }

    #[tokio::test]
    async fn bodies_are_searched_to_the_bound_and_no_further() {
        let with_text_at = |at: usize| {
            let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n", at + 6);
            [head.as_bytes(), &vec![b'n'; at], b"needle"].concat()
        };
        let within = answering(with_text_at(MAX_BODY - 6)).await;
        assert_eq!(page(within, Some("needle"), LONG).await, Ok(()));
        let across = answering(with_text_at(MAX_BODY - 5)).await;
        let cut = Err(FailureReason::TextNotFound { searched: MAX_BODY, cut: true });
        assert_eq!(page(across, Some("needle"), LONG).await, cut);
        let endless = dripping("HTTP/1.1 200 OK\r\n\r\n", vec![b'n'; 5000], Duration::ZERO).await;
        assert_eq!(page(endless, Some("needle"), LONG).await, cut);
    }

    #[tokio::test]
    async fn whatever_is_sent_there_is_one_deadline() {
        let pause = Duration::from_millis(1);
        let cases = [
            (dripping("", "", pause).await, Phase::Reply),
            (dripping("HTTP/1.1 ", "2", SHORT * 10).await, Phase::Reply),
            (dripping("HTTP/1.1 200 OK\r\na: ", "b", pause).await, Phase::Reply),
            (dripping("HTTP/1.1 200 OK\r\n", "a: b\r\n", 5 * pause).await, Phase::Reply),
            (dripping("", "HTTP/1.1 100 Continue\r\n\r\n", Duration::ZERO).await, Phase::Reply),
            (dripping("HTTP/1.1 200 OK\r\n\r\n", "n", pause).await, Phase::Body),
            (dripping("HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n", "", pause).await, Phase::Body),
        ];
        for (number, (address, phase)) in cases.into_iter().enumerate() {
            let started = Instant::now();
            let result = page(address, Some("ok"), SHORT).await;
            assert_eq!(result, Err(FailureReason::TimedOut { phase }), "case {number}");
            assert!(started.elapsed() >= SHORT && started.elapsed() < LONG, "case {number}");
        }
    }

    #[tokio::test]
    async fn failures_of_the_connection() {
        assert_eq!(page(closed_port(), None, LONG).await, Err(FailureReason::Refused));
        let silent = silent_port().await;
        let timed_out = Err(FailureReason::TimedOut { phase: Phase::Connect });
        assert_eq!(page(silent.address, None, SHORT).await, timed_out);
        // A listener that never accepts: the kernel completes the handshake, the hung process never answers.
        let hung = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let timed_out = Err(FailureReason::TimedOut { phase: Phase::Reply });
        assert_eq!(page(hung.local_addr().unwrap(), None, SHORT).await, timed_out);
        // Unread data makes the close a RST.
        let resetting = server(|mut stream| async move {
            stream.read_u8().await.unwrap();
        })
        .await;
        assert_eq!(page(resetting, None, LONG).await, Err(FailureReason::Reset));
    }
}
