//! Events are logged in one place, where their names are held against the document.

use super::Violation;
use super::tree::{Tree, is_under};

/// Where events are logged.
const PLACE: &str = "lvs-agent/src/telemetry";

pub(super) fn check(tree: &Tree) -> Vec<Violation> {
    let elsewhere = |path: &str| !is_under(path, PLACE);
    let files = tree.rust_under("lvs-agent/src").filter(|(file, _)| elsewhere(&file.path) && !file.is_test());
    files
        .flat_map(|(file, rust)| {
            let literals = rust.literals.iter();
            let events = literals.filter(|literal| {
                !rust.is_test(literal.at) && rust.code.get(..literal.at).is_some_and(names_event)
            });
            events.map(|literal| {
                let message = format!(
                    "logs the event \"{}\" itself; make it one of those of {PLACE}, which docs/events.md lists",
                    literal.text
                );
                Violation::at(file, literal.at, message)
            })
        })
        .collect()
}

/// Whether what follows this code is the value of a field `event`.
fn names_event(before: &str) -> bool {
    let field = before.strip_suffix('"').map(str::trim_end).and_then(|rest| rest.strip_suffix('='));
    field.is_some_and(|field| {
        let name = field.trim_end().strip_suffix("event");
        name.is_some_and(|rest| !rest.ends_with(|char: char| char.is_alphanumeric() || "_.".contains(char)))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tidy::tests::said;

    const CODE: &str = "fn f() {\n    info!(event = \"state\", at_ns, \"hello\");\n}";

    #[test]
    fn an_event_that_is_logged_elsewhere_is_found() {
        assert_eq!(
            said(check, &[("lvs-agent/src/agent/mod.rs", CODE)]),
            ["lvs-agent/src/agent/mod.rs:2: logs the event \"state\" itself; make it one of those of \
              lvs-agent/src/telemetry, which docs/events.md lists"]
        );
    }

    #[test]
    fn events_are_logged_by_telemetry_and_read_by_tests() {
        let files = [
            ("lvs-agent/src/telemetry/events/mod.rs", CODE),
            ("lvs-agent/src/agent/reload/tests.rs", CODE),
            ("lvs-agent/src/agent/mod.rs", "fn f() { let last_event = \"a\"; // event = \"b\"\n}"),
        ];
        assert_eq!(said(check, &files), Vec::<String>::new());
    }
}
