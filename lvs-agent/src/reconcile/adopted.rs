//! The edits of an adopted service: other weights, and servers removed and added again. Pure.

use std::net::SocketAddr;

use crate::{
    ipvs::{
        Destination, Edit, KernelWeight, ServiceEntry, WantedDestination, WantedService,
        overrides::{Overrides, weight_of},
    },
    model::{DestinationKey, ServiceKey},
};

/// The edits of one service: first those that bring servers in, then those that take them out.
///
/// Changes by others are left alone: a weight of 0 that isn't this agent's, a weight that has changed since the table
/// was last read, a server that is gone, and the service itself.
pub(crate) fn adjust(
    service: ServiceKey,
    entry: Option<&ServiceEntry>,
    wanted: &WantedService,
    overrides: &Overrides,
) -> Vec<Edit> {
    let Some(entry) = entry else { return Vec::new() };
    let (mut raising, mut lowering) = (Vec::new(), Vec::new());
    for (server, destination) in &wanted.destinations {
        let key = DestinationKey { service, server: *server };
        let edit = match entry.destinations.get(server) {
            Some(current) => weight(current, destination, &key, overrides).map(|weight| {
                Edit::SetDestination { service, destination: Destination { weight, ..*current } }
            }),
            None => overrides.ours(&key, None).map(|ours| {
                let weight = target(destination, ours.original.weight);
                Edit::AddDestination { service, destination: Destination { weight, ..ours.original } }
            }),
        };
        if destination.weight.is_quiescent() { &mut lowering } else { &mut raising }.extend(edit);
    }
    let deletion = |server: &SocketAddr| {
        let key = DestinationKey { service, server: *server };
        let current = entry.destinations.get(server)?.weight;
        let may_delete = current.takes_connections() || overrides.ours(&key, Some(current)).is_some();
        may_delete.then_some(Edit::DeleteDestination(key))
    };
    lowering.extend(wanted.absent.keys().filter_map(deletion));
    raising.into_iter().chain(lowering).collect()
}

/// The weight to set, if it differs from the current one and may be changed.
fn weight(
    current: &Destination,
    wanted: &WantedDestination,
    key: &DestinationKey,
    overrides: &Overrides,
) -> Option<KernelWeight> {
    let ours = overrides.ours(key, Some(current.weight));
    let original = ours.map_or(current.weight, |ours| ours.original.weight);
    let may_change = ours.is_some()
        || current.weight.takes_connections()
            && (wanted.weight.is_quiescent() || weight_of(current.weight) == wanted.base_weight);
    let weight = target(wanted, original);
    (may_change && weight != current.weight).then_some(weight)
}

/// The weight to set: the exact original one where the server gets its own weight back.
fn target(wanted: &WantedDestination, original: KernelWeight) -> KernelWeight {
    if wanted.weight == wanted.base_weight && weight_of(original) == wanted.base_weight {
        original
    } else {
        wanted.weight.into()
    }
}

#[cfg(test)]
mod tests;
