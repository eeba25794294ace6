//! Polls the kernel's table and returns the services that have changed since the last poll. It never writes.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::{Duration, Instant},
};

use crate::{
    ipvs::{IpvsError, ServiceEntry, Table, TableReader},
    model::ServiceKey,
};

/// The least pause between two polls. Changes by other programs are to be reverted within a second, and a poll of 1,000
/// servers costs as much as a tenth of a second's checks of all of them.
const PAUSE: Duration = Duration::from_millis(700);
/// The pause after a poll is at least so many times as long as the poll: it may take a fifth of a processor.
const PAUSE_FACTOR: u32 = 4;
/// The pause before services are checked again that may not be as known.
const RECHECK_PAUSE: Duration = Duration::from_millis(100);

/// What a poll has found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct TableDelta {
    /// The services that have changed, and those to be rechecked; `None`: not in the table.
    pub(super) services: BTreeMap<ServiceKey, Option<ServiceEntry>>,
    /// Whether these are all services of the table.
    pub(super) complete: bool,
}

/// Reads the table. It can't write, and blocks for as long as the kernel takes.
pub(super) struct TablePoller {
    reader: TableReader,
    /// The table at the last poll; `None` after a failure.
    last: Option<Table>,
    /// How long the last poll took.
    took: Duration,
}

impl TablePoller {
    pub(super) fn new(timeout: Duration) -> Self {
        Self { reader: TableReader::new(timeout), last: None, took: Duration::ZERO }
    }

    /// Reads the table. Returns the services that have changed, and those in `recheck`.
    pub(super) fn poll(&mut self, recheck: &BTreeSet<ServiceKey>) -> Result<TableDelta, IpvsError> {
        let started = Instant::now();
        let last = self.last.take();
        let table = self.reader.table()?;
        let delta = compare(last.as_ref(), &table, recheck);
        self.last = Some(table);
        self.took = started.elapsed();
        Ok(delta)
    }

    /// How long to wait until the next poll.
    pub(super) fn pause(&self, recheck: bool) -> Duration {
        let least = if recheck { RECHECK_PAUSE } else { PAUSE };
        least.max(PAUSE_FACTOR * self.took)
    }
}

/// The difference between the table `now` and at the `last` poll.
pub(super) fn compare(last: Option<&Table>, now: &Table, recheck: &BTreeSet<ServiceKey>) -> TableDelta {
    match last {
        Some(last) => changes(last, now, recheck),
        None => complete(now, recheck),
    }
}

fn complete(table: &Table, recheck: &BTreeSet<ServiceKey>) -> TableDelta {
    TableDelta { services: entries(table, table.services.keys().chain(recheck)), complete: true }
}

fn changes(last: &Table, now: &Table, recheck: &BTreeSet<ServiceKey>) -> TableDelta {
    let changed = now.services.iter().filter(|(key, entry)| last.services.get(key) != Some(entry));
    let gone = last.services.keys().filter(|key| !now.services.contains_key(key));
    let keys = changed.map(|(key, _)| key).chain(gone).chain(recheck);
    TableDelta { services: entries(now, keys), complete: false }
}

fn entries<'a>(
    table: &Table,
    keys: impl Iterator<Item = &'a ServiceKey>,
) -> BTreeMap<ServiceKey, Option<ServiceEntry>> {
    keys.map(|key| (*key, table.services.get(key).cloned())).collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::ipvs::arbitrary;

    proptest! {
        #[test]
        fn a_delta_turns_the_last_table_into_the_current_one(
            (last, _) in arbitrary::table_and_wanted(),
            (now, _) in arbitrary::table_and_wanted(),
            keep in any::<bool>(),
        ) {
            let mut table = last.clone();
            let delta = compare(keep.then_some(&last), &now, &BTreeSet::new());
            if delta.complete {
                table = Table::default();
            }
            for (key, entry) in delta.services {
                match entry {
                    Some(entry) => drop(table.services.insert(key, entry)),
                    None => prop_assert!(table.services.remove(&key).is_some()),
                }
            }
            prop_assert_eq!(table, now);
        }

        #[test]
        fn rechecked_services_are_in_every_delta(
            (last, _) in arbitrary::table_and_wanted(),
            (other, _) in arbitrary::table_and_wanted(),
        ) {
            let recheck: BTreeSet<_> = other.services.keys().copied().collect();
            for delta in [complete(&last, &recheck), changes(&last, &last, &recheck)] {
                for key in &recheck {
                    prop_assert_eq!(delta.services[key].as_ref(), last.services.get(key));
                }
            }
        }
    }
}
