//! How services are treated that only the kernel's table knows.

use std::num::NonZeroU32;

use super::{
    Check, CheckKind, FurtherChecks, IdleConnection, OnFailure, PoolPolicy, SecondChance, ServiceKey,
    Transport, defaults,
};

/// Settings of services that are in the kernel's table and not listed, where those are checked as well.
#[derive(Clone, Debug, PartialEq)]
pub struct Unlisted {
    /// Failures in a row that make a server's soft state hard.
    pub fall: NonZeroU32,
    /// Successes in a row that bring it back.
    pub rise: NonZeroU32,
    /// What is done to a server in hard state; `None`: what suits the scheduler.
    pub on_failure: Option<OnFailure>,
    /// The check of each server.
    pub check: Check,
    /// Whether the kind of that check is used; if not, it is the one that suits the service.
    pub asks: bool,
    /// Further checks of each server.
    pub further: FurtherChecks,
    /// Whether an idle connection to each server is kept.
    pub idle_connection: IdleConnection,
    /// Whether connections that have just begun get a second chance.
    pub second_chance: SecondChance,
    /// How the pool is run. It has no backups.
    pub policy: PoolPolicy,
}

impl Default for Unlisted {
    fn default() -> Self {
        Self {
            fall: defaults::FALL,
            rise: defaults::RISE,
            on_failure: None,
            check: Check::default(),
            asks: false,
            further: FurtherChecks::default(),
            idle_connection: IdleConnection::default(),
            second_chance: SecondChance::default(),
            policy: PoolPolicy::default(),
        }
    }
}

impl Unlisted {
    /// The checks of the servers of the service `key`: of all checks those that can be made there, at least the one
    /// that suits the service.
    #[must_use]
    pub fn checks_of(&self, key: ServiceKey) -> (Check, FurtherChecks) {
        let Self { check, further, asks, .. } = self;
        let first = if *asks && suits(check, key) { check.clone() } else { usual(check, key) };
        let others = further.checks.iter().filter(|check| suits(check, key));
        let checks = others.map(|check| check.clone().of_service(key)).collect();
        (first.of_service(key), FurtherChecks { checks, combine: further.combine })
    }
}

/// The same check with the kind that is the default: a connection where clients make some.
fn usual(check: &Check, key: ServiceKey) -> Check {
    let mut check = Check { port: None, ..check.clone() };
    if Transport::Tcp.comes_to(&key) {
        check.kind = CheckKind::Connect;
    } else {
        check.kind = CheckKind::Ping;
        check.via.connect_timeout = None;
    }
    check
}

/// Whether a check says which port to check, or clients come to that of each server over the same transport, or it
/// needs none.
fn suits(check: &Check, key: ServiceKey) -> bool {
    let Some(transport) = check.kind.transport() else { return true };
    check.port.is_some() || transport.comes_to(&key)
}
