//! Lines: no comment or text wider than a screen, no blanks at the end, no tabs. The width of code is rustfmt's.

use super::Violation;
use super::tree::{File, Kind, Tree};

/// How wide a line of comment or text may be.
const MAX_WIDTH: usize = 120;

pub(super) fn check(tree: &Tree) -> Vec<Violation> {
    tree.files.iter().flat_map(of_file).collect()
}

fn of_file(file: &File) -> Vec<Violation> {
    let mut violations = Vec::new();
    let mut at = 0;
    let mut is_fenced = false;
    for (line, number) in file.text.split('\n').zip(1..) {
        let line = line.strip_suffix('\r').unwrap_or(line);
        let mut wrong = |message: String| violations.push(Violation::new(&file.path, number, message));
        is_fenced ^= line.trim_start().starts_with("```");
        let width = line.chars().count();
        if width > MAX_WIDTH && is_prose(file, at, line, is_fenced) {
            wrong(format!("{width} columns; break the line at {MAX_WIDTH} or before"));
        }
        let trimmed = line.trim_end();
        if trimmed.len() < line.len() && !in_literal(file, at + trimmed.len()) {
            wrong("blanks at the end of the line; take them out".to_owned());
        }
        if line.match_indices('\t').any(|(column, _)| !in_literal(file, at + column)) {
            wrong("a tab; use blanks".to_owned());
        }
        at += line.len() + 1;
    }
    violations
}

/// Whether a line is to be broken by whoever writes it: a comment, or text outside of tables and code.
fn is_prose(file: &File, at: usize, line: &str, is_fenced: bool) -> bool {
    match &file.kind {
        Kind::Rust(rust) => {
            rust.comments.get(at..at + line.len()).is_some_and(|comment| !comment.trim().is_empty())
        }
        Kind::Markdown => {
            let is_code = is_fenced || line.starts_with("    ");
            // A table's row cannot be broken, nor a word.
            !is_code && !line.starts_with('|') && line.trim_start().contains(' ')
        }
        Kind::Toml => line.contains('#'),
        // Queries and texts stand in one line each.
        Kind::Mixin => false,
    }
}

fn in_literal(file: &File, at: usize) -> bool {
    file.rust().is_some_and(|rust| rust.is_literal(at))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tidy::tests::said;

    #[test]
    fn wide_comments_and_texts_are_found() {
        let wide = format!("{} {}", "a".repeat(60), "b".repeat(60));
        let comment = format!("/// {wide}\nfn f() {{}} // é");
        assert_eq!(
            said(check, &[("a.rs", &comment), ("a.md", &wide), ("a.toml", &format!("# {wide}"))]),
            [
                "a.rs:1: 125 columns; break the line at 120 or before",
                "a.md:1: 121 columns; break the line at 120 or before",
                "a.toml:1: 123 columns; break the line at 120 or before",
            ]
        );
    }

    #[test]
    fn code_tables_and_literals_may_be_wide() {
        let wide = "a b".repeat(50);
        let code = format!("const A: &str = \"{wide}\";");
        let text = format!("| {wide} |\n\n    {wide}\n\n```text\n{wide}\n```\n");
        assert_eq!(said(check, &[("a.rs", &code), ("a.md", &text)]), Vec::<String>::new());
    }

    #[test]
    fn blanks_at_the_end_and_tabs_are_found_outside_of_literals() {
        let code = "fn f() { \n\tg(\"\t\n \n\");\n}\n";
        assert_eq!(
            said(check, &[("a.rs", code), ("a.md", "b  \n")]),
            [
                "a.rs:1: blanks at the end of the line; take them out",
                "a.rs:2: a tab; use blanks",
                "a.md:1: blanks at the end of the line; take them out",
            ]
        );
    }
}
