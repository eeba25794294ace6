//! Values that several questions share.

use std::{
    fmt,
    hash::{Hash, Hasher},
    path::PathBuf,
};

use regex::bytes::{Regex, RegexBuilder};
use thiserror::Error;

/// The most memory that a compiled pattern may take.
const MAX_PATTERN_BYTES: usize = 1 << 20;

/// A regular expression over bytes. Two are equal if they are written alike.
#[derive(Clone, Debug)]
pub struct Pattern(Regex);

/// A regular expression that can't be used.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("{0}")]
pub struct PatternError(String);

impl Pattern {
    /// Compiles `source`. `^` and `$` stand for the ends of the whole text unless it begins with `(?m)`.
    pub fn new(source: &str) -> Result<Self, PatternError> {
        RegexBuilder::new(source)
            .size_limit(MAX_PATTERN_BYTES)
            .dfa_size_limit(MAX_PATTERN_BYTES)
            .build()
            .map(Self)
            .map_err(|error| PatternError(last_line(&error.to_string())))
    }

    /// Whether it is somewhere in `text`.
    #[must_use]
    pub fn is_in(&self, text: &[u8]) -> bool {
        self.0.is_match(text)
    }

    /// The expression as it was written.
    #[must_use]
    pub fn source(&self) -> &str {
        self.0.as_str()
    }
}

/// The library draws the expression and marks the place; its last line says what is wrong.
fn last_line(message: &str) -> String {
    let line = message.lines().last().unwrap_or_default();
    line.strip_prefix("error: ").unwrap_or(line).to_owned()
}

impl PartialEq for Pattern {
    fn eq(&self, other: &Self) -> bool {
        self.source() == other.source()
    }
}

impl Eq for Pattern {}

impl Hash for Pattern {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.source().hash(state);
    }
}

/// A password or shared secret, which is never shown.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct Secret(String);

impl Secret {
    /// Keeps `text`.
    #[must_use]
    pub fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    /// The secret itself, for sending it.
    #[must_use]
    pub fn reveal(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("(secret)")
    }
}

/// Who logs in.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Login {
    /// The user's name.
    pub user: String,
    /// The password.
    pub password: Secret,
}

/// How the connection is encrypted.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Tls {
    /// When encryption begins.
    pub start: TlsStart,
    /// The name that is sent (SNI) and verified; `None`: that of the host that is asked for, or no name.
    pub name: Option<String>,
    /// What the certificate must be like.
    pub verify: TlsVerify,
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
