//! What changes while the monitor runs: the watched services, routes, neighbours.

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
    event::Publisher,
    keyed::KeyMap,
    messages::WatchedServices,
    model::VirtualService,
    network::{NeighbourChange, RouteSnapshot, ServerNextHop, ServerRoute, Topology},
    passive::{
        self, Change, ClientWatch, Detector, Forwarding, PacketPath, PassiveError, Programs, SiblingGroup,
        Signals, Targets, Visibility,
    },
    telemetry::metrics,
};

/// The parts that a [`Monitor`] is made of.
pub(crate) struct MonitorParts {
    pub(crate) programs: Programs,
    pub(crate) signals: Signals,
    pub(crate) targets: Targets,
    pub(crate) detector: Detector,
    pub(crate) recording: Option<Recording>,
    pub(crate) devices: Devices,
    pub(crate) outputs: Outputs,
    pub(crate) tick: Duration,
    pub(crate) events: Publisher,
}

/// How packets get to all servers of all services.
pub(crate) fn forwardings(services: &[VirtualService]) -> impl Iterator<Item = Forwarding> {
    services.iter().flat_map(passive::forwardings)
}

impl Monitor {
    /// Watches the servers of `watched`. Nothing is attached before the first snapshot.
    pub(crate) fn new(parts: MonitorParts, watched: &WatchedServices) -> Self {
        let MonitorParts { programs, signals, targets, detector, recording, devices, outputs, tick, events } =
            parts;
        let mut monitor = Self {
            programs,
            signals,
            targets,
            detector,
            clients: ClientWatch::default(),
            recording,
            exposition: metrics::Passive::default(),
            devices,
            topology: Topology::default(),
            outputs,
            tick,
            evaluated: Vec::new(),
            learn_queue: Vec::new(),
            learn_next: 0,
            learn_due: 0,
            failed: BTreeSet::new(),
            evidences: super::EvidenceLog::default(),
            blind: super::Blind::default(),
            counted: KeyMap::default(),
            events,
            without_signal: super::WithoutSignal::default(),
            signals_changed: true,
            services: BTreeMap::new(),
        };
        monitor.set_services(watched);
        monitor
    }

    /// Takes a new list of services. Servers that stay keep their history.
    pub(super) fn set_services(&mut self, watched: &WatchedServices) {
        let before = self.learn_queue.clone();
        let changes = self.targets.update(forwardings(watched));
        self.apply(&changes);
        self.learn_queue = self.targets.all().map(|target| target.id).collect();
        self.learn_next = 0;
        let visibilities = self.targets.all().map(|target| (target.id, target.visibility()));
        self.evaluated = visibilities
            .filter(|(_, visibility)| !matches!(visibility, Visibility::CountersOnly(_)))
            .collect();
        let stay: BTreeSet<ServerId> = self.learn_queue.iter().copied().collect();
        for gone in before.iter().filter(|id| !stay.contains(id)) {
            self.detector.forget(*gone);
            self.evidences.forget(*gone);
            self.counted.remove(gone);
        }
        self.failed.retain(|id| stay.contains(id));
        let groups = SiblingGroup::all(&self.targets, watched);
        self.detector.set_services(groups.iter().map(SiblingGroup::ids));
        self.clients.set_groups(&groups);
        self.exposition.follow(&self.targets, watched);
        self.services = watched.iter().map(|service| (service.key, service.name.clone())).collect();
        self.signals_changed = true;
        self.outputs.targets.send_replace(Arc::new(self.targets.clone()));
        let addresses = self.targets.addresses();
        self.outputs.servers.send_if_modified(|known| {
            let is_new = *known != addresses;
            *known = addresses;
            is_new
        });
    }

    /// Takes in the routes to the servers.
    pub(crate) fn update_routes(&mut self, snapshot: RouteSnapshot) {
        for (device, reason) in self.devices.follow(&mut self.programs, &snapshot) {
            self.targets.device(device, reason);
        }
        self.name_devices();
        let routes = self.topology.update_routes(snapshot);
        for ServerRoute { server, next_hop, .. } in &routes {
            match next_hop {
                ServerNextHop::Via { .. } => {}
                ServerNextHop::Local => info!(%server, "{server} is the director itself"),
                ServerNextHop::Unreachable(error) => warn!(%server, "{error}"),
            }
        }
        let paths: Vec<(IpAddr, Option<PacketPath>)> = self
            .topology
            .snapshot()
            .servers
            .iter()
            .map(|(server, next_hop)| (*server, path(next_hop)))
            .collect();
        let changes = self.targets.paths(paths);
        self.apply(&changes);
        self.note_failed(&routes);
        self.signals_changed = true;
    }

    /// Attaches again what others have detached.
    pub(super) fn keep_devices(&mut self) {
        for (device, reason) in self.devices.keep(&mut self.programs, self.topology.snapshot()) {
            self.targets.device(device, reason);
            self.signals_changed = true;
        }
        self.name_devices();
    }

    /// Takes in changes of neighbours.
    pub(super) fn neighbours(&mut self, neighbours: impl Iterator<Item = NeighbourChange>) {
        let neighbours: Vec<NeighbourChange> = neighbours.collect();
        let macs = neighbours
            .iter()
            .map(|change| (change.device, change.address, change.mac.filter(|_| change.state.is_usable())));
        let changes = self.targets.neighbours(macs);
        if !changes.is_empty() {
            info!("MAC addresses of servers or routers have changed: {} changes", changes.len());
            self.signals_changed = true;
        }
        self.apply(&changes);
        let routes: Vec<ServerRoute> =
            neighbours.iter().flat_map(|change| self.topology.update_neighbour(change)).collect();
        self.note_failed(&routes);
    }

    fn note_failed(&mut self, routes: &[ServerRoute]) {
        let failed: BTreeMap<IpAddr, bool> =
            routes.iter().map(|route| (route.server, route.failed)).collect();
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

    /// Writes changes to the eBPF maps. A failure leaves servers without a signal; the baseline checks still cover
    /// them.
    fn apply(&mut self, changes: &[Change]) {
        for change in changes {
            if let Err(error) = self.apply_one(change) {
                error!("passive detection is incomplete: {error}");
            }
        }
    }

    fn apply_one(&mut self, change: &Change) -> Result<(), PassiveError> {
        match change {
            Change::Watch(key, id) => self.programs.watch(key, *id),
            Change::Unwatch(key) => self.programs.unwatch(key),
            Change::Reset(id) => {
                self.signals.reset(*id);
                self.detector.forget(*id);
                self.clients.forget(*id);
                self.evidences.forget(*id);
                self.exposition.reset(*id);
                Ok(())
            }
        }
    }
}

fn path(next_hop: &ServerNextHop) -> Option<PacketPath> {
    match next_hop {
        ServerNextHop::Via { device, neighbour } => {
            Some(PacketPath::Out { device: *device, next_hop: *neighbour })
        }
        ServerNextHop::Local => Some(PacketPath::Local),
        ServerNextHop::Unreachable(_) => None,
    }
}
