//! What is known of the kernel's table, the desired table, and the services whose edits are pending. Pure: polls,
//! outcomes of edits and the time go in, edits come out.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    time::Instant,
};

use super::{
    adopted::adjust,
    backoff::{self, Failures},
    contention::Contention,
    desired::Changes,
    poller::TableDelta,
};
use crate::{
    engine::vip_path,
    ipvs::{
        Destination, Edit, IpvsError, KernelWeight, ServiceEntry, Table, Wanted,
        overrides::{Overrides, Snapshot},
        service_difference,
    },
    model::{DestinationKey, Foreign, ServiceKey, VipMarks},
};

/// Plans the edits that make the table as desired.
#[derive(Debug)]
pub(super) struct Planner {
    /// The table as it was last read, with the edits since.
    known: Table,
    wanted: Wanted,
    foreign: Foreign,
    rights: Rights,
    /// The weights that this agent has set, and the originals.
    overrides: Overrides,
    /// Whether others have changed the table since the last snapshot was taken.
    changed_by_others: bool,
    /// Services that may differ from the desired ones, to be edited before all others.
    urgent: BTreeSet<ServiceKey>,
    /// The other services that may differ from the desired ones.
    normal: BTreeSet<ServiceKey>,
    /// Services that were edited since the last poll was started: its result may be older than the edits.
    edited: BTreeSet<ServiceKey>,
    /// Services that the next poll is to return, changed or not.
    recheck: BTreeSet<ServiceKey>,
    contentions: BTreeMap<ServiceKey, Contention>,
    /// Services with failed edits, and when they are retried.
    failing: BTreeMap<ServiceKey, Failures>,
    /// The marks of the private services that lead probes to VIPs.
    vip_marks: VipMarks,
    /// Whether private services may have become ready since that was last asked, or are no longer.
    lanes_changed: bool,
}

/// The private services that are desired.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Lanes {
    /// The marks that lead to their servers.
    pub(super) ready: BTreeSet<u32>,
    /// Services of somebody else's where private ones should be. They are left alone.
    pub(super) of_others: BTreeSet<ServiceKey>,
}

/// What may be done to the table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Rights {
    /// The services are those of the table: only weights are changed, or servers removed and added again.
    pub(super) adopts: bool,
    /// Nothing is written. The planner's table is then as the edits would have made it; this is the kernel's.
    pub(super) dry_run: Option<Table>,
}

/// The edits of one service.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Plan {
    pub(super) service: ServiceKey,
    pub(super) edits: Vec<Edit>,
    urgent: bool,
}

/// Others have changed a managed service, which differs from the desired one now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Interference {
    pub(super) service: ServiceKey,
    /// The service now; `None`: it is not in the table.
    pub(super) entry: Option<ServiceEntry>,
    /// The edits that revert the change.
    pub(super) repair: Vec<Edit>,
    /// When they will be made, if not at once.
    pub(super) repair_at: Option<Instant>,
}

/// What a poll has found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Findings {
    pub(super) interferences: Vec<Interference>,
    /// Services that others keep changing, from now on.
    pub(super) contended: Vec<ServiceKey>,
    /// Services that others no longer keep changing.
    pub(super) no_longer_contended: Vec<ServiceKey>,
}

impl Planner {
    /// Starts with the table as it was read; nothing is desired yet.
    pub(super) fn new(
        known: Table,
        foreign: Foreign,
        rights: Rights,
        mut overrides: Overrides,
        vip_marks: VipMarks,
    ) -> Self {
        overrides.reconcile_all(&known);
        Self {
            known,
            wanted: Wanted::default(),
            foreign,
            rights,
            overrides,
            changed_by_others: false,
            urgent: BTreeSet::new(),
            normal: BTreeSet::new(),
            edited: BTreeSet::new(),
            recheck: BTreeSet::new(),
            contentions: BTreeMap::new(),
            failing: BTreeMap::new(),
            vip_marks,
            lanes_changed: false,
        }
    }

    /// How the desired private services are, if that may have changed since the last call.
    pub(super) fn changed_lanes(&mut self) -> Option<Lanes> {
        if !std::mem::take(&mut self.lanes_changed) {
            return None;
        }
        let mut lanes = Lanes::default();
        for (key, wanted) in &self.wanted.services {
            let ServiceKey::Mark { mark, .. } = *key else { continue };
            let Some(entry) = self.known.services.get(key).filter(|_| self.vip_marks.contains(mark)) else {
                continue;
            };
            if self.is_of_others(key) {
                lanes.of_others.insert(*key);
            } else if service_difference(*key, Some(entry), wanted).is_empty() {
                lanes.ready.insert(mark);
            }
        }
        Some(lanes)
    }

    /// Whether the table has a service with a mark of probes to VIPs that is not the agent's: it is neither changed nor
    /// deleted, unless all foreign services go.
    fn is_of_others(&self, key: &ServiceKey) -> bool {
        let Some(entry) = self.known.services.get(key) else { return false };
        self.foreign == Foreign::Keep
            && vip_path::has_own_mark(key, self.vip_marks)
            && !vip_path::is_private(key, entry, self.vip_marks)
    }

