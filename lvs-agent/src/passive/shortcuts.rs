//! The table of shortcuts beside the endpoint maps: which keys have a place in it. Pure.

use std::collections::HashMap;

use lvs_common::{EndpointKey4, Shortcut};

/// The key in each place. The first key keeps it until it is removed; others with the same place are in the hash alone.
#[derive(Clone, Debug, Default)]
pub(super) struct Shortcuts {
    taken: HashMap<usize, [u64; 2]>,
}

impl Shortcuts {
    /// Adds a key; its place and its words, unless another key has the place or it can have none.
    pub(super) fn add(&mut self, key: &EndpointKey4) -> Option<(usize, [u64; 2])> {
        let words = Shortcut::words(key)?;
        let place = Shortcut::place(words);
        (*self.taken.entry(place).or_insert(words) == words).then_some((place, words))
    }

    /// Removes a key; the place that is free now, if it had one.
    pub(super) fn remove(&mut self, key: &EndpointKey4) -> Option<usize> {
        let words = Shortcut::words(key)?;
        let place = Shortcut::place(words);
        if self.taken.get(&place) != Some(&words) {
            return None;
        }
        self.taken.remove(&place);
        Some(place)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use lvs_common::EndpointKind;
    use proptest::{collection::vec, prelude::*};

    use super::*;

    fn key(kind: EndpointKind, protocol: u8, port: u16) -> EndpointKey4 {
        let port = port.to_be_bytes();
        EndpointKey4 { address: [10, 0, 0, 1], port, protocol, kind: kind as u8, link: [0; 8] }
    }

    #[test]
    fn only_plain_tcp_has_a_place() {
        let has_place = |kind, protocol| Shortcuts::default().add(&key(kind, protocol, 80)).is_some();
        assert!(has_place(EndpointKind::Address, 6));
        assert!(has_place(EndpointKind::Link, 6));
        assert!(!has_place(EndpointKind::Address, 17));
        assert!(!has_place(EndpointKind::AddressMark, 6));
        assert!(!has_place(EndpointKind::Tunnel, 6));
    }

    #[test]
    fn a_key_whose_place_is_taken_has_none_until_it_is_added_again() {
        let first = key(EndpointKind::Address, 6, 1);
        let place = Shortcut::place(Shortcut::words(&first).unwrap());
        let same = |port: &u16| {
            Shortcut::place(Shortcut::words(&key(EndpointKind::Address, 6, *port)).unwrap()) == place
        };
        let second = key(EndpointKind::Address, 6, (2..=u16::MAX).find(same).unwrap());
        let mut shortcuts = Shortcuts::default();
        assert_eq!(shortcuts.add(&first).unwrap().0, place);
        assert_eq!(shortcuts.add(&second), None);
        assert_eq!(shortcuts.remove(&second), None);
        assert_eq!(shortcuts.remove(&first), Some(place));
        assert_eq!(shortcuts.add(&second).unwrap().0, place);
    }

    proptest! {
        /// The changes, applied in order, never leave a removed key in the table, nor one in a wrong place.
        #[test]
        fn the_table_has_only_keys_that_are_there(steps in vec((0..6000_u16, any::<bool>()), 0..200)) {
            let mut shortcuts = Shortcuts::default();
            let (mut table, mut left) = (BTreeMap::new(), std::collections::BTreeSet::new());
            for (port, is_added) in steps {
                let key = key(EndpointKind::Address, 6, port);
                if is_added {
                    left.insert(port);
                    if let Some((place, words)) = shortcuts.add(&key) {
                        table.insert(place, (port, words));
                    }
                } else {
                    left.remove(&port);
                    if let Some(place) = shortcuts.remove(&key) {
                        table.remove(&place);
                    }
                }
                for (place, (port, words)) in &table {
                    prop_assert!(left.contains(port));
                    prop_assert_eq!(*place, Shortcut::place(*words));
                }
            }
        }
    }
}
