//! Lines, comments, indentation: which directive stands where, and with what value.
//!
//! ldirectord's own rules are followed in parallel, so that it is known what it would have made of each line.

use std::{collections::HashSet, ops::Range};

use super::{
    directive::{Directive, Form, Scope},
    entry::{Entry, Home, is_blank},
    findings::Findings,
    flush_left,
};
use crate::config::diagnostics::{DirectiveFault, Leniency};

/// How many columns ldirectord wants before a line of a virtual service.
const INDENTATION: usize = 4;
/// What it counts a tab as.
const TAB: &str = "    ";
const BYTE_ORDER_MARK: char = '\u{feff}';

/// All directives in the order of the file; what is none is noted.
pub(super) fn read(text: &str, findings: &mut Findings) -> Vec<Entry> {
    let of_virtuals = flush_left::of_virtuals(text);
    let mut reader = Reader { findings, entries: Vec::new(), heads: 0, open: Open::Yes, of_virtuals };
    if text.contains("\r\n") {
        let end = text.find('\r').unwrap_or(0);
        reader.findings.lenient(&(end..end + 1), Leniency::CarriageReturn);
    }
    let mut start = 0;
    for line in text.split('\n') {
        reader.line(start, line.strip_suffix('\r').unwrap_or(line));
        start += line.len() + 1;
    }
    reader.entries
}

/// Whether the last virtual service is still open for ldirectord.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Open {
    Yes,
    /// A blank line has ended it.
    Blank,
    /// A global directive has.
    Global,
}

struct Reader<'f> {
    findings: &'f mut Findings,
    entries: Vec<Entry>,
    heads: usize,
    open: Open,
    /// Where lines begin that could be global, and are a virtual service's.
    of_virtuals: HashSet<usize>,
}

