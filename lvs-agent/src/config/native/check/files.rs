//! Files that checks need: what is wrong with one now is a warning at its place. It may be right when it is needed.

use std::{
    fs::OpenOptions,
    io::{self, Read as _},
    os::unix::fs::OpenOptionsExt as _,
    path::Path,
};

use rustls::pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject as _};
use zeroize::Zeroizing;

/// The most of a file that is looked at; certificates of a long chain take some 10 kB.
const MOST: u64 = 1 << 20;

/// What is wrong with a file now, where `check` looks at its content.
pub(super) fn problem(path: &Path, check: impl FnOnce(&[u8]) -> Result<(), &'static str>) -> Option<String> {
    match content(path) {
        Ok(content) => check(&content).err().map(str::to_owned),
        Err(error) => Some(error.to_string()),
    }
}

/// The first line of a file with a secret, which must not be empty.
pub(super) fn first_line(path: &Path) -> Result<Zeroizing<String>, &'static str> {
    let content = Zeroizing::new(content(path).map_err(|error| match error.kind() {
        io::ErrorKind::NotFound => {
            "is to have the secret, but there is no such file; make it, for this user alone"
        }
        io::ErrorKind::PermissionDenied => "is to have the secret, but can't be read by this user",
        _ => "is to have the secret, but can't be read",
    })?);
    let text = str::from_utf8(&content).map_err(|_| "is to have the secret, but is not UTF-8")?;
    match text.lines().next() {
        None | Some("") => Err("is to have the secret, but there is none in its first line"),
        Some(line) => Ok(Zeroizing::new(line.to_owned())),
    }
}

/// The beginning of a file, without waiting for a writer, should it be a pipe.
fn content(path: &Path) -> io::Result<Vec<u8>> {
    let flags = nix::fcntl::OFlag::O_NONBLOCK.bits();
    let file = OpenOptions::new().read(true).custom_flags(flags).open(path)?;
    let mut content = Vec::new();
    file.take(MOST).read_to_end(&mut content)?;
    Ok(content)
}

/// Whether there is a certificate in it.
pub(super) fn has_certificate(pem: &[u8]) -> Result<(), &'static str> {
    let first = CertificateDer::pem_slice_iter(pem).next();
    first.and_then(Result::ok).map(drop).ok_or("there is no certificate in PEM format in it")
}

/// Whether there is a private key in it.
pub(super) fn has_private_key(pem: &[u8]) -> Result<(), &'static str> {
    PrivateKeyDer::from_pem_slice(pem).map(drop).map_err(|_| "there is no private key in PEM format in it")
}
