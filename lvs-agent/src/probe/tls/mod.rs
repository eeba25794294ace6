//! TLS on top of a connection. The certificate is only verified on request, as a check is about whether the service
//! answers, and not who it is.

mod identity;
mod pinned;
#[cfg(test)]
mod tests;
mod verifier;

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
    ClientConfig, ProtocolVersion, RootCertStore,
    client::Resumption,
    crypto::ring,
    pki_types::{
        CertificateDer, ServerName,
        pem::{self, PemObject},
    },
};
use tokio::{io::AsyncRead, io::AsyncWrite};
use tokio_rustls::{TlsConnector, client::TlsStream};

use self::{
    identity::{Identities, Shown},
    verifier::{Anyone, FromFile},
};
use super::{
    FailureReason, LocalFault, Phase,
    errno::{self, Call},
};
use crate::{
    file_work::on_file,
    model::{SYSTEM_AUTHORITIES, Tls, TlsVerify},
};

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
        // Where nothing is verified, a host that no certificate could be for is no name to send, either.
        let host = host.filter(|host| tls.verify != TlsVerify::No || ServerName::try_from(*host).is_ok());
        let name = server_name(tls.name.as_deref().or(host), ip)?;
        let key = match &tls.identity {
            Some(identity) => Some(self.1.get(identity).await?),
            None => None,
        };
        let shown = Arc::new(Shown { key, was_asked: AtomicBool::new(false) });
        let mut config = ClientConfig::clone(&*self.config(&tls.verify).await?);
        config.client_auth_cert_resolver = shown.clone();
        let connected = TlsConnector::from(Arc::new(config)).connect(name, stream).await;
        let failed = |error| errno::of(&error, (Call::Transfer, "encrypt a connection"), Phase::Tls);
        let stream = connected.map_err(failed)?;
        let is_early = stream.get_ref().1.protocol_version() == Some(ProtocolVersion::TLSv1_3);
        Ok((stream, is_early && shown.was_asked.load(Ordering::Relaxed)))
    }

    /// A disk that hangs holds up this check alone: its deadline ends the wait.
    async fn config(&self, verify: &TlsVerify) -> Result<Arc<ClientConfig>, LocalFault> {
        // The map is whole even after a panic: entries are inserted in one step.
        let known = self.0.lock().unwrap_or_else(PoisonError::into_inner).get(verify).cloned();
        if let Some(config) = known {
            return Ok(config);
        }
        let wanted = verify.clone();
        let made = match verify {
            TlsVerify::No => make(verify),
            TlsVerify::System => on_file(Path::new(SYSTEM_AUTHORITIES), move || make(&wanted)).await,
            TlsVerify::File(path) => on_file(path, move || make(&wanted)).await,
        };
        let config = Arc::new(made.map_err(|error| LocalFault::new("set up TLS", &error))?);
        self.0.lock().unwrap_or_else(PoisonError::into_inner).insert(verify.clone(), config.clone());
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
        TlsVerify::No => {
            builder.dangerous().with_custom_certificate_verifier(Arc::new(Anyone)).with_no_client_auth()
        }
        TlsVerify::System => {
            builder.with_root_certificates(roots(Path::new(SYSTEM_AUTHORITIES))?).with_no_client_auth()
        }
        TlsVerify::File(path) => builder
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(FromFile::new(path, provider)?))
            .with_no_client_auth(),
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
    let is_usable = |one: &CertificateDer<'static>| RootCertStore::empty().add(one.clone()).is_ok();
    some(path, certificates(path)?.into_iter().filter(is_usable).collect())
}

/// The certificates in a file of PEM blocks, whatever they are; at least one.
fn certificates(path: &Path) -> io::Result<Vec<CertificateDer<'static>>> {
    let certificates = CertificateDer::pem_file_iter(PathBuf::from(path)).map_err(|error| match error {
        pem::Error::Io(error) => named(path, &error),
        error => named(path, &io::Error::other(error)),
    })?;
    some(path, certificates.filter_map(Result::ok).collect())
}

/// Certificates from a file, unless there is none.
fn some(path: &Path, found: Vec<CertificateDer<'static>>) -> io::Result<Vec<CertificateDer<'static>>> {
    if found.is_empty() {
        let none = io::Error::new(io::ErrorKind::InvalidData, "no certificate that could be used");
        return Err(named(path, &none));
    }
    Ok(found)
}

fn named(path: &Path, error: &io::Error) -> io::Error {
    io::Error::new(error.kind(), format!("{}: {error}", path.display()))
}
