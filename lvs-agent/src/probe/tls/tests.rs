use std::{fs, net::SocketAddr, sync::Arc, time::Duration};

use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use rustls::{
    ServerConfig,
    pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer},
};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio_rustls::TlsAcceptor;

use super::*;
use crate::{
    model::{CheckKind, GreetingCheck, GreetingProtocol, Pattern, TcpCheck, TlsStart},
    probe::testing::{self, LONG, SHORT, Script, closed_port, scripted, server, silent_port},
};

/// An authority, and a certificate from it.
struct Authority {
    pem: String,
    issuer: Issuer<'static, KeyPair>,
}

impl Authority {
    fn new() -> Self {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(Vec::<String>::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let pem = params.self_signed(&key).unwrap().pem();
        Self { pem, issuer: Issuer::new(params, key) }
    }

    /// A server with a certificate for `name` that is valid or has been, and which greets whoever comes.
    async fn server(&self, name: &str, is_valid: bool) -> SocketAddr {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(vec![name.to_owned()]).unwrap();
        if !is_valid {
            params.not_after = rcgen::date_time_ymd(2001, 1, 1);
        }
        let certificate = params.signed_by(&key, &self.issuer).unwrap();
        let key = PrivateKeyDer::from(PrivatePkcs8KeyDer::from(key.serialize_der()));
        let config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(vec![certificate.der().clone()], key)
            .unwrap();
        let acceptor = TlsAcceptor::from(Arc::new(config));
        server(move |stream| {
            let acceptor = acceptor.clone();
            async move {
                if let Ok(mut stream) = acceptor.accept(stream).await {
                    stream.write_all(b"* OK hello\r\n").await.unwrap_or_default();
                    stream.read_u8().await.unwrap_or_default();
                }
            }
        })
        .await
    }
}

fn check(name: Option<&str>, verify: TlsVerify) -> CheckKind {
    let name = name.map(str::to_owned);
    let tls = Tls { start: TlsStart::Direct, name, verify, identity: None };
    let expect = Some(Pattern::new("hello").unwrap());
    CheckKind::Tcp(TcpCheck { send: vec![], expect, tls: Some(tls) })
}

#[tokio::test]
async fn certificates_are_verified_only_on_request() {
    let (ours, other) = (Authority::new(), Authority::new());
    let directory = tempfile::tempdir().unwrap();
    let file = |name: &str, text: &str| {
        let path = directory.path().join(name);
        fs::write(&path, text).unwrap();
        TlsVerify::File(path)
    };
    let trusts_ours = file("ours.pem", &ours.pem);
    let trusts_both = file("both.pem", &(other.pem + &ours.pem));
    let good = ours.server("www.example.org", true).await;
    let expired = ours.server("www.example.org", false).await;
    let foreign = Authority::new().server("www.example.org", true).await;
    let name = Some("www.example.org");
    for address in [good, expired, foreign] {
        for name in [None, name, Some("other.example.org")] {
            assert_eq!(testing::probe(address, check(name, TlsVerify::No), LONG).await, Ok(()));
        }
    }
    for verify in [&trusts_ours, &trusts_both] {
        assert_eq!(testing::probe(good, check(name, verify.clone()), LONG).await, Ok(()));
    }
    let cases = [
        (expired, name, &trusts_ours, "xpired"),
        (foreign, name, &trusts_ours, "invalid peer certificate"),
        (good, Some("other.example.org"), &trusts_ours, "not valid for name"),
        (good, None, &trusts_ours, "not valid for name"),
        (good, name, &TlsVerify::System, "invalid peer certificate"),
    ];
    for (address, name, verify, words) in cases {
        let result = testing::probe(address, check(name, verify.clone()), LONG).await;
        match result {
            Err(FailureReason::Certificate(problem)) => {
                assert!(problem.contains(words), "{words}: {problem}");
            }
            // Where the system trusts nobody at all.
            Err(FailureReason::Local(_)) if *verify == TlsVerify::System => {}
            other => panic!("{words}: {other:?}"),
        }
    }
}

#[tokio::test]
async fn a_director_without_the_authority_blames_no_server() {
    let address = Authority::new().server("www.example.org", true).await;
    let directory = tempfile::tempdir().unwrap();
    fs::write(directory.path().join("empty"), "no certificate").unwrap();
    for name in ["empty", "none"] {
        let verify = TlsVerify::File(directory.path().join(name));
        let result = testing::probe(address, check(Some("a.example"), verify), LONG).await;
        let Err(FailureReason::Local(fault)) = result else { panic!("{result:?}") };
        assert!(fault.message.contains(name), "{fault}");
    }
}

#[tokio::test]
async fn failures_of_the_handshake_have_their_reason() {
    let tls = || check(None, TlsVerify::No);
    let timed_out = |phase| Err(FailureReason::TimedOut { phase });
    assert_eq!(testing::probe(closed_port(), tls(), LONG).await, Err(FailureReason::Refused));
    let silent = silent_port().await;
    assert_eq!(testing::probe(silent.address, tls(), SHORT).await, timed_out(Phase::Connect));
    assert_eq!(
        testing::probe_silent(scripted(vec![]).await, &tls(), Phase::Tls).await,
        timed_out(Phase::Tls)
    );
    // The head of a record of 16 KiB, and then its bytes one by one.
    let head = Script::send([0x16, 3, 3, 0x40, 0]);
    let drip = scripted(vec![head, Script::Flood("\u{2}", Duration::from_millis(2))]).await;
    assert_eq!(testing::probe_silent(drip, &tls(), Phase::Tls).await, timed_out(Phase::Tls));
    let plain = scripted(vec![Script::send("220 no TLS here\r\n")]).await;
    let result = testing::probe(plain, tls(), LONG).await;
    assert!(matches!(&result, Err(FailureReason::Protocol(text)) if text.starts_with("TLS: ")), "{result:?}");
    let closing = scripted(vec![Script::Close]).await;
    let result = testing::probe(closing, tls(), LONG).await;
    assert!(
        matches!(result, Err(FailureReason::Closed { phase: Phase::Tls } | FailureReason::Reset)),
        "{result:?}"
    );
    // A server that refuses to encrypt, and one whose encryption never comes.
    let starttls = |tls| {
        CheckKind::Greeting(GreetingCheck { protocol: GreetingProtocol::Imap, tls, login: None, helo: None })
    };
    let tls = || Some(testing::any_tls(TlsStart::StartTls));
    let refusing = scripted(vec![Script::send("* OK a\r\n"), Script::Line, Script::send("a NO\r\n")]).await;
    let wrong = Err(FailureReason::wrong_answer("a NO", "OK to STARTTLS"));
    assert_eq!(testing::probe(refusing, starttls(tls()), LONG).await, wrong);
    let hung = scripted(vec![Script::send("* OK a\r\n"), Script::Line, Script::send("a OK\r\n")]).await;
    assert_eq!(testing::probe_silent(hung, &starttls(tls()), Phase::Tls).await, timed_out(Phase::Tls));
}
