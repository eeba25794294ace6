//! The certificate that the agent itself shows, for servers that ask for one.

#[cfg(test)]
mod tests;

use std::{
    collections::HashMap,
    fs::{self, Metadata},
    io,
    os::unix::fs::MetadataExt as _,
    path::Path,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
};

use rustls::{
    Error, InconsistentKeys, SignatureScheme,
    client::ResolvesClientCert,
    crypto::ring,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject},
    sign::CertifiedKey,
};

use crate::{file_work::on_file, model::TlsIdentity, probe::LocalFault};

/// The certificates that have been read. Clones share them.
#[derive(Clone, Debug, Default)]
pub(super) struct Identities(Arc<Mutex<HashMap<TlsIdentity, Read>>>);

/// A certificate with its key, and the files as they were when it was read.
type Read = (Stamps, Arc<CertifiedKey>);

/// What tells that neither file of an identity has changed.
type Stamps = [Stamp; 2];

/// What tells that a file hasn't changed: device, inode, size, and the time of its last change.
type Stamp = (u64, u64, u64, i64, i64);

impl Identities {
    /// The certificate and its key. Both files are read again when one of them has changed, so that a renewed
    /// certificate is shown from the next check on.
    pub(super) async fn get(&self, identity: &TlsIdentity) -> Result<Arc<CertifiedKey>, LocalFault> {
        let (known, wanted) = (self.clone(), identity.clone());
        // A disk that hangs holds up this check alone: its deadline ends the wait.
        let read = on_file(&identity.certificate, move || known.read(&wanted)).await;
        read.map_err(|error| LocalFault::new("show its certificate", &error))
    }

    fn read(&self, identity: &TlsIdentity) -> io::Result<Arc<CertifiedKey>> {
        let stamps = [stamp(&identity.certificate)?, stamp(&identity.key)?];
        // The map is whole even after a panic: entries are inserted in one step.
        let known = || self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((of, key)) = known().get(identity)
            && *of == stamps
        {
            return Ok(key.clone());
        }
        let key = Arc::new(load(identity)?);
        known().insert(identity.clone(), (stamps, key.clone()));
        Ok(key)
    }
}

fn stamp(path: &Path) -> io::Result<Stamp> {
    let of = |metadata: Metadata| {
        (metadata.dev(), metadata.ino(), metadata.size(), metadata.ctime(), metadata.ctime_nsec())
    };
    fs::metadata(path).map(of).map_err(|error| named(path, error.kind(), &error))
}

/// The certificate, those that lead to its authority, and the key, from PEM files.
fn load(identity: &TlsIdentity) -> io::Result<CertifiedKey> {
    let TlsIdentity { certificate, key } = identity;
    let invalid =
        |path: &Path, problem: &dyn std::fmt::Display| named(path, io::ErrorKind::InvalidData, problem);
    let chain = CertificateDer::pem_file_iter(certificate).and_then(Iterator::collect::<Result<Vec<_>, _>>);
    let chain = chain.map_err(|error| invalid(certificate, &error))?;
    if chain.is_empty() {
        return Err(invalid(certificate, &"no certificate in it"));
    }
    let private = PrivateKeyDer::from_pem_file(key).map_err(|error| invalid(key, &error))?;
    let private = ring::sign::any_supported_type(&private).map_err(|error| invalid(key, &error))?;
    let whole = CertifiedKey::new(chain, private);
    match whole.keys_match() {
        Err(Error::InconsistentKeys(InconsistentKeys::KeyMismatch)) => {
            Err(invalid(key, &format!("not the key of the certificate in {}", certificate.display())))
        }
        // A certificate that the library can't take apart (X.509 v1) may be right for the server all the same.
        _ => Ok(whole),
    }
}

fn named(path: &Path, kind: io::ErrorKind, problem: &dyn std::fmt::Display) -> io::Error {
    io::Error::new(kind, format!("{}: {problem}", path.display()))
}

/// Shows the certificate to one server, and remembers whether it has asked for one.
#[derive(Debug)]
pub(super) struct Shown {
    pub(super) key: Option<Arc<CertifiedKey>>,
    pub(super) was_asked: AtomicBool,
}

impl ResolvesClientCert for Shown {
    fn resolve(&self, _authorities: &[&[u8]], _schemes: &[SignatureScheme]) -> Option<Arc<CertifiedKey>> {
        self.was_asked.store(true, Ordering::Relaxed);
        // Authorities that the server names are hints: whether the certificate will do is for the server to say.
        self.key.clone()
    }

    fn has_certs(&self) -> bool {
        true
    }
}
