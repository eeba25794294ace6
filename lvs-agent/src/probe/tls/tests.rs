use std::{fs, net::SocketAddr, sync::Arc, time::Duration};

use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use rustls::{
    ServerConfig, SupportedProtocolVersion,
    pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer},
    sign::{CertifiedKey, SingleCertAndKey},
    version,
};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio_rustls::TlsAcceptor;

use super::*;
use crate::{
    model::{Check, CheckKind, GreetingCheck, GreetingProtocol, Pattern, TcpCheck, TlsStart},
    probe::{
        Probe, ProbeTarget, Prober,
        testing::{self, LONG, SHORT, Script, closed_port, scripted, server, silent_port},
    },
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
        let (certificate, key) = self.issue(name, is_valid);
        greeting(vec![certificate], key, TLS).await
    }

    fn issue(&self, name: &str, is_valid: bool) -> (CertificateDer<'static>, KeyPair) {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(vec![name.to_owned()]).unwrap();
        if !is_valid {
            params.not_after = rcgen::date_time_ymd(2001, 1, 1);
        }
        let certificate = params.signed_by(&key, &self.issuer).unwrap();
        (certificate.der().clone(), key)
    }
}

/// All versions.
const TLS: &[&SupportedProtocolVersion] = &[&version::TLS12, &version::TLS13];

