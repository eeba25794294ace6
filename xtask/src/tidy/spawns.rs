//! Tasks of the agent are started in one place, which makes sure that somebody notices their end.

use super::Violation;
use super::paths::paths;
use super::tree::{Tree, is_under};

/// Where it may be done.
const HOME: &str = "lvs-agent/src/supervision";

/// tokio's ways to start a task that nobody owns.
const SPAWN: [[&str; 2]; 2] = [["tokio", "spawn"], ["task", "spawn"]];

pub(super) fn check(tree: &Tree) -> Vec<Violation> {
    let files = tree.rust_under("lvs-agent/src").filter(|(file, _)| {
        !file.is_test() && !is_under(&file.path, HOME) && !file.path.ends_with("/testing.rs")
    });
    files
        .flat_map(|(file, rust)| {
            let spawns = paths(&rust.production).into_iter().filter(|named| {
                SPAWN.iter().any(|[room, name]| named.segments.ends_with(&[room, name].map(|one| (*one).to_owned())))
            });
            spawns.map(|named| {
                let message = "starts a task that nobody owns; use supervision::spawn, a JoinSet, or the agent's TaskSet";
                Violation::at(file, named.at, message)
            })
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tidy::tests::said;

    #[test]
    fn a_task_that_nobody_owns_is_found() {
        let code = "fn f() { tokio::spawn(async {}); }\nfn g() { let mut set = JoinSet::new(); set.spawn(async {}); }";
        let told = said(check, &[("lvs-agent/src/probe/x.rs", code)]);
        assert_eq!(told.len(), 1, "{told:?}");
        assert!(told[0].starts_with("lvs-agent/src/probe/x.rs:1: starts a task"), "{told:?}");
        assert_eq!(said(check, &[("lvs-agent/src/supervision/spawn.rs", code)]), Vec::<String>::new());
        let test = format!("#[cfg(test)]\nmod tests {{ {code} }}");
        assert_eq!(said(check, &[("lvs-agent/src/probe/x.rs", &test)]), Vec::<String>::new());
    }
}
