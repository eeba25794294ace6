//! What follows the address of a real server: method, weight, request and receive, thresholds.
//!
//! ldirectord looks for each of them in turn, anywhere in what is left of the line; what stands before one is dropped,
//! and nothing may be left at the end.

use super::{
    entry::{Entry, is_blank},
    findings::Findings,
    quotes,
};
use crate::{
    config::diagnostics::{Leniency, Note},
    model::{ForwardingMethod, Weight},
};

/// What is written after the address of a real server.
#[derive(Clone, Debug)]
pub(super) struct Flags {
    pub(super) method: ForwardingMethod,
    pub(super) weight: Weight,
    /// What is requested, and what must be received.
    pub(super) request: Option<(String, String)>,
    pub(super) lower: u32,
    pub(super) upper: u32,
}

const METHODS: [(&str, ForwardingMethod); 3] = [
    ("gate", ForwardingMethod::DirectRoute),
    ("masq", ForwardingMethod::Masquerade),
    ("ipip", ForwardingMethod::Tunnel),
];

/// A method by its name; what is wrong with the word is noted.
pub(super) fn method(entry: &Entry, word: &str, findings: &mut Findings) -> Option<ForwardingMethod> {
    let known = METHODS.iter().find(|(name, _)| word.eq_ignore_ascii_case(name));
    let Some((name, method)) = known else {
        let problem = if !word.is_empty() && word.bytes().all(|byte| byte.is_ascii_digit()) {
            format!(
                "has {word:?} where gate, masq or ipip should be; a port is written after a colon, such as 10.0.0.1:{word}"
            )
        } else {
            format!("has {word:?} where gate, masq or ipip should be; write one of these")
        };
        findings.value(entry, problem);
        return None;
    };
    if word != *name {
        findings.lenient(&place_of(entry, word), Leniency::OtherLetters { word: name });
    }
    Some(*method)
}

/// Where a word of an entry is.
fn place_of(entry: &Entry, word: &str) -> std::ops::Range<usize> {
    // Tabs have become blanks where the value was cut out; then the whole value is shown.
    let is_as_written = entry.value.len() == entry.place.len();
    let at = entry.value.rfind(word).filter(|_| is_as_written);
    at.map_or_else(|| entry.place.clone(), |at| entry.place.start + at..entry.place.start + at + word.len())
}

/// All of it; what is wrong is noted.
pub(super) fn read(entry: &Entry, text: &str, findings: &mut Findings) -> Option<Flags> {
    let Some((before, word, rest)) = word(text) else {
        findings.value(entry, "has no forwarding method; write it like 10.0.0.1:80 masq 1, with gate, masq or ipip after the address");
        return None;
    };
    findings.rest(entry, before);
    let method = method(entry, word, findings)?;
    let parts = Parts::of(rest);
    if (!parts.left.is_empty() || parts.dropped.iter().any(|dropped| dropped.contains(quotes::is_foreign)))
        && let Some((normal, first)) = quotes::replaced(rest)
    {
        let (directive, quotes) = (entry.directive.name(), quotes::pair(first, first));
        let other = Parts::of(&normal);
        if other.left.is_empty() {
            findings.lenient(&entry.place, Leniency::ForeignQuotes { directive, quotes });
            return finish(entry, method, &other, findings);
        }
    }
    finish(entry, method, &parts, findings)
}

/// What may be between two texts.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Between {
    /// One comma or blank, and then blanks: as ldirectord wants it.
    Exact,
    /// Any of both.
    Any,
}

/// What was found in a line.
struct Parts<'t> {
    weight: Option<&'t str>,
    request: Option<(&'t str, &'t str)>,
    between: Between,
    lower: Option<&'t str>,
    upper: Option<&'t str>,
    /// Whether the upper threshold stands before the lower one, where ldirectord doesn't find it.
    upper_first: bool,
    /// What has no effect.
    dropped: Vec<&'t str>,
    /// What ldirectord doesn't take.
    left: &'t str,
}

