//! The repository's files, read once.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use anyhow::{Context, Result};

use super::source::Source;

/// The repository, as far as it is looked at.
#[derive(Debug, Default)]
pub(super) struct Tree {
    pub(super) files: Vec<File>,
    /// All files and directories, from the repository's root.
    pub(super) paths: BTreeSet<String>,
}

/// A file that is checked.
#[derive(Debug)]
pub(super) struct File {
    /// From the repository's root.
    pub(super) path: String,
    pub(super) text: String,
    pub(super) kind: Kind,
}

/// What is read; of all other files only the name is known.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Language {
    Rust,
    Markdown,
    Toml,
    /// Jsonnet and YAML of the mixin.
    Mixin,
}

/// What a file is written in.
#[derive(Debug)]
pub(super) enum Kind {
    Rust(Source),
    Markdown,
    Toml,
    /// Jsonnet and YAML of the mixin, but for what is made of it.
    Mixin,
}

impl Tree {
    /// Reads everything under `root` but `target` and what is hidden.
    pub(super) fn read(root: &Path) -> Result<Self> {
        let mut tree = Self::default();
        tree.read_directory(root, "")?;
        tree.files.sort_by(|one, other| one.path.cmp(&other.path));
        Ok(tree)
    }

    #[cfg(test)]
    pub(super) fn of(files: &[(&str, &str)]) -> Self {
        let mut tree = Self::default();
        for (path, text) in files {
            let directories = path.match_indices('/').map(|(at, _)| path[..at].to_owned());
            tree.paths.extend(directories.chain([(*path).to_owned()]));
            let language = Language::of(path).unwrap();
            tree.files.push(File::new((*path).to_owned(), (*text).to_owned(), language));
        }
        tree
    }

    fn read_directory(&mut self, directory: &Path, prefix: &str) -> Result<()> {
        let context = || format!("cannot read {}", directory.display());
        for entry in fs::read_dir(directory).with_context(context)? {
            let entry = entry.with_context(context)?;
            let name = entry.file_name().to_string_lossy().into_owned();
            if name == "target" || name.starts_with('.') {
                continue;
            }
            let path = format!("{prefix}{name}");
            if entry.file_type().with_context(context)?.is_dir() {
                self.read_directory(&entry.path(), &format!("{path}/"))?;
            } else if let Some(language) = Language::of(&path) {
                let text = fs::read_to_string(entry.path()).with_context(|| format!("cannot read {path}"))?;
                self.files.push(File::new(path.clone(), text, language));
            }
            self.paths.insert(path);
        }
        Ok(())
    }

    /// The Rust files that a path of a table means: itself, or all below it.
    pub(super) fn rust_under<'a>(&'a self, path: &str) -> impl Iterator<Item = (&'a File, &'a Source)> {
        self.files.iter().filter(move |file| is_under(&file.path, path)).filter_map(File::as_rust)
    }
}

impl Language {
    fn of(path: &str) -> Option<Self> {
        match Path::new(path).extension()?.to_str()? {
            "rs" => Some(Self::Rust),
            "md" => Some(Self::Markdown),
            "toml" => Some(Self::Toml),
            "libsonnet" | "jsonnet" => Some(Self::Mixin),
            "yaml" if is_under(path, "contrib/mixin/tests") => Some(Self::Mixin),
            _ => None,
        }
    }
}

impl File {
    fn new(path: String, text: String, language: Language) -> Self {
        let kind = match language {
            Language::Rust => Kind::Rust(Source::parse(&text)),
            Language::Markdown => Kind::Markdown,
            Language::Toml => Kind::Toml,
            Language::Mixin => Kind::Mixin,
        };
        Self { path, text, kind }
    }

    pub(super) fn rust(&self) -> Option<&Source> {
        match &self.kind {
            Kind::Rust(source) => Some(source),
            Kind::Markdown | Kind::Toml | Kind::Mixin => None,
        }
    }

    /// The file and what it is taken apart into, if it is Rust.
    pub(super) fn as_rust(&self) -> Option<(&Self, &Source)> {
        Some((self, self.rust()?))
    }

    /// Whether all of it is for tests, by its name.
    pub(super) fn is_test(&self) -> bool {
        self.path.ends_with("/tests.rs") || self.path.contains("/tests/")
    }
}

/// Whether `path` is `above`, or below it.
pub(super) fn is_under(path: &str, above: &str) -> bool {
    path.strip_prefix(above).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_is_under_itself_and_its_directories() {
        assert!(is_under("a/b/c.rs", "a/b/c.rs"));
        assert!(is_under("a/b/c.rs", "a/b"));
        assert!(!is_under("a/bc.rs", "a/b"));
    }
}
