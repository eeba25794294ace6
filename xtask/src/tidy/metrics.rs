//! Every metric is described to whoever scrapes it and stands in the document, and nothing else stands there.

use std::collections::BTreeMap;

use super::Violation;
use super::tree::{Tree, is_under};

pub(super) const DOCUMENT: &str = "docs/metrics.md";

/// Where metrics are described.
const DESCRIBED: &str = "lvs-agent/src/telemetry/metrics";

/// What all names begin with.
const PREFIX: &str = "lvs_";

/// Code that has one of these has names of metrics.
const MACROS: [&str; 3] = ["counter!", "gauge!", "histogram!"];

pub(super) fn check(tree: &Tree) -> Vec<Violation> {
    if !tree.paths.contains(DOCUMENT) {
        return Vec::new();
    }
    let used = used(tree);
    let documented: BTreeMap<_, _> = documented(tree).into_iter().collect();
    let mut violations = Vec::new();
    for (name, places) in &used {
        let Some(first) = places.first() else { continue };
        if !documented.contains_key(name.as_str()) {
            let message = format!("{name} is not in {DOCUMENT}; add its labels and meaning there");
            violations.push(Violation { message, ..first.clone() });
        }
        if !places.iter().any(|place| is_under(&place.path, DESCRIBED)) {
            let message = format!("{name} is not described; add it to describe() in {DESCRIBED}");
            violations.push(Violation { message, ..first.clone() });
        }
    }
    for (name, line) in documented.into_iter().filter(|(name, _)| !used.contains_key(*name)) {
        let message = format!("no code has {name}; take it out, or name it as the code does");
        violations.push(Violation::new(DOCUMENT, line, message));
    }
    violations
}

/// The metrics that the document has, with their lines.
pub(super) fn documented(tree: &Tree) -> Vec<(&str, usize)> {
    let document = tree.files.iter().find(|file| file.path == DOCUMENT);
    let lines = document.map_or("", |document| &document.text).lines().zip(1..);
    lines
        .filter_map(|(line, number)| Some((line.strip_prefix("| `")?.split_once('`')?.0, number)))
        .filter(|(name, _)| is_name(name))
        .collect()
}

/// The names that the agent's code has, each with its places.
fn used(tree: &Tree) -> BTreeMap<String, Vec<Violation>> {
    let mut used: BTreeMap<String, Vec<_>> = BTreeMap::new();
    for (file, rust) in tree.rust_under("lvs-agent/src").filter(|(file, _)| !file.is_test()) {
        if !MACROS.iter().any(|name| rust.production.contains(name)) {
            continue;
        }
        for literal in
            rust.literals.iter().filter(|literal| is_name(&literal.text) && !rust.is_test(literal.at))
        {
            used.entry(literal.text.clone()).or_default().push(Violation::at(file, literal.at, ""));
        }
    }
    used
}

pub(super) fn is_name(text: &str) -> bool {
    text.starts_with(PREFIX)
        && text.chars().all(|char| char.is_ascii_lowercase() || char.is_ascii_digit() || char == '_')
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tidy::tests::said;

    const TELEMETRY: (&str, &str) =
        ("lvs-agent/src/telemetry/metrics/mod.rs", "fn f() { describe_counter!(\"lvs_a_total\", \"as\"); }");

    #[test]
    fn code_and_document_have_the_same_metrics() {
        let files = [
            TELEMETRY,
            ("lvs-agent/src/notify/mod.rs", "fn f() {\n counter!(\"lvs_b_total\", \"lvs\" => 1); }"),
            ("docs/metrics.md", "`lvs_no_row`\n\n| `lvs_a_total` | counter |\n| `lvs_c` | gauge |\n"),
        ];
        assert_eq!(
            said(check, &files),
            [
                "lvs-agent/src/notify/mod.rs:2: lvs_b_total is not in docs/metrics.md; add its labels and meaning there",
                "lvs-agent/src/notify/mod.rs:2: lvs_b_total is not described; add it to describe() in \
                 lvs-agent/src/telemetry/metrics",
                "docs/metrics.md:4: no code has lvs_c; take it out, or name it as the code does",
            ]
        );
    }

    #[test]
    fn names_of_other_things_are_no_metrics() {
        let files = [
            TELEMETRY,
            ("lvs-agent/src/passive/programs.rs", "const EGRESS: &str = \"lvs_egress\";"),
            ("docs/metrics.md", "| `lvs_a_total` | counter |\n| `service` | label |\n"),
        ];
        assert_eq!(said(check, &files), Vec::<String>::new());
    }
}
