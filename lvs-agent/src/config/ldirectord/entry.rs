//! A directive as it is written: its name, its value, and where they are.

use std::ops::Range;

use super::directive::Directive;

/// A directive and its value.
#[derive(Clone, Debug)]
pub(super) struct Entry {
    pub(super) directive: Directive,
    pub(super) home: Home,
    /// Without the comment and without blanks at its ends.
    pub(super) value: String,
    /// Where the value is, or the directive where there is none.
    pub(super) place: Range<usize>,
}

impl Entry {
    /// The value for messages: no secrets.
    pub(super) fn shown(&self) -> String {
        match self.directive {
            Directive::Passwd | Directive::Secret => "…".to_owned(),
            _ => self.value.clone(),
        }
    }
}

/// What a directive is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Home {
    /// Everything.
    Global,
    /// A virtual service, by its number in the file. Its head belongs to it, too.
    Virtual(usize),
}

/// Blanks between words. A carriage return is only left over where it doesn't end the line.
pub(super) fn is_blank(c: char) -> bool {
    matches!(c, ' ' | '\t' | '\r' | '\u{b}' | '\u{c}')
}
