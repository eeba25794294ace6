//! What is valid, or was accepted all the same, and its author should know about.

use std::{fmt, net::IpAddr};

use thiserror::Error;

use super::{Leniency, Note, Place};
use crate::model::Mode;

/// How exact a file must be.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Strictness {
    /// What is unambiguous is read, with a warning.
    #[default]
    Lenient,
    /// What the format's own program would refuse is refused.
    Strict,
}

/// Something that was accepted, and where. Displayed like a fault, without the file's name.
#[derive(Clone, Debug, PartialEq)]
pub struct Warning {
    /// The warning, whose message says what happens instead.
    pub kind: WarningKind,
    /// The part of the file that it is about.
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
        "timeout {timeout} is above the interval {interval}: a check never overlaps itself, so a silent server is \
         only checked every {timeout}"
    )]
    TimeoutAboveInterval {
        /// The timeout with its unit, such as `2s`.
        timeout: String,
        /// The interval with its unit.
        interval: String,
    },
    /// Something that a check or command needs isn't there.
    #[error("{need}: {problem}; until that is mended {effect}")]
    Unmet {
        /// The key that asks for it, with its value.
        need: String,
        /// Why it can't be used.
        problem: String,
        /// What can't be done without it.
        effect: &'static str,
    },
    /// A check above has keys that could be meant for this one as well.
    #[error(
        "{}: not taken over from the check of the service or of [defaults], which has another type than {kind:?}; write \
         it here too if it is meant, or inherit = false if it isn't",
        quoted(keys)
    )]
    NotTakenOver {
        /// The names of the keys.
        keys: Vec<&'static str>,
        /// The value of `type` of this check.
        kind: &'static str,
    },
    /// One answer that counts for several servers.
    #[error(
        "all {servers} servers without a check of their own are asked at {address}: they will be up or down together; \
         write connect-to in each [[service.server]] instead"
    )]
    OneAddressForAll {
        /// How many servers.
        servers: usize,
        /// The address in `connect-to`.
        address: IpAddr,
    },
    /// A scheduler that refuses the clients of a server at weight 0.
    #[error(
        "the kernel refuses the clients of a server at weight 0 under scheduler {scheduler}, for as long as it is down: \
         write on-failure = \"remove\"{}",
        if *scheduler == "dh" { "" } else { ", or leave scheduler-flags away or add \"{scheduler}-fallback\" to them" }
    )]
    Refuses {
        /// The scheduler's name.
        scheduler: &'static str,
    },
    /// In [`Mode::Adopt`] servers are the table's.
    #[error(
        "in mode adopt there are no backups, because the agent adds nothing new to the table; this one is ignored"
    )]
    BackupInAdopt,
    /// Only in [`Mode::Manage`] services may be added to the table.
    #[error(
        "via = \"vip\" has no effect in mode {mode}: it takes services by firewall mark in the kernel's table, which is \
         left alone; the check goes to the server itself"
    )]
    VipUnmanaged {
        /// The mode.
        mode: Mode,
    },
    /// Only in [`Mode::Manage`] anything but the table is changed.
    #[error("[sync] has no effect in mode {mode}: the kernel's synchronisation daemons are left alone")]
    SyncUnmanaged {
        /// The mode.
        mode: Mode,
    },
}

/// The keys in quotes.
fn quoted(keys: &[&str]) -> String {
    let quoted: Vec<_> = keys.iter().map(|key| format!("{key:?}")).collect();
    quoted.join(", ")
}
