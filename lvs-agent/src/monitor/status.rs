//! The state of the passive signal: for `status`, for `/metrics`, and for the log where it changes.

use std::{
    collections::{BTreeMap, HashMap},
    time::Duration,
};

use lvs_common::ServerId;
use tracing::info;

use super::Monitor;
use crate::{
    clock::monotonic_ns,
    control::{EvidenceStatus, SignalStatus, Visibility},
    messages::SignalRequest,
    model::DestinationKey,
    network::ServerNextHop,
    passive::{self, NoSignal, Target},
    telemetry::metrics,
};

/// The destinations without a signal, and why.
pub(super) type WithoutSignal = BTreeMap<DestinationKey, NoSignal>;

/// The last evidence against each server, and when it was.
#[derive(Debug, Default)]
pub(super) struct EvidenceLog {
    last: BTreeMap<ServerId, (String, u64)>,
}

impl EvidenceLog {
    pub(super) fn note(&mut self, id: ServerId, text: String, now_ns: u64) {
        self.last.insert(id, (text, now_ns));
    }

    pub(super) fn forget(&mut self, id: ServerId) {
        self.last.remove(&id);
    }

    fn status(&self, id: ServerId, now_ns: u64) -> Option<EvidenceStatus> {
        let (text, at_ns) = self.last.get(&id)?;
        Some(EvidenceStatus { text: text.clone(), age_ms: now_ns.saturating_sub(*at_ns) / 1_000_000 })
    }
}

impl Monitor {
    /// Publishes what is not about single servers, and which signals have come or gone.
    pub(super) fn publish(&mut self) {
        metrics::publish_unattributed(&self.signals.unattributed());
        if std::mem::take(&mut self.signals_changed) {
            self.publish_fill();
            self.publish_signals();
        }
    }

    pub(super) fn answer(&mut self, request: SignalRequest) {
        self.publish();
        let now_ns = monotonic_ns();
        let mut statuses: HashMap<DestinationKey, SignalStatus> = HashMap::new();
        for target in self.targets.all() {
            for destination in &target.destinations {
                let status = self.status(target, destination, now_ns);
                // By firewall mark TCP comes first, and UDP has little to add.
                statuses.entry(*destination).or_insert(status);
            }
        }
        for (destination, reason) in &self.without_signal {
            statuses
                .entry(*destination)
                .or_insert_with(|| SignalStatus::none(self.reason(destination, reason)));
        }
        // The requester may be gone.
        request.send(statuses).ok();
    }

    fn status(&self, target: &Target, destination: &DestinationKey, now_ns: u64) -> SignalStatus {
        let none = self.without_signal.get(destination);
        let seen = match (none, target.visibility()) {
            (Some(NoSignal::CountersOnly(_)), _) | (None, passive::Visibility::CountersOnly(_)) => {
                Visibility::CountersOnly
            }
            (Some(_), _) => Visibility::None,
            (None, passive::Visibility::Both) => Visibility::Both,
            (None, passive::Visibility::ClientOnly) => Visibility::ClientOnly,
        };
        let reason = match (none, seen) {
            (Some(reason), _) => Some(self.reason(destination, reason)),
            (None, Visibility::ClientOnly) => Some("answers bypass the director".to_owned()),
            (None, _) => None,
        };
        let (seen, less) = self.seen_by_programs(destination.server.ip(), seen);
        let reasons: Vec<String> = less.into_iter().chain(reason).collect();
        let usual = self.detector.usual_wait(target.id);
        SignalStatus {
            seen,
            reason: (!reasons.is_empty()).then(|| reasons.join("; ")),
            usual_wait_ms: usual.map(|usual: Duration| usual.as_secs_f64() * 1000.0),
            evidence: self.evidences.status(target.id, now_ns),
        }
    }

    /// The reason in words; the kernel's error about the route is more precise than that there is none.
    fn reason(&self, destination: &DestinationKey, reason: &NoSignal) -> String {
        match (reason, self.topology.route(destination.server.ip()).map(|route| route.next_hop)) {
            (
                NoSignal::RouteUnknown | NoSignal::NeighbourUnknown,
                Some(ServerNextHop::Unreachable(error)),
            ) => error.to_string(),
            _ => reason.to_string(),
        }
    }

    /// Logs and publishes which signals have come or gone since the last time.
    /// The fill of the maps that the agent fills.
    fn publish_fill(&self) {
        let keys = self.programs.key_capacity();
        let [v4, v6] = self.targets.watched_keys();
        let servers = (self.targets.all().len(), u32::try_from(self.signals.capacity()).unwrap_or(u32::MAX));
        for (map, (entries, capacity)) in
            [("servers", servers), ("endpoints-ipv4", (v4, keys)), ("endpoints-ipv6", (v6, keys))]
        {
            metrics::publish_map_fill(map, u32::try_from(entries).unwrap_or(u32::MAX), capacity);
        }
    }

    fn publish_signals(&mut self) {
        let without_signal: WithoutSignal = self.targets.without_signal().into_iter().collect();
        for destination in self.targets.all().flat_map(|target| &target.destinations) {
            let (old, new) = (self.without_signal.get(destination), without_signal.get(destination));
            if old.is_some() && new.is_none() {
                info!(%destination, "passive signal for {destination}");
            }
        }
        for (destination, reason) in &without_signal {
            if self.without_signal.get(destination) != Some(reason) {
                let words = self.reason(destination, reason);
                info!(%destination, "no passive signal for {destination}: {words}");
            }
        }
        self.without_signal = without_signal;
        let targets = self.targets.all().flat_map(|target| &target.destinations).copied();
        let destinations: std::collections::BTreeSet<DestinationKey> =
            targets.chain(self.without_signal.keys().copied()).collect();
        let reasons = destinations.into_iter().map(|destination| {
            let service = self.services.get(&destination.service).map_or("", String::as_str);
            (destination, service, self.without_signal.get(&destination).map(word))
        });
        self.exposition.signals(reasons);
    }
}

/// The reason in a word, for a label.
fn word(reason: &NoSignal) -> &'static str {
    match reason {
        NoSignal::Local => "local",
        NoSignal::Bypass => "bypass",
        NoSignal::UnknownTunnel(_) => "unknown-tunnel",
        NoSignal::CountersOnly(_) => "counted-only",
        NoSignal::RouteUnknown => "no-route",
        NoSignal::NeighbourUnknown => "no-neighbour",
        NoSignal::SameMac(_) => "same-mac",
        NoSignal::SameAnswers(_) => "same-answers",
        NoSignal::DeviceNotWatched(_) => "device-not-watched",
        NoSignal::NoRoom => "no-room",
    }
}
