//! `unsafe` only where there is no other way.

use super::Violation;
use super::paths::words;
use super::tree::{Tree, is_under};

const TABLE: &str = "xtask/src/tidy/unsafe_code.rs";

/// Where `unsafe` may be: files, and folders with all that is in them, with the reason.
const ALLOWED: &[(&str, &str)] = &[
    (
        "lvs-agent/src/monitor/mod.rs",
        "waits for a ring buffer: tokio cannot know that its descriptor stays the same",
    ),
    (
        "lvs-agent/src/file_watch.rs",
        "waits for inotify: tokio cannot know that its descriptor stays the same",
    ),
    ("lvs-agent/src/passive/attach.rs", "asks for a device's hardware type, an ioctl that no crate here has"),
    ("lvs-agent/src/passive/mmap_array.rs", "reads memory that the kernel writes at the same time"),
    (
        "lvs-ebpf/src",
        "runs in the kernel: maps and packets are reached by pointers that the verifier follows",
    ),
];

pub(super) fn check(tree: &Tree) -> Vec<Violation> {
    let stale = ALLOWED.iter().filter(|(path, _)| !tree.paths.contains(*path));
    let mut violations: Vec<_> = stale.map(|(path, _)| Violation::stale(TABLE, path)).collect();
    for (file, rust) in tree.files.iter().filter_map(|file| file.as_rust()) {
        if ALLOWED.iter().any(|(path, _)| is_under(&file.path, path)) {
            continue;
        }
        let places = words(&rust.code).filter(|&(_, word)| word == "unsafe");
        let message = format!("unsafe; write it safely, or move it to one of the modules that {TABLE} names");
        violations.extend(places.map(|(at, _)| Violation::at(file, at, message.clone())));
    }
    violations
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tidy::tests::said;

    fn said_of(path: &str, code: &str) -> Vec<String> {
        said(check, &[(path, code)]).into_iter().filter(|said| !said.starts_with(TABLE)).collect()
    }

    #[test]
    fn unsafe_is_found_outside_of_the_named_modules() {
        let code = "// unsafe\nfn f() { unsafe { g() } }";
        let said = said_of("lvs-agent/src/pool/mod.rs", code);
        assert_eq!(said.len(), 1);
        assert!(said[0].starts_with("lvs-agent/src/pool/mod.rs:2: unsafe; "), "{said:?}");
        assert_eq!(said_of("lvs-ebpf/src/maps.rs", code), Vec::<String>::new());
    }

    #[test]
    fn words_about_unsafe_are_no_unsafe() {
        assert_eq!(said_of("a.rs", "#![deny(unsafe_code)]\nfn f() { \"unsafe\"; }"), Vec::<String>::new());
    }
}
