//! Files that checks need: what is wrong with one now is a warning at its place. It may be right when it is needed.

use std::{
    fs::OpenOptions,
    io::{self, Read as _},
    os::unix::fs::OpenOptionsExt as _,
    path::{Path, PathBuf},
};

use rustls::pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject as _};

use super::values;
use crate::{
    config::{
        diagnostics::{FaultList, WarningKind},
        native::section::Section,
    },
    model::{HttpAuthorization, TlsIdentity},
};

/// The most of a file that is looked at; certificates of a long chain take some 10 kB.
const MOST: u64 = 1 << 20;

/// The agent's own certificate: `tls-cert`, and `tls-key` where the key is in a file of its own.
pub(super) fn identity(section: &mut Section<'_>, faults: &mut FaultList) -> Option<TlsIdentity> {
    if section.has("tls-key") && !section.has("tls-cert") {
        section.missing("tls-cert", "tls-cert = \"/etc/lvs-agent/client.pem\" for the key", faults);
    }
    let certificate = file(section, "tls-cert", has_certificate, faults);
    let has_key = section.has("tls-key");
    let key = file(section, "tls-key", has_private_key, faults);
    let certificate = certificate?;
    let key = if has_key { key? } else { certificate.clone() };
    Some(TlsIdentity { certificate, key })
}

/// How an HTTP check proves who it is: `basic-auth-file` or `bearer-token-file`.
pub(super) fn authorization(section: &mut Section<'_>, faults: &mut FaultList) -> Option<HttpAuthorization> {
    let basic = file(section, "basic-auth-file", |text| HttpAuthorization::basic(text).map(drop), faults);
    let bearer = file(section, "bearer-token-file", |text| HttpAuthorization::bearer(text).map(drop), faults);
    basic.map(HttpAuthorization::Basic).or(bearer.map(HttpAuthorization::Bearer))
}

/// Takes the path of a file, whose content is as it should be or is a warning.
fn file(
    section: &mut Section<'_>,
    key: &'static str,
    check: impl FnOnce(&[u8]) -> Result<(), &'static str>,
    faults: &mut FaultList,
) -> Option<PathBuf> {
    let path = section.read(key, faults, values::path)?;
    let problem = match content(path.get_ref()) {
        Ok(content) => check(&content).err().map(str::to_owned),
        Err(error) => Some(error.to_string()),
    };
    if let Some(problem) = problem {
        let file = path.get_ref().clone();
        faults.warn(path.span(), WarningKind::UnusableFile { key, file, problem });
    }
    Some(path.into_inner())
}

/// The beginning of a file, without waiting for a writer, should it be a pipe.
fn content(path: &Path) -> io::Result<Vec<u8>> {
    let flags = nix::fcntl::OFlag::O_NONBLOCK.bits();
    let file = OpenOptions::new().read(true).custom_flags(flags).open(path)?;
    let mut content = Vec::new();
    file.take(MOST).read_to_end(&mut content)?;
    Ok(content)
}

fn has_certificate(pem: &[u8]) -> Result<(), &'static str> {
    let first = CertificateDer::pem_slice_iter(pem).next();
    first.and_then(Result::ok).map(drop).ok_or("there is no certificate in PEM format in it")
}

fn has_private_key(pem: &[u8]) -> Result<(), &'static str> {
    PrivateKeyDer::from_pem_slice(pem).map(drop).map_err(|_| "there is no private key in PEM format in it")
}
