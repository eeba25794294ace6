//! What may be done to a service that was adopted: other weights, and servers out of it and in again. Pure.

use std::net::SocketAddr;

use crate::{
    ipvs::{
        Destination, Edit, KernelWeight, ServiceEntry, WantedDestination, WantedService,
        overrides::{Overrides, weight_of},
    },
    model::{DestinationKey, ServiceKey},
};

/// The edits of one service: those that bring servers in, then those that take them out.
///
/// What others have done is left alone: a weight of 0 that isn't this agent's, a weight that is another one than it was
/// when the service was last looked at, a server that is gone, and the service itself.
pub(crate) fn adjust(
    service: ServiceKey,
    found: Option<&ServiceEntry>,
    wanted: &WantedService,
    overrides: &Overrides,
) -> Vec<Edit> {
    let Some(entry) = found else { return Vec::new() };
    let (mut raising, mut lowering) = (Vec::new(), Vec::new());
    for (server, destination) in &wanted.destinations {
        let key = DestinationKey { service, server: *server };
        let edit = match entry.destinations.get(server) {
            Some(found) => weight(found, destination, &key, overrides).map(|weight| Edit::SetDestination {
                service,
                destination: Destination { weight, ..*found },
            }),
            None => overrides.ours(&key, None).map(|ours| {
                let weight = target(destination, ours.original.weight);
                Edit::AddDestination { service, destination: Destination { weight, ..ours.original } }
            }),
        };
        if destination.weight.is_quiescent() { &mut lowering } else { &mut raising }.extend(edit);
    }
    let leaves = |server: &SocketAddr| {
        let key = DestinationKey { service, server: *server };
        let found = entry.destinations.get(server)?.weight;
        let is_ours = found.takes_connections() || overrides.ours(&key, Some(found)).is_some();
        is_ours.then_some(Edit::DeleteDestination(key))
    };
    lowering.extend(wanted.absent.keys().filter_map(leaves));
    raising.into_iter().chain(lowering).collect()
}

/// The weight that a destination shall have, if that is another one than it has and may be changed.
fn weight(
    found: &Destination,
    wanted: &WantedDestination,
    key: &DestinationKey,
    overrides: &Overrides,
) -> Option<KernelWeight> {
    let ours = overrides.ours(key, Some(found.weight));
    let original = ours.map_or(found.weight, |ours| ours.original.weight);
    let may_change = ours.is_some()
        || found.weight.takes_connections()
            && (wanted.weight.is_quiescent() || weight_of(found.weight) == wanted.base_weight);
    let weight = target(wanted, original);
    (may_change && weight != found.weight).then_some(weight)
}

/// The weight to set: the exact one where the server gets back what it had.
fn target(wanted: &WantedDestination, original: KernelWeight) -> KernelWeight {
    if wanted.weight == wanted.base_weight && weight_of(original) == wanted.base_weight {
        original
    } else {
        wanted.weight.into()
    }
}

#[cfg(test)]
mod tests;
