//! How long the servers of a service may be without a first result. Pure.
//!
//! A server that nothing is known of may yet be healthy, so that it holds up the quorum's decision. It must not do so
//! for longer than its first check takes: a check that can't be made never has a result.

use std::{
    collections::HashMap,
    net::SocketAddr,
    time::{Duration, Instant},
};

use crate::{
    model::{Check, Role},
    pool::FirstCheck,
};

/// How much later than due a first result may come: timers, and a scheduler with other checks to start.
const SLACK: Duration = Duration::from_millis(100);

/// A destination of one service: its address, and whether it is a backup.
type Key = (SocketAddr, bool);

/// By when the unknown servers of a service should have had their first result.
#[derive(Debug, Default)]
pub(super) struct FirstChecks(HashMap<Key, Instant>);

impl FirstChecks {
    /// Notes who is unknown at `now`, with the checks of each. Whoever has been so before keeps its time; whoever is
    /// new has as long as its slowest check takes to start and to end.
    pub(super) fn note<'c, C: Iterator<Item = &'c Check>>(
        &mut self,
        unknown: impl Iterator<Item = (SocketAddr, Role, C)>,
        now: Instant,
    ) {
        let before = std::mem::take(&mut self.0);
        self.0 = unknown
            .map(|(address, role, checks)| {
                let takes = checks.map(|check| check.interval + check.timeout).max().unwrap_or_default();
                let key = key(address, role);
                (key, before.get(&key).copied().unwrap_or(now + takes + SLACK))
            })
            .collect();
    }

    /// Whether a server has still time for its first result.
    pub(super) fn of(&self, address: SocketAddr, role: Role, now: Instant) -> FirstCheck {
        match self.0.get(&key(address, role)) {
            Some(until) if *until <= now => FirstCheck::Overdue,
            _ => FirstCheck::InTime,
        }
    }

    /// When the next one is overdue.
    pub(super) fn next(&self, now: Instant) -> Option<Instant> {
        self.0.values().filter(|until| **until > now).min().copied()
    }
}

fn key(address: SocketAddr, role: Role) -> Key {
    (address, matches!(role, Role::Backup(_)))
}
