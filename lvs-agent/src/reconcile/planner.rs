//! What is known of the kernel's table, what is wanted of it, and which services are still to be made so. Pure: readings,
//! outcomes and the time go in, edits come out.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Instant,
};

use super::{
    adopted::adjust,
    backoff::{self, Failing},
    contention::Contention,
    desired::Changes,
    poller::TableDelta,
};
use crate::{
    ipvs::{
        Edit, IpvsError, ServiceEntry, Table, Wanted,
        overrides::{Overrides, Snapshot},
        service_difference,
    },
    model::{Foreign, ServiceKey},
};

/// The books of the one who writes to the table.
#[derive(Debug)]
pub(super) struct Planner {
    /// The table as last read, with the own edits since.
    known: Table,
    wanted: Wanted,
    foreign: Foreign,
    rights: Rights,
    /// Who has another weight by this agent's doing.
    overrides: Overrides,
    /// Whether others have changed the table since that was last asked.
    others: bool,
    /// Services that may not be as they should, the urgent ones first.
    urgent: BTreeSet<ServiceKey>,
    rest: BTreeSet<ServiceKey>,
    /// Services that were edited since the table last began to be read: what is read of them may be old.
    edited: BTreeSet<ServiceKey>,
    /// Services to be told of after the next reading, changed or not.
    recheck: BTreeSet<ServiceKey>,
    contentions: BTreeMap<ServiceKey, Contention>,
    failing: BTreeMap<ServiceKey, Failing>,
}

/// What may be done to the table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Rights {
    /// Services are those of the table: of them only weights are changed, or servers taken out and added again.
    pub(super) adopts: bool,
    /// What is known of the table is how it would be, if anything were written; this is how it is.
    pub(super) dry_run: Option<Table>,
}

/// What is to be done to one service.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Plan {
    pub(super) service: ServiceKey,
    pub(super) edits: Vec<Edit>,
    urgent: bool,
}

/// A managed service is not as it was left, nor as it should be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Interference {
    pub(super) service: ServiceKey,
    /// How it is now; `None`: not there.
    pub(super) found: Option<ServiceEntry>,
    /// What makes it as it should be.
    pub(super) repair: Vec<Edit>,
    /// When that will be done, if not at once.
    pub(super) held_until: Option<Instant>,
}

/// What has come of a reading.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Findings {
    pub(super) interferences: Vec<Interference>,
    /// Services that others keep changing, since now.
    pub(super) contended: Vec<ServiceKey>,
    /// Those that they no longer do.
    pub(super) calm: Vec<ServiceKey>,
}

impl Planner {
    /// With the table as it was found; nothing is wanted yet.
    pub(super) fn new(known: Table, foreign: Foreign, rights: Rights, mut overrides: Overrides) -> Self {
        overrides.reconcile_all(&known);
        Self {
            known,
            wanted: Wanted::default(),
            foreign,
            rights,
            overrides,
            others: false,
            urgent: BTreeSet::new(),
            rest: BTreeSet::new(),
            edited: BTreeSet::new(),
            recheck: BTreeSet::new(),
            contentions: BTreeMap::new(),
            failing: BTreeMap::new(),
        }
    }

    pub(super) fn known(&self) -> &Table {
        &self.known
    }

    /// Who has another weight by this agent's doing.
    pub(super) fn overrides(&self) -> &Overrides {
        &self.overrides
    }

    /// Whether services are those of the table.
    pub(super) fn adopts(&self) -> bool {
        self.rights.adopts
    }

    /// The table as it is, if others have changed it since this was last asked.
    pub(super) fn seen(&mut self) -> Option<Snapshot> {
        std::mem::take(&mut self.others).then(|| self.see())
    }

    /// The table as it is.
    pub(super) fn see(&self) -> Snapshot {
        match &self.rights.dry_run {
            // Of that nothing is this agent's doing.
            Some(table) => Snapshot { table: table.clone(), overrides: Overrides::default() },
            None => Snapshot { table: self.known.clone(), overrides: self.overrides.clone() },
        }
    }

