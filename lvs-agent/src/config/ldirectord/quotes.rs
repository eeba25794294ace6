//! Quotes: ldirectord knows one kind, `"`; word processors and other languages have more, and people write them where
//! there should be none.

use super::{
    directive::{Directive as D, Form},
    entry::{Entry, is_blank},
    findings::Findings,
};
use crate::config::diagnostics::{Leniency, Note};

/// The quote that ldirectord knows.
const OWN: char = '"';
/// Those that only look like it: of ASCII, of Unicode's general punctuation and Latin-1, primes, and of CJK and full
/// width forms.
const FOREIGN: &[char] = &[
    '\'', '`', '\u{b4}', '\u{ab}', '\u{bb}', '\u{2018}', '\u{2019}', '\u{201a}', '\u{201b}', '\u{201c}',
    '\u{201d}', '\u{201e}', '\u{201f}', '\u{2032}', '\u{2033}', '\u{2035}', '\u{2036}', '\u{2039}',
    '\u{203a}', '\u{275b}', '\u{275c}', '\u{275d}', '\u{275e}', '\u{300c}', '\u{300d}', '\u{300e}',
    '\u{300f}', '\u{301d}', '\u{301e}', '\u{301f}', '\u{ff02}', '\u{ff07}',
];

/// What is around a text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Around<'t> {
    /// No quotes.
    Nothing,
    /// The quotes that ldirectord knows, and what is in them.
    Own(&'t str),
    /// What is in quotes of which one at least is foreign, and the first and the last of them.
    Foreign { inner: &'t str, first: char, last: char },
    /// A quote at one end only.
    OneEnd(char),
}

/// Whether it looks like a quote and is none for ldirectord.
pub(super) fn is_foreign(c: char) -> bool {
    FOREIGN.contains(&c)
}

fn is_quote(c: char) -> bool {
    c == OWN || is_foreign(c)
}

/// What is around `text`.
pub(super) fn around(text: &str) -> Around<'_> {
    let mut chars = text.chars();
    let (first, last) = (chars.next(), chars.next_back());
    match (first.filter(|c| is_quote(*c)), last.filter(|c| is_quote(*c))) {
        (Some(OWN), Some(OWN)) => Around::Own(chars.as_str()),
        (Some(first), Some(last)) => Around::Foreign { inner: chars.as_str(), first, last },
        (Some(one), None) | (None, Some(one)) => Around::OneEnd(one),
        (None, None) => Around::Nothing,
    }
}

/// `text` with ldirectord's quotes in place of the foreign ones that stand beside a blank, a comma or an end; `None` if
/// there are none.
pub(super) fn replaced(text: &str) -> Option<(String, char)> {
    let ends = |c: Option<char>| c.is_none_or(|c| is_blank(c) || c == ',');
    let mut found = None;
    let mut out = String::with_capacity(text.len());
    let mut before = None;
    let mut chars = text.chars().peekable();
    while let Some(c) = chars.next() {
        if is_foreign(c) && (ends(before) || ends(chars.peek().copied())) {
            found.get_or_insert(c);
            out.push(OWN);
        } else {
            out.push(c);
        }
        before = Some(c);
    }
    found.map(|first| (out, first))
}

/// What ldirectord makes of quotes where none belong.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Effect {
    /// It reads the same value.
    None,
    /// It refuses the file.
    Refused,
    /// It takes them as part of the value.
    Part,
    /// They are a matter of the directive itself.
    Own,
}

fn effect(entry: &Entry) -> Effect {
    match (entry.directive, entry.directive.form()) {
        (D::Virtual | D::Virtual6 | D::Smtp | D::Emailalertfreq | D::Real | D::Real6, _) => Effect::Refused,
        (D::Maintenancedir, _) => Effect::Part,
        (D::Virtualhost, _) | (_, Form::Quoted | Form::Rest) => Effect::Own,
        (_, Form::Exact) => Effect::Refused,
        (_, Form::First) => Effect::None,
    }
}

/// The entry without quotes where none belong, which is noted.
pub(super) fn without_needless(entry: Entry, findings: &mut Findings) -> Entry {
    let directive = entry.directive.name();
    let effect = effect(&entry);
    let (inner, first, last) = match around(&entry.value) {
        _ if effect == Effect::Own => return entry,
        Around::Own(inner) => (inner, OWN, OWN),
        Around::Foreign { inner, first, last } => (inner, first, last),
        Around::Nothing | Around::OneEnd(_) => return entry,
    };
    // The texts of a real server have quotes of their own.
    if matches!(entry.directive, D::Real | D::Real6) && inner.contains(is_quote) {
        return entry;
    }
    let quotes = pair(first, last);
    match effect {
        Effect::None => findings.note(&entry.place, Note::NeedlessQuotes { directive, quotes }),
        Effect::Refused | Effect::Part | Effect::Own => {
            let refused = effect == Effect::Refused;
            findings.lenient(&entry.place, Leniency::NeedlessQuotes { directive, quotes, refused });
        }
    }
    let place = entry.place.start + first.len_utf8()..entry.place.end - last.len_utf8();
    let value = inner.trim_matches(is_blank).to_owned();
    Entry { value, place, ..entry }
}

/// Two quotes as a message shows them.
pub(super) fn pair(first: char, last: char) -> String {
    if first == last { first.to_string() } else { format!("{first} {last}") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quotes_of_any_kind_are_seen() {
        for (text, expected) in [
            ("\"a\"", Around::Own("a")),
            ("\"\"", Around::Own("")),
            ("'a'", Around::Foreign { inner: "a", first: '\'', last: '\'' }),
            ("“a”", Around::Foreign { inner: "a", first: '“', last: '”' }),
            ("\"a”", Around::Foreign { inner: "a", first: '"', last: '”' }),
            ("„a“", Around::Foreign { inner: "a", first: '„', last: '“' }),
            ("«a»", Around::Foreign { inner: "a", first: '«', last: '»' }),
            ("‘a", Around::OneEnd('‘')),
            ("a\"", Around::OneEnd('"')),
            ("\"", Around::OneEnd('"')),
            ("it's", Around::Nothing),
            ("", Around::Nothing),
        ] {
            assert_eq!(around(text), expected, "{text}");
        }
    }

    #[test]
    fn only_quotes_at_the_ends_of_words_are_replaced() {
        assert_eq!(replaced("1 ‘/x’, ‘it’s’ l:1"), Some(("1 \"/x\", \"it’s\" l:1".to_owned(), '‘')));
        assert_eq!(replaced("1 it’s \"x\""), None);
    }
}
