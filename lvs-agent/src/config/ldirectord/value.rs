//! The kinds of value.

use std::{num::NonZeroU32, path::PathBuf, time::Duration};

use super::{
    entry::{Entry, is_blank},
    findings::Findings,
    mail,
    quotes::{self, Around},
};
use crate::{
    config::diagnostics::{Leniency, Note},
    model::MailAbout,
};

/// The most failures in a row, as everywhere.
const MAX_COUNT: u32 = 100;
/// The longest duration, as everywhere: whoever writes more has mistaken a unit.
const MAX_SECONDS: u64 = 24 * 3600;
/// The longest persistence, as ipvsadm has it.
const MAX_PERSISTENCE: u64 = 31 * 24 * 3600;

/// The first run of digits, as ldirectord takes it, and where it ends.
fn first_digits(text: &str) -> Option<(&str, usize)> {
    let start = text.find(|c: char| c.is_ascii_digit())?;
    let length = text[start..].find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len() - start);
    Some((&text[start..start + length], start + length))
}

/// A whole number above 0; what is above `u64` is its highest.
fn positive(entry: &Entry, findings: &mut Findings) -> Option<u64> {
    let Some((digits, end)) = first_digits(&entry.value) else {
        findings.value(entry, "has no number in it; write a whole one");
        return None;
    };
    let number = digits.parse::<u64>().unwrap_or(u64::MAX);
    if number == 0 {
        findings.value(entry, "is 0, which has no meaning here; write a number from 1");
        return None;
    }
    if end != entry.value.len() || digits.len() != entry.value.len() {
        let (directive, text) = (entry.directive.name(), entry.value.clone());
        findings.note(&entry.place, Note::FirstDigits { directive, number: number.to_string(), text });
    }
    Some(number)
}

/// The same, up to `max`, above which the kernel or the protocol has nothing.
fn number(entry: &Entry, max: u64, findings: &mut Findings) -> Option<u64> {
    let number = positive(entry, findings)?;
    if number > max {
        findings.value(entry, format!("is not a number from 1 to {max}"));
        return None;
    }
    Some(number)
}

/// The same, up to `most`, which is taken for all that is above it.
fn at_most(entry: &Entry, most: u64, findings: &mut Findings) -> Option<u64> {
    let number = positive(entry, findings)?;
    if number > most {
        findings.note(&entry.place, Note::TooMuch { directive: entry.directive.name(), most });
    }
    Some(number.min(most))
}

/// Whole seconds.
pub(super) fn seconds(entry: &Entry, findings: &mut Findings) -> Option<Duration> {
    at_most(entry, MAX_SECONDS, findings).map(Duration::from_secs)
}

/// Whole seconds of persistence.
pub(super) fn persistence(entry: &Entry, findings: &mut Findings) -> Option<Duration> {
    number(entry, MAX_PERSISTENCE, findings).map(Duration::from_secs)
}

/// Failures in a row.
pub(super) fn count(entry: &Entry, findings: &mut Findings) -> Option<NonZeroU32> {
    let number = at_most(entry, MAX_COUNT.into(), findings)?;
    u32::try_from(number).ok().and_then(NonZeroU32::new)
}

/// A port.
pub(super) fn port(entry: &Entry, findings: &mut Findings) -> Option<u16> {
    number(entry, u16::MAX.into(), findings).and_then(|port| u16::try_from(port).ok())
}

/// Seconds between mails, which may be 0.
pub(super) fn repeat(entry: &Entry, findings: &mut Findings) -> Option<Duration> {
    if !entry.value.starts_with(|c: char| c.is_ascii_digit()) {
        findings.value(entry, "is not a number of seconds; write one, or 0 for no repeated mails");
        return None;
    }
    if first_digits(&entry.value).is_some_and(|(digits, _)| digits.bytes().all(|digit| digit == b'0')) {
        return Some(Duration::ZERO);
    }
    seconds(entry, findings)
}

/// `yes` or `no`.
pub(super) fn yes_no(entry: &Entry, findings: &mut Findings) -> Option<bool> {
    word(entry, &[("yes", true), ("no", false)], findings)
}

