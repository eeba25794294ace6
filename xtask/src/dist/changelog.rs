//! `CHANGELOG.md` as Debian writes it.

use std::fmt::Write as _;

use anyhow::{Context, Result};

use super::Release;
use super::debian::MAINTAINER;
use crate::process::{self, output};

/// The newest section as an entry of Debian's changelog (deb-changelog(5)).
pub(super) fn debian(text: &str, release: &Release) -> Result<String> {
    let mut date = process::command("date");
    date.env("LC_ALL", "C").args(["--utc", "--rfc-email", &format!("--date=@{}", release.epoch)]);
    let date = output(&mut date)?;
    entry(text, &release.version, date.trim()).context("CHANGELOG.md has no section with a list")
}

fn entry(text: &str, version: &str, date: &str) -> Option<String> {
    let section = text.split("\n## ").nth(1)?;
    let mut entry = format!("lvs-agent ({version}) unstable; urgency=medium\n\n");
    let mut items = 0;
    for line in section.lines().skip(1).map(str::trim_end) {
        // Writing to a string can't fail.
        let written = match line.strip_prefix("- ") {
            Some(item) => {
                items += 1;
                writeln!(entry, "  * {item}")
            }
            None if line.starts_with("  ") => writeln!(entry, "  {line}"),
            None => Ok(()),
        };
        debug_assert!(written.is_ok());
    }
    (items > 0).then(|| format!("{entry}\n -- {MAINTAINER}  {date}\n"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_newest_section_is_taken() {
        let text = "# Changelog\n\n## 0.2.0\n\n### Added\n\n- One thing\n  in two lines.\n- Another.\n\n## 0.1.0\n\n- Old.\n";
        let expected = format!(
            "lvs-agent (0.2.0) unstable; urgency=medium\n\n  * One thing\n    in two lines.\n  * Another.\n\n -- \
             {MAINTAINER}  Thu, 01 Jan 1970 00:00:00 +0000\n"
        );
        assert_eq!(entry(text, "0.2.0", "Thu, 01 Jan 1970 00:00:00 +0000"), Some(expected));
        assert_eq!(entry("# Changelog\n", "0.2.0", ""), None);
    }
}
