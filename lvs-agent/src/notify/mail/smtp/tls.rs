//! The TLS parameters of a relay, for lettre.

use std::{io, path::Path};

use lettre::transport::smtp::client::{Certificate, CertificateStore, TlsParameters};

use crate::{
    model::{SYSTEM_AUTHORITIES, TlsVerify},
    probe::tls::authorities,
};

/// The relay must have a certificate for `name`, as far as `verify` demands.
pub(super) fn parameters(name: String, verify: &TlsVerify) -> io::Result<TlsParameters> {
    let mut builder = TlsParameters::builder(name).certificate_store(CertificateStore::None);
    let trusted = match verify {
        TlsVerify::No => {
            builder = builder.dangerous_accept_invalid_certs(true).dangerous_accept_invalid_hostnames(true);
            Vec::new()
        }
        TlsVerify::System => authorities(Path::new(SYSTEM_AUTHORITIES))?,
        TlsVerify::File(path) => authorities(path)?,
    };
    for authority in trusted {
        builder = builder
            .add_root_certificate(Certificate::from_der(authority.to_vec()).map_err(io::Error::other)?);
    }
    builder.build().map_err(io::Error::other)
}
