use std::{fs, net::SocketAddr};

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    sync::mpsc,
};

use super::*;
use crate::{
    model::{CheckKind, HttpCheck, HttpHeader, Secret},
    probe::testing::{self, LONG, server},
};

/// A server that hands on the heads of all requests.
async fn recorder() -> (SocketAddr, mpsc::Receiver<String>) {
    let (sender, heads) = mpsc::channel(10);
    let address = server(move |mut stream| {
        let sender = sender.clone();
        async move {
            let mut head = Vec::new();
            while !head.ends_with(b"\r\n\r\n")
                && stream.read_buf(&mut head).await.is_ok_and(|length| length > 0)
            {}
            sender.send(String::from_utf8(head).unwrap()).await.unwrap();
            stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n").await.unwrap_or_default();
            stream.read_u8().await.unwrap_or_default();
        }
    })
    .await;
    (address, heads)
}

/// The headers that a check sends, sorted.
async fn sent(headers: HttpHeaders) -> Vec<String> {
    let (address, mut heads) = recorder().await;
    let check = CheckKind::Http(HttpCheck { headers, ..HttpCheck::get("/") });
    testing::probe(address, check, LONG).await.unwrap();
    let head = heads.recv().await.unwrap();
    let mut lines: Vec<_> = head.lines().skip(1).filter(|line| !line.is_empty()).map(str::to_owned).collect();
    lines.retain(|line| !line.starts_with("host: "));
    lines.sort();
    lines
}

fn own(name: &str, value: &str) -> HttpHeader {
    HttpHeader { name: name.to_owned(), value: Secret::new(value) }
}

#[tokio::test]
async fn headers_are_added_or_take_the_place_of_the_usual_ones() {
    let agent = format!("user-agent: lvs-agent/{}", env!("CARGO_PKG_VERSION"));
    assert_eq!(sent(HttpHeaders::default()).await, ["accept: */*", "connection: close", &agent]);
    let headers = HttpHeaders {
        own: vec![own("accept", "text/plain"), own("x-check", "a, b")],
        user_agent: Some("probe 1.0".to_owned()),
        ..HttpHeaders::default()
    };
    let expected = ["accept: text/plain", "connection: close", "user-agent: probe 1.0", "x-check: a, b"];
    assert_eq!(sent(headers).await, expected);
}

#[tokio::test]
async fn the_authorization_is_what_the_file_says_now() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("secret");
    let authorization = async |kind: fn(_) -> _| {
        let authorization = Some(kind(file.clone()));
        let sent = sent(HttpHeaders { authorization, ..HttpHeaders::default() }).await;
        sent.into_iter().find(|line| line.starts_with("authorization: ")).unwrap()
    };
    fs::write(&file, "Aladdin:open sesame\n").unwrap();
    // The example of RFC 7617, 2.
    assert_eq!(
        authorization(HttpAuthorization::Basic).await,
        "authorization: Basic QWxhZGRpbjpvcGVuIHNlc2FtZQ=="
    );
    for token in ["mF_9.B5f-4.1JqM", "another"] {
        fs::write(&file, token).unwrap();
        assert_eq!(authorization(HttpAuthorization::Bearer).await, format!("authorization: Bearer {token}"));
    }
}

#[tokio::test]
async fn a_director_without_the_secret_blames_no_server_and_shows_nothing() {
    let (address, _heads) = recorder().await;
    let directory = tempfile::tempdir().unwrap();
    let (file, missing) = (directory.path().join("secret"), directory.path().join("missing"));
    fs::write(&file, "hidden secret\nX: y").unwrap();
    for (authorization, words) in [
        (HttpAuthorization::Basic(file.clone()), "is not USER:PASSWORD"),
        (HttpAuthorization::Bearer(file), "is not a token"),
        (HttpAuthorization::Bearer(missing), "missing"),
    ] {
        let headers = HttpHeaders { authorization: Some(authorization), ..HttpHeaders::default() };
        let check = CheckKind::Http(HttpCheck { headers, ..HttpCheck::get("/") });
        let result = testing::probe(address, check, LONG).await;
        let Err(FailureReason::Local(fault)) = result else { panic!("{words}: {result:?}") };
        assert!(fault.message.contains(words) && !fault.message.contains("hidden"), "{fault}");
    }
}
