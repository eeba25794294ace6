//! How a service's pool is run, beyond the weights of healthy servers.

use std::{num::NonZeroU32, path::PathBuf, time::Duration};

use super::{Backup, defaults};

/// How a service's pool is run.
#[derive(Clone, Debug, PartialEq)]
pub struct PoolPolicy {
    /// Servers that come in when too few of the others are healthy: all of them that are healthy, with their weights.
    /// They are in the table only then, and are taken out of it (never quiesced) as soon as the quorum is back.
    pub backups: Vec<Backup>,
    /// How many healthy servers a service needs.
    pub quorum: Quorum,
    /// Over how long a time the weight of a server that has come back rises to its own; `None`: at once.
    pub slow_start: Option<Duration>,
    /// What becomes of a server that isn't in the kernel's table yet and of which nothing is known.
    pub start: StartPolicy,
    /// The share of a service's servers, from 0 to 1, that the fast path may take out at most; never the last one.
    pub fast_share: f64,
    /// How a server that flaps is held back.
    pub flap: FlapDamping,
    /// How long a probe may take that is to refute the suspicion of an application; `None`: its check's timeout.
    pub confirm_timeout: Option<Duration>,
    /// What is done about a server whose clients fail while its checks succeed.
    pub on_contradiction: OnContradiction,
}

impl Default for PoolPolicy {
    fn default() -> Self {
        Self {
            backups: Vec::new(),
            quorum: Quorum { weight: defaults::QUORUM, hysteresis: 0, up: None, down: None },
            slow_start: None,
            start: StartPolicy::default(),
            fast_share: defaults::FAST_SHARE,
            flap: FlapDamping::default(),
            confirm_timeout: None,
            on_contradiction: OnContradiction::default(),
        }
    }
}

/// How many healthy servers a service needs, and what is run when it has too few.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Quorum {
    /// The sum of the healthy servers' weights below which the quorum is lost. 1: one server of any weight above 0.
    pub weight: NonZeroU32,
    /// How far above it the sum must rise again for the quorum to be back, and how far below it must fall to be lost.
    pub hysteresis: u32,
    /// Run when the quorum is back: program and arguments.
    pub up: Option<CommandLine>,
    /// Run when the quorum is lost.
    pub down: Option<CommandLine>,
}

/// A program and its arguments; no shell reads them.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct CommandLine {
    /// The program's path, or its name on `PATH`.
    pub program: PathBuf,
    /// The arguments after the program's name, each as one word.
    pub arguments: Vec<String>,
}

/// What becomes of a new server of which nothing is known yet.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum StartPolicy {
    /// It gets no traffic before its first success.
    #[default]
    Out,
    /// It gets its share at once, until it has failed.
    In,
}

/// What is done about a server whose clients fail while its checks succeed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum OnContradiction {
    /// People are told.
    #[default]
    Report,
    /// It is also taken out, as `on-failure` says, where its siblings serve, and tried again after a while.
    Remove,
}

/// How a server that comes and goes is held back: each time it goes down within the memory of the last time it must be
/// well for longer before it is let in again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FlapDamping {
    /// How long it must be well at the first relapse; doubles with each further one. Zero: no damping.
    pub penalty: Duration,
    /// The longest that it must be well.
    pub penalty_max: Duration,
    /// How long a server must have been up for its past to be forgotten.
    pub memory: Duration,
}

impl Default for FlapDamping {
    fn default() -> Self {
        Self {
            penalty: defaults::FLAP_PENALTY,
            penalty_max: defaults::FLAP_PENALTY_MAX,
            memory: defaults::FLAP_MEMORY,
        }
    }
}
