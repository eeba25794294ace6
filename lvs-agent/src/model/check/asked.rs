//! A check: what a server is asked, how often and from where.

use std::time::Duration;

use super::CheckKind;
use crate::model::{ServiceKey, Via, defaults};

/// A question and how often, how long and where it is asked.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Check {
    /// What is asked.
    pub kind: CheckKind,
    /// From the start of one check to the start of the next.
    pub interval: Duration,
    /// How long the whole check may take.
    pub timeout: Duration,
    /// The port that is asked, where it isn't the real server's own.
    pub port: Option<u16>,
    /// From where it is asked, and how long its steps may take.
    pub via: Via,
    /// The interval while the server's state is soft; `None`: [`Check::soft_interval`] says.
    pub soft_interval: Option<Duration>,
    /// How many times only a connection is asked for between two times that the question is; 0: never. A connection that
    /// fails brings the question at once (ldirectord's `checktype=N`).
    pub connects_between: u32,
}

impl Check {
    /// From the start of one check to the start of the next while a state is soft; never above the interval.
    #[must_use]
    pub fn soft_interval(&self) -> Duration {
        let usual = (self.interval / defaults::SOFT_PART).max(defaults::SOFT_LEAST);
        self.soft_interval.unwrap_or(usual).min(self.interval)
    }

    /// The same check for a server of the virtual service `key`, which a command may want to know.
    #[must_use]
    pub fn of_service(mut self, key: ServiceKey) -> Self {
        if let CheckKind::Command(command) = &mut self.kind {
            command.service = Some(key);
        }
        self
    }
}
