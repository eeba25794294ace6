//! Perl's regular expressions in the words of the crate `regex`.
//!
//! What both have in common stays as it is. Translated is what Perl reads otherwise: `$` before a line end at the end
//! of the text, braces that repeat nothing, brackets in a class, `\<`, and some classes by letter. What the crate can't
//! do (back-references, look-around) is refused by it.

use crate::model::{Pattern, PatternError};

/// What `^` and `$` mean.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Ends {
    /// `^` and `$` are those of the whole text.
    Text,
    /// They are those of each line: the text is judged line by line.
    Lines,
}

/// Compiles Perl's `source`.
pub(super) fn pattern(source: &str, ends: Ends) -> Result<Pattern, PatternError> {
    let mut translated = String::with_capacity(source.len() + 16);
    // Perl compares bytes; a class can't have bytes beyond ASCII in it.
    match (source.is_ascii(), ends) {
        (true, Ends::Text) => translated.push_str("(?-u)"),
        (true, Ends::Lines) => translated.push_str("(?m-u)"),
        (false, Ends::Text) => {}
        (false, Ends::Lines) => translated.push_str("(?m)"),
    }
    translate(source, ends, &mut translated);
    Pattern::new(&translated)
}

fn translate(source: &str, ends: Ends, out: &mut String) {
    let mut rest = source;
    while let Some(c) = rest.chars().next() {
        let length = match c {
            '\\' => escape(rest, out),
            '[' => class(rest, out),
            '$' => {
                out.push_str(if ends == Ends::Text { r"(?:\n?\z)" } else { "$" });
                1
            }
            '{' if !repeats(rest) => {
                out.push_str(r"\{");
                1
            }
            _ => {
                out.push(c);
                c.len_utf8()
            }
        };
        rest = &rest[length..];
    }
}

/// Whether a brace begins the number of repetitions.
fn repeats(text: &str) -> bool {
    let Some((inner, _)) = text[1..].split_once('}') else { return false };
    let (least, most) = inner.split_once(',').unwrap_or((inner, ""));
    let digits = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
    !least.is_empty() && digits(least) && digits(most)
}

/// A backslash and what it is before; how long that is.
fn escape(text: &str, out: &mut String) -> usize {
    let Some(escaped) = text[1..].chars().next() else {
        // Perl refuses it, and so does the crate.
        out.push('\\');
        return 1;
    };
    let braced = |out: &mut String| {
        // `\x{263a}`, `\p{L}`: the braces belong to it.
        let end = text[2..].strip_prefix('{').and_then(|inner| inner.find('}')).map_or(2, |end| end + 4);
        out.push_str(&text[..end]);
        end
    };
    match escaped {
        '<' | '>' => out.push(escaped),
        'Z' => out.push_str(r"(?:\n?\z)"),
        'h' => out.push_str(r"[\t ]"),
        'H' => out.push_str(r"[^\t ]"),
        'v' => out.push_str(r"[\n-\r]"),
        'N' => out.push_str(r"[^\n]"),
        'R' => out.push_str(r"(?:\r\n|[\n-\r])"),
        'e' => out.push_str(r"\x1b"),
        'x' | 'p' | 'P' => return braced(out),
        c if c.is_ascii() => {
            out.push('\\');
            out.push(c);
        }
        // Before anything else it means nothing to Perl.
        c => out.push(c),
    }
    1 + escaped.len_utf8()
}

/// A class in brackets; how long it is. What is special in it only for the crate is escaped.
fn class(text: &str, out: &mut String) -> usize {
    out.push('[');
    let mut length = 1;
    if text[length..].starts_with('^') {
        out.push('^');
        length += 1;
    }
    // The first character may be a closing bracket.
    if text[length..].starts_with(']') {
        out.push_str(r"\]");
        length += 1;
    }
    while let Some(c) = text[length..].chars().next() {
        length += match c {
            ']' => {
                out.push(']');
                return length + 1;
            }
            '[' if text[length..].starts_with("[:") && text[length..].contains(":]") => {
                let end = text[length..].find(":]").map_or(1, |end| end + 2);
                out.push_str(&text[length..length + end]);
                end
            }
            '[' | '&' | '~' => {
                out.push('\\');
                out.push(c);
                1
            }
            '\\' => escape(&text[length..], out),
            _ => {
                out.push(c);
                c.len_utf8()
            }
        };
    }
    length
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn what_perl_finds_is_found() {
        // Each as `perl -e '$_ = TEXT; print /PATTERN/'` says.
        let cases: [(&str, &str, bool); 26] = [
            ("OK", "all OK here", true),
            ("^OK$", "OK\n", true),
            ("^OK$", "OK", true),
            ("^OK$", "OK\n\n", false),
            ("^OK$", "x\nOK\ny", false),
            (r"OK\Z", "OK\n", true),
            (r"OK\z", "OK\n", false),
            ("\"status\":{\"ok\"", "\"status\":{\"ok\"}", true),
            ("{ok}", "{ok}", true),
            ("a{2}", "aa", true),
            ("a{2,}b", "aab", true),
            ("a{,2}b", "a{,2}b", true),
            ("[[]x", "[x", true),
            ("[]]x", "]x", true),
            ("[^]]x", "]x", false),
            ("[a&&b]", "&", true),
            ("[[:alpha:]]+", "1a", true),
            (r"\<b\>", "<b>", true),
            (r"a\hb", "a\tb", true),
            ("a.b", "a\u{fc}b", false),
            ("a..b", "a\u{fc}b", true),
            (r"\d+ users", "12 users", true),
            ("(?i)ok", "OK", true),
            (r"a\$b", "a$b", true),
            ("^$", "", true),
            ("gr\u{fc}n", "gr\u{fc}n", true),
        ];
        for (source, text, found) in cases {
            let pattern = pattern(source, Ends::Text).unwrap_or_else(|error| panic!("{source}: {error}"));
            assert_eq!(pattern.is_in(text.as_bytes()), found, "{source} in {text:?}");
        }
        // What is no UTF-8 is text as any other.
        assert!(pattern("a.*b", Ends::Text).is_ok_and(|pattern| pattern.is_in(b"a\xfcb")));
    }

    #[test]
    fn line_by_line_each_has_its_ends() {
        let pattern = pattern("^220 ready$", Ends::Lines).expect("it is one");
        assert!(pattern.is_in(b"hello\n220 ready\nbye\n"));
        assert!(!pattern.is_in(b"hello 220 ready\n"));
    }

    #[test]
    fn unsupported_expressions_are_refused() {
        for source in [r"(a)\1", "a(?=b)", "(", "a\\"] {
            assert!(pattern(source, Ends::Text).is_err(), "{source}");
        }
    }

    proptest! {
        #[test]
        fn any_text_is_a_pattern_or_refused(source in r"[\[\]{}\\$^a-c0-9&~:,()ü<>hRZ-]{0,20}") {
            pattern(&source, Ends::Text).ok();
            pattern(&source, Ends::Lines).ok();
        }
    }
}
