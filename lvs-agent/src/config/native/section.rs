//! A table of the file, from which keys are taken one by one; what is left over at the end is unknown.

use std::{borrow::Cow, ops::Range};

use toml::{
    Spanned,
    de::{DeTable, DeValue},
};

use super::value;
use crate::config::diagnostics::{FaultKind, FaultList, KeyFault, ValueFault};

/// A table of the file.
pub(super) struct Section<'i> {
    title: &'static str,
    span: Range<usize>,
    values: DeTable<'i>,
    taken: Vec<&'static str>,
    /// The keys that another table has lent.
    inherited: Vec<&'static str>,
}

impl<'i> Section<'i> {
    /// The table at `span`, called `title` in messages.
    pub(super) fn new(title: &'static str, span: Range<usize>, values: DeTable<'i>) -> Self {
        Self { title, span, values, taken: Vec::new(), inherited: Vec::new() }
    }

    /// The place of the table, or of its header.
    pub(super) fn span(&self) -> Range<usize> {
        self.span.clone()
    }

    /// Takes a key and its value out.
    fn take(&mut self, key: &'static str) -> Option<(Range<usize>, Spanned<DeValue<'i>>)> {
        self.taken.push(key);
        self.values.remove_entry(key).map(|(key, value)| (key.span(), value))
    }

    /// Takes a value; a faulty one is noted and counts as not there.
    pub(super) fn read<T>(
        &mut self,
        key: &'static str,
        faults: &mut FaultList,
        read: impl FnOnce(&DeValue<'i>) -> Result<T, ValueFault>,
    ) -> Option<Spanned<T>> {
        let (_, value) = self.take(key)?;
        match read(value.get_ref()) {
            Ok(result) => Some(Spanned::new(value.span(), result)),
            Err(fault) => {
                faults.add(value.span(), FaultKind::Value { key, fault });
                None
            }
        }
    }

    /// The same, without the place.
    pub(super) fn plain<T>(
        &mut self,
        key: &'static str,
        faults: &mut FaultList,
        read: impl FnOnce(&DeValue<'i>) -> Result<T, ValueFault>,
    ) -> Option<T> {
        self.read(key, faults, read).map(Spanned::into_inner)
    }

    /// Whether the key was written and not taken yet.
    pub(super) fn has(&self, key: &str) -> bool {
        self.values.contains_key(key)
    }

    /// Adds a key that another table lends to this one, unless it is written here.
    pub(super) fn inherit(&mut self, key: &'static str, value: Spanned<DeValue<'i>>) {
        if !self.values.contains_key(key) {
            self.values.insert(Spanned::new(value.span(), Cow::Borrowed(key)), value);
            self.inherited.push(key);
        }
    }

    /// Whether another table has lent this key.
    pub(super) fn is_inherited(&self, key: &str) -> bool {
        self.inherited.contains(&key)
    }

    /// Whether the key is written in the table itself, and was not taken yet.
    pub(super) fn is_written(&self, key: &str) -> bool {
        self.has(key) && !self.is_inherited(key)
    }

    /// Whether somebody has asked for the key.
    pub(super) fn takes(&self, key: &str) -> bool {
        self.taken.contains(&key)
    }

    /// The place of a key that was not taken yet.
    pub(super) fn place(&self, key: &str) -> Option<Range<usize>> {
        self.values.get_key_value(key).map(|(key, _)| key.span())
    }

    /// A text that was not taken yet, without taking it.
    pub(super) fn text(&self, key: &str) -> Option<&str> {
        self.values.get(key)?.get_ref().as_str()
    }

    /// The keys and values that were not taken yet.
    pub(super) fn values(&self) -> &DeTable<'i> {
        &self.values
    }

    /// Removes a key whatever its value, and returns its place.
    pub(super) fn drop_key(&mut self, key: &'static str) -> Option<Range<usize>> {
        self.values.remove_entry(key).map(|(key, _)| key.span())
    }

    /// Notes that a key should be there.
    pub(super) fn missing(&self, key: &'static str, example: &'static str, faults: &mut FaultList) {
        faults.add(self.span(), KeyFault::Missing { key, section: self.title, example });
    }

    /// Takes a key that has no meaning for a check of type `kind`.
    pub(super) fn refuse_for_check(&mut self, key: &'static str, kind: &'static str, faults: &mut FaultList) {
        if let Some((span, _)) = self.take(key) {
            faults.add(span, KeyFault::WrongCheck { key, kind });
        }
    }

    /// Takes a table.
    pub(super) fn table(
        &mut self,
        key: &'static str,
        title: &'static str,
        faults: &mut FaultList,
    ) -> Option<Self> {
        let (_, value) = self.take(key)?;
        let span = value.span();
        match value.into_inner() {
            DeValue::Table(values) => Some(Section::new(title, span, values)),
            other => {
                let fault = value::wrong_type(&other, "a table, such as { … }");
                faults.add(span, FaultKind::Value { key, fault });
                None
            }
        }
    }

    /// Takes an array of tables; none if the key isn't there.
    pub(super) fn tables(
        &mut self,
        key: &'static str,
        title: &'static str,
        faults: &mut FaultList,
    ) -> Vec<Self> {
        let mut wrong = |span, value: &DeValue<'_>| {
            let fault = value::wrong_type(value, "a table for each, under a header in double brackets");
            faults.add(span, FaultKind::Value { key, fault });
        };
        let Some((_, value)) = self.take(key) else { return Vec::new() };
        let span = value.span();
        let items = match value.into_inner() {
            DeValue::Array(items) => items,
            other => {
                wrong(span, &other);
                return Vec::new();
            }
        };
        let sections = items.into_iter().filter_map(|item| {
            let span = item.span();
            match item.into_inner() {
                DeValue::Table(values) => Some(Section::new(title, span, values)),
                other => {
                    wrong(span, &other);
                    None
                }
            }
        });
        sections.collect()
    }

    /// Takes a table, or an array of tables; `None` if the key isn't there.
    pub(super) fn one_or_more(
        &mut self,
        key: &'static str,
        title: &'static str,
        faults: &mut FaultList,
    ) -> Option<Vec<Self>> {
        match self.values.get(key)?.get_ref() {
            DeValue::Array(_) => Some(self.tables(key, title, faults)),
            _ => Some(self.table(key, title, faults).into_iter().collect()),
        }
    }

    /// Notes every key that nobody took.
    pub(super) fn finish(self, faults: &mut FaultList) {
        for key in self.values.keys() {
            let fault = KeyFault::Unknown {
                key: key.get_ref().to_string(),
                section: self.title,
                nearest: nearest(key.get_ref(), &self.taken),
                known: self.taken.clone(),
            };
            faults.add(key.span(), fault);
        }
    }
}

/// The known key that looks most like `key`, if any is close: a third of the letters may differ.
fn nearest(key: &str, known: &[&str]) -> Option<String> {
    let allowed = (key.chars().count() / 3).max(1);
    known
        .iter()
        .map(|known| (strsim::damerau_levenshtein(&key.to_lowercase().replace('_', "-"), known), known))
        .min_by_key(|(distance, _)| *distance)
        .filter(|(distance, _)| *distance <= allowed)
        .map(|(_, known)| (*known).to_owned())
}
