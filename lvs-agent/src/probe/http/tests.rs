use std::sync::Arc;

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    sync::{Notify, mpsc},
    time::{self, Instant},
};

use super::{body::MAX_SEARCHED, *};
use crate::{
    model::{BodyDigest, Check, CheckKind, Pattern},
    probe::{
        Probe, ProbeTarget, Prober,
        testing::{self, LONG, SHORT, closed_port, server, silent_port},
    },
};

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

fn check(text: Option<&str>) -> HttpCheck {
    with_page(|page| page.text = text.map(str::to_owned))
}

/// A check of a page that is changed like this.
fn with_page(change: impl FnOnce(&mut HttpPage)) -> HttpCheck {
    let mut check = HttpCheck::get("/health?full=1");
    check.pages[0].status = (200..=299).into();
    change(&mut check.pages[0]);
    check
}

async fn probe(address: SocketAddr, check: HttpCheck, timeout: Duration) -> Result<(), FailureReason> {
    testing::probe(address, CheckKind::Http(check), timeout).await
}

async fn page(address: SocketAddr, text: Option<&str>, timeout: Duration) -> Result<(), FailureReason> {
    probe(address, check(text), timeout).await
}

#[tokio::test]
async fn a_request_has_all_its_headers() {
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

    let named = with_page(|page| page.host = Some("www.example.org:81".to_owned()));
    assert_eq!(probe(address, named, LONG).await, closed);
    assert!(requests.recv().await.unwrap().contains("host: www.example.org:81\r\n"));
}

#[tokio::test]
async fn a_request_to_another_address_names_that_one_unless_a_name_is_written() {
    let (sender, mut requests) = mpsc::channel(1);
    let asked = server(move |mut stream| {
        let sender = sender.clone();
        async move {
            sender.send(read_request(&mut stream).await).await.unwrap();
        }
    })
    .await;
    for (host, expected) in
        [(None, asked.to_string()), (Some("www.example.org"), "www.example.org".to_owned())]
    {
        let kind = CheckKind::Http(with_page(|page| page.host = host.map(str::to_owned)));
        let (port, connect_to) = (Some(asked.port()), Some(asked.ip()));
        let check = Check { kind, port, connect_to, ..Check::default() };
        let target = ProbeTarget::of_check(([10, 0, 0, 1], 80).into(), &check);
        assert!(Prober::new().probe(target, &check.kind, LONG).await.is_err(), "it never answers");
        let request = requests.recv().await.unwrap();
        assert!(request.contains(&format!("host: {expected}\r\n")), "{request}");
    }
}

#[test]
fn without_a_name_the_host_header_is_the_address() {
    let cases = [
        ("10.0.0.1:80", "10.0.0.1"),
        ("10.0.0.1:81", "10.0.0.1:81"),
        ("[2001:db8::1]:80", "[2001:db8::1]"),
        ("[2001:db8::1]:81", "[2001:db8::1]:81"),
    ];
    for (address, host) in cases {
        let check = check(None);
        assert_eq!(super::host(address.parse().unwrap(), &check, &check.pages[0]), host);
    }
}

#[test]
fn a_request_that_cannot_be_built_says_nothing_about_the_server() {
    let check = check(None);
    for (host, path) in [
        ("a", "/a b"),
        (
            "a", "/
x: y",
        ),
        (
            "a
x: y", "/",
        ),
    ] {
        let reason = request(host, &check, &check.pages[0], path).unwrap_err();
        assert!(matches!(reason, FailureReason::Local(_)), "{host:?} {path:?}: {reason}");
    }
}

