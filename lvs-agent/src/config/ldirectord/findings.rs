//! What is found while a file is read: faults, and what should be known.

use std::{collections::BTreeSet, ops::Range, path::Path};

use super::{
    directive::Directive,
    entry::{Entry, is_blank},
    names,
};
use crate::config::{
    diagnostics::{
        DirectiveFault, FaultKind, FaultList, Faults, Leniency, NameFault, Need, Note, Place, Prerequisite,
        Strictness, Warning, WarningKind,
    },
    name_grace::NamePolicy,
};

/// Something is wrong, and was noted.
#[derive(Clone, Copy, Debug)]
pub(super) struct Noted;

/// Faults and warnings of one file.
pub(super) struct Findings {
    /// Where each line ends.
    ends: Vec<usize>,
    strictness: Strictness,
    faults: FaultList,
    warnings: Vec<(Range<usize>, WarningKind)>,
    policy: NamePolicy,
    /// Names without an address, for which something was left out.
    unresolved: BTreeSet<String>,
    /// How many times something was.
    left_out: usize,
}

impl Findings {
    pub(super) fn new(text: &str, strictness: Strictness, policy: NamePolicy) -> Self {
        let ends = text.match_indices('\n').map(|(end, _)| end).collect();
        Self {
            ends,
            strictness,
            faults: FaultList::default(),
            warnings: Vec::new(),
            policy,
            unresolved: BTreeSet::new(),
            left_out: 0,
        }
    }

    /// Notes a fault.
    pub(super) fn fault(&mut self, place: &Range<usize>, fault: impl Into<FaultKind>) {
        self.faults.add(place.clone(), fault);
    }

    /// Notes that an entry's value can't be used.
    pub(super) fn value(&mut self, entry: &Entry, problem: impl Into<String>) {
        let (directive, text) = (entry.directive.name(), entry.shown());
        self.fault(&entry.place, DirectiveFault::Value { directive, text, problem: problem.into() });
    }

    /// Notes that a name in an entry can't be resolved. Where names may have no address yet, what the entry is about is
    /// left out.
    pub(super) fn name(&mut self, directive: Directive, place: &Range<usize>, fault: NameFault) {
        if let (NameFault::Host { name, .. }, NamePolicy::MayBeMissing) = (&fault, self.policy)
            && names::is_name(name)
        {
            self.unresolved.insert(name.clone());
            self.left_out += 1;
            let (directive, name) = (directive.name(), name.clone());
            return self.note(place, Note::NoAddressYet { directive, name });
        }
        self.fault(place, DirectiveFault::Name { directive: directive.name(), fault });
    }

    /// Notes what ldirectord would not take: a fault in a file that must be exact.
    pub(super) fn lenient(&mut self, place: &Range<usize>, leniency: Leniency) {
        match self.strictness {
            Strictness::Strict => self.fault(place, DirectiveFault::Strict(leniency)),
            Strictness::Lenient => self.warnings.push((place.clone(), leniency.into())),
        }
    }

    /// Notes what should be known.
    pub(super) fn note(&mut self, place: &Range<usize>, note: Note) {
        self.warnings.push((place.clone(), note.into()));
    }

    /// Notes what an entry needs outside of the file.
    pub(super) fn need(&mut self, entry: &Entry, prerequisite: Prerequisite) {
        self.faults.need(entry.place.clone(), prerequisite);
    }

    /// What the entries need outside of the file, in its order.
    pub(super) fn take_needs(&mut self, text: &str) -> Vec<Need> {
        self.faults.take_needs(text)
    }

    /// Notes that the rest of a value has no effect, if there is any.
    pub(super) fn rest(&mut self, entry: &Entry, rest: &str) {
        let rest = rest.trim_matches(is_blank);
        if !rest.is_empty() {
            let note = Note::Ignored { directive: entry.directive.name(), rest: rest.to_owned() };
            self.note(&entry.place, note);
        }
    }

    /// The line of a byte, from 1.
    pub(super) fn line_of(&self, byte: usize) -> usize {
        self.ends.partition_point(|end| *end < byte) + 1
    }

    /// The names for which something was left out.
    pub(super) fn unresolved(&self) -> &BTreeSet<String> {
        &self.unresolved
    }

    /// How many times something was left out for lack of an address.
    pub(super) fn left_out(&self) -> usize {
        self.left_out
    }

    /// How many faults were noted.
    pub(super) fn faults(&self) -> usize {
        self.faults.len()
    }

    /// `value` and the warnings in the order of the file, unless a fault was noted.
    pub(super) fn finish<T>(
        mut self,
        value: T,
        text: &str,
        origin: &Path,
    ) -> Result<(T, Vec<Warning>), Faults> {
        self.warnings.sort_by_key(|(place, _)| (place.start, place.end));
        let mut warnings: Vec<Warning> = Vec::new();
        for (place, kind) in self.warnings {
            let place = Place::new(text, &place);
            // Of one line it is enough to say once that ldirectord would refuse it.
            let again = |other: &Warning| {
                other.place.line == place.line
                    && (other.kind == kind
                        || matches!((&other.kind, &kind), (WarningKind::Lenient(_), WarningKind::Lenient(_))))
            };
            if !warnings.iter().rev().take_while(|other| other.place.line == place.line).any(again) {
                warnings.push(Warning { kind, place });
            }
        }
        self.faults.finish((value, warnings), text, origin)
    }
}
