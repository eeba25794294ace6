//! The edits that lead from the kernel's table to the wanted one. Pure.

use std::{collections::BTreeMap, net::SocketAddr};

use super::{
    edit::Edit,
    table::{Destination, ServiceEntry, Table},
    wanted::{Wanted, WantedDestination, WantedService},
};
use crate::model::{DestinationKey, ServiceKey};

/// The edits that lead from the kernel's table to the wanted one; none if they agree.
///
/// A service in neither of [`Wanted`]'s lists is foreign and left alone. The order of the edits makes sure that a
/// service that takes new connections before and after never lacks a server for them in between: servers are added and
/// raised before others are lowered or removed.
#[must_use]
pub fn difference(kernel: &Table, wanted: &Wanted) -> Vec<Edit> {
    let mut edits: Vec<Edit> = Vec::new();
    for (key, service) in &wanted.services {
        edits.extend(service_difference(*key, kernel.services.get(key), service));
    }
    let unwanted = wanted.unwanted.iter().filter(|key| !wanted.services.contains_key(key));
    let unwanted = unwanted.filter(|key| kernel.services.contains_key(key));
    edits.extend(unwanted.map(|key| Edit::DeleteService(*key)));
    edits
}

/// The edits of one service alone: see [`difference`].
#[must_use]
pub fn service_difference(
    key: ServiceKey,
    current: Option<&ServiceEntry>,
    wanted: &WantedService,
) -> Vec<Edit> {
    let resolved = wanted.resolve(key, current.map(|entry| &entry.service));
    let service = match current {
        None => Some(Edit::AddService(resolved)),
        Some(entry) if entry.service != resolved => Some(Edit::SetService(resolved)),
        Some(_) => None,
    };
    service.into_iter().chain(destination_edits(key, current, &wanted.destinations)).collect()
}

/// The edits within one service: those that bring servers in, then those that take servers out.
fn destination_edits(
    service: ServiceKey,
    entry: Option<&ServiceEntry>,
    wanted: &BTreeMap<SocketAddr, WantedDestination>,
) -> impl Iterator<Item = Edit> {
    let none = BTreeMap::new();
    let destinations = entry.map_or(&none, |entry| &entry.destinations);
    let (mut raising, mut lowering) = (Vec::new(), Vec::new());
    for (server, destination) in wanted {
        let current = destinations.get(server);
        let resolved = destination.resolve(*server, current);
        if let Some(edit) = destination_edit(service, current, resolved) {
            if resolved.weight.takes_connections() { raising.push(edit) } else { lowering.push(edit) }
        }
    }
    let gone = destinations.keys().filter(|server| !wanted.contains_key(server));
    lowering.extend(gone.map(|server| Edit::DeleteDestination(DestinationKey { service, server: *server })));
    raising.into_iter().chain(lowering)
}

fn destination_edit(
    service: ServiceKey,
    current: Option<&Destination>,
    destination: Destination,
) -> Option<Edit> {
    match current {
        None => Some(Edit::AddDestination { service, destination }),
        Some(current) if *current != destination => Some(Edit::SetDestination { service, destination }),
        Some(_) => None,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::ipvs::arbitrary;

    /// Whether each service of `before` that takes connections there and shall take them still does in `now`.
    fn served(before: &Table, wanted: &Wanted, now: &Table) -> bool {
        before.services.iter().filter(|(_, entry)| entry.takes_connections()).all(|(key, _)| {
            let shall = wanted.services.get(key).is_none_or(|service| {
                service.destinations.values().any(|destination| !destination.weight.is_quiescent())
            });
            let goes = wanted.unwanted.contains(key) && !wanted.services.contains_key(key);
            let does = now.services.get(key).is_some_and(ServiceEntry::takes_connections);
            goes || !shall || does
        })
    }

    fn is_as_wanted(table: &Table, wanted: &Wanted) -> bool {
        wanted.services.iter().all(|(key, service)| {
            table.services.get(key).is_some_and(|entry| {
                entry.service == service.resolve(*key, Some(&entry.service))
                    && entry.destinations.len() == service.destinations.len()
                    && service.destinations.iter().all(|(server, destination)| {
                        let found = entry.destinations.get(server);
                        found == Some(&destination.resolve(*server, found))
                    })
            })
        })
    }

    proptest! {
        #[test]
        fn the_edits_lead_to_the_wanted_table_and_never_leave_a_service_without_a_server(
            (before, wanted) in arbitrary::table_and_wanted(),
        ) {
            let mut table = before.clone();
            for edit in difference(&before, &wanted) {
                prop_assert_eq!(table.apply(&edit), Ok(()), "{}", edit);
                prop_assert!(served(&before, &wanted, &table), "after {}", edit);
            }
            prop_assert!(is_as_wanted(&table, &wanted));
            prop_assert_eq!(difference(&table, &wanted), vec![]);
            for (key, entry) in &before.services {
                let managed = wanted.services.contains_key(key);
                if !managed && !wanted.unwanted.contains(key) {
                    prop_assert_eq!(table.services.get(key), Some(entry), "foreign service {}", key);
                }
            }
            for key in wanted.unwanted.iter().filter(|key| !wanted.services.contains_key(key)) {
                prop_assert!(!table.services.contains_key(key), "unwanted service {}", key);
            }
        }

        #[test]
        fn extra_flags_are_set_beside_those_that_are_kept((before, mut wanted) in arbitrary::table_and_wanted()) {
            for (key, service) in &mut wanted.services {
                service.flags = super::super::Wish::Keep;
                let Some(entry) = before.services.get(key) else { continue };
                let found = service.resolve(*key, Some(&entry.service)).flags;
                prop_assert_eq!(found, entry.service.flags | service.extra_flags);
            }
        }

        #[test]
        fn settings_without_a_wish_are_kept((before, wanted) in arbitrary::table_and_wanted()) {
            for edit in difference(&before, &wanted) {
                let Edit::SetDestination { service, destination } = edit else { continue };
                let found = before.services[&service].destinations[&destination.server];
                let wish = wanted.services[&service].destinations[&destination.server];
                if wish.tunnel == super::super::Wish::Keep {
                    prop_assert_eq!(found.tunnel, destination.tunnel);
                }
                if wish.upper_threshold == super::super::Wish::Keep {
                    prop_assert_eq!(found.upper_threshold, destination.upper_threshold);
                }
                if wish.lower_threshold == super::super::Wish::Keep {
                    prop_assert_eq!(found.lower_threshold, destination.lower_threshold);
                }
            }
        }
    }
}
