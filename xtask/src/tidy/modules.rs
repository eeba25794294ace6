//! A crate's modules, a file each, and what they import from each other.

use std::collections::{BTreeMap, BTreeSet};

use super::paths::{Named, paths};
use super::source::line;
use super::tree::{File, Tree};

/// How many re-exports are followed: more than there are in a row anywhere.
const MAX_REEXPORTS: usize = 8;

/// A crate's modules outside of tests.
#[derive(Debug)]
pub(super) struct Modules<'a> {
    modules: BTreeMap<Vec<String>, Module<'a>>,
}

#[derive(Debug)]
struct Module<'a> {
    file: &'a File,
    named: Vec<Named>,
}

/// A module names something of another module.
#[derive(Debug, Clone)]
pub(super) struct Import<'a> {
    pub(super) file: &'a File,
    pub(super) line: usize,
    /// The module that imports.
    pub(super) from: Vec<String>,
    /// The path, from the crate's root.
    pub(super) path: Vec<String>,
}

impl<'a> Modules<'a> {
    /// The modules of the crate whose root is in `source`, such as `lvs-agent/src`.
    pub(super) fn of(tree: &'a Tree, source: &str) -> Self {
        let files: Vec<_> = tree
            .rust_under(source)
            .filter_map(|(file, rust)| Some((module(file.path.strip_prefix(source)?)?, file, rust)))
            .collect();
        let tests: BTreeSet<Vec<String>> = files
            .iter()
            .flat_map(|(path, _, rust)| {
                rust.test_modules().into_iter().map(|name| [path.as_slice(), &[name.to_owned()]].concat())
            })
            .collect();
        let is_test = |path: &[String]| (0..=path.len()).any(|length| tests.contains(&path[..length]));
        let modules = files
            .into_iter()
            .filter(|(path, ..)| !is_test(path))
            .map(|(path, file, rust)| (path, Module { file, named: paths(&rust.production) }))
            .collect();
        Self { modules }
    }

    /// All files, with their modules.
    pub(super) fn files(&self) -> impl Iterator<Item = (&[String], &'a File)> {
        self.modules.iter().map(|(path, module)| (path.as_slice(), module.file))
    }

    /// What is imported, by paths that begin at the crate's root.
    pub(super) fn imports(&self) -> Vec<Import<'a>> {
        let mut imports = Vec::new();
        for (from, module) in &self.modules {
            for named in &module.named {
                if let Some(path) = self.absolute(from, named) {
                    let line = line(&module.file.text, named.at);
                    imports.push(Import { file: module.file, line, from: from.clone(), path });
                }
            }
        }
        imports
    }

    /// The module in which something is defined, whatever re-exports it.
    pub(super) fn home(&self, path: &[String]) -> Vec<String> {
        self.home_within(path, MAX_REEXPORTS)
    }

    fn home_within(&self, path: &[String], reexports: usize) -> Vec<String> {
        let mut length = path.len();
        while length > 0 && !self.modules.contains_key(&path[..length]) {
            length -= 1;
        }
        let (home, rest) = path.split_at(length);
        let reexport = rest.first().and_then(|name| {
            let module = self.modules.get(home)?;
            let is_it = |named: &&Named| named.alias.as_ref() == Some(name) && named.inside.is_empty();
            self.absolute(home, module.named.iter().find(is_it)?)
        });
        match reexport {
            Some(elsewhere) if reexports > 0 && elsewhere != path => {
                let full = [elsewhere.as_slice(), rest.get(1..).unwrap_or_default()].concat();
                self.home_within(&full, reexports - 1)
            }
            _ => home.to_vec(),
        }
    }

    /// A path from the crate's root, unless it is another crate's or a type's.
    fn absolute(&self, from: &[String], named: &Named) -> Option<Vec<String>> {
        let mut module = [from, &named.inside].concat();
        let mut segments = named.segments.as_slice();
        while let Some((first, rest)) = segments.split_first() {
            match first.as_str() {
                "crate" => module.clear(),
                "self" => {}
                "super" => drop(module.pop()),
                child => {
                    let is_relative = segments.len() < named.segments.len()
                        || self.modules.contains_key(&[module.as_slice(), &[child.to_owned()]].concat());
                    return is_relative.then(|| [module.as_slice(), segments].concat());
                }
            }
            segments = rest;
        }
        Some(module)
    }
}

/// The module of a file below a crate's `src`; none for programs.
fn module(path: &str) -> Option<Vec<String>> {
    let mut segments: Vec<_> = path.strip_suffix(".rs")?.split('/').filter(|part| !part.is_empty()).collect();
    match *segments.as_slice() {
        ["main"] | ["bin", ..] => return None,
        ["lib"] | [.., "mod"] => drop(segments.pop()),
        _ => {}
    }
    Some(segments.into_iter().map(str::to_owned).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tree() -> Tree {
        Tree::of(&[
            ("c/src/lib.rs", "mod a; mod b;"),
            ("c/src/main.rs", "use c::a;"),
            ("c/src/a/mod.rs", "mod x; mod y; pub use self::x::X;\n#[cfg(test)] mod tests;"),
            ("c/src/a/x.rs", "use std::fmt;\nmod inner { use super::super::y::Y; }"),
            ("c/src/a/y.rs", "use super::X; use crate::{b::B};"),
            ("c/src/a/tests.rs", "use crate::b;"),
            ("c/src/b.rs", "pub use crate::a::X as Z; fn f() -> super::a::y::Y { Y::new() }"),
        ])
    }

    #[test]
    fn paths_begin_at_the_root() {
        let tree = tree();
        let modules = Modules::of(&tree, "c/src");
        let mut written: Vec<_> = modules
            .imports()
            .into_iter()
            .map(|import| format!("{}:{} {}", import.file.path, import.line, import.path.join("::")))
            .collect();
        written.sort();
        assert_eq!(
            written,
            [
                "c/src/a/mod.rs:1 a::x::X",
                "c/src/a/x.rs:2 a::y::Y",
                "c/src/a/y.rs:1 a::X",
                "c/src/a/y.rs:1 b::B",
                "c/src/b.rs:1 a::X",
                "c/src/b.rs:1 a::y::Y",
            ]
        );
    }

    #[test]
    fn reexports_are_followed() {
        let tree = tree();
        let modules = Modules::of(&tree, "c/src");
        let home =
            |path: &str| modules.home(&path.split("::").map(str::to_owned).collect::<Vec<_>>()).join("::");
        assert_eq!(
            [home("a::X"), home("b::Z::new"), home("a::y::Y"), home("a")],
            ["a::x", "a::x", "a::y", "a"]
        );
    }
}