    /// The weights that this agent has set, and the originals.
    pub(super) fn overrides(&self) -> &Overrides {
        &self.overrides
    }

    /// Whether the services are those of the table.
    pub(super) fn adopts(&self) -> bool {
        self.rights.adopts
    }

    /// The table now, if others have changed it since the last call.
    pub(super) fn changed_snapshot(&mut self) -> Option<Snapshot> {
        std::mem::take(&mut self.changed_by_others).then(|| self.snapshot())
    }

    /// The table now.
    pub(super) fn snapshot(&self) -> Snapshot {
        match &self.rights.dry_run {
            // This agent has set no weight in it.
            Some(table) => Snapshot { table: table.clone(), overrides: Overrides::default() },
            None => Snapshot { table: self.known.clone(), overrides: self.overrides.clone() },
        }
    }

    /// The weights in the table now.
    pub(super) fn weights(&self) -> HashMap<DestinationKey, KernelWeight> {
        let table = self.rights.dry_run.as_ref().unwrap_or(&self.known);
        let of_service = |(key, entry): (&ServiceKey, &ServiceEntry)| {
            let service = *key;
            let weight =
                move |found: &Destination| (DestinationKey { service, server: found.server }, found.weight);
            entry.destinations.values().map(weight).collect::<Vec<_>>()
        };
        table.services.iter().flat_map(of_service).collect()
    }

    /// Records that the edits of a plan are about to be made. Returns whether that has changed the overrides.
    pub(super) fn expect(&mut self, plan: &Plan) -> bool {
        let wanted = self.wanted.services.get(&plan.service);
        self.overrides.expect(&plan.edits, &self.known, wanted, !self.rights.adopts)
    }

    /// From now on foreign services are left alone, whatever the configuration says.
    pub(super) fn keep_foreign(&mut self) {
        self.foreign = Foreign::Keep;
    }

    /// Changes what is desired.
    pub(super) fn want(&mut self, changes: Changes, now: Instant) {
        let Changes { table, urgent, number: _ } = changes;
        if let Some(wanted) = table {
            self.replace(wanted);
        }
        for (key, service) in urgent {
            self.wanted.unwanted.remove(&key);
            self.wanted.services.insert(key, service);
            // A new desired state doesn't wait, whatever others do, but it counts as a repair.
            if let Some(contention) = self.contentions.get_mut(&key) {
                contention.repaired(now);
            }
            self.urgent.insert(key);
        }
    }

    fn replace(&mut self, wanted: Wanted) {
        let before = std::mem::replace(&mut self.wanted, wanted);
        self.lanes_changed = true;
        let Wanted { services, unwanted } = &self.wanted;
        let changed = services.iter().filter(|(key, service)| before.services.get(key) != Some(service));
        self.normal.extend(changed.map(|(key, _)| *key));
        self.normal.extend(unwanted);
        if self.foreign == Foreign::Remove {
            self.normal.extend(self.known.services.keys().filter(|key| !services.contains_key(key)));
        }
    }

    /// The next plan.
    pub(super) fn next(&mut self) -> Option<Plan> {
        loop {
            let (service, urgent) = match self.urgent.pop_first() {
                Some(service) => (service, true),
                None => (self.normal.pop_first()?, false),
            };
            let edits = self.edits(&service);
            if !edits.is_empty() {
                return Some(Plan { service, edits, urgent });
            }
            // The service to be deleted is gone; if it appears again, it is foreign.
            self.wanted.unwanted.remove(&service);
        }
    }

    /// The edits that one service needs.
    fn edits(&self, key: &ServiceKey) -> Vec<Edit> {
        let entry = self.known.services.get(key);
        if self.rights.adopts {
            let wanted = self.wanted.services.get(key);
            return wanted.map_or_else(Vec::new, |wanted| adjust(*key, entry, wanted, &self.overrides));
        }
        if self.is_of_others(key) {
            return vec![];
        }
        let is_deleted = || self.wanted.unwanted.contains(key) || self.foreign == Foreign::Remove;
        match self.wanted.services.get(key) {
            Some(wanted) => service_difference(*key, entry, wanted),
            None if entry.is_some() && is_deleted() => vec![Edit::DeleteService(*key)],
            None => vec![],
        }
    }

    /// Records that an edit was made. Returns whether that has changed the overrides.
    pub(super) fn made(&mut self, edit: &Edit) -> bool {
        let key = edit.service();
        self.lanes_changed |= matches!(key, ServiceKey::Mark { .. });
        if self.rights.dry_run.is_none() {
            self.edited.insert(key);
        }
        if self.known.apply(edit).is_err() {
            // The kernel accepted an edit that doesn't fit the known table: others have changed it meanwhile.
            self.recheck.insert(key);
        }
        if matches!(edit, Edit::DeleteService(_)) {
            self.wanted.unwanted.remove(&key);
        }
        self.overrides.applied(edit)
    }

