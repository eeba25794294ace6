//! Text for a terminal: colours, and the escaping of texts that others chose.

use std::{borrow::Cow, fmt::Write as _};

use unicode_width::UnicodeWidthStr as _;

use crate::model::is_shown;

/// How a text is laid out.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Style {
    /// With colours.
    pub colour: bool,
    /// For a terminal of so many columns; `None`: as wide as it gets, the same everywhere.
    pub width: Option<usize>,
}

/// A colour, as the number of ECMA-48's SGR.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Colour {
    Good,
    Warning,
    Bad,
    Faint,
    Strong,
}

impl Style {
    /// The text in this colour, where there are colours.
    pub(super) fn paint(self, colour: Colour, text: &str) -> String {
        let number = match colour {
            Colour::Good => 32,
            Colour::Warning => 33,
            Colour::Bad => 31,
            Colour::Faint => 2,
            Colour::Strong => 1,
        };
        if self.colour && !text.is_empty() { format!("\x1b[{number}m{text}\x1b[0m") } else { text.to_owned() }
    }
}

/// Whether a terminal would do something else with a character than show it.
fn is_unsafe(c: char) -> bool {
    !is_shown(c)
}

/// A text that others chose, in one line and without anything that a terminal would obey.
#[must_use]
pub fn escaped(text: &str) -> Cow<'_, str> {
    if !text.contains(is_unsafe) {
        return Cow::Borrowed(text);
    }
    let escape = |c: char| if is_unsafe(c) { c.escape_unicode().to_string() } else { c.to_string() };
    Cow::Owned(text.chars().map(escape).collect())
}

/// JSON, or a message of several lines, that means the same and has nothing that a terminal would obey. JSON itself
/// leaves DEL, C1 and the rest as they are, which stand in strings only, where `\u` means them.
#[must_use]
pub fn escaped_json(json: &str) -> Cow<'_, str> {
    let is_unsafe = |c: char| !matches!(c, '\n' | '\t') && is_unsafe(c);
    if !json.contains(is_unsafe) {
        return Cow::Borrowed(json);
    }
    let mut text = String::with_capacity(json.len());
    for c in json.chars() {
        if is_unsafe(c) {
            for unit in c.encode_utf16(&mut [0; 2]) {
                // Writing into a string can't fail.
                write!(text, "\\u{unit:04x}").ok();
            }
        } else {
            text.push(c);
        }
    }
    Cow::Owned(text)
}

/// How many columns of a terminal an escaped text takes.
#[must_use]
pub fn shown_width(text: &str) -> usize {
    text.width()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn what_a_terminal_would_obey_is_escaped() {
        let cases = [
            ("web", "web"),
            ("ü 中", "ü 中"),
            ("a\x1b[2Jb", "a\\u{1b}[2Jb"),
            ("a\nb\tc\u{7f}", "a\\u{a}b\\u{9}c\\u{7f}"),
            ("\u{9b}31m", "\\u{9b}31m"),
            ("x\u{202e}y", "x\\u{202e}y"),
        ];
        for (text, expected) in cases {
            assert_eq!(escaped(text), expected, "{text:?}");
        }
    }

    proptest! {
        #[test]
        fn escaped_json_means_the_same(text in any::<String>()) {
            let json = serde_json::to_string(&text).unwrap();
            let escaped = escaped_json(&json);
            prop_assert!(!escaped.contains(is_unsafe));
            prop_assert_eq!(serde_json::from_str::<String>(&escaped).unwrap(), text);
        }

        #[test]
        fn nothing_unsafe_is_left(text in any::<String>()) {
            prop_assert!(!escaped(&text).contains(is_unsafe));
        }
    }
}
