//! The terminal that a command prints to.

use std::{
    env,
    io::{self, IsTerminal as _},
    time::Duration,
};

use humantime::parse_duration;

use crate::control::Style;

/// The least pause between two pictures: the agent has more to do.
const LEAST_PAUSE: Duration = Duration::from_millis(200);
/// What terminals have that don't say how large they are.
const USUAL: (u16, u16) = (80, 24);

/// The terminal behind standard output, as it is now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Terminal {
    columns: usize,
    rows: usize,
    colour: bool,
}

impl Terminal {
    /// `None`: standard output is no terminal.
    pub(super) fn of_stdout() -> Option<Self> {
        let stdout = io::stdout();
        if !stdout.is_terminal() {
            return None;
        }
        let size = rustix::termios::tcgetwinsize(&stdout).map(|size| (size.ws_col, size.ws_row));
        let (columns, rows) = size.ok().filter(|(columns, rows)| *columns > 0 && *rows > 0).unwrap_or(USUAL);
        let colour = has_colours(env::var_os("NO_COLOR"), env::var_os("TERM"));
        Some(Self { columns: columns.into(), rows: rows.into(), colour })
    }

    /// How a text is laid out here.
    pub(super) fn style(self) -> Style {
        Style { colour: self.colour, width: Some(self.columns) }
    }

    /// The text as a picture in place of the one before. What doesn't fit is left out, as long lines are cut.
    pub(super) fn frame(self, text: &str, is_first: bool) -> String {
        // Long lines are not to be broken; `ESC [ K` and `ESC [ J` clear the rest of the line and of the screen.
        let mut frame = String::from(if is_first { "\x1b[2J\x1b[H\x1b[?7l" } else { "\x1b[H\x1b[?7l" });
        let (all, room) = (text.lines().count(), self.rows.saturating_sub(1));
        let shown = if all > room { room.saturating_sub(1) } else { all };
        for line in text.lines().take(shown) {
            frame += line;
            frame += "\x1b[K\n";
        }
        if all > shown {
            let left = all - shown;
            frame.extend(["… ", &left.to_string(), " more lines; name a service to see it alone\x1b[K\n"]);
        }
        frame + "\x1b[J\x1b[?7h"
    }
}

/// <https://no-color.org>: whatever `NO_COLOR` is, unless it is empty.
fn has_colours(no_color: Option<std::ffi::OsString>, term: Option<std::ffi::OsString>) -> bool {
    no_color.is_none_or(|value| value.is_empty()) && term.is_none_or(|term| term != "dumb")
}

/// A pause between two pictures.
pub(super) fn parse_pause(text: &str) -> Result<Duration, String> {
    let pause = parse_duration(text).map_err(|error| error.to_string())?;
    if pause < LEAST_PAUSE {
        return Err(format!("the least pause is {} ms", LEAST_PAUSE.as_millis()));
    }
    Ok(pause)
}

/// How old what is shown again after this pause may be, in ms, so that those who look at the same time share one
/// status. The kernel makes its estimates anew every two seconds.
pub(super) fn recent(pause: Duration) -> u64 {
    const MOST: Duration = Duration::from_millis(1900);
    let recent = pause.saturating_sub(Duration::from_millis(100)).min(MOST);
    u64::try_from(recent.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_shown_again_is_younger_than_the_pause() {
        let of = |millis| recent(Duration::from_millis(millis));
        assert_eq!([of(50), of(100), of(500), of(2000), of(60_000)], [0, 0, 400, 1900, 1900]);
    }

    #[test]
    fn colours_are_for_terminals_that_want_them() {
        let has = |no_color: Option<&str>, term: Option<&str>| {
            has_colours(no_color.map(Into::into), term.map(Into::into))
        };
        assert!(has(None, None) && has(Some(""), Some("xterm")));
        assert!(!has(Some("0"), Some("xterm")) && !has(None, Some("dumb")));
    }

    #[test]
    fn a_picture_has_no_more_lines_than_the_terminal() {
        let terminal = Terminal { columns: 80, rows: 4, colour: true };
        let lines = |text: &str| terminal.frame(text, false).matches('\n').count();
        assert_eq!(lines("1\n2\n3\n"), 3);
        assert_eq!(lines("1\n2\n3\n4\n5\n"), 3);
        assert!(terminal.frame("1\n2\n3\n4\n5\n", false).contains("… 3 more lines"));
    }

    #[test]
    fn a_pause_is_not_too_short() {
        assert_eq!(parse_pause("5s"), Ok(Duration::from_secs(5)));
        assert!(parse_pause("0s").is_err() && parse_pause("soon").is_err());
    }
}
