//! What a configuration makes of given answers, without a kernel: the stages that decide, and nothing around them. Pure.

use std::time::Instant;

use super::{Engine, table::last_wanted};
use crate::{
    health::{Sample, Source},
    ipvs::{Conflict, Table, Wanted, difference},
    model::{Check, Config, DestinationKey},
    pool::Presence,
};

/// A run of the agent on an empty table, with answers that somebody else gives.
#[derive(Debug)]
pub struct DryRun {
    config: Config,
    engine: Engine,
    table: Table,
}

/// What a destination is asked.
#[derive(Clone, Debug)]
pub struct PlannedCheck {
    /// Whom.
    pub destination: DestinationKey,
    /// Which of its checks it is, from 0.
    pub index: usize,
    /// The check.
    pub check: Check,
}

impl DryRun {
    /// The start, at `now`: nothing is known of any server.
    pub fn new(config: Config, now: Instant) -> Result<Self, Conflict> {
        let mut engine = Engine::new(&config.services, |_| Presence::Absent);
        engine.settle(now);
        let mut rehearsal = Self { config, engine, table: Table::default() };
        rehearsal.write(&rehearsal.engine.wanted())?;
        Ok(rehearsal)
    }

    /// All that the configuration asks.
    pub fn asked(&self) -> impl Iterator<Item = PlannedCheck> {
        self.config.services.iter().flat_map(|service| {
            service.all_checks().map(|(destination, index, check)| PlannedCheck {
                destination,
                index,
                check: check.clone(),
            })
        })
    }

    /// The result of a regular check: of `destination`, by the `index`th of its checks.
    pub fn hear(
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

    /// A clean stop.
    pub fn end(&mut self) -> Result<(), Conflict> {
        last_wanted(&self.config).map_or(Ok(()), |last| self.write(&last))
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
