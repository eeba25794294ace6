//! Overrides: the destinations that this agent has taken out of the kernel's table or set to another weight, each with
//! what it had before, so that a later agent can tell its own edits from others' and undo them. Pure.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::{IpAddr, Ipv4Addr, SocketAddr},
};

use super::{Destination, Edit, KernelWeight, ServiceEntry, Table, WantedService};
use crate::model::{DestinationKey, ServiceKey, Weight};

/// A destination's weight in the table; `None`: it isn't there.
pub(crate) type TableWeight = Option<KernelWeight>;

/// The overrides of all services, by destination.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Overrides {
    overrides: BTreeMap<DestinationKey, Override>,
}

/// The kernel's table, together with this agent's overrides in it.
#[derive(Clone, Debug, Default)]
pub(crate) struct Snapshot {
    pub(crate) table: Table,
    pub(crate) overrides: Overrides,
}

/// What this agent has made of a destination, and what it had before.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Override {
    /// The whole destination with the weight that it goes back to.
    pub(crate) original: Destination,
    /// The weight that this agent has set.
    pub(crate) current: TableWeight,
    /// The weight before, as long as it isn't known whether the kernel has made the edit.
    pub(crate) previous: Option<TableWeight>,
}

impl Override {
    /// Whether a destination with this weight in the table has it from this agent.
    fn is_ours(&self, weight: TableWeight) -> bool {
        self.current == weight || self.previous == Some(weight)
    }
}

impl Overrides {
    /// The overrides of an earlier agent.
    pub(crate) fn new(overrides: impl IntoIterator<Item = (DestinationKey, Override)>) -> Self {
        Self { overrides: overrides.into_iter().collect() }
    }

    /// All overrides, in the order of their keys.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (&DestinationKey, &Override)> {
        self.overrides.iter()
    }

    /// How many there are.
    pub(crate) fn len(&self) -> usize {
        self.overrides.len()
    }

    /// The override of a destination with this weight in the table; `None`: it doesn't have that from this agent.
    pub(crate) fn ours(&self, key: &DestinationKey, weight: TableWeight) -> Option<&Override> {
        self.overrides.get(key).filter(|one| one.is_ours(weight))
    }

    /// Records edits of one service that are about to be made in the table `known`. Returns whether the overrides
    /// changed, so that they must be saved first. `configured`: the weights are the configuration's, not the table's.
    pub(crate) fn expect(
        &mut self,
        edits: &[Edit],
        known: &Table,
        wanted: Option<&WantedService>,
        configured: bool,
    ) -> bool {
        let mut changed = false;
        for edit in edits {
            changed |= self.expect_one(edit, known, wanted, configured);
        }
        changed
    }

    fn expect_one(
        &mut self,
        edit: &Edit,
        known: &Table,
        wanted: Option<&WantedService>,
        configured: bool,
    ) -> bool {
        let (key, edited) = match edit {
            Edit::AddDestination { service, destination } | Edit::SetDestination { service, destination } => {
                let key = DestinationKey { service: *service, server: destination.server };
                (key, Some(*destination))
            }
            Edit::DeleteDestination(key) => (*key, None),
            Edit::AddService(_) | Edit::SetService(_) | Edit::DeleteService(_) => return false,
        };
        let in_table = known.services.get(&key.service).and_then(|entry| entry.destinations.get(&key.server));
        let table_weight = in_table.map(|destination| destination.weight);
        let current = edited.map(|destination| destination.weight);
        let known_override = self.ours(&key, table_weight).copied();
        let original = known_override.map(|one| one.original).or(in_table.copied()).or(edited);
        let base_weight = wanted.and_then(|wanted| base_weight(wanted, &key));
        let (Some(base_weight), Some(mut original)) = (base_weight, original) else {
            // It has left the configuration.
            return self.overrides.remove(&key).is_some();
        };
        if configured || !original.weight.takes_connections() {
            original.weight = base_weight.into();
        }
        if known_override.is_none() && current == Some(original.weight) {
            return self.overrides.remove(&key).is_some();
        }
        let previous = Some(table_weight).filter(|weight| *weight != current);
        let one = Override { original, current, previous };
        self.overrides.insert(key, one) != Some(one)
    }

    /// Records that the kernel has made an edit. Returns whether the set of overrides changed, so that it must be
    /// saved.
    pub(crate) fn applied(&mut self, edit: &Edit) -> bool {
        if let Edit::DeleteService(service) = edit {
            return self.forget(*service, |_, _| true);
        }
        let Some(server) = edit.server() else { return false };
        let key = DestinationKey { service: edit.service(), server };
        let Some(one) = self.overrides.get_mut(&key) else { return false };
        one.previous = None;
        if one.current == Some(one.original.weight) {
            self.overrides.remove(&key);
            return true;
        }
        false
    }

    /// Forgets the overrides of one service that others have changed since, or that are undone; `None`: the service is
    /// gone. Returns whether there were any.
    pub(crate) fn reconcile(&mut self, service: ServiceKey, entry: Option<&ServiceEntry>) -> bool {
        self.forget(service, |key, one| {
            let Some(entry) = entry else { return true };
            let weight = entry.destinations.get(&key.server).map(|destination| destination.weight);
            weight == Some(one.original.weight) || !one.is_ours(weight)
        })
    }

    /// As [`Self::reconcile`], for the whole table.
    pub(crate) fn reconcile_all(&mut self, table: &Table) {
        let services: BTreeSet<_> = self.overrides.keys().map(|key| key.service).collect();
        for service in services {
            self.reconcile(service, table.services.get(&service));
        }
    }

    /// The destinations of one service that this agent has taken out of the table, with their original weights.
    pub(crate) fn removed(&self, service: ServiceKey) -> impl Iterator<Item = &Destination> {
        self.of(service).filter(|(_, one)| one.is_ours(None)).map(|(_, one)| &one.original)
    }

    /// The overrides of one service.
    fn of(&self, service: ServiceKey) -> impl Iterator<Item = (&DestinationKey, &Override)> {
        const LEAST: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::UNSPECIFIED), 0);
        let first = DestinationKey { service, server: LEAST };
        self.overrides.range(first..).take_while(move |(key, _)| key.service == service)
    }

    /// Drops the overrides of one service for which `which` holds; returns whether there were any.
    fn forget(&mut self, service: ServiceKey, which: impl Fn(&DestinationKey, &Override) -> bool) -> bool {
        let gone: Vec<_> =
            self.of(service).filter(|(key, one)| which(key, one)).map(|(key, _)| *key).collect();
        for key in &gone {
            self.overrides.remove(key);
        }
        !gone.is_empty()
    }
}

/// The weight that a destination goes back to; `None`: the service has no such destination.
fn base_weight(wanted: &WantedService, key: &DestinationKey) -> Option<Weight> {
    let listed = wanted.destinations.get(&key.server).map(|destination| destination.base_weight);
    listed.or_else(|| wanted.absent.get(&key.server).copied())
}

/// A weight of the kernel's as a configured one: negative ones become 0, larger ones the largest.
pub(crate) fn weight_of(weight: KernelWeight) -> Weight {
    Weight(u16::try_from(weight.0.max(0)).unwrap_or(u16::MAX))
}
