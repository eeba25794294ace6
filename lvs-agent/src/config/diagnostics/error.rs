//! Why a configuration can't be used.

use std::{io, path::PathBuf};

use thiserror::Error;

use super::Faults;
use crate::model::NotManageable;

/// A configuration that can't be used. Nothing has been touched.
#[derive(Debug, Error)]
pub enum ConfigError {
    /// The file can't be read at all.
    #[error(transparent)]
    File(#[from] FileError),
    /// The file was read, and what it says is wrong.
    #[error(transparent)]
    Content(#[from] Faults),
    /// It doesn't go with the mode of the command line.
    #[error("--mode manage: {0}")]
    Mode(NotManageable),
}

impl From<NotManageable> for ConfigError {
    fn from(reason: NotManageable) -> Self {
        Self::Mode(reason)
    }
}

/// The file can't be read at all.
#[derive(Debug, Error)]
#[error("{}: {kind}", path.display())]
pub struct FileError {
    /// The path as it was given.
    pub path: PathBuf,
    /// What is wrong with it. Part of the message, so that it is not the error's source as well.
    pub kind: FileErrorKind,
}

/// Why a file can't be read.
#[derive(Debug, Error)]
pub enum FileErrorKind {
    /// There is none.
    #[error("there is no such file; create it, or name another one")]
    Missing,
    /// It is a directory.
    #[error("this is a directory; name the file in it")]
    Directory,
    /// It is larger than any configuration that makes sense.
    #[error("the file is larger than {limit} bytes; is it the right one?")]
    TooLarge {
        /// The most bytes that are read.
        limit: u64,
    },
    /// It holds bytes that are no text.
    #[error("line {line}, column {column}: byte {offset} is not UTF-8; save the file as UTF-8 text")]
    NotText {
        /// How many bytes before it are.
        offset: usize,
        /// Its line, from 1.
        line: usize,
        /// Its column in characters, from 1.
        column: usize,
    },
    /// It is a file of another program's, or none.
    #[error(
        "this looks like {looks_like}; the agent reads its own format (TOML, with [[service]]) and ldirectord's (with \
         virtual=…); name another file"
    )]
    OtherFormat {
        /// What the file looks like.
        looks_like: &'static str,
    },
    /// Anything else that the operating system has to say.
    #[error("can't be read: {0}")]
    Io(io::Error),
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::diagnostics::{Fault, FaultKind, KeyFault, Place};

    /// Whoever prints an error with its sources must not say the same twice.
    #[test]
    fn a_message_is_whole_and_its_source_adds_nothing() {
        let file = |kind| ConfigError::from(FileError { path: "/etc/lvs.toml".into(), kind });
        let key = KeyFault::Missing { key: "address", section: "[[service]]", example: "address = \"…\"" };
        let fault = Fault { kind: FaultKind::Key(key), place: Place::new("[[service]]", &(0..1)) };
        let faults = Faults { origin: "/etc/lvs.toml".into(), first: vec![fault], more: 0 };
        let errors = [
            file(FileErrorKind::Missing),
            file(FileErrorKind::Directory),
            file(FileErrorKind::TooLarge { limit: 1 }),
            file(FileErrorKind::NotText { offset: 0, line: 1, column: 1 }),
            file(FileErrorKind::OtherFormat { looks_like: "JSON" }),
            file(FileErrorKind::Io(io::Error::other("the disk is broken"))),
            faults.into(),
            NotManageable::NoServices.into(),
        ];
        for error in errors {
            let message = error.to_string();
            assert_eq!(format!("{:#}", anyhow::Error::from(error)), message);
        }
    }
}
