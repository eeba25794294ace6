//! The result of reading a configuration.

use std::{fmt, path::Path};

use super::{
    diagnostics::{ConfigError, Need, Warning},
    name_grace::Unresolved,
    prerequisites,
};
use crate::model::{AgentSettings, Config, Mode};

/// The result of reading a configuration.
#[derive(Clone, Debug, PartialEq)]
pub struct Reading {
    /// The configuration, valid as a whole.
    pub config: Config,
    /// Which format it was written in.
    pub format: Format,
    /// What its author should know, in the order of the file.
    pub warnings: Vec<Warning>,
    /// What its checks need on the director, in the order of the file.
    pub needs: Vec<Need>,
    /// What was left out for lack of an address; nothing unless names may be missing.
    pub unresolved: Unresolved,
}

impl Reading {
    /// The warnings for people, each with its place in `file`; some of them on several lines.
    #[must_use]
    pub fn warnings_of(&self, file: &Path) -> Vec<String> {
        self.warnings.iter().map(|warning| format!("{}:{warning}", file.display())).collect()
    }

    /// The same with a warning for each need that this director doesn't meet now.
    #[must_use]
    pub(super) fn on_this_director(mut self) -> Self {
        self.warnings.extend(prerequisites::warnings(&self.needs));
        self.warnings.sort_by_key(|warning| (warning.place.line, warning.place.column));
        self
    }

    /// The same in another mode, if there is to be one.
    pub(super) fn in_mode(self, mode: Option<Mode>) -> Result<Self, ConfigError> {
        let Some(mode) = mode else { return Ok(self) };
        if !self.unresolved.names.is_empty() {
            // What is missing will come.
            let agent = AgentSettings { mode, ..self.config.agent };
            return Ok(Self { config: Config { agent, ..self.config }, ..self });
        }
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