    /// Records that all edits of a plan were made.
    pub(super) fn done(&mut self, service: &ServiceKey) {
        self.failing.remove(service);
    }

    /// Records that a plan was interrupted: its service is planned again.
    pub(super) fn interrupted(&mut self, service: ServiceKey, urgent: bool) {
        if urgent { &mut self.urgent } else { &mut self.normal }.insert(service);
    }

    /// Records that an edit has failed. The service's remaining edits are not tried: their order keeps the service
    /// served only as long as none is missing. They are retried after the next poll.
    pub(super) fn failed(&mut self, edit: &Edit, error: &IpvsError, now: Instant) {
        let key = edit.service();
        self.edited.insert(key);
        self.recheck.insert(key);
        let before = self.failing.get(&key).copied();
        let mut failures = Failures::after(before, backoff::MAX_PAUSE_SERVICE, now);
        if before.is_none() && matches!(error, IpvsError::Conflict(_)) {
            // The next poll may be all that it takes.
            failures.until = now;
        }
        self.failing.insert(key, failures);
    }

    /// When the failed edits of a service are retried.
    pub(super) fn retry_at(&self, service: &ServiceKey) -> Option<Instant> {
        self.failing.get(service).map(|failures| failures.until)
    }

    /// Whether there are failed edits that are to be retried.
    pub(super) fn is_failing(&self) -> bool {
        !self.failing.is_empty()
    }

    /// Whether the table is to be polled soon.
    pub(super) fn needs_recheck(&self) -> bool {
        !self.recheck.is_empty()
    }

    /// Records that a poll starts. Returns the services that its result is to have whether they have changed or not.
    pub(super) fn poll_started(&mut self) -> BTreeSet<ServiceKey> {
        let mut recheck = std::mem::take(&mut self.recheck);
        // If others have undone an edit since, the table is as at the last poll, and doesn't seem to have changed.
        recheck.append(&mut self.edited);
        recheck.extend(self.failing.keys().chain(self.contentions.keys()));
        recheck
    }

    /// Takes the result of a poll.
    pub(super) fn observed(&mut self, delta: TableDelta, now: Instant) -> Findings {
        let TableDelta { mut services, complete } = delta;
        if complete {
            let gone = self.known.services.keys().filter(|key| !services.contains_key(key));
            let gone: Vec<_> = gone.map(|key| (*key, None)).collect();
            services.extend(gone);
        }
        let mut findings = Findings::default();
        for (key, entry) in services {
            if self.edited.contains(&key) {
                self.recheck.insert(key);
            } else {
                self.observe_service(key, entry, now, &mut findings);
            }
        }
        self.contentions.retain(|key, contention| {
            let is_over = contention.is_over(now);
            if is_over && contention.is_alarming() {
                findings.no_longer_contended.push(*key);
            }
            !is_over
        });
        findings
    }

    /// Takes one service of a poll's result.
    fn observe_service(
        &mut self,
        key: ServiceKey,
        entry: Option<ServiceEntry>,
        now: Instant,
        findings: &mut Findings,
    ) {
        if let Some(table) = &mut self.rights.dry_run {
            if table.services.get(&key) == entry.as_ref() {
                return;
            }
            set(table, key, entry.as_ref());
        }
        let changed = self.known.services.get(&key) != entry.as_ref();
        self.changed_by_others |= changed;
        self.overrides.reconcile(key, entry.as_ref());
        if changed {
            set(&mut self.known, key, entry.as_ref());
            self.lanes_changed |= matches!(key, ServiceKey::Mark { .. });
        }
        let repair = self.edits(&key);
        if repair.is_empty() {
            return;
        }
        if self.rights.dry_run.is_some() {
            self.normal.insert(key);
            return;
        }
        if let Some(failures) = self.failing.get(&key) {
            if failures.until <= now {
                self.normal.insert(key);
            }
        } else if self.wanted.services.contains_key(&key) {
            let contention = self.contentions.entry(key).or_default();
            if changed {
                contention.interfered(now);
            }
            let repair_at = contention.due(now);
            if repair_at.is_none() {
                let was_alarming = contention.is_alarming();
                contention.repaired(now);
                if !was_alarming && contention.is_alarming() {
                    findings.contended.push(key);
                }
                self.normal.insert(key);
            }
            if changed {
                findings.interferences.push(Interference { service: key, entry, repair, repair_at });
            }
        } else {
            self.normal.insert(key);
        }
    }
}

fn set(table: &mut Table, key: ServiceKey, entry: Option<&ServiceEntry>) {
    match entry {
        Some(entry) => drop(table.services.insert(key, entry.clone())),
        None => drop(table.services.remove(&key)),
    }
}

impl Plan {
    /// Whether it goes before plans that aren't.
    pub(super) fn is_urgent(&self) -> bool {
        self.urgent
    }
}

#[cfg(test)]
mod tests;