    /// The edits of a plan are about to be made; whether there is anything to be written down before.
    pub(super) fn expect(&mut self, plan: &Plan) -> bool {
        let wanted = self.wanted.services.get(&plan.service);
        self.overrides.expect(&plan.edits, &self.known, wanted, !self.rights.adopts)
    }

    /// From now on foreign services are left alone, whatever was said.
    pub(super) fn keep_foreign(&mut self) {
        self.foreign = Foreign::Keep;
    }

    /// Takes note of what is wanted now.
    pub(super) fn want(&mut self, changes: Changes, now: Instant) {
        let Changes { whole, urgent, number: _ } = changes;
        if let Some(wanted) = whole {
            self.replace(wanted);
        }
        for (key, service) in urgent {
            self.wanted.unwanted.remove(&key);
            self.wanted.services.insert(key, service);
            // What is wanted anew doesn't wait for what others do, but it is a repair, too.
            if let Some(contention) = self.contentions.get_mut(&key) {
                contention.repaired(now);
            }
            self.urgent.insert(key);
        }
    }

    fn replace(&mut self, wanted: Wanted) {
        let before = std::mem::replace(&mut self.wanted, wanted);
        let Wanted { services, unwanted } = &self.wanted;
        let changed = services.iter().filter(|(key, service)| before.services.get(key) != Some(service));
        self.rest.extend(changed.map(|(key, _)| *key));
        self.rest.extend(unwanted);
        if self.foreign == Foreign::Remove {
            self.rest.extend(self.known.services.keys().filter(|key| !services.contains_key(key)));
        }
    }

    /// What is to be done next.
    pub(super) fn next(&mut self) -> Option<Plan> {
        loop {
            let (service, urgent) = match self.urgent.pop_first() {
                Some(service) => (service, true),
                None => (self.rest.pop_first()?, false),
            };
            let edits = self.edits(&service);
            if !edits.is_empty() {
                return Some(Plan { service, edits, urgent });
            }
            // What was to go is gone; if it comes again it is somebody else's.
            self.wanted.unwanted.remove(&service);
        }
    }

    /// The edits that one service needs, as far as is known.
    fn edits(&self, key: &ServiceKey) -> Vec<Edit> {
        let found = self.known.services.get(key);
        if self.rights.adopts {
            let wanted = self.wanted.services.get(key);
            return wanted.map_or_else(Vec::new, |wanted| adjust(*key, found, wanted, &self.overrides));
        }
        let goes = || self.wanted.unwanted.contains(key) || self.foreign == Foreign::Remove;
        match self.wanted.services.get(key) {
            Some(wanted) => service_difference(*key, found, wanted),
            None if found.is_some() && goes() => vec![Edit::DeleteService(*key)],
            None => vec![],
        }
    }

    /// An edit was made; whether there is something else to be written down.
    pub(super) fn made(&mut self, edit: &Edit) -> bool {
        let key = edit.service();
        if self.rights.dry_run.is_none() {
            self.edited.insert(key);
        }
        if self.known.apply(edit).is_err() {
            // The kernel took an edit that doesn't fit what was known: someone else has edited meanwhile.
            self.recheck.insert(key);
        }
        if matches!(edit, Edit::DeleteService(_)) {
            self.wanted.unwanted.remove(&key);
        }
        self.overrides.applied(edit)
    }

    /// All edits of a plan were made.
    pub(super) fn done(&mut self, service: &ServiceKey) {
        self.failing.remove(service);
    }

    /// A plan was left before its end.
    pub(super) fn left(&mut self, service: ServiceKey, urgent: bool) {
        if urgent { &mut self.urgent } else { &mut self.rest }.insert(service);
    }

