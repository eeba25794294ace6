//! What checks and commands need outside of the file that describes them.

use std::{fmt, net::IpAddr, ops::Range, path::PathBuf};

use super::Place;

/// What is needed on this director. Displayed as the key that names it, with its value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Prerequisite {
    /// A file that can be read.
    File {
        /// The key that asks for it.
        key: &'static str,
        /// The file's path.
        path: PathBuf,
        /// What must be in it.
        content: FileContent,
    },
    /// A program of a check.
    Program {
        /// The key or directive that names it.
        key: &'static str,
        /// Its path.
        path: PathBuf,
    },
    /// A program that is run for something else than a check.
    Command {
        /// The directive that names it.
        key: &'static str,
        /// Its path.
        path: PathBuf,
    },
    /// The configuration of another agent that is started with this one.
    OtherConfig(PathBuf),
    /// An address of this director's.
    Source(IpAddr),
    /// A network device.
    Device(String),
}

/// What must be in a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FileContent {
    /// A certificate, as PEM: of authorities, of the server itself, or the agent's own, whose key is in another file.
    Certificate,
    /// The agent's own certificate and its private key, as PEM.
    CertificateAndKey,
    /// A private key, as PEM.
    PrivateKey,
    /// A user and a password.
    BasicAuthorization,
    /// A token.
    BearerToken,
    /// A weight, or whatever is there when it is read: it is only to be readable.
    Any,
}

impl fmt::Display for Prerequisite {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File { key, path, .. } | Self::Program { key, path } | Self::Command { key, path } => {
                write!(f, "{key}: {}", path.display())
            }
            Self::OtherConfig(path) => write!(f, "execute: {}", path.display()),
            Self::Source(address) => write!(f, "source: {address}"),
            Self::Device(name) => write!(f, "device: {name}"),
        }
    }
}

impl Prerequisite {
    /// What can't be done without it.
    pub(in crate::config) fn effect(&self) -> &'static str {
        match self {
            Self::File { .. } | Self::Program { .. } | Self::Source(_) | Self::Device(_) => {
                "the check can't be made, and says nothing about its servers"
            }
            Self::Command { .. } => "nothing is run",
            Self::OtherConfig(_) => "no other agent runs for it",
        }
    }
}

/// A prerequisite, and where the file asks for it.
#[derive(Clone, Debug, PartialEq)]
pub struct Need {
    /// What is needed.
    pub prerequisite: Prerequisite,
    /// The value that names it.
    pub place: Place,
}

impl Need {
    /// What the value at the bytes `span` of `text` needs.
    pub(super) fn new(prerequisite: Prerequisite, text: &str, span: &Range<usize>) -> Self {
        Self { prerequisite, place: Place::new(text, span) }
    }
}
