//! `CHANGELOG.md` as Debian writes it.

use anyhow::{Context, Result};

use super::{MAINTAINER, Release};
use crate::process::{self, output};

/// The newest section as an entry of Debian's changelog (deb-changelog(5)).
pub(super) fn debian(text: &str, release: &Release) -> Result<String> {
    let mut date = process::command("date");
    date.env("LC_ALL", "C").args(["--utc", "--rfc-email", &format!("--date=@{}", release.epoch)]);
    let date = output(&mut date)?;
    entry(text, &release.version, date.trim()).context("CHANGELOG.md has no section with a list")
}

/// The longest line that Debian's changelogs have.
const WIDTH: usize = 80;

fn entry(text: &str, version: &str, date: &str) -> Option<String> {
    let section = text.split("\n## ").nth(1)?;
    let mut items: Vec<String> = Vec::new();
    for line in section.lines().skip(1).map(str::trim_end) {
        if let Some(item) = line.strip_prefix("- ") {
            items.push(item.to_owned());
        } else if line.starts_with("  ")
            && let Some(item) = items.last_mut()
        {
            item.push(' ');
            item.push_str(line.trim_start());
        }
    }
    let lines: String = items.iter().map(|item| wrapped(item)).collect();
    let head = format!("lvs-agent ({version}) unstable; urgency=medium\n\n");
    (!items.is_empty()).then(|| format!("{head}{lines}\n -- {MAINTAINER}  {date}\n"))
}

/// An item of the list, in lines that are not too long.
fn wrapped(item: &str) -> String {
    let (mut text, mut line) = (String::new(), "  *".to_owned());
    for word in item.split_whitespace() {
        if line.chars().count() + 1 + word.chars().count() > WIDTH {
            text += &line;
            text.push('\n');
            "   ".clone_into(&mut line);
        }
        line.push(' ');
        line += word;
    }
    text + &line + "\n"
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_newest_section_is_taken() {
        let text = "# Changelog\n\n## 0.2.0\n\n### Added\n\n- One thing\n  in two lines.\n- Another.\n\n## 0.1.0\n\n- Old.\n";
        let expected = format!(
            "lvs-agent (0.2.0) unstable; urgency=medium\n\n  * One thing in two lines.\n  * Another.\n\n -- \
             {MAINTAINER}  Thu, 01 Jan 1970 00:00:00 +0000\n"
        );
        assert_eq!(entry(text, "0.2.0", "Thu, 01 Jan 1970 00:00:00 +0000"), Some(expected));
        assert_eq!(entry("# Changelog\n", "0.2.0", ""), None);
    }

    #[test]
    fn long_items_are_broken() {
        let item = "word ".repeat(40);
        let text = wrapped(&item);
        assert!(text.lines().all(|line| line.len() <= WIDTH), "{text}");
        assert!(text.lines().skip(1).all(|line| line.starts_with("    word")), "{text}");
        assert_eq!(text.matches("word").count(), 40);
    }
}