/// A server that has these certificates, whatever they are, signs with this key, and greets whoever comes.
async fn greeting(
    certificates: Vec<CertificateDer<'static>>,
    key: KeyPair,
    versions: &[&'static SupportedProtocolVersion],
) -> SocketAddr {
    let key = PrivateKeyDer::from(PrivatePkcs8KeyDer::from(key.serialize_der()));
    let key = ring::sign::any_supported_type(&key).unwrap();
    let certified = SingleCertAndKey::from(CertifiedKey::new(certificates, key));
    let config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_protocol_versions(versions)
        .unwrap()
        .with_no_client_auth()
        .with_cert_resolver(Arc::new(certified));
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
async fn without_a_name_the_certificate_must_be_for_the_address_that_is_asked() {
    let ours = Authority::new();
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("ours.pem");
    fs::write(&path, &ours.pem).unwrap();
    // The second is for the server's own address.
    for (name, is_good) in [("127.0.0.1", true), ("10.0.0.1", false)] {
        let asked = ours.server(name, true).await;
        let kind = check(None, TlsVerify::File(path.clone()));
        let (port, connect_to) = (Some(asked.port()), Some(asked.ip()));
        let check = Check { kind, port, connect_to, ..Check::default() };
        let target = ProbeTarget::of_check(([10, 0, 0, 1], 443).into(), &check);
        let outcome = Prober::new().probe(target, &check.kind, LONG).await;
        assert_eq!(outcome.is_ok(), is_good, "{name}: {outcome:?}");
    }
}

#[tokio::test]
async fn without_verification_any_certificate_and_key_will_do() {
    let authority = Authority::new();
    for versions in [&TLS[..1], &TLS[1..]] {
        // One that no library could read, and one of which the server has not the key.
        let unreadable = CertificateDer::from(b"no certificate".to_vec());
        let (foreign, _) = authority.issue("www.example.org", true);
        for certificate in [unreadable, foreign] {
            let address = greeting(vec![certificate.clone()], KeyPair::generate().unwrap(), versions).await;
            for name in [None, Some("www.example.org")] {
                assert_eq!(testing::probe(address, check(name, TlsVerify::No), LONG).await, Ok(()));
            }
            let directory = tempfile::tempdir().unwrap();
            let path = directory.path().join("ours.pem");
            fs::write(&path, &authority.pem).unwrap();
            let verified = check(Some("www.example.org"), TlsVerify::File(path));
            let result = testing::probe(address, verified, LONG).await;
            assert!(matches!(result, Err(FailureReason::Certificate(_))), "{result:?}");
        }
    }
}

/// A certificate of its own that may be an authority, as the tools of many appliances make it.
fn self_signed(
    is_authority: bool,
    change: impl FnOnce(&mut CertificateParams),
) -> (rcgen::Certificate, KeyPair) {
    let key = KeyPair::generate().unwrap();
    let mut params = CertificateParams::new(vec!["www.example.org".to_owned()]).unwrap();
    if is_authority {
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    }
    change(&mut params);
    let certificate = params.self_signed(&key).unwrap();
    (certificate, key)
}

#[tokio::test]
async fn the_servers_own_certificate_may_be_pinned() {
    let directory = tempfile::tempdir().unwrap();
    let pin = |certificate: &rcgen::Certificate| {
        let path = directory.path().join("pinned.pem");
        fs::write(&path, certificate.pem()).unwrap();
        TlsVerify::File(path)
    };
    let name = Some("www.example.org");
    for is_authority in [true, false] {
        let (own, key) = self_signed(is_authority, |_| {});
        let der = own.der().clone();
        let address = greeting(vec![der.clone()], key, TLS).await;
        for name in [name, Some("other.example.org"), None] {
            assert_eq!(testing::probe(address, check(name, pin(&own)), LONG).await, Ok(()), "{is_authority}");
        }
        // Another one that says the same of itself, and a thief of the certificate who hasn't the key.
        let (other, _) = self_signed(is_authority, |_| {});
        let thief = greeting(vec![der], KeyPair::generate().unwrap(), TLS).await;
        for (address, pinned) in [(address, &other), (thief, &own)] {
            let result = testing::probe(address, check(name, pin(pinned)), LONG).await;
            assert!(matches!(result, Err(FailureReason::Certificate(_))), "{result:?}");
        }
        // Its dates must be right.
        let expired = self_signed(is_authority, |params| params.not_after = rcgen::date_time_ymd(2001, 1, 1));
        let future = self_signed(is_authority, |params| {
            params.not_before = rcgen::date_time_ymd(2900, 1, 1);
            params.not_after = rcgen::date_time_ymd(2901, 1, 1);
        });
        for (own, key) in [expired, future] {
            let address = greeting(vec![own.der().clone()], key, TLS).await;
            let result = testing::probe(address, check(name, pin(&own)), LONG).await;
            assert!(matches!(result, Err(FailureReason::Certificate(_))), "{result:?}");
        }
    }
}

/// One element of DER, which has less than 64 KiB.
fn element(tag: u8, content: &[u8]) -> Vec<u8> {
    let [high, low] = u16::try_from(content.len()).unwrap().to_be_bytes();
    let length = match (high, low) {
        (0, 0..=0x7f) => vec![low],
        (0, _) => vec![0x81, low],
        _ => vec![0x82, high, low],
    };
    [&[tag], &length[..], content].concat()
}

/// The contents of the elements in DER, one after the other, each with its tag.
fn elements(mut bytes: &[u8]) -> Vec<(u8, &[u8])> {
    let mut elements = Vec::new();
    while let [tag, first, rest @ ..] = bytes {
        let (length, rest) = match usize::from(*first) {
            short @ ..0x80 => (short, rest),
            long => {
                let (digits, rest) = rest.split_at(long - 0x80);
                (digits.iter().fold(0, |length, digit| length << 8 | usize::from(*digit)), rest)
            }
        };
        let (content, rest) = rest.split_at(length);
        elements.push((*tag, content));
        bytes = rest;
    }
    elements
}

/// Fields of a certificate: their tags and contents.
type Fields = Vec<(u8, Vec<u8>)>;

/// The same certificate in another form: the fields of its body are changed. Its own signature is wrong then, which
/// doesn't matter to whoever has pinned it.
fn with_fields(certificate: &[u8], change: impl FnOnce(&mut Fields)) -> CertificateDer<'static> {
    let parts = elements(elements(certificate)[0].1);
    let mut fields = elements(parts[0].1).into_iter().map(|(tag, content)| (tag, content.to_vec())).collect();
    change(&mut fields);
    let body: Vec<u8> = fields.iter().flat_map(|(tag, content)| element(*tag, content)).collect();
    let rest = parts[1..].iter().flat_map(|(tag, content)| element(*tag, content));
    element(0x30, &element(0x30, &body).into_iter().chain(rest).collect::<Vec<u8>>()).into()
}

#[tokio::test]
async fn a_pinned_certificate_may_be_of_any_version_and_have_any_extension() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("pinned.pem");
    let pin = |certificate: &CertificateDer<'_>| {
        let text = base64::Engine::encode(&base64::prelude::BASE64_STANDARD, certificate);
        let text = format!("-----BEGIN CERTIFICATE-----\n{text}\n-----END CERTIFICATE-----\n");
        fs::write(&path, text).unwrap();
        TlsVerify::File(path.clone())
    };
    let first_version = |fields: &mut Fields| fields.retain(|(tag, _)| ![0xa0, 0xa3].contains(tag));
    // Critical, and of a kind that nobody knows: 1.3.6.1.5.
    let unknown =
        element(0x30, &[&element(6, &[0x2b, 6, 1, 5])[..], &[1, 1, 0xff], &element(4, b"x")].concat());
    let unknown_extension = |fields: &mut Fields| {
        fields.retain(|(tag, _)| *tag != 0xa3);
        fields.push((0xa3, element(0x30, &unknown)));
    };
    let changes: [&dyn Fn(&mut Fields); 2] = [&first_version, &unknown_extension];
    for versions in [&TLS[..1], &TLS[1..]] {
        for change in changes {
            let (own, key) = self_signed(false, |_| {});
            let own = with_fields(own.der(), change);
            let address = greeting(vec![own.clone()], key, versions).await;
            let name = Some("www.example.org");
            assert_eq!(testing::probe(address, check(name, pin(&own)), LONG).await, Ok(()));
            // A thief of the certificate, who hasn't the key; one that has expired; and another than the pinned one.
            let thief = greeting(vec![own.clone()], KeyPair::generate().unwrap(), versions).await;
            let result = testing::probe(thief, check(name, pin(&own)), LONG).await;
            assert!(matches!(result, Err(FailureReason::Certificate(_))), "{result:?}");
            let (old, key) = self_signed(false, |params| params.not_after = rcgen::date_time_ymd(2001, 1, 1));
            let old = with_fields(old.der(), change);
            let expired = greeting(vec![old.clone()], key, versions).await;
            for (pinned, words) in [(&old, "expired"), (&own, "invalid peer certificate")] {
                match testing::probe(expired, check(name, pin(pinned)), LONG).await {
                    Err(FailureReason::Certificate(problem)) => assert!(problem.contains(words), "{problem}"),
                    other => panic!("{words}: {other:?}"),
                }
            }
        }
    }
}

#[tokio::test]
async fn a_server_with_old_ciphers_or_versions_only_is_told_apart() {
    let alert = |description| Script::send([0x15, 3, 3, 0, 2, 2, description]);
    // A hello of TLS 1.0: version, random, no session, a suite with CBC, no compression.
    let hello = [&[0x16, 3, 1, 0, 42, 2, 0, 0, 38, 3, 1][..], &[7; 32], &[0, 0, 0x2f, 0]].concat();
    let cases = [
        (alert(40), "the server may offer only old cipher suites (RSA key exchange"),
        (alert(70), "the server speaks only TLS 1.1 or older"),
        (Script::send(hello), "the server speaks only TLS 1.1 or older"),
        (alert(112), "set tls-name"),
    ];
    for (answer, words) in cases {
        // The beginning of the client's hello, so that it isn't refused before it has come.
        let address = scripted(vec![Script::Bytes(50), answer]).await;
        let result = testing::probe(address, check(None, TlsVerify::No), LONG).await;
        assert!(
            matches!(&result, Err(FailureReason::Protocol(said)) if said.contains(words)),
            "{words}: {result:?}"
        );
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
