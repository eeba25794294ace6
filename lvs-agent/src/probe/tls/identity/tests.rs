use std::{fs, net::SocketAddr, path::PathBuf, time::Instant};

use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use rustls::{
    RootCertStore, ServerConfig, SupportedProtocolVersion,
    pki_types::PrivatePkcs8KeyDer,
    server::WebPkiClientVerifier,
    version::{TLS12, TLS13},
};
use tempfile::TempDir;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio_rustls::TlsAcceptor;

use super::*;
use crate::{
    model::{CheckKind, HttpCheck, TcpCheck, Tls, TlsStart},
    probe::{
        FailureReason, Probe as _, ProbeTarget, Prober,
        testing::{LONG, any_tls, server},
    },
};

/// An authority, and the files of certificates from it.
struct Authority {
    issuer: Issuer<'static, KeyPair>,
    certificate: CertificateDer<'static>,
}

/// A certificate and its key, as PEM.
struct Issued {
    certificate: String,
    key: String,
}

impl Authority {
    fn new() -> Self {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(Vec::<String>::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let certificate = params.self_signed(&key).unwrap().der().clone();
        Self { issuer: Issuer::new(params, key), certificate }
    }

    fn issue(&self) -> Issued {
        let key = KeyPair::generate().unwrap();
        let params = CertificateParams::new(vec!["client.example.org".to_owned()]).unwrap();
        let certificate = params.signed_by(&key, &self.issuer).unwrap();
        Issued { certificate: certificate.pem(), key: key.serialize_pem() }
    }

    /// A server that only talks to clients with a certificate from this authority.
    async fn server(&self, version: &'static SupportedProtocolVersion, tickets: usize) -> SocketAddr {
        let mut roots = RootCertStore::empty();
        roots.add(self.certificate.clone()).unwrap();
        let provider = Arc::new(ring::default_provider());
        let verifier =
            WebPkiClientVerifier::builder_with_provider(roots.into(), provider.clone()).build().unwrap();
        let key = KeyPair::generate().unwrap();
        let params = CertificateParams::new(vec!["a.example".to_owned()]).unwrap();
        let certificate = params.signed_by(&key, &self.issuer).unwrap();
        let mut config = ServerConfig::builder_with_provider(provider)
            .with_protocol_versions(&[version])
            .unwrap()
            .with_client_cert_verifier(verifier)
            .with_single_cert(
                vec![certificate.der().clone()],
                PrivatePkcs8KeyDer::from(key.serialize_der()).into(),
            )
            .unwrap();
        config.send_tls13_tickets = tickets;
        let acceptor = TlsAcceptor::from(Arc::new(config));
        server(move |stream| {
            let acceptor = acceptor.clone();
            async move {
                let Ok(mut stream) = acceptor.accept(stream).await else { return };
                let mut read = Vec::new();
                while !read.ends_with(b"\r\n\r\n")
                    && stream.read_buf(&mut read).await.is_ok_and(|length| length > 0)
                {}
                stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n").await.unwrap_or_default();
                stream.flush().await.unwrap_or_default();
                stream.read_u8().await.unwrap_or_default();
            }
        })
        .await
    }
}

/// Files with certificates and keys.
struct Files(TempDir);

impl Files {
    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn write(&self, name: &str, issued: &Issued) -> TlsIdentity {
        let (certificate, key) = (self.path(&format!("{name}.pem")), self.path(&format!("{name}.key")));
        fs::write(&certificate, &issued.certificate).unwrap();
        fs::write(&key, &issued.key).unwrap();
        TlsIdentity { certificate, key }
    }
}

fn files() -> Files {
    Files(tempfile::tempdir().unwrap())
}

fn tls(identity: Option<&TlsIdentity>) -> Tls {
    Tls { identity: identity.cloned(), ..any_tls(TlsStart::Direct) }
}

fn tcp(identity: Option<&TlsIdentity>) -> CheckKind {
    CheckKind::Tcp(TcpCheck { send: vec![], expect: None, tls: Some(tls(identity)) })
}

async fn probe(prober: &Prober, address: SocketAddr, kind: &CheckKind) -> Result<(), FailureReason> {
    let outcome = prober.probe(ProbeTarget::at(address), kind, LONG).await;
    outcome.map(drop).map_err(|failure| failure.reason)
}

/// Under TLS 1.3 the refusal comes after the handshake, and a check that reads nothing must wait for it.
#[tokio::test]
async fn a_server_that_demands_a_certificate_is_only_up_with_one() {
    let (ours, other, files, prober) = (Authority::new(), Authority::new(), files(), Prober::new());
    let (good, foreign) = (files.write("good", &ours.issue()), files.write("foreign", &other.issue()));
    for (version, tickets) in [(&TLS13, 2), (&TLS13, 0), (&TLS12, 0)] {
        let address = ours.server(version, tickets).await;
        let page = |identity: Option<&TlsIdentity>| {
            CheckKind::Http(HttpCheck { tls: Some(tls(identity)), ..HttpCheck::get("/") })
        };
        let sending = |identity: Option<&TlsIdentity>| {
            CheckKind::Tcp(TcpCheck { send: b"hello".to_vec(), expect: None, tls: Some(tls(identity)) })
        };
        let checks: [fn(Option<&TlsIdentity>) -> CheckKind; 3] = [tcp, page, sending];
        for check in checks {
            let case = format!("{version:?}, {tickets} tickets");
            assert_eq!(probe(&prober, address, &check(Some(&good))).await, Ok(()), "{case}");
            for identity in [None, Some(&foreign)] {
                let refused = probe(&prober, address, &check(identity)).await;
                let reason = refused.expect_err(&case);
                assert!(!matches!(reason, FailureReason::Local(_)), "{case}: {reason}");
            }
        }
    }
}

/// A server that says nothing after the handshake is waited for, but not long.
#[tokio::test]
async fn the_wait_for_a_refusal_is_bounded() {
    let (ours, files, prober) = (Authority::new(), files(), Prober::new());
    let address = ours.server(&TLS13, 0).await;
    let good = files.write("good", &ours.issue());
    let started = Instant::now();
    assert_eq!(probe(&prober, address, &tcp(Some(&good))).await, Ok(()));
    assert!(started.elapsed() < LONG / 2, "{:?}", started.elapsed());
}

#[tokio::test]
async fn a_renewed_certificate_is_shown_from_the_next_check_on() {
    let (ours, other, files, prober) = (Authority::new(), Authority::new(), files(), Prober::new());
    let address = ours.server(&TLS13, 2).await;
    let identity = files.write("client", &other.issue());
    assert!(probe(&prober, address, &tcp(Some(&identity))).await.is_err());
    // As programs that renew certificates do: beside it, and renamed.
    let new = files.write("new", &ours.issue());
    fs::rename(new.certificate, &identity.certificate).unwrap();
    fs::rename(new.key, &identity.key).unwrap();
    assert_eq!(probe(&prober, address, &tcp(Some(&identity))).await, Ok(()));
}

#[tokio::test]
async fn a_director_without_its_certificate_blames_no_server() {
    let (ours, files, prober) = (Authority::new(), files(), Prober::new());
    let address = ours.server(&TLS13, 2).await;
    let good = files.write("good", &ours.issue());
    let (missing, empty) = (files.path("missing"), files.path("empty"));
    fs::write(&empty, "").unwrap();
    let other_key = files.write("other", &ours.issue()).key;
    let cases = [
        (missing.clone(), good.key.clone(), "missing"),
        (good.certificate.clone(), missing, "missing"),
        (empty.clone(), good.key.clone(), "no certificate in it"),
        (good.certificate.clone(), empty, "empty"),
        (good.certificate, other_key, "not the key of the certificate"),
    ];
    for (certificate, key, words) in cases {
        let identity = TlsIdentity { certificate, key };
        let result = probe(&prober, address, &tcp(Some(&identity))).await;
        let Err(FailureReason::Local(fault)) = result else { panic!("{words}: {result:?}") };
        assert!(fault.message.contains(words), "{fault}");
    }
}