/// What answers are worth where "ok" is wanted with a status from 200 to 299.
#[tokio::test]
async fn replies_pass_or_fail_the_check() {
    let not_found = |searched, cut| Err(FailureReason::TextNotFound { searched, cut });
    let wrong = |got| Err(FailureReason::WrongStatus { got, wanted: (200..=299).into() });
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
async fn without_a_body_condition_the_body_is_not_waited_for() {
    let slow = dripping("HTTP/1.1 200 OK\r\n\r\n", "x", SHORT).await;
    let endless = dripping("HTTP/1.1 200 OK\r\n\r\n", vec![b'n'; 1 << 16], Duration::ZERO).await;
    let broken = answering("HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nx").await;
    for address in [slow, endless, broken] {
        assert_eq!(page(address, None, LONG).await, Ok(()));
    }
}

/// A server that sends a page, and says whether the client has taken all of it: without a reset.
async fn taken_whole(length: usize) -> (SocketAddr, mpsc::Receiver<bool>) {
    let (sender, taken) = mpsc::channel(1);
    let address = server(move |mut stream| {
        let sender = sender.clone();
        async move {
            read_request(&mut stream).await;
            let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {length}\r\n\r\nhello");
            let sent = stream.write_all(head.as_bytes()).await.is_ok()
                && stream.write_all(&vec![b'x'; length - 5]).await.is_ok();
            sender.send(sent).await.unwrap();
        }
    })
    .await;
    (address, taken)
}

#[tokio::test]
async fn the_rest_of_a_page_is_read_within_reason() {
    let cases = [
        (None, 1 << 20, true),
        (Some("hello"), 1 << 20, true),
        (None, 15 << 20, true),
        (Some("hello"), 15 << 20, true),
        // The verdict is against it, and the page is taken all the same.
        (Some("bye"), 4 << 20, true),
        (None, 64 << 20, false),
    ];
    for (text, length, expected) in cases {
        let (address, mut taken) = taken_whole(length).await;
        // It owns what is read behind the verdict.
        let prober = Prober::new();
        let outcome = prober.probe(ProbeTarget::at(address), &CheckKind::Http(check(text)), LONG).await;
        assert_eq!(outcome.is_ok(), text != Some("bye"), "{text:?} {length}");
        assert_eq!(taken.recv().await, Some(expected), "{text:?} {length}");
    }
}

#[tokio::test]
async fn a_slow_rest_holds_up_no_verdict_and_ends_with_the_prober() {
    let closed = Arc::new(Notify::new());
    let notified = closed.clone();
    let address = server(move |mut stream| {
        let closed = closed.clone();
        async move {
            read_request(&mut stream).await;
            stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nx").await.unwrap();
            // The client closes the connection before the rest has come.
            assert_eq!(stream.read(&mut [0]).await.unwrap_or_default(), 0);
            closed.notify_one();
        }
    })
    .await;
    let prober = Prober::new();
    // The server waits for its client without end.
    assert!(prober.probe(ProbeTarget::at(address), &CheckKind::Http(check(None)), LONG).await.is_ok());
    let waiting = time::timeout(SHORT, notified.notified()).await;
    assert!(waiting.is_err(), "the rest is waited for, behind the verdict");
    drop(prober);
    time::timeout(LONG, notified.notified()).await.expect("nobody waits for it any more");
}

/// What clients take although it isn't quite HTTP.
#[tokio::test]
async fn heads_are_read_as_leniently_as_clients_do() {
    for header in
        ["a: b\r\n c\r\n", "a : b\r\n", "a line without a colon\r\n", "a\tb: c\r\n", ": b\r\n", "a:\r\n"]
    {
        let address =
            answering(format!("HTTP/1.1 200 OK\r\n{header}Content-Length: 2\r\nb: c\r\n\r\nok")).await;
        assert_eq!(page(address, Some("ok"), LONG).await, Ok(()), "{header:?}");
    }
    for head in ["HTTP/1.1 200\r\n\r\n", "HTTP/1.1 200 \r\n\r\n", "HTTP/1.1 200 OK\n\n"] {
        let address = answering(format!("{head}ok")).await;
        assert_eq!(page(address, Some("ok"), LONG).await, Ok(()), "{head:?}");
    }
}

/// The numbers are those of the documents.
#[tokio::test]
async fn a_head_may_have_64_kib_and_100_lines() {
    assert_eq!((MAX_HEAD, MAX_HEADERS), (64 * 1024, 100));
    let with = |headers: &str| format!("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n{headers}\r\nok");
    let many = |count: usize| with(&"a: b\r\n".repeat(count - 1));
    let long = |length: usize| {
        let others = with("a: \r\n").len() - "ok".len();
        with(&format!("a: {}\r\n", "b".repeat(length - others)))
    };
    assert_eq!(long(MAX_HEAD).len(), MAX_HEAD + "ok".len());
    for (answer, is_good) in [(many(100), true), (many(101), false), (long(MAX_HEAD), true)] {
        let address = answering(answer.clone()).await;
        let result = page(address, Some("ok"), LONG).await;
        assert_eq!(result.is_ok(), is_good, "{} bytes: {result:?}", answer.len());
    }
}

#[tokio::test]
async fn a_reply_that_is_not_http_violates_the_protocol() {
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
async fn bodies_are_searched_up_to_the_limit() {
    let with_text_at = |at: usize| {
        let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n", at + 6);
        [head.as_bytes(), &vec![b'n'; at], b"needle"].concat()
    };
    let within = answering(with_text_at(MAX_SEARCHED - 6)).await;
    assert_eq!(page(within, Some("needle"), LONG).await, Ok(()));
    let across = answering(with_text_at(MAX_SEARCHED - 5)).await;
    let cut = Err(FailureReason::TextNotFound { searched: MAX_SEARCHED, cut: true });
    assert_eq!(page(across, Some("needle"), LONG).await, cut);
    let endless = dripping("HTTP/1.1 200 OK\r\n\r\n", vec![b'n'; 5000], Duration::ZERO).await;
    assert_eq!(page(endless, Some("needle"), LONG).await, cut);
}

#[tokio::test]
async fn one_deadline_bounds_the_whole_check() {
    let pause = Duration::from_millis(1);
    let cases = [
        (dripping("", "", pause).await, Phase::Reply),
        (dripping("HTTP/1.1 ", "2", SHORT * 10).await, Phase::Reply),
        (dripping("HTTP/1.1 200 OK\r\na: ", "b", pause).await, Phase::Reply),
        (dripping("HTTP/1.1 200 OK\r\n", "a: b\r\n", 20 * pause).await, Phase::Reply),
        (dripping("", "HTTP/1.1 100 Continue\r\n\r\n", Duration::ZERO).await, Phase::Reply),
        (dripping("HTTP/1.1 200 OK\r\n\r\n", "n", pause).await, Phase::Body),
        (dripping("HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n", "", pause).await, Phase::Body),
    ];
    for (number, (address, phase)) in cases.into_iter().enumerate() {
        let started = Instant::now();
        let result = testing::probe_silent(address, &CheckKind::Http(check(Some("ok"))), phase).await;
        assert_eq!(result, Err(FailureReason::TimedOut { phase }), "case {number}");
        assert!(started.elapsed() >= SHORT, "case {number}");
    }
}

#[tokio::test]
async fn failures_of_the_connection_have_their_reason() {
    assert_eq!(page(closed_port(), None, LONG).await, Err(FailureReason::Refused));
    let silent = silent_port().await;
    let timed_out = Err(FailureReason::TimedOut { phase: Phase::Connect });
    assert_eq!(page(silent.address, None, SHORT).await, timed_out);
    // A listener that never accepts: the kernel completes the handshake, the hung process never answers.
    let hung = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let timed_out = Err(FailureReason::TimedOut { phase: Phase::Reply });
    assert_eq!(
        testing::probe_silent(hung.local_addr().unwrap(), &CheckKind::Http(check(None)), Phase::Reply).await,
        timed_out
    );
    // Unread data makes the close a RST.
    let resetting = server(|mut stream| async move {
        stream.read_u8().await.unwrap();
    })
    .await;
    assert_eq!(page(resetting, None, LONG).await, Err(FailureReason::Reset));
}

/// A server with a page for each path: what it answers after the request line.
async fn site(pages: &'static [(&'static str, &'static str)]) -> SocketAddr {
    server(move |mut stream| async move {
        let request = read_request(&mut stream).await;
        let line = request.lines().next().unwrap_or_default();
        let page = pages.iter().find(|(start, _)| line.starts_with(start));
        let answer = page.map_or("HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n", |(_, answer)| answer);
        if stream.write_all(answer.as_bytes()).await.is_ok() {
            stream.shutdown().await.unwrap_or_default();
        }
    })
    .await
}

const OK: &str = "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello";

#[tokio::test]
async fn bodies_pass_or_fail_the_check() {
    let pattern = |text| Some(Pattern::new(text).unwrap());
    let address = site(&[("GET /health?full=1 HTTP/1.1", OK)]).await;
    let md5 = |first| {
        let mut digest = *b"\x5d\x41\x40\x2a\xbc\x4b\x2a\x76\xb9\x71\x9d\x91\x10\x17\xc5\x92";
        digest[0] = first;
        Some(BodyDigest::Md5(digest))
    };
    let not_found = Err(FailureReason::TextNotFound { searched: 5, cut: false });
    let cases = [
        (with_page(|page| page.pattern = pattern("^h.l+o$")), Ok(())),
        (with_page(|page| page.pattern = pattern("world")), not_found.clone()),
        (with_page(|page| page.unwanted = pattern("error")), Ok(())),
        (with_page(|page| page.unwanted = pattern("h")), Err(FailureReason::UnwantedText { searched: 5 })),
        (with_page(|page| page.digest = md5(0x5d)), Ok(())),
        (with_page(|page| (page.text, page.unwanted) = (Some("x".to_owned()), pattern("error"))), not_found),
    ];
    for (check, expected) in cases {
        assert_eq!(probe(address, check.clone(), LONG).await, expected, "{check:?}");
    }
    let result = probe(address, with_page(|page| page.digest = md5(0)), LONG).await;
    let Err(FailureReason::WrongDigest { got, wanted }) = result else { panic!("{result:?}") };
    assert_eq!(got, "5d41402abc4b2a76b9719d911017c592");
    assert_eq!(wanted, "0041402abc4b2a76b9719d911017c592");
    let wrong = with_page(|page| page.digest = Some(BodyDigest::Sha256([0; 32])));
    let result = probe(address, wrong, LONG).await;
    let Err(FailureReason::WrongDigest { got, .. }) = result else { panic!("{result:?}") };
    assert_eq!(got, "2cf24dba5fb0a30e26e83b2ac5b9e29e1b161e5c1fa7425e73043362938b9824");
}

#[tokio::test]
async fn bodies_are_digested_up_to_a_limit() {
    let endless = dripping("HTTP/1.1 200 OK\r\n\r\n", vec![b'n'; 1 << 20], Duration::ZERO).await;
    let check = with_page(|page| page.digest = Some(BodyDigest::Sha256([0; 32])));
    let result = probe(endless, check, LONG).await;
    assert!(matches!(result, Err(FailureReason::Protocol(_))), "{result:?}");
}

#[tokio::test]
async fn methods_versions_and_pages_are_as_configured() {
    let address = site(&[
        ("HEAD /health?full=1 HTTP/1.1", "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n"),
        ("GET /old HTTP/1.0", OK),
        ("GET /a HTTP/1.1", OK),
        ("GET http://other.example/x HTTP/1.1", OK),
    ])
    .await;
    let head = with_page(|page| page.method = HttpMethod::Head);
    assert_eq!(probe(address, head, LONG).await, Ok(()));
    let old = HttpCheck { version: HttpVersion::Http10, ..HttpCheck::get("/old") };
    assert_eq!(probe(address, old, LONG).await, Ok(()));
    let mut two = HttpCheck::get("/a");
    two.pages.push(HttpPage { path: "/b".to_owned(), ..HttpPage::default() });
    let wrong = Err(FailureReason::WrongStatus { got: 404, wanted: (200..=399).into() });
    assert_eq!(probe(address, two, LONG).await, wrong, "the second page is not there");
    let proxy = HttpCheck { proxy: true, ..HttpCheck::get("http://other.example/x") };
    assert_eq!(probe(address, proxy, LONG).await, Ok(()));
}

#[tokio::test]
async fn redirects_are_followed_on_the_same_server() {
    let address = site(&[
        ("GET /a ", "HTTP/1.1 302 Found\r\nLocation: /b\r\nContent-Length: 0\r\n\r\n"),
        ("GET /b ", "HTTP/1.1 301 Moved\r\nLocation: c?x\r\nContent-Length: 0\r\n\r\n"),
        ("GET /c?x ", OK),
        ("GET /loop ", "HTTP/1.1 302 Found\r\nLocation: /loop\r\nContent-Length: 0\r\n\r\n"),
        ("GET /out ", "HTTP/1.1 302 Found\r\nLocation: http://192.0.2.9/\r\nContent-Length: 0\r\n\r\n"),
        ("GET /broken ", "HTTP/1.1 302 Found\r\nLocation: http://[::1/\r\nContent-Length: 0\r\n\r\n"),
        ("GET /latin ", "HTTP/1.1 302 Found\r\nLocation: /caf\u{e9} b\r\nContent-Length: 0\r\n\r\n"),
        ("GET /caf%C3%A9%20b ", OK),
    ])
    .await;
    let check = |path, redirects| {
        let mut check = HttpCheck { redirects, ..HttpCheck::get(path) };
        check.pages[0].status = (200..=299).into();
        check
    };
    let refused = |status, location: &str, problem| {
        Err(FailureReason::Redirect { status, location: location.into(), problem })
    };
    assert_eq!(probe(address, check("/a", 2), LONG).await, Ok(()));
    let wrong = Err(FailureReason::WrongStatus { got: 302, wanted: (200..=299).into() });
    assert_eq!(probe(address, check("/a", 0), LONG).await, wrong);
    let many = "and no more redirects are followed";
    assert_eq!(probe(address, check("/a", 1), LONG).await, refused(301, "c?x", many));
    assert_eq!(probe(address, check("/loop", 10), LONG).await, refused(302, "/loop", many));
    let out = refused(302, "http://192.0.2.9/", "which is not this server");
    assert_eq!(probe(address, check("/out", 10), LONG).await, out);
    // A Location that can't be requested is the server's fault.
    let broken = refused(302, "http://[::1/", "which is no valid URL");
    assert_eq!(probe(address, check("/broken", 10), LONG).await, broken);
    assert_eq!(probe(address, check("/latin", 10), LONG).await, Ok(()));
}
