//! Regular expressions.

use std::hash::{Hash, Hasher};

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
