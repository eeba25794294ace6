//! A copy of the neighbour table as last reported. Pure.

use std::{collections::HashMap, net::IpAddr};

use super::{NeighbourChange, NeighbourState};

/// A copy of the neighbour table. A new reading of the table shows what has changed meanwhile.
#[derive(Debug, Default)]
pub(super) struct Mirror {
    entries: HashMap<(u32, IpAddr), NeighbourChange>,
}

impl Mirror {
    /// Takes in a notification, which is always a change: a neighbour that fails again was resolved again meanwhile.
    /// `None` only if an entry that is gone was never there.
    pub(super) fn note(&mut self, entry: NeighbourChange) -> Option<NeighbourChange> {
        let key = (entry.device, entry.address);
        if entry.state == NeighbourState::Gone {
            // The notification has its last MAC address, which is no longer valid.
            return self.entries.remove(&key).map(|_| NeighbourChange { mac: None, ..entry });
        }
        self.entries.insert(key, entry);
        Some(entry)
    }

    /// Takes in a whole table: entries that are new or different, and entries that are gone.
    pub(super) fn replace(&mut self, table: Vec<NeighbourChange>) -> Vec<NeighbourChange> {
        let mut old = std::mem::take(&mut self.entries);
        let mut changes = Vec::new();
        for entry in table {
            let known = old.remove(&(entry.device, entry.address));
            self.entries.insert((entry.device, entry.address), entry);
            if known != Some(entry) {
                changes.push(entry);
            }
        }
        let gone = old.into_values();
        changes.extend(gone.map(|entry| NeighbourChange { state: NeighbourState::Gone, mac: None, ..entry }));
        changes
    }
}

#[cfg(test)]
mod tests {
    use proptest::{collection::vec, prelude::*, sample::select};

    use super::*;

    fn entry(states: Vec<NeighbourState>) -> impl Strategy<Value = NeighbourChange> {
        let address =
            select(["10.0.0.1", "10.0.0.2", "2001:db8::1"].map(|one| one.parse().unwrap()).to_vec());
        (1..3_u32, address, select(states), any::<bool>()).prop_map(|(device, address, state, known)| {
            NeighbourChange { device, address, state, mac: known.then_some([2, 0, 0, 0, 0, 1]) }
        })
    }

    fn present() -> Vec<NeighbourState> {
        vec![NeighbourState::Reachable, NeighbourState::Failed]
    }

    /// A table in which each entry is once, as the kernel's are.
    fn table() -> impl Strategy<Value = Vec<NeighbourChange>> {
        vec(entry(present()), 0..6).prop_map(|entries| {
            let once: HashMap<_, _> =
                entries.into_iter().map(|entry| ((entry.device, entry.address), entry)).collect();
            once.into_values().collect()
        })
    }

    fn follow(copy: &mut HashMap<(u32, IpAddr), NeighbourChange>, change: NeighbourChange) {
        let key = (change.device, change.address);
        if change.state == NeighbourState::Gone {
            copy.remove(&key);
        } else {
            copy.insert(key, change);
        }
    }

    proptest! {
        #[test]
        fn changes_applied_in_order_give_the_table(
            first in table(),
            messages in vec(entry([present(), vec![NeighbourState::Gone]].concat()), 0..10),
            second in table(),
        ) {
            let mut mirror = Mirror::default();
            let mut copy = HashMap::new();
            mirror.replace(first).into_iter().for_each(|change| follow(&mut copy, change));
            for message in messages {
                if let Some(change) = mirror.note(message) {
                    follow(&mut copy, change);
                }
                prop_assert_eq!(&copy, &mirror.entries);
            }
            mirror.replace(second.clone()).into_iter().for_each(|change| follow(&mut copy, change));
            prop_assert_eq!(copy.len(), second.len());
            prop_assert!(second.iter().all(|entry| copy.get(&(entry.device, entry.address)) == Some(entry)));
            prop_assert_eq!(mirror.replace(second), vec![]);
        }
    }
}
