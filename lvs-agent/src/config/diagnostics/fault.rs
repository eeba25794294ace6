//! What is wrong, and where: all of it at once.

use std::{
    fmt,
    ops::Range,
    path::{Path, PathBuf},
};

use thiserror::Error;

use super::{
    Contradiction, DirectiveFault, KeyFault, Need, Place, Prerequisite, ValueFault, Warning, WarningKind,
};

/// How many faults are kept: a person mends a screen of them at a time, and a wrong default may fault every server.
const KEPT_FAULTS: usize = 20;

/// What was found wrong in one configuration.
#[derive(Debug)]
pub struct Faults {
    /// Where the text came from.
    pub origin: PathBuf,
    /// The first faults in the order of the file, at least one.
    pub first: Vec<Fault>,
    /// How many there are beyond those.
    pub more: usize,
}

impl std::error::Error for Faults {}

impl fmt::Display for Faults {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (number, fault) in self.first.iter().enumerate() {
            if number > 0 {
                writeln!(f)?;
            }
            let Place { line, column, .. } = &fault.place;
            writeln!(f, "{}:{line}:{column}: {}", self.origin.display(), fault.kind)?;
            write!(f, "{}", fault.place)?;
        }
        if self.more > 0 {
            write!(f, "\n… and {} more", self.more)?;
        }
        Ok(())
    }
}

/// One thing that is wrong, and where.
#[derive(Clone, Debug, PartialEq)]
pub struct Fault {
    /// The fault, whose message says what to write instead.
    pub kind: FaultKind,
    /// The key, value or section that is at fault.
    pub place: Place,
}

/// What is wrong.
#[derive(Clone, Debug, PartialEq, Error)]
pub enum FaultKind {
    /// The text doesn't follow the format's grammar.
    #[error("not valid TOML: {message}{}", tripped_over(text))]
    Syntax {
        /// What the parser has to say.
        message: String,
        /// The text that it tripped over; empty where something is missing.
        text: String,
    },
    /// A key is unknown, missing, or doesn't belong here.
    #[error(transparent)]
    Key(#[from] KeyFault),
    /// A key's value can't be used.
    #[error("{key}: {fault}")]
    Value {
        /// The key's name.
        key: &'static str,
        /// What is wrong with its value.
        fault: ValueFault,
    },
    /// Each value could be used, but not all of them together.
    #[error(transparent)]
    Contradiction(#[from] Contradiction),
    /// A directive of ldirectord's can't be used.
    #[error(transparent)]
    Directive(#[from] DirectiveFault),
}

/// The second half of the message about the grammar.
fn tripped_over(text: &str) -> String {
    if text.is_empty() { String::new() } else { format!(", found {text:?}") }
}

/// Collects faults while a reader goes on with what it can still make sense of.
#[derive(Debug, Default)]
pub(crate) struct FaultList {
    faults: Vec<(Range<usize>, FaultKind)>,
    warnings: Vec<(Range<usize>, WarningKind)>,
    needs: Vec<(Range<usize>, Prerequisite)>,
}

impl FaultList {
    /// Notes a fault at the bytes `span` of the text.
    pub(crate) fn add(&mut self, span: Range<usize>, kind: impl Into<FaultKind>) {
        self.faults.push((span, kind.into()));
    }

    /// Notes what is no fault and should be known all the same.
    pub(crate) fn warn(&mut self, span: Range<usize>, kind: impl Into<WarningKind>) {
        self.warnings.push((span, kind.into()));
    }

    /// Notes what a value needs outside of the file.
    pub(crate) fn need(&mut self, span: Range<usize>, prerequisite: Prerequisite) {
        self.needs.push((span, prerequisite));
    }

    /// What the values need outside of the file, in its order.
    pub(crate) fn take_needs(&mut self, text: &str) -> Vec<Need> {
        let mut needs = std::mem::take(&mut self.needs);
        needs.sort_by_key(|(span, _)| (span.start, span.end));
        let needs = without_copies(needs).into_iter();
        needs.map(|(span, prerequisite)| Need::new(prerequisite, text, &span)).collect()
    }

    /// How many faults were noted.
    pub(crate) fn len(&self) -> usize {
        self.faults.len()
    }

    /// The warnings in the order of the text.
    pub(crate) fn take_warnings(&mut self, text: &str) -> Vec<Warning> {
        let mut warnings = std::mem::take(&mut self.warnings);
        warnings.sort_by_key(|(span, _)| (span.start, span.end));
        without_copies(warnings)
            .into_iter()
            .map(|(span, kind)| Warning { kind, place: Place::new(text, &span) })
            .collect()
    }

    /// `value`, unless a fault was noted.
    pub(crate) fn finish<T>(mut self, value: T, text: &str, origin: &Path) -> Result<T, Faults> {
        self.faults.sort_by_key(|(span, _)| (span.start, span.end));
        self.faults = without_copies(self.faults);
        if self.faults.is_empty() {
            return Ok(value);
        }
        let more = self.faults.len().saturating_sub(KEPT_FAULTS);
        self.faults.truncate(KEPT_FAULTS);
        let faults = self.faults.into_iter();
        let first = faults.map(|(span, kind)| Fault { kind, place: Place::new(text, &span) }).collect();
        Err(Faults { origin: origin.to_owned(), first, more })
    }
}

/// Each of them once: what `[defaults]` says is read again for each service that takes it over.
fn without_copies<T: PartialEq>(sorted: Vec<(Range<usize>, T)>) -> Vec<(Range<usize>, T)> {
    let mut kept: Vec<(Range<usize>, T)> = Vec::with_capacity(sorted.len());
    for one in sorted {
        let mut of_place = kept.iter().rev().take_while(|other| other.0 == one.0);
        if !of_place.any(|other| other.1 == one.1) {
            kept.push(one);
        }
    }
    kept
}
