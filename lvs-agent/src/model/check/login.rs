//! Who logs in, and with what secret.

use std::{
    fmt,
    path::{Path, PathBuf},
};

use zeroize::Zeroize as _;

/// A password or shared secret, which is never shown. Its memory is overwritten in the end.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct Secret {
    text: String,
    /// The file that it was read from, if it doesn't stand in the configuration itself.
    file: Option<PathBuf>,
}

impl Secret {
    /// Keeps `text`.
    #[must_use]
    pub fn new(text: impl Into<String>) -> Self {
        Self { text: text.into(), file: None }
    }

    /// Keeps `text`, which is the first line of `file`.
    #[must_use]
    pub fn from_file(text: impl Into<String>, file: PathBuf) -> Self {
        Self { text: text.into(), file: Some(file) }
    }

    /// The secret itself, for sending it.
    #[must_use]
    pub fn reveal(&self) -> &str {
        &self.text
    }

    /// The file that it was read from.
    #[must_use]
    pub fn file(&self) -> Option<&Path> {
        self.file.as_deref()
    }

    /// Puts something in the place of a secret that stands in the configuration; whether there was one.
    pub(super) fn hide(&mut self) -> bool {
        /// It is no password anywhere, and still one that can be read again.
        const HIDDEN: &str = "(hidden)";
        let is_shown = self.file.is_none() && !self.text.is_empty();
        if is_shown {
            self.text.zeroize();
            self.text.push_str(HIDDEN);
        }
        is_shown
    }
}

impl Drop for Secret {
    fn drop(&mut self) {
        self.text.zeroize();
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
    /// The password; may be empty.
    pub password: Secret,
    /// Whether the password may be sent over a connection that isn't encrypted.
    pub unencrypted: bool,
}
