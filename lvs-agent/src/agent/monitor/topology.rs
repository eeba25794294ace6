//! What changes while the passive side runs: who is watched, which way packets go, whose MAC address is whose.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
    sync::Arc,
    time::Duration,
};

use lvs_common::ServerId;
use tracing::{error, info, warn};

use super::{Monitor, Outputs, Recording, devices::Devices};
use crate::{
    agent::messages::WatchedServices,
    model::VirtualService,
    network::{NeighbourChange, Reach, ServerWay, Surroundings, Survey},
    passive::{self, Change, Detector, Forwarding, KernelSide, PassiveError, Path, Sight, Signals, Targets},
    telemetry::metrics,
};

/// The parts that a [`Monitor`] is made of.
pub(crate) struct Parts {
    pub(crate) kernel: KernelSide,
    pub(crate) signals: Signals,
    pub(crate) targets: Targets,
    pub(crate) detector: Detector,
    pub(crate) recording: Option<Recording>,
    pub(crate) devices: Devices,
    pub(crate) outputs: Outputs,
    pub(crate) tick: Duration,
}

/// How packets get to all servers of all services.
pub(crate) fn forwardings(services: &[VirtualService]) -> impl Iterator<Item = Forwarding> {
    services.iter().flat_map(passive::forwardings)
}

impl Monitor {
    /// Watches the servers of `watched`. Nothing is attached before the first survey.
    pub(crate) fn new(parts: Parts, watched: &WatchedServices) -> Self {
        let Parts { kernel, signals, targets, detector, recording, devices, outputs, tick } = parts;
        let mut watch = Self {
            kernel,
            signals,
            targets,
            detector,
            recording,
            exposition: metrics::Passive::default(),
            devices,
            around: Surroundings::default(),
            outputs,
            tick,
            speaking: Vec::new(),
            learning: Vec::new(),
            next: 0,
            owed: 0,
            failed: BTreeSet::new(),
            evidences: super::EvidenceLog::default(),
            silent: super::Silent::default(),
            silent_is_old: true,
            services: BTreeMap::new(),
        };
        watch.set_services(watched);
        watch
    }

    /// Takes a new list of services. Servers that stay keep what is known of them.
    pub(super) fn set_services(&mut self, watched: &WatchedServices) {
        let before = self.learning.clone();
        let changes = self.targets.update(forwardings(watched));
        self.apply(&changes);
        self.learning = self.targets.all().map(|target| target.id).collect();
        self.next = 0;
        let sights = self.targets.all().map(|target| (target.id, target.sight()));
        self.speaking = sights.filter(|(_, sight)| !matches!(sight, Sight::CountedOnly(_))).collect();
        let stay: BTreeSet<ServerId> = self.learning.iter().copied().collect();
        for gone in before.iter().filter(|id| !stay.contains(id)) {
            self.detector.forget(*gone);
            self.evidences.forget(*gone);
        }
        self.failed.retain(|id| stay.contains(id));
        self.detector.set_services(siblings(&self.targets, watched));
        self.exposition.follow(&self.targets, watched);
        self.services = watched.iter().map(|service| (service.key, service.name.clone())).collect();
        self.silent_is_old = true;
        self.outputs.targets.send_replace(Arc::new(self.targets.clone()));
        let addresses = self.targets.addresses();
        self.outputs.servers.send_if_modified(|known| {
            let others = *known != addresses;
            *known = addresses;
            others
        });
    }

    /// Takes in which way packets to the servers go.
    pub(crate) fn surveyed(&mut self, survey: Survey) {
        for (device, reason) in self.devices.follow(&mut self.kernel, &survey) {
            self.targets.device(device, reason);
        }
        let ways = self.around.survey(survey);
        for ServerWay { server, reach, .. } in &ways {
            match reach {
                Reach::Through { .. } => {}
                Reach::Local => info!(%server, "{server} is the director itself"),
                Reach::Nowhere(error) => warn!(%server, "{error}"),
            }
        }
        let paths: Vec<(IpAddr, Option<Path>)> =
            self.around.last().servers.iter().map(|(server, reach)| (*server, path(reach))).collect();
        let changes = self.targets.paths(paths);
        self.apply(&changes);
        self.note_failed(&ways);
        self.silent_is_old = true;
    }

    /// Puts back what others have taken off the devices.
    pub(super) fn keep_devices(&mut self) {
        for (device, reason) in self.devices.keep(&mut self.kernel, self.around.last()) {
            self.targets.device(device, reason);
            self.silent_is_old = true;
        }
    }

    /// Takes in what the kernel says of neighbours.
    pub(super) fn neighbours(&mut self, neighbours: impl Iterator<Item = NeighbourChange>) {
        let neighbours: Vec<NeighbourChange> = neighbours.collect();
        let macs = neighbours
            .iter()
            .map(|change| (change.device, change.address, change.mac.filter(|_| change.state.is_usable())));
        let changes = self.targets.neighbours(macs);
        if !changes.is_empty() {
            info!("MAC addresses of servers or routers have changed: {} changes", changes.len());
            self.silent_is_old = true;
        }
        self.apply(&changes);
        let ways: Vec<ServerWay> =
            neighbours.iter().flat_map(|change| self.around.neighbour(change)).collect();
        self.note_failed(&ways);
    }

    fn note_failed(&mut self, ways: &[ServerWay]) {
        let failed: BTreeMap<IpAddr, bool> = ways.iter().map(|way| (way.server, way.failed)).collect();
        if self.failed.is_empty() && !failed.values().any(|failed| *failed) {
            return;
        }
        for target in self.targets.all() {
            match failed.get(&target.address()) {
                Some(true) => drop(self.failed.insert(target.id)),
                Some(false) => drop(self.failed.remove(&target.id)),
                None => {}
            }
        }
    }

    /// Makes the kernel side's maps follow. A failure leaves servers without a signal, which the baseline checks watch on.
    fn apply(&mut self, changes: &[Change]) {
        for change in changes {
            if let Err(error) = self.apply_one(change) {
                error!("passive detection is incomplete: {error}");
            }
        }
    }

    fn apply_one(&mut self, change: &Change) -> Result<(), PassiveError> {
        match change {
            Change::Watch(key, id) => self.kernel.watch(key, *id),
            Change::Unwatch(key) => self.kernel.unwatch(key),
            Change::Reset(id) => {
                self.signals.reset(*id);
                self.detector.forget(*id);
                self.evidences.forget(*id);
                self.exposition.reset(*id);
                Ok(())
            }
        }
    }
}

fn path(reach: &Reach) -> Option<Path> {
    match reach {
        Reach::Through { device, neighbour } => Some(Path::Out { device: *device, next_hop: *neighbour }),
        Reach::Local => Some(Path::Local),
        Reach::Nowhere(_) => None,
    }
}

/// The endpoints of each service, which see the same clients; for each protocol by themselves.
fn siblings(targets: &Targets, services: &[VirtualService]) -> Vec<Vec<ServerId>> {
    let mut siblings: BTreeMap<_, Vec<ServerId>> = BTreeMap::new();
    for target in targets.all().filter(|target| !matches!(target.sight(), Sight::CountedOnly(_))) {
        let services: BTreeSet<_> =
            target.destinations.iter().map(|destination| destination.service).collect();
        for service in services {
            siblings.entry((service, target.protocol())).or_default().push(target.id);
        }
    }
    siblings.retain(|(service, _), _| services.iter().any(|one| one.key == *service));
    siblings.into_values().collect()
}
