//! The engine without a kernel: what a configuration makes of given results of checks. Pure.

use std::time::Instant;

use super::{Engine, table::wanted_at_exit};
use crate::{
    health::{Sample, Source},
    ipvs::{Conflict, Table, Wanted, difference},
    model::{Check, Config, DestinationKey},
    pool::Presence,
};

/// A run of the agent on an empty table, with results that the caller gives.
#[derive(Debug)]
pub struct DryRun {
    config: Config,
    engine: Engine,
    table: Table,
}

/// A check of a destination.
#[derive(Clone, Debug)]
pub struct PlannedCheck {
    /// The destination.
    pub destination: DestinationKey,
    /// The index of the check among those of the destination.
    pub index: usize,
    /// The check.
    pub check: Check,
}

impl DryRun {
    /// Starts at `now`: nothing is known of any server.
    pub fn new(config: Config, now: Instant) -> Result<Self, Conflict> {
        let mut engine = Engine::new(&config.services, |_| Presence::Absent);
        engine.decide_all(now);
        let mut dry_run = Self { config, engine, table: Table::default() };
        dry_run.write(&dry_run.engine.wanted())?;
        Ok(dry_run)
    }

    /// All checks of the configuration.
    pub fn checks(&self) -> impl Iterator<Item = PlannedCheck> {
        self.config.services.iter().flat_map(|service| {
            service.all_checks().map(|(destination, index, check)| PlannedCheck {
                destination,
                index,
                check: check.clone(),
            })
        })
    }

    /// Records the result of a regular check of `destination`, the one with this `index`.
    pub fn record(
        &mut self,
        destination: &DestinationKey,
        index: usize,
        success: bool,
        now: Instant,
    ) -> Result<(), Conflict> {
        let sample = Sample { check: Some(index), success, source: Source::Baseline };
        self.engine.observe(destination, sample, None, now);
        self.write(&self.engine.wanted())
    }

    /// Stops as the agent does.
    pub fn end(&mut self) -> Result<(), Conflict> {
        wanted_at_exit(&self.config).map_or(Ok(()), |last| self.write(&last))
    }

    /// The table as the agent's edits have made it.
    #[must_use]
    pub fn table(&self) -> &Table {
        &self.table
    }

    fn write(&mut self, wanted: &Wanted) -> Result<(), Conflict> {
        difference(&self.table, wanted).iter().try_for_each(|edit| self.table.apply(edit))
    }
}
