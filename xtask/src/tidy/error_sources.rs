//! An error that says its cause offers it not as a source: whoever prints the whole chain would say it twice.

use super::Violation;
use super::tree::Tree;

/// What stands before the message of an error of `thiserror`.
const ATTRIBUTE: &str = "#[error(";

pub(super) fn check(tree: &Tree) -> Vec<Violation> {
    let mut violations = Vec::new();
    for (file, rust) in tree.files.iter().filter_map(|file| file.as_rust()) {
        for literal in &rust.literals {
            let before = rust.code.get(..literal.at).unwrap_or_default();
            if !before.trim_end_matches(['"', '\n', ' ']).ends_with(ATTRIBUTE) {
                continue;
            }
            let after = rust.code.get(literal.at..).unwrap_or_default();
            let Some((arguments, rest)) = after.split_once(")]") else { continue };
            // Up to the next variant's message, or the end of the type.
            let item = rest.split(ATTRIBUTE).next().unwrap_or_default();
            let item = item.split("\n}").next().unwrap_or_default();
            if let Some(field) = source_of(item)
                && shows(&literal.text, arguments, &field)
            {
                let message = "says its source, which printing the chain says again; name the field `error`, \
                               without #[source] or #[from], or leave it out of the message";
                violations.push(Violation::at(file, literal.at, message));
            }
        }
    }
    violations
}

/// The name of the field that is the source, or `0`.
fn source_of(item: &str) -> Option<String> {
    let marked = ["#[source]", "#[from]"].iter().find_map(|mark| item.split_once(mark));
    let Some((_, field)) = marked else {
        // A field of this name is the source without a mark.
        return item
            .lines()
            .any(|line| line.trim_start().starts_with("source:"))
            .then(|| "source".to_owned());
    };
    let field = field.trim_start().trim_start_matches("pub ").trim_start_matches("pub(crate) ");
    let name: String = field.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect();
    let is_named =
        field.get(name.len()..).is_some_and(|rest| rest.starts_with(':') && !rest.starts_with("::"));
    Some(if is_named { name } else { "0".to_owned() })
}

/// Whether a message shows a field, by itself or through its arguments.
fn shows(message: &str, arguments: &str, field: &str) -> bool {
    let ends = |rest: &str| !rest.starts_with(|c: char| c.is_alphanumeric() || c == '_');
    let has = |text: &str, start: &str| {
        text.match_indices(start).any(|(at, _)| text.get(at + start.len()..).is_some_and(ends))
    };
    has(message, &format!("{{{field}")) || has(arguments, &format!(".{field}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tidy::tests::said;

    #[test]
    fn a_cause_that_would_be_said_twice_is_found() {
        let text = r#"
enum Error {
    #[error("can't read: {0}")]
    Read(#[from] io::Error),
    #[error("can't {doing}: {}", chain(.source))]
    Chain {
        doing: String,
        source: io::Error,
    },
    #[error("{reason}, late")]
    Late {
        #[source]
        reason: Reason,
    },
}
"#;
        let said = said(check, &[("lvs-agent/src/error.rs", text)]);
        let lines: Vec<_> = said.iter().filter_map(|line| line.split(':').nth(1)).collect();
        assert_eq!(lines, ["3", "5", "10"], "{said:?}");
    }

    #[test]
    fn a_cause_that_is_said_once_is_well() {
        let text = r#"
enum Error {
    #[error("can't read")]
    Read(#[from] io::Error),
    #[error("can't read: {error}")]
    Other {
        error: io::Error,
    },
    #[error(transparent)]
    Same(#[from] io::Error),
    #[error("{0} of {source_name}")]
    Named(#[source] String, u8),
    #[error("no {sources}")]
    Many {
        source: io::Error,
        sources: u8,
    },
}
"#;
        let said = said(check, &[("lvs-agent/src/error.rs", text)]);
        assert_eq!(said.len(), 1, "only the one that shows its field 0: {said:?}");
    }
}
