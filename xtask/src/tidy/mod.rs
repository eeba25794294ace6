//! `cargo xtask tidy`: the habits of this code base that neither rustc nor clippy know.
//!
//! Each check is a function of the repository's texts, with its table beside it.

mod circles;
mod error_sources;
mod events;
mod length;
mod lines;
mod links;
mod metrics;
mod mixin;
mod modules;
mod orphans;
mod paths;
mod pure;
mod rooms;
mod source;
mod spawns;
mod tree;
mod unsafe_code;
mod words;

use std::fmt;
use std::path::Path;

use anyhow::Result;

use self::tree::{File, Tree};

/// All checks.
const CHECKS: &[fn(&Tree) -> Vec<Violation>] = &[
    orphans::check,
    rooms::check,
    circles::check,
    pure::check,
    unsafe_code::check,
    spawns::check,
    error_sources::check,
    events::check,
    metrics::check,
    mixin::check,
    lines::check,
    links::check,
    length::check,
    words::check,
];

/// Something that is not as it should be.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Violation {
    path: String,
    /// Counted from 1.
    line: usize,
    /// What is wrong, and what to do.
    message: String,
}

impl Violation {
    fn new(path: &str, line: usize, message: impl Into<String>) -> Self {
        Self { path: path.to_owned(), line, message: message.into() }
    }

    /// At a place in a file.
    fn at(file: &File, at: usize, message: impl Into<String>) -> Self {
        Self::new(&file.path, source::line(&file.text, at), message)
    }

    /// A table of this program names a path that isn't there.
    fn stale(table: &str, path: &str) -> Self {
        Self::new(
            table,
            1,
            format!("there is no {path}; change the table to where it is now, or take it out"),
        )
    }
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}: {}", self.path, self.line, self.message)
    }
}

/// Prints what is not as it should be in the repository at `root`; returns whether that is nothing.
pub(crate) fn tidy(root: &Path) -> Result<bool> {
    let tree = Tree::read(root)?;
    let mut violations: Vec<_> = CHECKS.iter().flat_map(|check| check(&tree)).collect();
    violations.sort();
    violations.dedup();
    for violation in &violations {
        println!("{violation}");
    }
    let files = tree.files.len();
    match violations.len() {
        0 => println!("tidy: {files} files, no violations"),
        1 => println!("tidy: {files} files, 1 violation"),
        many => println!("tidy: {files} files, {many} violations"),
    }
    Ok(violations.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What a check says of these files, a line each.
    pub(super) fn said(check: fn(&Tree) -> Vec<Violation>, files: &[(&str, &str)]) -> Vec<String> {
        check(&Tree::of(files)).iter().map(Violation::to_string).collect()
    }

    #[test]
    fn a_violation_names_its_place() {
        let violation = Violation::new("a.rs", 3, "b; do c");
        assert_eq!(violation.to_string(), "a.rs:3: b; do c");
    }
}
