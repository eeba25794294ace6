//! TOML: tables with their keys, and the values in them.

use std::{fmt::Write as _, path::Path, time::Duration};

use humantime::format_duration;

use crate::model::CommandLine;

/// Keys and values of one table.
#[derive(Default)]
pub(super) struct Table(Vec<(&'static str, String)>);

impl Table {
    /// Adds a value.
    pub(super) fn add(&mut self, key: &'static str, value: impl Into<String>) {
        self.0.push((key, value.into()));
    }

    /// Adds a value if there is one.
    pub(super) fn maybe(&mut self, key: &'static str, value: Option<impl Into<String>>) {
        if let Some(value) = value {
            self.add(key, value);
        }
    }

    /// Adds a value unless it is the one that holds anyway.
    pub(super) fn unless<T: PartialEq>(
        &mut self,
        key: &'static str,
        value: &T,
        default: &T,
        show: impl Fn(&T) -> String,
    ) {
        if value != default {
            self.add(key, show(value));
        }
    }

    /// The keys that were added.
    pub(super) fn keys(&self) -> impl Iterator<Item = &'static str> {
        self.0.iter().map(|(key, _)| *key)
    }

    /// Whether a key was added.
    pub(super) fn has(&self, key: &str) -> bool {
        self.keys().any(|one| one == key)
    }

    /// In one line, as the value of another key.
    pub(super) fn inline(&self) -> String {
        let pairs: Vec<_> = self.0.iter().map(|(key, value)| format!("{key} = {value}")).collect();
        format!("{{ {} }}", pairs.join(", "))
    }

    /// Under its header; nothing if it is empty and need not be there.
    pub(super) fn under(&self, header: &str, always: bool) -> String {
        if self.0.is_empty() && !always {
            return String::new();
        }
        let lines =
            self.0.iter().fold(String::new(), |lines, (key, value)| lines + key + " = " + value + "\n");
        format!("{header}\n{lines}\n")
    }
}

/// Text as TOML's basic string.
pub(super) fn text(text: impl AsRef<str>) -> String {
    let mut quoted = String::from('"');
    for c in text.as_ref().chars() {
        match c {
            '"' | '\\' => quoted.extend(['\\', c]),
            '\n' => quoted.push_str("\\n"),
            '\t' => quoted.push_str("\\t"),
            '\r' => quoted.push_str("\\r"),
            // Writing to a string does not fail.
            c if c.is_control() => write!(quoted, "\\u{:04X}", u32::from(c)).unwrap_or_default(),
            c => quoted.push(c),
        }
    }
    quoted.push('"');
    quoted
}

/// A path as TOML's basic string.
pub(super) fn path(path: &Path) -> String {
    text(path.to_string_lossy())
}

/// A duration with its units, such as `"1m 30s"`.
pub(super) fn time(duration: &Duration) -> String {
    text(format_duration(*duration).to_string())
}

/// An array of texts.
pub(super) fn texts<T: AsRef<str>>(items: impl IntoIterator<Item = T>) -> String {
    let items: Vec<_> = items.into_iter().map(text).collect();
    format!("[{}]", items.join(", "))
}

/// An array of the program and its arguments.
pub(super) fn command_line(command: &CommandLine) -> String {
    let program = command.program.to_string_lossy().into_owned();
    texts(std::iter::once(program).chain(command.arguments.iter().cloned()))
}

/// A float, which has a point in TOML even if it is whole.
#[expect(clippy::trivially_copy_pass_by_ref, reason = "it is called like all that show a value")]
pub(super) fn float(number: &f64) -> String {
    format!("{number:?}")
}

/// The word for a value.
pub(super) fn word<T: PartialEq>(value: &T, known: &[(&str, T)]) -> String {
    text(known.iter().find(|(_, one)| one == value).map_or("", |(word, _)| word))
}