/// One of some words, in whatever letters, which must be the whole value.
pub(super) fn word<T: Copy>(
    entry: &Entry,
    known: &[(&'static str, T)],
    findings: &mut Findings,
) -> Option<T> {
    let Some((word, meaning)) = known.iter().find(|(word, _)| entry.value.eq_ignore_ascii_case(word)) else {
        let words: Vec<_> = known.iter().map(|(word, _)| *word).collect();
        findings.value(entry, format!("is unknown; write {}", words.join(" or ")));
        return None;
    };
    if entry.value != *word {
        findings.lenient(&entry.place, Leniency::OtherLetters { word });
    }
    Some(*meaning)
}

/// What is before the first run of such characters, the run, and what is behind it.
pub(super) fn first_run(text: &str, belongs: impl Fn(char) -> bool) -> Option<(&str, &str, &str)> {
    let (before, rest) = text.split_at(text.find(&belongs)?);
    let length = rest.find(|c| !belongs(c)).unwrap_or(rest.len());
    let (run, after) = rest.split_at(length);
    Some((before, run, after))
}

/// What is in quotes, up to the last one; without them the whole value. Never empty.
pub(super) fn quoted(entry: &Entry, findings: &mut Findings) -> Option<String> {
    let text = maybe_empty(entry, findings)?;
    if text.is_empty() {
        findings.value(entry, "is empty; write something, or leave the directive out");
        return None;
    }
    Some(text)
}

/// The same, which may be empty.
pub(super) fn maybe_empty(entry: &Entry, findings: &mut Findings) -> Option<String> {
    if let Some((inner, rest)) = between_quotes(&entry.value) {
        findings.rest(entry, rest);
        if let Around::Foreign { first, last, .. } = quotes::around(inner)
            && !first.is_ascii()
        {
            findings.note(&entry.place, Note::QuotesInQuotes { quotes: quotes::pair(first, last) });
        }
        return Some(inner.to_owned());
    }
    if let Some(inner) = in_foreign(entry, findings)? {
        return Some(inner);
    }
    if entry.value.contains('"') {
        findings.value(entry, "has one quote only; write the other one");
        return None;
    }
    findings.lenient(&entry.place, Leniency::Unquoted { directive: entry.directive.name() });
    Some(entry.value.clone())
}

/// What is in quotes that ldirectord doesn't know, which is noted; `Some(None)` if nothing is.
#[expect(clippy::option_option, reason = "a fault, which is noted, is another thing than nothing")]
fn in_foreign(entry: &Entry, findings: &mut Findings) -> Option<Option<String>> {
    match quotes::around(&entry.value) {
        Around::Foreign { inner, first, last } => {
            let (directive, quotes) = (entry.directive.name(), quotes::pair(first, last));
            findings.lenient(&entry.place, Leniency::ForeignQuotes { directive, quotes });
            Some(Some(inner.trim_matches(is_blank).to_owned()))
        }
        Around::OneEnd(quote) if quotes::is_foreign(quote) => {
            findings.value(
                entry,
                format!("has the quote {quote} at one end only; write the text between two \" characters"),
            );
            None
        }
        Around::OneEnd(_) | Around::Own(_) | Around::Nothing => Some(None),
    }
}

/// What is between the first character, which must be a quote, and the last quote; and what is behind that.
pub(super) fn between_quotes(text: &str) -> Option<(&str, &str)> {
    let (inner, rest) = text.strip_prefix('"')?.rsplit_once('"')?;
    Some((inner, rest))
}

/// What may be in quotes. Never empty.
pub(super) fn maybe_quoted(entry: &Entry, findings: &mut Findings) -> Option<String> {
    let inner = optionally_quoted(entry, findings)?;
    if inner.trim().is_empty() {
        findings.value(entry, "is empty; write something, or leave the directive out");
        return None;
    }
    Some(inner)
}

/// The same, which may be empty.
pub(super) fn optionally_quoted(entry: &Entry, findings: &mut Findings) -> Option<String> {
    if let Some((inner, rest)) = between_quotes(&entry.value) {
        findings.rest(entry, rest);
        return Some(inner.to_owned());
    }
    Some(in_foreign(entry, findings)?.unwrap_or_else(|| entry.value.clone()))
}

/// Any text. Never empty.
pub(super) fn rest(entry: &Entry, findings: &mut Findings) -> Option<String> {
    if entry.value.is_empty() {
        findings.value(entry, "is empty; write something, or leave the directive out");
        return None;
    }
    Some(entry.value.clone())
}

/// The path of a file or folder. One that doesn't begin at the root is taken from there, as ldirectord takes it while
/// it runs: its working directory is the root's.
pub(super) fn path(entry: &Entry, text: String, findings: &mut Findings) -> PathBuf {
    if text.starts_with('/') {
        return PathBuf::from(text);
    }
    let path = PathBuf::from(format!("/{text}"));
    let (directive, shown) = (entry.directive.name(), path.display().to_string());
    findings.note(&entry.place, Note::FromRoot { directive, path: shown });
    path
}

/// Mail addresses, each alone or in angle brackets behind a name. ldirectord hands the whole of it to the mail program;
/// parts that are no addresses are left out, which is noted.
pub(super) fn addresses(entry: &Entry, findings: &mut Findings) -> Option<Vec<String>> {
    // Only quotes around the whole of it are no part of it.
    let text = match quotes::around(&entry.value) {
        Around::Own(inner) if !inner.contains('"') => inner.to_owned(),
        Around::Foreign { inner, .. } if !inner.contains(quotes::is_foreign) => {
            maybe_quoted(entry, findings)?
        }
        _ => rest(entry, findings)?,
    };
    let (addresses, left_out) = mail::addresses(&text);
    if addresses.is_empty() {
        findings.note(&entry.place, Note::NoMailAddress { text });
        return None;
    }
    if !left_out.is_empty() {
        let rest = left_out.join(" ");
        findings.note(&entry.place, Note::NotMailed { rest, addresses: addresses.join(", ") });
    }
    Some(addresses)
}

/// Which changes mails are about.
pub(super) fn about(entry: &Entry, findings: &mut Findings) -> Option<MailAbout> {
    let words: Vec<&str> = entry.value.split(',').map(str::trim).collect();
    let mut about = MailAbout::NONE;
    for word in &words {
        match word.to_ascii_lowercase().as_str() {
            "all" => about = MailAbout::ALL,
            "starting" => about.starting = true,
            "running" => about.running = true,
            "stopping" => about.stopping = true,
            "reloading" => about.reloading = true,
            "none" if words.len() == 1 => return Some(MailAbout::NONE),
            "none" => {
                findings.value(entry, "has \"none\" beside other words; write one or the other");
                return None;
            }
            _ => {
                findings.value(
                    entry,
                    "is unknown; write all, none, or some of starting, running, stopping, reloading",
                );
                return None;
            }
        }
    }
    Some(about)
}
