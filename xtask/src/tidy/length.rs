//! A file that is long says why.

use super::Violation;
use super::tree::{File, Tree};

/// More lines than this need a reason.
const MAX_LINES: usize = 600;

/// How the line begins that gives it, behind `//` or `//!`.
const REASON: &str = "Long because: ";

/// Among how many first lines it is looked for.
const TOP: usize = 20;

pub(super) fn check(tree: &Tree) -> Vec<Violation> {
    tree.files.iter().filter_map(File::as_rust).filter_map(|(file, _)| of_file(file)).collect()
}

fn of_file(file: &File) -> Option<Violation> {
    let lines = file.text.lines().count();
    let has_reason = || {
        file.text.lines().take(TOP).any(|line| {
            let comment = line.strip_prefix("//").map(|rest| rest.trim_start_matches(['!', ' ']));
            comment.and_then(|comment| comment.strip_prefix(REASON)).is_some_and(|reason| !reason.is_empty())
        })
    };
    let message = format!(
        "{lines} lines, more than {MAX_LINES}; divide it by what its parts do, or write `// {REASON}…` near its top"
    );
    (lines > MAX_LINES && !has_reason()).then(|| Violation::new(&file.path, 1, message))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tidy::tests::said;

    #[test]
    fn a_long_file_without_a_reason_is_found() {
        let long = "\n".repeat(601);
        let said = said(check, &[("a.rs", &long), ("b.rs", &format!("// Long because: \n{long}"))]);
        let begins: Vec<_> = said.iter().map(|said| said.split(',').next().unwrap_or_default()).collect();
        assert_eq!(begins, ["a.rs:1: 601 lines", "b.rs:1: 602 lines"]);
    }

    #[test]
    fn a_long_file_may_have_a_reason() {
        let long = format!("//! A table.\n//!\n//! Long because: it is a table.\n{}", "\n".repeat(600));
        let files = [("a.rs", long.as_str()), ("b.rs", &"\n".repeat(600)), ("c.md", &"\n".repeat(700))];
        assert_eq!(said(check, &files), Vec::<String>::new());
    }
}
