//! A place in a text, and how it is shown.

use std::{fmt, ops::Range};

use unicode_width::UnicodeWidthChar as _;

use super::masked::masked;

/// How many characters of a source line are shown around the fault.
const SHOWN_CHARACTERS: usize = 100;

/// A place in a configuration. Displayed as the source line with carets under the place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    /// Line, from 1.
    pub line: usize,
    /// Column in characters, from 1.
    pub column: usize,
    /// How many characters from there on are meant, at least 1.
    pub width: usize,
    /// The whole source line, without its end, and without secrets: messages go to the log, too.
    pub source: String,
}

impl Place {
    /// The place of the bytes `span` in `text`.
    #[must_use]
    pub fn new(text: &str, span: &Range<usize>) -> Self {
        let start = text.floor_char_boundary(span.start);
        let line_start = text[..start].rfind('\n').map_or(0, |end| end + 1);
        let line_end = text[start..].find('\n').map_or(text.len(), |length| start + length);
        let end = text.floor_char_boundary(span.end).clamp(start, line_end);
        Self {
            line: text[..line_start].matches('\n').count() + 1,
            column: text[line_start..start].chars().count() + 1,
            width: text[start..end].chars().count().max(1),
            source: masked(text[line_start..line_end].trim_end_matches('\r')),
        }
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let skipped = if self.column > SHOWN_CHARACTERS { self.column - SHOWN_CHARACTERS / 2 } else { 0 };
        // Nothing that a terminal would obey.
        let shown: Vec<char> = self
            .source
            .chars()
            .skip(skipped)
            .take(SHOWN_CHARACTERS)
            .map(|c| match c {
                '\t' => ' ',
                c if c.is_control() => '\u{fffd}',
                c => c,
            })
            .collect();
        let (before, rest) = shown.split_at((self.column - 1 - skipped).min(shown.len()));
        let missing = self.column - 1 - skipped - before.len();
        let indent = columns(before) + missing;
        let width = columns(&rest[..self.width.min(rest.len())]).max(1);
        let shown: String = shown.into_iter().collect();
        writeln!(f, "{:5} | {}", self.line, shown.trim_end())?;
        write!(f, "      | {:indent$}{:^<width$}", "", "")
    }
}

/// How many columns of a terminal these characters take: some of East Asia take two, and combining ones none.
fn columns(chars: &[char]) -> usize {
    chars.iter().map(|c| c.width().unwrap_or(1)).sum()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn place_counts_lines_and_characters() {
        let text = "eins\nzwäi = 'ü'\r\ndrei";
        let start = text.find('\'').unwrap();
        let place = Place::new(text, &(start..start + 4));
        assert_eq!((place.line, place.column, place.width), (2, 8, 3));
        assert_eq!(place.source, "zwäi = 'ü'");
        assert_eq!(place.to_string(), "    2 | zwäi = 'ü'\n      |        ^^^");
    }

    #[test]
    fn long_lines_are_cut_around_the_place() {
        let text = format!("{}X{}", "a".repeat(500), "b".repeat(500));
        let shown = Place::new(&text, &(500..501)).to_string();
        let (source, carets) = shown.split_once('\n').unwrap();
        assert_eq!(source.find('X'), carets.find('^'));
        assert!(source.len() < 120, "{source}");
    }

    #[test]
    fn carets_stand_below_wide_and_combining_characters() {
        for (before, marked, indent, width) in
            [("注释 ", "x", 5, 1), ("", "注释", 0, 4), ("u\u{308} ", "y", 2, 1), ("ａ", "ｂc", 2, 3)]
        {
            let text = format!("{before}{marked} z");
            let place = Place::new(&text, &(before.len()..before.len() + marked.len()));
            let shown = place.to_string();
            let (source, carets) = shown.split_once('\n').unwrap();
            assert_eq!(source, format!("    1 | {text}"));
            assert_eq!(carets, format!("      | {}{}", " ".repeat(indent), "^".repeat(width)), "{text}");
        }
    }

    #[test]
    fn control_characters_are_not_shown() {
        let shown = Place::new("a\u{1b}[31mb", &(0..1)).to_string();
        assert!(!shown.contains('\u{1b}'), "{shown:?}");
    }

    proptest! {
        #[test]
        fn any_span_has_a_place(text in "\\PC*[\n\r\tä]*\\PC*", start in 0_usize..80, length in 0_usize..200) {
            let place = Place::new(&text, &(start..start + length));
            prop_assert!(place.line >= 1 && place.column >= 1 && place.width >= 1);
            prop_assert!(place.to_string().contains('^'));
        }
    }
}