impl Reader<'_> {
    fn line(&mut self, mut start: usize, mut line: &str) {
        if let Some(rest) = line.strip_prefix(BYTE_ORDER_MARK).filter(|_| start == 0) {
            let mark = BYTE_ORDER_MARK.len_utf8();
            self.findings.lenient(&(0..mark), Leniency::ByteOrderMark);
            (start, line) = (mark, rest);
        }
        let rest = line.trim_start_matches(is_blank);
        let indentation = &line[..line.len() - rest.len()];
        let columns = indentation.replace('\t', TAB).len();
        let place = start + indentation.len()..start + line.trim_end_matches(is_blank).len();
        if rest.starts_with('#') {
            self.comment(start, line);
        } else if rest.is_empty() {
            self.blank(start..start + line.len(), columns);
        } else if let Some((directive, name_end)) = self.directive(rest, &place) {
            let home = self.home(directive, columns, &(place.start..place.start + name_end));
            let Some(home) = home else { return };
            self.entry(directive, home, place.start, rest, name_end);
        }
    }

    /// A comment says nothing, in whatever bytes.
    fn comment(&mut self, start: usize, comment: &str) {
        if let Some(at) = comment.find(char::REPLACEMENT_CHARACTER) {
            let at = start + at;
            self.findings.lenient(&(at..at + 1), Leniency::ForeignBytes);
        }
    }

    fn blank(&mut self, place: Range<usize>, columns: usize) {
        if self.heads == 0 {
            return;
        }
        if columns > INDENTATION && self.open == Open::Yes {
            self.findings.lenient(&place, Leniency::BlankDirective);
        } else {
            self.open = Open::Blank;
        }
    }

    /// The directive that a line begins with, and where its name ends; what is none is noted.
    fn directive(&mut self, line: &str, place: &Range<usize>) -> Option<(Directive, usize)> {
        let bare = || line.split(['#', ' ', '\t']).next().filter(|word| *word == "supervised");
        let Some((name, _)) = line.split_once('=').or_else(|| bare().map(|word| (word, ""))) else {
            let text = line.chars().take(60).collect();
            self.findings.fault(place, DirectiveFault::NoDirective { text });
            return None;
        };
        let name = name.trim_end_matches(is_blank);
        let directive = Directive::of(name);
        if directive.is_none() {
            let word: String = name.chars().take(60).collect();
            let fault = DirectiveFault::Unknown { nearest: nearest(&word), word };
            self.findings.fault(&(place.start..place.start + name.len()), fault);
        }
        directive.map(|directive| (directive, name.len()))
    }

    /// What a directive is about; `None` if that can't be said, which is noted.
    fn home(&mut self, directive: Directive, columns: usize, place: &Range<usize>) -> Option<Home> {
        let scope = directive.scope();
        let last = self.heads.checked_sub(1);
        if let Some(last) = last.filter(|_| columns == 0 && self.of_virtuals.contains(&place.start)) {
            self.findings.lenient(place, Leniency::FlushLeft { directive: directive.name() });
            self.open = Open::Yes;
            return Some(Home::Virtual(last));
        }
        if scope == Scope::Head {
            if columns > 0 {
                self.findings.lenient(place, Leniency::IndentedVirtual);
            }
            (self.heads, self.open) = (self.heads + 1, Open::Yes);
            return Some(Home::Virtual(self.heads - 1));
        }
        let is_global = scope.is_global() && (columns == 0 || last.is_none() || !scope.is_virtual());
        if is_global {
            if columns > 0 {
                self.findings.lenient(place, Leniency::IndentedGlobal);
            } else {
                self.open = Open::Global;
            }
            return Some(Home::Global);
        }
        let Some(last) = last else {
            self.findings.fault(place, DirectiveFault::OutsideVirtual { directive: directive.name() });
            return None;
        };
        match self.open {
            Open::Blank => self.findings.lenient(place, Leniency::AfterBlankLine),
            Open::Global => self.findings.lenient(place, Leniency::AfterGlobal),
            Open::Yes if columns < INDENTATION => {
                self.findings.lenient(place, Leniency::Indentation { columns });
            }
            Open::Yes => {}
        }
        // What was reported once need not be reported for every line after it.
        self.open = Open::Yes;
        Some(Home::Virtual(last))
    }

    /// Cuts the value out of the line.
    fn entry(&mut self, directive: Directive, home: Home, start: usize, line: &str, name_end: usize) {
        let after_name = &line[name_end..];
        let after_name = after_name.trim_start_matches(is_blank);
        let raw = after_name.strip_prefix('=').unwrap_or(after_name).trim_start_matches(is_blank);
        let value_start = start + line.len() - raw.len();
        // The line of a head is read like a global one.
        let in_virtual = home != Home::Global && directive.scope() != Scope::Head;
        let cut = if in_virtual {
            self.cut_in_virtual(directive, raw, value_start)
        } else {
            self.cut_in_global(directive, raw, value_start)
        };
        let value = raw[..cut].trim_end_matches(is_blank);
        if cut > value.len() && in_virtual && must_end_exactly(directive) {
            let place = value_start + value.len()..value_start + cut;
            self.findings
                .lenient(&place, Leniency::TrailingBlanks { refused: directive != Directive::Checkcommand });
        } else if cut == raw.len() && raw.len() > value.len() && !in_virtual && must_end_exactly(directive) {
            let place = value_start + value.len()..value_start + raw.len();
            let refused = directive.form() == Form::Exact;
            self.findings.lenient(&place, Leniency::TrailingBlanks { refused });
        }
        let mut value_text = value.to_owned();
        if in_virtual {
            value_text = value_text.replace('\t', TAB);
        }
        let place =
            if value.is_empty() { start..start + name_end } else { value_start..value_start + value.len() };
        if value.contains(char::REPLACEMENT_CHARACTER) || value.chars().any(|c| c.is_control() && c != '\t') {
            let problem = "has bytes that are not text; write it as UTF-8".to_owned();
            let fault =
                DirectiveFault::Value { directive: directive.name(), text: "…".to_owned(), problem };
            self.findings.fault(&place, fault);
            return;
        }
        self.comment(value_start + cut, &raw[cut..]);
        self.entries.push(Entry { directive, home, value: value_text, place });
    }

    /// ldirectord cuts every line of a virtual service at the first `#`.
    fn cut_in_virtual(&mut self, directive: Directive, raw: &str, start: usize) -> usize {
        let Some(cut) = raw.find('#') else { return raw.len() };
        if directive.form() == Form::Quoted
            && raw.starts_with('"')
            && !raw[1..cut].contains('"')
            && let Some(end) = raw[cut..].find('"')
        {
            // Whoever writes quotes means what is in them.
            self.findings.lenient(&(start + cut..start + cut + 1), Leniency::HashInQuotes);
            let end = cut + end + 1;
            return raw[end..].find('#').map_or(raw.len(), |comment| end + comment);
        }
        cut
    }

    /// Globally it cuts nothing; a `#` after a blank is meant to begin a comment all the same.
    fn cut_in_global(&mut self, directive: Directive, raw: &str, start: usize) -> usize {
        let begins_comment = |at: &usize| *at == 0 || raw[..*at].ends_with(is_blank);
        let hashes = raw.match_indices('#').map(|(at, _)| at);
        let after_quotes = if directive.form() == Form::Quoted && raw.starts_with('"') {
            raw[1..].find('"').map_or(0, |end| end + 2)
        } else {
            0
        };
        let Some(cut) = hashes.filter(|at| *at >= after_quotes).find(begins_comment) else {
            return raw.len();
        };
        let place = start + cut..start + raw.trim_end_matches(is_blank).len();
        let value = raw[..cut].trim_end_matches(is_blank);
        match directive.form() {
            Form::First
                if directive.scope() == Scope::Head || value.chars().any(|c| c.is_ascii_alphanumeric()) => {}
            Form::Quoted if after_quotes > 0 && !raw[after_quotes..].contains('"') => {}
            Form::First if raw[cut..].chars().any(|c| c.is_ascii_digit()) => {
                // There is only a comment, and ldirectord finds a number in it.
                self.findings.lenient(&place, Leniency::TrailingComment { refused: false });
            }
            Form::First => {}
            Form::Exact => self.findings.lenient(&place, Leniency::TrailingComment { refused: true }),
            Form::Quoted | Form::Rest => {
                self.findings.lenient(&place, Leniency::TrailingComment { refused: false });
            }
        }
        cut
    }
}

/// Whether blanks at the end make another value of it.
fn must_end_exactly(directive: Directive) -> bool {
    let is_exact = directive.form() == Form::Exact;
    (is_exact && !matches!(directive, Directive::Fallback | Directive::Fallback6))
        || directive == Directive::Checkcommand
}

/// The directive that looks most like `word`, if any is close: a third of the letters may differ.
fn nearest(word: &str) -> Option<&'static str> {
    let allowed = (word.chars().count() / 3).max(1);
    Directive::names()
        .map(|known| (strsim::damerau_levenshtein(&word.to_lowercase(), known), known))
        .min_by_key(|(distance, _)| *distance)
        .filter(|(distance, _)| *distance <= allowed)
        .map(|(_, known)| known)
}
