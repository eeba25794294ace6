//! Which certificates are accepted.

use std::{io, path::Path, sync::Arc};

use rustls::{
    CertificateError, DigitallySignedStruct, Error, RootCertStore, SignatureScheme,
    client::{
        WebPkiServerVerifier,
        danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
    },
    crypto::{CryptoProvider, verify_tls12_signature, verify_tls13_signature},
    pki_types::{CertificateDer, ServerName, UnixTime},
};

use super::{certificates, pinned::Pinned};

/// Accepts every certificate and every key: X.509 of any version, short keys, SHA-1, expired, for another name. Nor is
/// it verified that the server has the key: whoever the server is, nothing that it says is proven without a certificate
/// that is verified, and to ask for a readable one would only refuse servers that clients take.
#[derive(Debug)]
pub(super) struct Anyone;

/// What a server may sign with, old methods included: a server of TLS 1.2 chooses among them.
const ANY_SCHEME: [SignatureScheme; 13] = [
    SignatureScheme::ECDSA_NISTP256_SHA256,
    SignatureScheme::ECDSA_NISTP384_SHA384,
    SignatureScheme::ECDSA_NISTP521_SHA512,
    SignatureScheme::ED25519,
    SignatureScheme::ED448,
    SignatureScheme::RSA_PSS_SHA256,
    SignatureScheme::RSA_PSS_SHA384,
    SignatureScheme::RSA_PSS_SHA512,
    SignatureScheme::RSA_PKCS1_SHA256,
    SignatureScheme::RSA_PKCS1_SHA384,
    SignatureScheme::RSA_PKCS1_SHA512,
    SignatureScheme::ECDSA_SHA1_Legacy,
    SignatureScheme::RSA_PKCS1_SHA1,
];

impl ServerCertVerifier for Anyone {
    fn verify_server_cert(
        &self,
        _certificate: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _name: &ServerName<'_>,
        _ocsp: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _message: &[u8],
        _certificate: &CertificateDer<'_>,
        _signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn verify_tls13_signature(
        &self,
        _message: &[u8],
        _certificate: &CertificateDer<'_>,
        _signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        ANY_SCHEME.to_vec()
    }
}

/// Accepts certificates from the authorities in a file, and the very certificates in it.
#[derive(Debug)]
pub(super) struct FromFile {
    /// What is in the file.
    pinned: Vec<CertificateDer<'static>>,
    /// `None`: none of them can be an authority.
    authorities: Option<Arc<WebPkiServerVerifier>>,
    provider: Arc<CryptoProvider>,
}

impl FromFile {
    /// Reads the file.
    pub(super) fn new(path: &Path, provider: Arc<CryptoProvider>) -> io::Result<Self> {
        let pinned = certificates(path)?;
        let mut roots = RootCertStore::empty();
        roots.add_parsable_certificates(pinned.iter().cloned());
        let authorities = if roots.is_empty() {
            None
        } else {
            let builder = WebPkiServerVerifier::builder_with_provider(roots.into(), provider.clone());
            Some(builder.build().map_err(io::Error::other)?)
        };
        Ok(Self { pinned, authorities, provider })
    }
}

impl FromFile {
    /// What is read of a certificate that is in the file itself; `None`: it isn't.
    fn pinned<'a>(&self, certificate: &'a CertificateDer<'_>) -> Option<Result<Pinned<'a>, Error>> {
        self.pinned.contains(certificate).then(|| Pinned::read(certificate))
    }
}

impl ServerCertVerifier for FromFile {
    /// A certificate that is in the file is the server's own, pinned: it may be an authority as well, and for any name.
    /// Only its dates must be right.
    fn verify_server_cert(
        &self,
        certificate: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        name: &ServerName<'_>,
        ocsp: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        match (self.pinned(certificate), &self.authorities) {
            (Some(pinned), _) => pinned?.verify_dates(now),
            (None, Some(authorities)) => {
                authorities.verify_server_cert(certificate, intermediates, name, ocsp, now)
            }
            (None, None) => Err(CertificateError::UnknownIssuer.into()),
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        match self.pinned(certificate) {
            Some(pinned) => pinned?.verify_tls12(message, signature, algorithms),
            None => verify_tls12_signature(message, certificate, signature, algorithms),
        }
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        match self.pinned(certificate) {
            Some(pinned) => pinned?.verify_tls13(message, signature, algorithms),
            None => verify_tls13_signature(message, certificate, signature, algorithms),
        }
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}
