//! Where a configuration came from, so that it can be read again.

use std::{
    hash::{DefaultHasher, Hash as _, Hasher as _},
    path::PathBuf,
};

use super::{Config, ConfigError, FileError, Mode, Reading, Strictness};

/// The file that a configuration is read from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Source {
    /// The file.
    pub path: PathBuf,
    /// How exact it must be.
    pub strictness: Strictness,
    /// What may be done to the kernel's table, whatever the file says; `None`: what it says.
    pub mode: Option<Mode>,
}

/// Tells one content of a file from another, within one process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fingerprint(u64);

impl Source {
    /// Reads and validates the file, whole.
    pub fn read(&self) -> Result<Reading, ConfigError> {
        self.read_with_fingerprint().1
    }

    /// The same, with what tells this content from another; none where the file can't be read at all.
    pub fn read_with_fingerprint(&self) -> (Option<Fingerprint>, Result<Reading, ConfigError>) {
        let bytes = match super::read_bytes(&self.path) {
            Ok(bytes) => bytes,
            Err(kind) => return (None, Err(FileError { path: self.path.clone(), kind }.into())),
        };
        let mut hasher = DefaultHasher::new();
        bytes.hash(&mut hasher);
        let reading = Config::read_bytes_in_mode(&bytes, &self.path, self.strictness, self.mode);
        (Some(Fingerprint(hasher.finish())), reading)
    }
}
