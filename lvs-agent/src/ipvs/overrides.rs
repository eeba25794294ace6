//! What this agent keeps from having its own weight in the kernel's table, and what it goes back to. Pure.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::{IpAddr, Ipv4Addr, SocketAddr},
};

use super::{Destination, Edit, KernelWeight, ServiceEntry, Table, WantedService};
use crate::model::{DestinationKey, ServiceKey, Weight};

/// How a destination stands in the table; `None`: it isn't there.
pub(crate) type Found = Option<KernelWeight>;

/// Destinations that are not as they were found, or as the configuration has them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Overrides {
    overrides: BTreeMap<DestinationKey, Override>,
}

/// The kernel's table, and what of it is this agent's doing.
#[derive(Clone, Debug, Default)]
pub(crate) struct Snapshot {
    pub(crate) table: Table,
    pub(crate) overrides: Overrides,
}

/// How a destination is held, and what it goes back to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Override {
    /// The whole destination with its own weight.
    pub(crate) original: Destination,
    /// As this agent has made it.
    pub(crate) now: Found,
    /// As it was before, as long as it isn't known whether the edit was made.
    pub(crate) before: Option<Found>,
}

impl Override {
    /// Whether a destination that is found so is this agent's doing.
    fn is_ours(&self, found: Found) -> bool {
        self.now == found || self.before == Some(found)
    }
}

impl Overrides {
    pub(crate) fn new(holds: impl IntoIterator<Item = (DestinationKey, Override)>) -> Self {
        Self { overrides: holds.into_iter().collect() }
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = (&DestinationKey, &Override)> {
        self.overrides.iter()
    }

    pub(crate) fn len(&self) -> usize {
        self.overrides.len()
    }

    /// How a destination is held that is found so; `None` if that isn't this agent's doing.
    pub(crate) fn ours(&self, key: &DestinationKey, found: Found) -> Option<&Override> {
        self.overrides.get(key).filter(|one| one.is_ours(found))
    }

    /// Takes note of edits of one service that are about to be made, of which `known` is how the table is; whether there is
    /// anything to be kept for the next start. `configured`: the weights are the configuration's, not the table's.
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
        let (key, now) = match edit {
            Edit::AddDestination { service, destination } | Edit::SetDestination { service, destination } => {
                let key = DestinationKey { service: *service, server: destination.server };
                (key, Some(*destination))
            }
            Edit::DeleteDestination(key) => (*key, None),
            Edit::AddService(_) | Edit::SetService(_) | Edit::DeleteService(_) => return false,
        };
        let own = wanted.and_then(|wanted| own(wanted, &key));
        let found = known.services.get(&key.service).and_then(|entry| entry.destinations.get(&key.server));
        let found_weight = found.map(|found| found.weight);
        let (now_weight, was) = (now.map(|now| now.weight), self.ours(&key, found_weight).copied());
        let original = was.map(|was| was.original).or(found.copied()).or(now);
        let (Some(own), Some(mut original)) = (own, original) else {
            // It has left the configuration.
            return self.overrides.remove(&key).is_some();
        };
        if configured || !original.weight.takes_connections() {
            original.weight = own.into();
        }
        if was.is_none() && now_weight == Some(original.weight) {
            return self.overrides.remove(&key).is_some();
        }
        let before = Some(found_weight).filter(|found| *found != now_weight);
        let one = Override { original, now: now_weight, before };
        self.overrides.insert(key, one) != Some(one)
    }

    /// An edit was made; whether there is something else to be kept for the next start.
    pub(crate) fn made(&mut self, edit: &Edit) -> bool {
        if let Edit::DeleteService(service) = edit {
            return self.forget(*service, |_, _| true);
        }
        let Some(server) = edit.server() else { return false };
        let key = DestinationKey { service: edit.service(), server };
        let Some(one) = self.overrides.get_mut(&key) else { return false };
        one.before = None;
        if one.now == Some(one.original.weight) {
            self.overrides.remove(&key);
            return true;
        }
        false
    }

    /// Forgets what others have changed since, and what is as it was, in a service that was found so; whether that was
    /// anything.
    pub(crate) fn reconcile(&mut self, service: ServiceKey, entry: Option<&ServiceEntry>) -> bool {
        self.forget(service, |key, one| {
            let Some(entry) = entry else { return true };
            let found = entry.destinations.get(&key.server).map(|destination| destination.weight);
            found == Some(one.original.weight) || !one.is_ours(found)
        })
    }

    /// The same for the whole table.
    pub(crate) fn reconcile_all(&mut self, table: &Table) {
        let services: BTreeSet<_> = self.overrides.keys().map(|key| key.service).collect();
        for service in services {
            self.reconcile(service, table.services.get(&service));
        }
    }

    /// What of one service is out of the table by this agent's doing.
    pub(crate) fn removed(&self, service: ServiceKey) -> impl Iterator<Item = &Destination> {
        self.of(service).filter(|(_, one)| one.is_ours(None)).map(|(_, one)| &one.original)
    }

    /// Those of one service.
    fn of(&self, service: ServiceKey) -> impl Iterator<Item = (&DestinationKey, &Override)> {
        const LEAST: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::UNSPECIFIED), 0);
        let first = DestinationKey { service, server: LEAST };
        self.overrides.range(first..).take_while(move |(key, _)| key.service == service)
    }

    fn forget(&mut self, service: ServiceKey, which: impl Fn(&DestinationKey, &Override) -> bool) -> bool {
        let gone: Vec<_> =
            self.of(service).filter(|(key, one)| which(key, one)).map(|(key, _)| *key).collect();
        for key in &gone {
            self.overrides.remove(key);
        }
        !gone.is_empty()
    }
}

/// The weight that a destination of a service comes back to; `None` if it isn't one of it.
fn own(wanted: &WantedService, key: &DestinationKey) -> Option<Weight> {
    let listed = wanted.destinations.get(&key.server).map(|destination| destination.own);
    listed.or_else(|| wanted.absent.get(&key.server).copied())
}

/// A weight of the kernel's as this program has it: negative ones count as 0.
pub(crate) fn weight_of(weight: KernelWeight) -> Weight {
    Weight(u16::try_from(weight.0.max(0)).unwrap_or(u16::MAX))
}
