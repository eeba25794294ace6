//! What long work is at. Whoever looks at a terminal sees a line that moves, with the time that it has taken so far;
//! where nobody looks, there are plain lines, one for each piece that takes long.

use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use indicatif::{HumanDuration, ProgressBar, ProgressStyle};

/// How often the line moves.
const TICK: Duration = Duration::from_millis(120);
/// What takes less is not worth a line of its own.
const LONG: Duration = Duration::from_secs(1);

/// A line on the terminal while something quiet is at work; nothing where there is no terminal. Gone when dropped.
pub(crate) struct Line(ProgressBar);

impl Line {
    /// Shows what is done and since when.
    pub(crate) fn show(what: impl Into<String>) -> Self {
        Self::styled(what.into(), style("{spinner} {msg} ({elapsed})"))
    }

    /// The same for files that come into a folder one after the other: also how many of them are there.
    pub(crate) fn counting(what: &str, folder: &Path, total: usize) -> Self {
        let folder = folder.to_owned();
        let style = style("{spinner} {msg}: {there} ({elapsed})").with_key(
            "there",
            move |_: &indicatif::ProgressState, out: &mut dyn std::fmt::Write| {
                // A line that can't be drawn is drawn again in a moment.
                write!(out, "{} of {total}", files_in(&folder)).ok();
            },
        );
        Self::styled(what.to_owned(), style)
    }

    fn styled(what: String, style: ProgressStyle) -> Self {
        // On standard error, and hidden unless that is a terminal: a command's own output stays as it is.
        let bar = ProgressBar::new_spinner().with_style(style).with_message(what);
        bar.enable_steady_tick(TICK);
        Self(bar)
    }

    /// Takes the line away: somebody else is about to print.
    pub(crate) fn clear(&self) {
        self.0.finish_and_clear();
    }
}

impl Drop for Line {
    fn drop(&mut self) {
        self.clear();
    }
}

fn style(template: &str) -> ProgressStyle {
    ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_spinner())
}

fn files_in(folder: &Path) -> usize {
    fs::read_dir(folder).map_or(0, |entries| {
        entries.filter_map(Result::ok).filter(|entry| entry.path().extension().is_some()).count()
    })
}

/// Does something while its line is shown.
pub(crate) fn during<T>(what: impl Into<String>, work: impl FnOnce() -> T) -> T {
    let _line = Line::show(what);
    work()
}

/// Does a piece of long work between two plain lines: what it is, and how long it took if that was long.
pub(crate) fn piece<T>(what: &str, work: impl FnOnce() -> T) -> T {
    println!("{what} …");
    let began = Instant::now();
    let done = work();
    if let Some(took) = worth_telling(began.elapsed()) {
        println!("{what}: {took}");
    }
    done
}

fn worth_telling(took: Duration) -> Option<String> {
    (took >= LONG).then(|| HumanDuration(Duration::from_secs(took.as_secs())).to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_long_gets_a_line_with_its_time() {
        let told = [0, 999, 1000, 61_500].map(|ms| worth_telling(Duration::from_millis(ms)));
        assert_eq!(told, [None, None, Some("1 second".to_owned()), Some("61 seconds".to_owned())]);
    }

    #[test]
    fn files_are_counted_while_they_come() {
        let folder = tempfile::tempdir().expect("a temporary directory");
        fs::create_dir(folder.path().join("partial")).expect("made");
        assert_eq!(files_in(folder.path()), 0);
        fs::write(folder.path().join("a.deb"), "").expect("written");
        assert_eq!(files_in(folder.path()), 1);
        assert_eq!(files_in(&folder.path().join("gone")), 0);
    }

    #[test]
    fn every_template_is_one() {
        for template in ["{spinner} {msg} ({elapsed})", "{spinner} {msg}: {there} ({elapsed})"] {
            ProgressStyle::with_template(template).expect("a template");
        }
    }
}
