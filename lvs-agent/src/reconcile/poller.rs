//! Looks at the kernel's table again and again, and tells what has changed since the look before.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::{Duration, Instant},
};

use crate::{
    ipvs::{IpvsError, ServiceEntry, Table, TableReader},
    model::ServiceKey,
};

/// The least pause between two looks. What others do is to be undone within a second, and a look at 1,000 servers costs as much
/// as a tenth of a second's checks of all of them.
const PAUSE: Duration = Duration::from_millis(700);
/// So many times longer than a look takes is the pause after it, at least: it may take a fifth of a processor.
const PAUSE_PARTS: u32 = 4;
/// The pause where something is in doubt.
const PAUSE_IN_DOUBT: Duration = Duration::from_millis(100);

/// Services as they were found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct TableDelta {
    /// The services that are not as before, and those that were asked for; `None`: not in the table.
    pub(super) services: BTreeMap<ServiceKey, Option<ServiceEntry>>,
    /// Whether all services of the table are among them.
    pub(super) whole: bool,
}

/// Who looks. It can't write, and blocks for as long as the kernel takes.
pub(super) struct TablePoller {
    reader: TableReader,
    /// The table at the last look; `None` after a failure.
    last: Option<Table>,
    took: Duration,
}

impl TablePoller {
    pub(super) fn new(timeout: Duration) -> Self {
        Self { reader: TableReader::new(timeout), last: None, took: Duration::ZERO }
    }

    /// Reads the table. Tells of what has changed, and of the services `recheck`.
    pub(super) fn look(&mut self, recheck: &BTreeSet<ServiceKey>) -> Result<TableDelta, IpvsError> {
        let begun = Instant::now();
        let last = self.last.take();
        let table = self.reader.table()?;
        let look = compare(last.as_ref(), &table, recheck);
        self.last = Some(table);
        self.took = begun.elapsed();
        Ok(look)
    }

    /// How long to wait for the next look.
    pub(super) fn pause(&self, in_doubt: bool) -> Duration {
        let least = if in_doubt { PAUSE_IN_DOUBT } else { PAUSE };
        least.max(PAUSE_PARTS * self.took)
    }
}

/// What is to be told of the table as it is `now`, after it was as in `last`.
pub(super) fn compare(last: Option<&Table>, now: &Table, recheck: &BTreeSet<ServiceKey>) -> TableDelta {
    match last {
        Some(last) => changes(last, now, recheck),
        None => whole(now, recheck),
    }
}

fn whole(table: &Table, recheck: &BTreeSet<ServiceKey>) -> TableDelta {
    TableDelta { services: told(table, table.services.keys().chain(recheck)), whole: true }
}

fn changes(last: &Table, now: &Table, recheck: &BTreeSet<ServiceKey>) -> TableDelta {
    let changed = now.services.iter().filter(|(key, entry)| last.services.get(key) != Some(entry));
    let gone = last.services.keys().filter(|key| !now.services.contains_key(key));
    let keys = changed.map(|(key, _)| key).chain(gone).chain(recheck);
    TableDelta { services: told(now, keys), whole: false }
}

fn told<'a>(
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
        fn what_is_told_makes_the_last_table_this_one(
            (last, _) in arbitrary::table_and_wanted(),
            (now, _) in arbitrary::table_and_wanted(),
            keep in any::<bool>(),
        ) {
            let mut table = last.clone();
            let look = compare(keep.then_some(&last), &now, &BTreeSet::new());
            if look.whole {
                table = Table::default();
            }
            for (key, entry) in look.services {
                match entry {
                    Some(entry) => drop(table.services.insert(key, entry)),
                    None => prop_assert!(table.services.remove(&key).is_some()),
                }
            }
            prop_assert_eq!(table, now);
        }

        #[test]
        fn of_whom_was_asked_is_told((last, _) in arbitrary::table_and_wanted(), (other, _) in arbitrary::table_and_wanted()) {
            let asked: BTreeSet<_> = other.services.keys().copied().collect();
            for look in [whole(&last, &asked), changes(&last, &last, &asked)] {
                for key in &asked {
                    prop_assert_eq!(look.services[key].as_ref(), last.services.get(key));
                }
            }
        }
    }
}
