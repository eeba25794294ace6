//! What was understood, and what its author should know about all the same.

use std::fmt;

use thiserror::Error;

use super::{
    Config, ConfigError, Mode, Place,
    ldirectord::{Leniency, Note},
};

/// A configuration as it was understood.
#[derive(Clone, Debug, PartialEq)]
pub struct Reading {
    /// The configuration.
    pub config: Config,
    /// Which format it was written in.
    pub format: Format,
    /// What its author should know, in the order of the file.
    pub warnings: Vec<Warning>,
}

impl Reading {
    /// The same in another mode, if there is to be one.
    pub(super) fn in_mode(self, mode: Option<Mode>) -> Result<Self, ConfigError> {
        let Some(mode) = mode else { return Ok(self) };
        Ok(Self { config: self.config.in_mode(mode)?, ..self })
    }
}

/// A format of configuration files.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// The agent's own: TOML.
    Native,
    /// ldirectord's.
    Ldirectord,
}

impl fmt::Display for Format {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Native => "TOML",
            Self::Ldirectord => "ldirectord",
        })
    }
}

/// How exact a file must be.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Strictness {
    /// What is unambiguous is read, with a warning.
    #[default]
    Lenient,
    /// What the format's own program would refuse is refused.
    Strict,
}

/// Something that was understood, and where. Displayed like a fault, without the file's name.
#[derive(Clone, Debug, PartialEq)]
pub struct Warning {
    /// What.
    pub kind: WarningKind,
    /// Where.
    pub place: Place,
}

impl fmt::Display for Warning {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Place { line, column, .. } = &self.place;
        write!(f, "{line}:{column}: warning: {}\n{}", self.kind, self.place)
    }
}

/// What the author of a configuration should know about.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum WarningKind {
    /// ldirectord would refuse it, or make something of it that nobody means.
    #[error(transparent)]
    Lenient(#[from] Leniency),
    /// It is right, and does something else here than one may think.
    #[error(transparent)]
    Note(#[from] Note),
    /// A check that may take longer than its interval.
    #[error(
        "timeout {timeout} is above the interval {interval}: a check never overlaps itself, so a silent server is only \
         asked every {timeout}"
    )]
    TimeoutAboveInterval {
        /// The timeout.
        timeout: String,
        /// The interval.
        interval: String,
    },
    /// In [`Mode::Adopt`] servers are the table's.
    #[error(
        "in mode adopt there are no backups: they would have to be added to a table that is somebody else's; this one is \
         ignored"
    )]
    BackupInAdopt,
}