impl<'t> Parts<'t> {
    fn of(text: &'t str) -> Self {
        let mut parts = Self {
            weight: None,
            request: None,
            between: Between::Exact,
            lower: None,
            upper: None,
            upper_first: false,
            dropped: Vec::new(),
            left: text,
        };
        parts.weight = parts.number("");
        parts.texts();
        parts.lower = parts.number("l:");
        let before_lower = parts.dropped.last().copied().filter(|_| parts.lower.is_some());
        parts.upper = parts.number("u:");
        if let Some(before) = before_lower
            && parts.upper.is_none()
            && let Some((more, upper, rest)) = number(before, "u:")
            && more.trim_matches(is_blank).is_empty()
            && rest.trim_matches(is_blank).is_empty()
        {
            (parts.upper, parts.upper_first) = (Some(upper), true);
            parts.dropped.retain(|dropped| *dropped != before);
        }
        parts.left = parts.left.trim_matches(is_blank);
        parts.dropped.retain(|dropped| !dropped.trim_matches(is_blank).is_empty());
        parts
    }

    /// The first number with this before it; what is before that is dropped.
    fn number(&mut self, prefix: &str) -> Option<&'t str> {
        let (before, digits, rest) = number(self.left, prefix)?;
        self.dropped.push(before);
        self.left = rest;
        Some(digits)
    }

    /// The first two texts in quotes.
    fn texts(&mut self) {
        let text = self.left;
        for between in [Between::Exact, Between::Any] {
            let starts = text.match_indices(is_blank).map(|(at, _)| at);
            let found = starts.map(|at| text.split_at(at)).find_map(|(before, rest)| {
                let rest = rest.trim_start_matches(is_blank);
                two_texts(rest, between).map(|(request, receive, rest)| (before, request, receive, rest))
            });
            if let Some((before, request, receive, rest)) = found {
                self.dropped.push(before);
                (self.request, self.left, self.between) = (Some((request, receive)), rest, between);
                return;
            }
        }
    }
}

/// The first word, what is before it, and what behind.
fn word(text: &str) -> Option<(&str, &str, &str)> {
    super::value::first_run(text, |c| c.is_ascii_alphanumeric() || c == '_')
}

/// The first digits that follow blanks and `prefix`, what is before the blanks, and what is behind the digits.
fn number<'t>(text: &'t str, prefix: &str) -> Option<(&'t str, &'t str, &'t str)> {
    text.match_indices(is_blank).find_map(|(at, _)| {
        let (before, rest) = text.split_at(at);
        let rest = rest.trim_start_matches(is_blank).strip_prefix(prefix)?;
        let digits = rest.find(|c: char| !c.is_ascii_digit()).unwrap_or(rest.len());
        (digits > 0).then(|| (before, &rest[..digits], &rest[digits..]))
    })
}

/// Two texts in quotes, and what is behind them. Quotes within are part of the text: the second one ends at the last
/// quote, and begins as late as it can.
fn two_texts(text: &str, between: Between) -> Option<(&str, &str, &str)> {
    let (inner, rest) = text.strip_prefix('"')?.rsplit_once('"')?;
    let (end, start) = inner.match_indices('"').map(|(at, _)| at).rev().find_map(|at| {
        let behind = &inner[at + 1..];
        let begins = if between == Between::Any {
            behind.trim_start_matches(|c| is_blank(c) || c == ',')
        } else {
            behind.strip_prefix([',', ' '])?.trim_start_matches(is_blank)
        };
        (begins.len() < behind.len() && begins.starts_with('"')).then(|| (at, inner.len() - begins.len() + 1))
    })?;
    Some((&inner[..end], &inner[start..], rest))
}

