//! Words that nobody else in the field uses, which have been replaced and shall not come back.

use super::Violation;
use super::paths::words;
use super::tree::Tree;

/// A word as types' names have it, and what is said instead.
const BANNED: &[(&str, &str)] = &[
    ("Decisions", "Engine"),
    ("Desk", "Handler or Handle"),
    ("Happening", "Event"),
    ("Inquiry", "Request"),
    ("Judge", "Controller"),
    ("Ledger", "Planner"),
    ("Letter", "Mail"),
    ("Onlooker", "TablePoller"),
    ("Rehearsal", "DryRun"),
    ("Roster", "WatchedServices"),
    ("Standing", "State or Status"),
    ("Surroundings", "Topology, ServiceContext or ServerDefaults"),
    ("Teller", "Alerts"),
];

/// Those that are no names of variables and modules either; the others are English there, such as to judge.
const BANNED_IN_SMALL_LETTERS: &[&str] =
    &["Desk", "Inquiry", "Ledger", "Onlooker", "Rehearsal", "Roster", "Teller"];

pub(super) fn check(tree: &Tree) -> Vec<Violation> {
    let mut violations = Vec::new();
    for (file, rust) in tree.rust_under("lvs-agent/src") {
        // In a sentence the small word may be an English one: in comments only names count.
        let in_code = words(&rust.code).map(|word| (word, true));
        let in_comments = words(&rust.comments).map(|word| (word, false));
        for ((at, word), is_code) in in_code.chain(in_comments) {
            if let Some((banned, instead)) = banned(word, is_code) {
                let message = format!("{word}: {banned} is a private word; say {instead}");
                violations.push(Violation::at(file, at, message));
            }
        }
    }
    violations
}

fn banned(name: &str, is_code: bool) -> Option<(&'static str, &'static str)> {
    let is_type = name.starts_with(char::is_uppercase);
    let is_small = |part: &str, banned: &str| {
        is_code && !is_type && BANNED_IN_SMALL_LETTERS.contains(&banned) && part.eq_ignore_ascii_case(banned)
    };
    let found = parts(name)
        .find_map(|part| BANNED.iter().find(|(banned, _)| part == *banned || is_small(part, banned)));
    found.copied()
}

/// The words in a name: `OrderDesk` and `order_desk` have two.
fn parts(name: &str) -> impl Iterator<Item = &str> {
    name.split('_').flat_map(|part| {
        let mut begins: Vec<_> = part.match_indices(char::is_uppercase).map(|(at, _)| at).collect();
        begins.insert(0, 0);
        begins.push(part.len());
        let ranges: Vec<_> = begins.windows(2).filter_map(|pair| part.get(pair[0]..pair[1])).collect();
        ranges
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tidy::tests::said;

    #[test]
    fn private_words_are_found_in_names_and_comments() {
        let code = "//! What the Judge decides.\nstruct OrderDesk;\nfn f(ledger: u8) {}";
        assert_eq!(
            said(check, &[("lvs-agent/src/agent/mod.rs", code)]),
            [
                "lvs-agent/src/agent/mod.rs:2: OrderDesk: Desk is a private word; say Handler or Handle",
                "lvs-agent/src/agent/mod.rs:3: ledger: Ledger is a private word; say Planner",
                "lvs-agent/src/agent/mod.rs:1: Judge: Judge is a private word; say Controller",
            ]
        );
    }

    #[test]
    fn english_is_no_private_word() {
        let code = "// What is happening is judged by its standing.\nfn judge() { judged(\"Judge\"); outstanding(); }";
        let files = [("lvs-agent/src/agent/mod.rs", code), ("tests/src/lib.rs", "struct Judge;")];
        assert_eq!(said(check, &files), Vec::<String>::new());
    }
}
