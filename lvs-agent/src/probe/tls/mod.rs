//! TLS on top of a connection. The certificate's chain and name are only verified on request, as a check is about
//! whether the service answers; that the server has the certificate's key is always verified.

mod identity;
#[cfg(test)]
mod tests;

use std::{
    collections::HashMap,
    io,
    net::IpAddr,
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
};

use rustls::{
    ClientConfig, DigitallySignedStruct, ProtocolVersion, RootCertStore, SignatureScheme,
    client::{
        Resumption,
        danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
    },
    crypto::{CryptoProvider, ring, verify_tls12_signature, verify_tls13_signature},
    pki_types::{CertificateDer, ServerName, UnixTime, pem::PemObject},
};
use tokio::{io::AsyncRead, io::AsyncWrite};
use tokio_rustls::{TlsConnector, client::TlsStream};

use self::identity::{Identities, Shown};
use super::{FailureReason, LocalFault, Phase};
use crate::model::{Tls, TlsVerify};

/// Where Debian and most others keep the authorities that the system trusts.
pub(crate) const SYSTEM: &str = "/etc/ssl/certs/ca-certificates.crt";

/// The TLS library's configurations, made when they are first needed. Clones share them.
#[derive(Clone, Debug, Default)]
pub(super) struct TlsClients(Arc<Mutex<HashMap<TlsVerify, Arc<ClientConfig>>>>, Identities);

impl TlsClients {
    /// Encrypts a connection to `ip`, where `host` is the name that the check itself has for the server. Also gives
    /// whether the server may still refuse the certificate that it has asked for, or that there is none.
    pub(super) async fn handshake<S: AsyncRead + AsyncWrite + Unpin>(
        &self,
        stream: S,
        tls: &Tls,
        host: Option<&str>,
        ip: IpAddr,
    ) -> Result<(TlsStream<S>, bool), FailureReason> {
        let name = server_name(tls.name.as_deref().or(host), ip)?;
        let key = match &tls.identity {
            Some(identity) => Some(self.1.get(identity).await?),
            None => None,
        };
        let shown = Arc::new(Shown { key, was_asked: AtomicBool::new(false) });
        let mut config = ClientConfig::clone(&*self.config(&tls.verify)?);
        config.client_auth_cert_resolver = shown.clone();
        let connected = TlsConnector::from(Arc::new(config)).connect(name, stream).await;
        let stream =
            connected.map_err(|error| FailureReason::from_io(&error, "encrypt a connection", Phase::Tls))?;
        let is_early = stream.get_ref().1.protocol_version() == Some(ProtocolVersion::TLSv1_3);
        Ok((stream, is_early && shown.was_asked.load(Ordering::Relaxed)))
    }

    fn config(&self, verify: &TlsVerify) -> Result<Arc<ClientConfig>, LocalFault> {
        // The map is whole even after a panic: entries are inserted in one step.
        let mut configs = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(config) = configs.get(verify) {
            return Ok(config.clone());
        }
        let config = Arc::new(make(verify).map_err(|error| LocalFault::new("set up TLS", &error))?);
        configs.insert(verify.clone(), config.clone());
        Ok(config)
    }
}

/// The name that is sent and verified. An address is never sent (RFC 6066, 3).
fn server_name(name: Option<&str>, ip: IpAddr) -> Result<ServerName<'static>, LocalFault> {
    let Some(name) = name else { return Ok(ServerName::from(ip)) };
    ServerName::try_from(name.to_owned()).map_err(|error| {
        LocalFault::new("use the name for TLS", &io::Error::new(io::ErrorKind::InvalidInput, error))
    })
}

/// A configuration. Sessions are not resumed: each check asks for the whole handshake.
fn make(verify: &TlsVerify) -> io::Result<ClientConfig> {
    let provider = Arc::new(ring::default_provider());
    let builder = ClientConfig::builder_with_provider(provider.clone())
        .with_safe_default_protocol_versions()
        .map_err(io::Error::other)?;
    let mut config = match verify {
        TlsVerify::No => builder
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(Anyone(provider)))
            .with_no_client_auth(),
        TlsVerify::System => builder.with_root_certificates(roots(Path::new(SYSTEM))?).with_no_client_auth(),
        TlsVerify::File(path) => builder.with_root_certificates(roots(path)?).with_no_client_auth(),
    };
    config.resumption = Resumption::disabled();
    Ok(config)
}

fn roots(path: &Path) -> io::Result<RootCertStore> {
    let mut store = RootCertStore::empty();
    store.add_parsable_certificates(authorities(path)?);
    Ok(store)
}

/// The authorities in a file of PEM blocks. Those that the library can't use are left out, as others may do.
pub(crate) fn authorities(path: &Path) -> io::Result<Vec<CertificateDer<'static>>> {
    let named = |error: io::Error| io::Error::new(error.kind(), format!("{}: {error}", path.display()));
    let certificates =
        CertificateDer::pem_file_iter(PathBuf::from(path)).map_err(io::Error::other).map_err(named)?;
    let is_usable = |one: &CertificateDer<'static>| RootCertStore::empty().add(one.clone()).is_ok();
    let usable: Vec<_> = certificates.filter_map(Result::ok).filter(is_usable).collect();
    if usable.is_empty() {
        return Err(named(io::Error::new(io::ErrorKind::InvalidData, "no certificate that could be used")));
    }
    Ok(usable)
}

/// Accepts every certificate, whoever it is from.
#[derive(Debug)]
struct Anyone(Arc<CryptoProvider>);

impl ServerCertVerifier for Anyone {
    fn verify_server_cert(
        &self,
        _certificate: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _name: &ServerName<'_>,
        _ocsp: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls12_signature(message, certificate, signature, &self.0.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(message, certificate, signature, &self.0.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}