/// The parts as values.
fn finish(
    entry: &Entry,
    method: ForwardingMethod,
    parts: &Parts<'_>,
    findings: &mut Findings,
) -> Option<Flags> {
    if !parts.left.is_empty() {
        findings.value(entry, left_over(parts));
        return None;
    }
    let mut number = |text: Option<&str>, usual: u32, most: u32, what: &str| {
        let number = text.map_or(Some(usual), |text| text.parse().ok().filter(|number| *number <= most));
        if number.is_none() {
            let text = text.unwrap_or_default();
            findings.value(entry, format!("has {text:?} where {what} from 0 to {most} should be"));
        }
        number
    };
    let weight = number(parts.weight, 1, u16::MAX.into(), "a weight");
    let lower = number(parts.lower, 0, u32::MAX, "a lower threshold");
    let upper = number(parts.upper, 0, u32::MAX, "an upper threshold");
    let (weight, lower, upper) = (u16::try_from(weight?).ok()?, lower?, upper?);
    // `ip_vs_add_dest` refuses it, so that ldirectord never gets the server into the table.
    if lower > upper {
        findings.value(
            entry,
            "has a lower threshold above the upper one, which the kernel refuses; write l:10 u:20, or leave out l:",
        );
        return None;
    }
    if parts.upper_first {
        findings.note(&entry.place, Note::ThresholdOrder);
    }
    if parts.between == Between::Any {
        findings.lenient(&entry.place, Leniency::Between);
    }
    if !parts.dropped.is_empty() {
        let words: Vec<_> = parts.dropped.iter().map(|dropped| dropped.trim_matches(is_blank)).collect();
        let (directive, rest) = (entry.directive.name(), words.join(" "));
        findings.note(&entry.place, Note::Ignored { directive, rest });
    }
    let request = parts.request.map(|(request, receive)| (request.to_owned(), receive.to_owned()));
    Some(Flags { method, weight: Weight(weight), request, lower, upper })
}

/// What is wrong with what ldirectord doesn't take.
fn left_over(parts: &Parts<'_>) -> String {
    let left = parts.left;
    let first = left.split(is_blank).next().unwrap_or(left);
    if left.contains('"') && parts.request.is_none() {
        return "does not have two texts in quotes; write \"request\", \"what must be received\"".to_owned();
    }
    format!(
        "has {first:?}, which is none of weight, two texts in quotes, l:10 and u:20, in this order; remove it"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Weight, request, receive, thresholds, and what is dropped, as ldirectord has them.
    type Expected = (&'static str, Option<(&'static str, &'static str)>, [&'static str; 2], &'static str);

    #[test]
    fn each_part_is_found_where_ldirectord_finds_it() {
        let cases: &[(&str, Expected)] = &[
            ("", ("", None, ["", ""], "")),
            (" 5", ("5", None, ["", ""], "")),
            (" -w 7", ("7", None, ["", ""], "-w")),
            (" weight 5", ("5", None, ["", ""], "weight")),
            (" 5 l:1 u:2", ("5", None, ["1", "2"], "")),
            (" l:1 x u:2", ("", None, ["1", "2"], "x")),
            (" l:1 7 u:2", ("7", None, ["", "2"], "l:1")),
            (" 1 \"/x\", \"ok\"", ("1", Some(("/x", "ok")), ["", ""], "")),
            (" 1 \"/x\" \"ok\" u:3", ("1", Some(("/x", "ok")), ["", "3"], "")),
            (" 1 \"/x\",\"o \"k\"", ("1", Some(("/x", "o \"k")), ["", ""], "")),
            (" x \"/x\",\"ok\"", ("", Some(("/x", "ok")), ["", ""], "x")),
            (" \"/a 5 b\", \"c\", \"d\"", ("5", Some(("c", "d")), ["", ""], "\"/a b\",")),
            (" u:20 l:10", ("", None, ["10", "20"], "")),
        ];
        for (text, (weight, request, [lower, upper], dropped)) in cases {
            let parts = Parts::of(text);
            let number = |found: Option<&'static str>| found.unwrap_or_default();
            assert_eq!(number(parts.weight), *weight, "{text}");
            assert_eq!(parts.request, *request, "{text}");
            assert_eq!([number(parts.lower), number(parts.upper)], [*lower, *upper], "{text}");
            let words: Vec<_> = parts.dropped.iter().map(|dropped| dropped.trim()).collect();
            assert_eq!(words.join(" "), *dropped, "{text}");
            assert_eq!(parts.left, "", "{text}");
        }
    }

    #[test]
    fn what_ldirectord_does_not_take_is_left() {
        for (text, left) in
            [(" 5 x", "x"), (" weight=5", "weight=5"), (" \"/x\"", "\"/x\""), (" 1 \"5 x\", \"ok\" z", "z")]
        {
            assert_eq!(Parts::of(text).left, left, "{text}");
        }
    }
}
