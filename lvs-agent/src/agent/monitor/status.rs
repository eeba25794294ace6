//! What is told of the passive signal: to people who ask, to `/metrics`, and to the log where it changes.

use std::{
    collections::{BTreeMap, HashMap},
    time::Duration,
};

use lvs_common::ServerId;
use tracing::info;

use super::Monitor;
use crate::{
    agent::messages::SignalRequest,
    clock::monotonic_ns,
    control::{EvidenceStatus, SignalStatus, Visibility},
    model::DestinationKey,
    network::Reach,
    passive::{NoSignal, Sight, Target},
    telemetry::metrics,
};

/// The destinations without a signal, and why.
pub(super) type Silent = BTreeMap<DestinationKey, NoSignal>;

/// What was last held against each server, and when.
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
    /// What is not about single servers, and whose signal has come or gone.
    pub(super) fn publish(&mut self) {
        metrics::publish_doubts(&self.signals.doubts());
        if std::mem::take(&mut self.silent_is_old) {
            self.tell_silent();
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
        for (destination, reason) in &self.silent {
            statuses
                .entry(*destination)
                .or_insert_with(|| SignalStatus::none(self.reason(destination, reason)));
        }
        // Whoever asked may have gone.
        request.send(statuses).ok();
    }

    fn status(&self, target: &Target, destination: &DestinationKey, now_ns: u64) -> SignalStatus {
        let none = self.silent.get(destination);
        let seen = match (none, target.sight()) {
            (Some(NoSignal::CountedOnly(_)), _) | (None, Sight::CountedOnly(_)) => Visibility::CountersOnly,
            (Some(_), _) => Visibility::None,
            (None, Sight::Whole) => Visibility::Both,
            (None, Sight::Half) => Visibility::ClientOnly,
        };
        let usual = self.detector.usual_wait(target.id);
        SignalStatus {
            seen,
            reason: match (none, seen) {
                (Some(reason), _) => Some(self.reason(destination, reason)),
                (None, Visibility::ClientOnly) => Some("answers bypass the director".to_owned()),
                (None, _) => None,
            },
            usual_wait_ms: usual.map(|usual: Duration| usual.as_secs_f64() * 1000.0),
            evidence: self.evidences.status(target.id, now_ns),
        }
    }

    /// The reason in words; what the kernel says about the route says more than that there is none.
    fn reason(&self, destination: &DestinationKey, reason: &NoSignal) -> String {
        match (reason, self.around.way(destination.server.ip()).map(|way| way.reach)) {
            (NoSignal::RouteUnknown | NoSignal::NeighbourUnknown, Some(Reach::Nowhere(error))) => {
                error.to_string()
            }
            _ => reason.to_string(),
        }
    }

    /// Logs and shows whose signal has come or gone since the last time.
    fn tell_silent(&mut self) {
        let silent: Silent = self.targets.without_signal().into_iter().collect();
        for destination in self.targets.all().flat_map(|target| &target.destinations) {
            let (old, new) = (self.silent.get(destination), silent.get(destination));
            if old.is_some() && new.is_none() {
                info!(%destination, "passive signal for {destination}");
            }
        }
        for (destination, reason) in &silent {
            if self.silent.get(destination) != Some(reason) {
                let words = self.reason(destination, reason);
                info!(%destination, "no passive signal for {destination}: {words}");
            }
        }
        self.silent = silent;
        let all = self.targets.all().flat_map(|target| &target.destinations).copied();
        let all: std::collections::BTreeSet<DestinationKey> =
            all.chain(self.silent.keys().copied()).collect();
        let reasons = all.into_iter().map(|destination| {
            let service = self.services.get(&destination.service).map_or("", String::as_str);
            (destination, service, self.silent.get(&destination).map(word))
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
        NoSignal::CountedOnly(_) => "counted-only",
        NoSignal::RouteUnknown => "no-route",
        NoSignal::NeighbourUnknown => "no-neighbour",
        NoSignal::SameMac(_) => "same-mac",
        NoSignal::SameAnswers(_) => "same-answers",
        NoSignal::DeviceNotWatched(_) => "device-not-watched",
        NoSignal::NoRoom => "no-room",
    }
}
