//! Every Rust file is part of its crate. One that no module declares is compiled by nobody, and its tests never run.

use super::Violation;
use super::paths::declared_modules;
use super::tree::{File, Tree};

pub(super) fn check(tree: &Tree) -> Vec<Violation> {
    let files = tree.files.iter().filter(|file| file.rust().is_some() && !is_root(tree, &file.path));
    files.filter_map(|file| of_file(tree, file)).collect()
}

fn of_file(tree: &Tree, file: &File) -> Option<Violation> {
    let (directory, name) = file.path.rsplit_once('/')?;
    let stem = name.strip_suffix(".rs")?;
    // A folder's module is declared by the folder above.
    let (directory, name) = if stem == "mod" { directory.rsplit_once('/')? } else { (directory, stem) };
    let parents = ["mod", "lib", "main"].map(|parent| format!("{directory}/{parent}.rs"));
    // A package may have several crates whose modules are the same files.
    let beside = |path: &str| path.rsplit_once('/').is_some_and(|(folder, _)| folder == directory);
    let roots = tree.files.iter().map(|file| file.path.clone());
    let roots = roots.filter(|path| beside(path) && is_root(tree, path));
    let mut parents = parents.into_iter().chain([format!("{directory}.rs")]).chain(roots);
    let is_declared = parents.any(|parent| {
        let parent = tree.files.iter().find(|file| file.path == parent).and_then(File::as_rust);
        parent.is_some_and(|(_, rust)| declared_modules(&rust.code).any(|declared| declared == name))
    });
    let message = format!(
        "no module declares it, so that nobody compiles it; write `mod {name};` above it, or delete it"
    );
    (!is_declared).then(|| Violation::new(&file.path, 1, message))
}

/// Whether cargo compiles a file as a crate: because of where it is, or because a manifest says so.
fn is_root(tree: &Tree, path: &str) -> bool {
    let parts: Vec<_> = path.rsplit('/').collect();
    let by_place = match parts.as_slice() {
        ["build.rs", ..]
        | ["lib.rs" | "main.rs", "src", ..]
        | [_, "bin", "src", ..]
        | ["main.rs", _, "tests" | "benches", ..] => true,
        // Not those below `src`, which are modules.
        [_, "tests" | "benches", rest @ ..] => !rest.contains(&"src"),
        _ => false,
    };
    by_place
        || tree.files.iter().any(|manifest| {
            let package = manifest.path.strip_suffix("Cargo.toml");
            let relative = package.and_then(|package| path.strip_prefix(package));
            relative.is_some_and(|relative| manifest.text.contains(&format!("path = \"{relative}\"")))
        })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tidy::tests::said;

    #[test]
    fn a_file_that_no_module_declares_is_found() {
        let files = [
            ("a/src/lib.rs", "mod b; // mod c;"),
            ("a/src/b.rs", ""),
            ("a/src/b/tests.rs", ""),
            ("a/src/c/mod.rs", "mod d;"),
            ("a/src/c/d.rs", ""),
        ];
        assert_eq!(
            said(check, &files),
            [
                "a/src/b/tests.rs:1: no module declares it, so that nobody compiles it; write `mod tests;` above it, \
                 or delete it",
                "a/src/c/mod.rs:1: no module declares it, so that nobody compiles it; write `mod c;` above it, or \
                 delete it",
            ]
        );
    }

    #[test]
    fn crates_and_their_modules_are_no_orphans() {
        let files = [
            ("a/build.rs", ""),
            ("a/src/main.rs", "pub(crate) mod b;"),
            ("a/src/b.rs", "#[cfg(test)] mod tests;"),
            ("a/src/b/tests.rs", ""),
            ("a/src/bin/c.rs", ""),
            ("a/src/e.rs", ""),
            ("a/Cargo.toml", "[[bin]]\nname = \"e\"\npath = \"src/e.rs\"\n"),
            ("tests/benches/ebpf/main.rs", ""),
            ("tests/tests/lab.rs", ""),
            ("tests/tests/scenarios/main.rs", "mod d;"),
            ("tests/tests/scenarios/d/mod.rs", ""),
        ];
        assert_eq!(said(check, &files), Vec::<String>::new());
    }
}
