//! No circle of imports: neither between rooms, nor between files.
//!
//! A module and those below it are one thing in Rust and may use each other: what counts are imports between modules of
//! which none is inside the other.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::slice;

use super::Violation;
use super::modules::{Import, Modules};
use super::tree::Tree;

/// The `src` of all crates.
const CRATES: [&str; 5] = ["lvs-agent/src", "lvs-common/src", "lvs-ebpf/src", "tests/src", "xtask/src"];

pub(super) fn check(tree: &Tree) -> Vec<Violation> {
    CRATES.iter().flat_map(|source| of_crate(tree, source)).collect()
}

fn of_crate(tree: &Tree, source: &str) -> Vec<Violation> {
    let modules = Modules::of(tree, source);
    let imports = modules.imports();
    let room = |path: &[String]| path.first().filter(|_| modules.home(path).first() == path.first()).cloned();
    let rooms = imports.iter().filter_map(|import| {
        Some((room(&import.from)?, room(&import.path)?, import)).filter(|(from, to, _)| from != to)
    });
    let files = imports.iter().filter_map(|import| {
        let home = modules.home(&import.path);
        let is_within = import.from.starts_with(&home) || home.starts_with(&import.from);
        (!is_within).then(|| (import.from.join("::"), home.join("::"), import))
    });
    let between_rooms = Graph::of(rooms).circles("rooms");
    let between_files = Graph::of(files).circles("files");
    between_rooms.into_iter().chain(between_files).collect()
}

/// Which node imports which, and one import of each.
struct Graph<'a> {
    edges: BTreeMap<String, BTreeMap<String, &'a Import<'a>>>,
}

impl<'a> Graph<'a> {
    fn of(imports: impl Iterator<Item = (String, String, &'a Import<'a>)>) -> Self {
        let mut edges: BTreeMap<String, BTreeMap<String, &Import<'_>>> = BTreeMap::new();
        for (from, to, import) in imports {
            edges.entry(from).or_default().entry(to).or_insert(import);
        }
        Self { edges }
    }

    /// A shortest circle of each knot: a set of nodes of which each reaches all others.
    fn circles(&self, what: &str) -> Vec<Violation> {
        let mut seen = BTreeSet::new();
        let mut violations = Vec::new();
        for node in self.edges.keys() {
            if seen.contains(node) {
                continue;
            }
            let knot: BTreeSet<_> =
                self.reached(node).into_iter().filter(|other| self.reached(other).contains(node)).collect();
            let shortest = knot.iter().filter_map(|node| self.shortest_circle(node)).min_by_key(Vec::len);
            seen.extend(knot.iter().cloned());
            violations.extend(shortest.map(|circle| self.violation(what, &circle, &knot)));
        }
        violations
    }

    fn reached(&self, from: &str) -> BTreeSet<String> {
        let mut reached = BTreeSet::new();
        let mut next = vec![from];
        while let Some(node) = next.pop() {
            for to in self.edges.get(node).into_iter().flat_map(BTreeMap::keys) {
                if reached.insert(to.clone()) {
                    next.push(to);
                }
            }
        }
        reached
    }

    /// From a node back to it.
    fn shortest_circle(&self, start: &str) -> Option<Vec<String>> {
        let mut next = VecDeque::from([vec![start.to_owned()]]);
        let mut seen = BTreeSet::new();
        while let Some(path) = next.pop_front() {
            for to in self.edges.get(path.last()?).into_iter().flat_map(BTreeMap::keys) {
                let longer = [path.as_slice(), slice::from_ref(to)].concat();
                if to == start {
                    return Some(longer);
                }
                if seen.insert(to.clone()) {
                    next.push_back(longer);
                }
            }
        }
        None
    }

    fn violation(&self, what: &str, circle: &[String], knot: &BTreeSet<String>) -> Violation {
        let imports: Vec<_> =
            circle.windows(2).filter_map(|pair| self.edges.get(&pair[0])?.get(&pair[1]).copied()).collect();
        let places: Vec<_> =
            imports.iter().map(|import| format!("{}:{}", import.file.path, import.line)).collect();
        // A circle ends where it begins.
        let others = if knot.len() + 1 == circle.len() {
            String::new()
        } else {
            let all: Vec<_> = knot.iter().map(String::as_str).collect();
            format!("; {} are tied together in all: {}", all.len(), all.join(", "))
        };
        let message = format!(
            "a circle of {what}, {} (at {}){others}; move what they share to one that none of them is needed for",
            circle.join(" → "),
            places.join(", ")
        );
        let (path, line) = imports.first().map_or(("", 1), |import| (import.file.path.as_str(), import.line));
        Violation::new(path, line, message)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tidy::tests::said;

    #[test]
    fn a_circle_of_files_is_found_through_reexports() {
        let files = [
            ("lvs-agent/src/lib.rs", "mod pool;"),
            ("lvs-agent/src/pool/mod.rs", "mod a; mod b; pub use self::{a::A, b::B};"),
            ("lvs-agent/src/pool/a.rs", "use super::B;"),
            ("lvs-agent/src/pool/b.rs", "\nfn f(a: super::A) {}"),
        ];
        let said = said(check, &files);
        let [circle] = said.as_slice() else { panic!("{said:?}") };
        assert!(
            circle.starts_with(
                "lvs-agent/src/pool/a.rs:1: a circle of files, pool::a → pool::b → pool::a \
                 (at lvs-agent/src/pool/a.rs:1, lvs-agent/src/pool/b.rs:2); "
            ),
            "{circle}"
        );
    }

    #[test]
    fn a_circle_of_rooms_is_found() {
        let files = [
            ("lvs-agent/src/lib.rs", ""),
            ("lvs-agent/src/pool/mod.rs", ""),
            ("lvs-agent/src/pool/a.rs", "use crate::health::H;"),
            ("lvs-agent/src/health/mod.rs", "use crate::engine;"),
            ("lvs-agent/src/engine.rs", "use crate::{health, pool::P};"),
        ];
        let said = said(check, &files);
        assert!(
            said.iter().any(|said| said.contains("a circle of rooms, engine → health → engine")),
            "{said:?}"
        );
        assert!(
            said.iter().any(|said| said.contains("3 are tied together in all: engine, health, pool")),
            "{said:?}"
        );
    }

    #[test]
    fn a_module_and_those_below_it_may_use_each_other() {
        let files = [
            (
                "lvs-agent/src/pool/mod.rs",
                "mod a; use self::a::A; struct B; #[cfg(test)] mod tests { use crate::x; }",
            ),
            ("lvs-agent/src/pool/a.rs", "use super::B;"),
        ];
        assert_eq!(said(check, &files), Vec::<String>::new());
    }
}
