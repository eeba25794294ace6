//! A relay for tests.

use std::sync::Arc;

use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use rustls::{
    ServerConfig,
    crypto::ring,
    pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer},
};
use tokio::{
    io::{AsyncBufReadExt as _, AsyncRead, AsyncWrite, AsyncWriteExt as _, BufStream},
    net::TcpListener,
    task::JoinHandle,
};
use tokio_rustls::TlsAcceptor;

/// The relay's answers to lines with these beginnings; to all others `250 ok`.
pub(super) type Script = &'static [(&'static str, &'static str)];

/// A relay that accepts so many connections, and returns all lines that it has received.
pub(super) async fn relay(script: Script, connections: usize) -> (String, JoinHandle<Vec<String>>) {
    serve_all(Relay { script, certificate: None, is_direct: false }, connections).await
}

/// The same with a certificate, for one connection. Lines received encrypted begin with `🔒`.
pub(super) async fn tls_relay(
    script: Script,
    certificate: &Certificate,
    is_direct: bool,
) -> (String, JoinHandle<Vec<String>>) {
    let certificate = Some(certificate.acceptor.clone());
    serve_all(Relay { script, certificate, is_direct }, 1).await
}

/// A certificate for 127.0.0.1 and the authority that it is from.
pub(super) struct Certificate {
    pub(super) authority: String,
    acceptor: TlsAcceptor,
}

impl Certificate {
    pub(super) fn new() -> Self {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(Vec::<String>::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let authority = params.self_signed(&key).unwrap().pem();
        let issuer = Issuer::new(params, key);
        let key = KeyPair::generate().unwrap();
        let params =
            CertificateParams::new(vec!["127.0.0.1".to_owned(), "mail.example.org".to_owned()]).unwrap();
        let certificate = params.signed_by(&key, &issuer).unwrap();
        let key = PrivateKeyDer::from(PrivatePkcs8KeyDer::from(key.serialize_der()));
        let config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(vec![certificate.der().clone()], key)
            .unwrap();
        Self { authority, acceptor: TlsAcceptor::from(Arc::new(config)) }
    }
}

struct Relay {
    script: Script,
    certificate: Option<TlsAcceptor>,
    is_direct: bool,
}

async fn serve_all(relay: Relay, connections: usize) -> (String, JoinHandle<Vec<String>>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let serving = tokio::spawn(async move {
        let mut received = Vec::new();
        for _ in 0..connections {
            let (stream, _) = listener.accept().await.unwrap();
            match &relay.certificate {
                Some(acceptor) if relay.is_direct => {
                    if let Ok(stream) = acceptor.accept(stream).await {
                        let stream = greeted(stream).await;
                        relay.serve(stream, "🔒", &mut received).await;
                    }
                }
                _ => {
                    let stream = greeted(stream).await;
                    relay.serve_plain(stream, &mut received).await;
                }
            }
        }
        received
    });
    (address, serving)
}

async fn greeted<S: AsyncRead + AsyncWrite + Unpin>(stream: S) -> BufStream<S> {
    let mut stream = BufStream::new(stream);
    stream.write_all(b"220-relay\r\n220 ready\r\n").await.unwrap();
    stream.flush().await.unwrap();
    stream
}

impl Relay {
    async fn serve_plain<S: AsyncRead + AsyncWrite + Unpin>(
        &self,
        stream: BufStream<S>,
        received: &mut Vec<String>,
    ) {
        let stream = self.serve(stream, "", received).await;
        if let (Some(acceptor), true) =
            (&self.certificate, received.last().is_some_and(|line| line == "STARTTLS"))
            && let Ok(stream) = acceptor.accept(stream.into_inner()).await
        {
            self.serve(BufStream::new(stream), "🔒", received).await;
        }
    }

    /// Serves until the client disconnects or starts encryption.
    async fn serve<S: AsyncRead + AsyncWrite + Unpin>(
        &self,
        mut stream: BufStream<S>,
        mark: &str,
        received: &mut Vec<String>,
    ) -> BufStream<S> {
        let (mut line, mut in_data) = (String::new(), false);
        // A client that doesn't trust the certificate disconnects without QUIT.
        while stream.read_line(&mut line).await.is_ok_and(|length| length > 0) {
            let text = std::mem::take(&mut line);
            assert!(text.ends_with("\r\n"), "{text:?}");
            let text = text.trim_end_matches("\r\n").to_owned();
            received.push(format!("{mark}{text}"));
            if in_data && text != "." {
                continue;
            }
            in_data = text == "DATA";
            let scripted =
                self.script.iter().find(|(start, _)| text.starts_with(start)).map(|(_, answer)| *answer);
            let answer = scripted.unwrap_or(if in_data { "354 go on" } else { "250-a\r\n250 ok" });
            stream.write_all(format!("{answer}\r\n").as_bytes()).await.unwrap();
            stream.flush().await.unwrap();
            if text == "STARTTLS" && self.certificate.is_some() {
                break;
            }
        }
        stream
    }
}