    /// An edit has failed. The rest of its service's edits are left out: they come in an order that keeps the service
    /// served, which holds only as long as none is missing. The table is read before they are tried again.
    pub(super) fn failed(&mut self, edit: &Edit, error: &IpvsError, now: Instant) {
        let key = edit.service();
        self.edited.insert(key);
        self.recheck.insert(key);
        let before = self.failing.get(&key).copied();
        let mut failing = Failing::after(before, backoff::SERVICE, now);
        if before.is_none() && matches!(error, IpvsError::Conflict(_)) {
            // The next reading tells how the table is, and that may be all that it takes.
            failing.until = now;
        }
        self.failing.insert(key, failing);
    }

    /// When an edit of a service that has failed is tried again.
    pub(super) fn tried_again(&self, service: &ServiceKey) -> Option<Instant> {
        self.failing.get(service).map(|failing| failing.until)
    }

    /// Whether there are edits that have failed and are to be tried again.
    pub(super) fn is_failing(&self) -> bool {
        !self.failing.is_empty()
    }

    /// Whether the table is to be read soon.
    pub(super) fn is_in_doubt(&self) -> bool {
        !self.recheck.is_empty()
    }

    /// The table begins to be read; the services to be told of whether they have changed or not.
    pub(super) fn begin_look(&mut self) -> BTreeSet<ServiceKey> {
        let mut recheck = std::mem::take(&mut self.recheck);
        // If others have undone an edit since, the table is as at the reading before, and doesn't seem to have changed.
        recheck.append(&mut self.edited);
        recheck.extend(self.failing.keys().chain(self.contentions.keys()));
        recheck
    }

    /// The table was read.
    pub(super) fn looked(&mut self, delta: TableDelta, now: Instant) -> Findings {
        let TableDelta { mut services, whole } = delta;
        if whole {
            let gone = self.known.services.keys().filter(|key| !services.contains_key(key));
            let gone: Vec<_> = gone.map(|key| (*key, None)).collect();
            services.extend(gone);
        }
        let mut findings = Findings::default();
        for (key, found) in services {
            if self.edited.contains(&key) {
                self.recheck.insert(key);
            } else {
                self.found(key, found, now, &mut findings);
            }
        }
        self.contentions.retain(|key, contention| {
            let over = contention.is_over(now);
            if over && contention.is_alarming() {
                findings.calm.push(*key);
            }
            !over
        });
        findings
    }

    /// One service was read.
    fn found(&mut self, key: ServiceKey, found: Option<ServiceEntry>, now: Instant, findings: &mut Findings) {
        if let Some(table) = &mut self.rights.dry_run {
            if table.services.get(&key) == found.as_ref() {
                return;
            }
            set(table, key, found.as_ref());
        }
        let changed = self.known.services.get(&key) != found.as_ref();
        self.others |= changed;
        self.overrides.reconcile(key, found.as_ref());
        if changed {
            set(&mut self.known, key, found.as_ref());
        }
        let repair = self.edits(&key);
        if repair.is_empty() {
            return;
        }
        if self.rights.dry_run.is_some() {
            self.rest.insert(key);
            return;
        }
        if let Some(failing) = self.failing.get(&key) {
            if failing.until <= now {
                self.rest.insert(key);
            }
        } else if self.wanted.services.contains_key(&key) {
            let contention = self.contentions.entry(key).or_default();
            if changed {
                contention.interfered(now);
            }
            let held_until = contention.due(now);
            if held_until.is_none() {
                let alarming = contention.is_alarming();
                contention.repaired(now);
                if !alarming && contention.is_alarming() {
                    findings.contended.push(key);
                }
                self.rest.insert(key);
            }
            if changed {
                findings.interferences.push(Interference { service: key, found, repair, held_until });
            }
        } else {
            self.rest.insert(key);
        }
    }
}

fn set(table: &mut Table, key: ServiceKey, found: Option<&ServiceEntry>) {
    match found {
        Some(entry) => drop(table.services.insert(key, entry.clone())),
        None => drop(table.services.remove(&key)),
    }
}

impl Plan {
    pub(super) fn is_urgent(&self) -> bool {
        self.urgent
    }
}

#[cfg(test)]
mod tests;
