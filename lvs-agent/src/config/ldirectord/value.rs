//! The kinds of value.

use std::{num::NonZeroU32, path::PathBuf, time::Duration};

use super::{
    entry::{Entry, is_blank},
    findings::Findings,
};
use crate::{
    config::{
        common::is_mail_address,
        diagnostics::{Leniency, Note},
    },
    model::{CommandLine, MailAbout},
};

/// The most failures in a row, as everywhere.
const MAX_COUNT: u32 = 100;
/// The longest duration, as everywhere: whoever writes more has mistaken a unit.
const MAX_SECONDS: u64 = 24 * 3600;
/// The longest persistence, as ipvsadm has it.
const MAX_PERSISTENCE: u64 = 31 * 24 * 3600;
/// Characters for which a shell is needed, by perlfunc(1), `exec`.
const SHELL: &str = "$&*(){}[]'\";\\|?<>~`\n";

/// The first run of digits, as ldirectord takes it, and where it ends.
fn first_digits(text: &str) -> Option<(&str, usize)> {
    let start = text.find(|c: char| c.is_ascii_digit())?;
    let length = text[start..].find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len() - start);
    Some((&text[start..start + length], start + length))
}

/// A whole number above 0, up to `max`.
fn number(entry: &Entry, max: u64, findings: &mut Findings) -> Option<u64> {
    let Some((digits, end)) = first_digits(&entry.value) else {
        findings.value(entry, "has no number in it; write a whole one");
        return None;
    };
    let number = digits.parse::<u64>().unwrap_or(u64::MAX);
    if number == 0 || number > max {
        findings.value(entry, format!("is not a number from 1 to {max}"));
        return None;
    }
    if end != entry.value.len() || digits.len() != entry.value.len() {
        let (directive, text) = (entry.directive.name(), entry.value.clone());
        findings.note(&entry.place, Note::FirstDigits { directive, number: number.to_string(), text });
    }
    Some(number)
}

/// Whole seconds.
pub(super) fn seconds(entry: &Entry, findings: &mut Findings) -> Option<Duration> {
    number(entry, MAX_SECONDS, findings).map(Duration::from_secs)
}

/// Whole seconds of persistence.
pub(super) fn persistence(entry: &Entry, findings: &mut Findings) -> Option<Duration> {
    number(entry, MAX_PERSISTENCE, findings).map(Duration::from_secs)
}

/// Failures in a row.
pub(super) fn count(entry: &Entry, findings: &mut Findings) -> Option<NonZeroU32> {
    let number = number(entry, MAX_COUNT.into(), findings)?;
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

/// The first run of such characters, and what is behind it.
pub(super) fn first_run(text: &str, belongs: impl Fn(char) -> bool) -> Option<(&str, &str)> {
    let start = text.find(&belongs)?;
    let rest = &text[start..];
    let length = rest.find(|c| !belongs(c)).unwrap_or(rest.len());
    Some(rest.split_at(length))
}

/// What is in quotes, up to the last one; without them the whole value. Never empty.
pub(super) fn quoted(entry: &Entry, findings: &mut Findings) -> Option<String> {
    let inner = match between_quotes(&entry.value) {
        Some((inner, rest)) => {
            findings.rest(entry, rest);
            inner
        }
        None if entry.value.contains('"') => {
            findings.value(entry, "has one quote only; write the other one");
            return None;
        }
        None => {
            findings.lenient(&entry.place, Leniency::Unquoted { directive: entry.directive.name() });
            &entry.value
        }
    };
    if inner.is_empty() {
        findings.value(entry, "is empty; write something, or leave the directive out");
        return None;
    }
    Some(inner.to_owned())
}

/// What is between the first character, which must be a quote, and the last quote; and what is behind that.
pub(super) fn between_quotes(text: &str) -> Option<(&str, &str)> {
    let (inner, rest) = text.strip_prefix('"')?.rsplit_once('"')?;
    Some((inner, rest))
}

/// What may be in quotes. Never empty.
pub(super) fn maybe_quoted(entry: &Entry, findings: &mut Findings) -> Option<String> {
    let inner = between_quotes(&entry.value).map_or(entry.value.as_str(), |(inner, rest)| {
        findings.rest(entry, rest);
        inner
    });
    if inner.trim().is_empty() {
        findings.value(entry, "is empty; write something, or leave the directive out");
        return None;
    }
    Some(inner.to_owned())
}

/// Any text. Never empty.
pub(super) fn rest(entry: &Entry, findings: &mut Findings) -> Option<String> {
    if entry.value.is_empty() {
        findings.value(entry, "is empty; write something, or leave the directive out");
        return None;
    }
    Some(entry.value.clone())
}

/// The path of a file or folder, from the root on.
pub(super) fn path(entry: &Entry, text: String, findings: &mut Findings) -> Option<PathBuf> {
    if !text.starts_with('/') {
        findings.value(entry, "is not an absolute path; let it begin with a slash");
        return None;
    }
    Some(PathBuf::from(text))
}

/// A command line as a shell would take it: without anything special in it, words between blanks.
pub(super) fn command_line(text: &str) -> CommandLine {
    let mut words = text.split(is_blank).filter(|word| !word.is_empty());
    match words.next() {
        Some(program) if !text.contains(|c| SHELL.contains(c)) => {
            CommandLine { program: program.into(), arguments: words.map(str::to_owned).collect() }
        }
        _ => CommandLine {
            program: "/bin/sh".into(),
            // What is appended are the shell's own arguments then.
            arguments: vec!["-c".to_owned(), format!("{text} \"$@\""), "ldirectord".to_owned()],
        },
    }
}

/// Mail addresses between commas.
pub(super) fn addresses(entry: &Entry, findings: &mut Findings) -> Option<Vec<String>> {
    let text = maybe_quoted(entry, findings)?;
    let addresses: Vec<String> = text.split(',').map(|one| one.trim().to_owned()).collect();
    if addresses.iter().any(|one| !is_mail_address(one)) {
        findings.value(
            entry,
            "is not a list of mail addresses; write one like admin@example.org,ops@example.org",
        );
        return None;
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
