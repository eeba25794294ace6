//! How a connection is encrypted, and how the certificate is verified.

use std::path::PathBuf;

/// Where Debian and most others keep the authorities that the system trusts.
pub const SYSTEM_AUTHORITIES: &str = "/etc/ssl/certs/ca-certificates.crt";

/// How the connection is encrypted.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Tls {
    /// When encryption begins.
    pub start: TlsStart,
    /// The name that is sent (SNI) and verified; `None`: the host of the request, or no name.
    pub name: Option<String>,
    /// What the certificate must be like.
    pub verify: TlsVerify,
    /// What the agent shows to a server that asks who it is; `None`: nothing.
    pub identity: Option<TlsIdentity>,
}

/// The agent's own certificate, in PEM files.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct TlsIdentity {
    /// The file with the certificate, and after it those that lead to its authority.
    pub certificate: PathBuf,
    /// The file with its private key; may be the same one.
    pub key: PathBuf,
}

/// When encryption begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum TlsStart {
    /// Right after the connection is made.
    Direct,
    /// After the protocol's own command for it.
    StartTls,
}

/// What a certificate must be like.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub enum TlsVerify {
    /// Anything: the check asks whether the service answers, not who it is.
    #[default]
    No,
    /// Valid, for the name, and from an authority that the director's system trusts.
    System,
    /// The same, from an authority in this file (PEM).
    File(PathBuf),
}
