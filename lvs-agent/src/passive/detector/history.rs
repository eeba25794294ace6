//! The history of each server: its models, and when a suspicion may be raised.

use std::time::Duration;

use lvs_common::{ServerCounters, ServerId, ServerState};

use super::{
    super::visibility::Visibility,
    finding::{EvidenceKind, Layer, Strength},
    hint_history::HintHistory,
    snapshot::Totals,
    time::nanos,
    wait_model::{Assumption, WaitModel},
};
use crate::{backoff::Backoff, model::DetectorSettings};

/// The histories of all servers. Ids are small numbers that are reused, so that each is an index.
#[derive(Clone, Debug, Default)]
pub(super) struct Histories(Vec<Option<ServerHistory>>);

impl Histories {
    /// A server's history; a new one if there was none.
    pub(super) fn of(&mut self, id: ServerId) -> &mut ServerHistory {
        let index = id.0 as usize;
        if self.0.len() <= index {
            self.0.resize(index + 1, None);
        }
        self.0[index].get_or_insert_with(ServerHistory::new)
    }

    pub(super) fn get(&self, id: ServerId) -> Option<&ServerHistory> {
        self.0.get(id.0 as usize)?.as_ref()
    }

    pub(super) fn get_mut(&mut self, id: ServerId) -> Option<&mut ServerHistory> {
        self.0.get_mut(id.0 as usize)?.as_mut()
    }

    pub(super) fn forget(&mut self, id: ServerId) {
        if let Some(history) = self.0.get_mut(id.0 as usize) {
            *history = None;
        }
    }
}

/// One server's history.
#[derive(Clone, Debug)]
pub(super) struct ServerHistory {
    pub(super) listener: WaitModel,
    pub(super) application: WaitModel,
    pub(super) sent_again: SentAgain,
    /// The suspicion of the host or its socket.
    pub(super) host_pause: Pause,
    /// The suspicion of the application.
    pub(super) application_pause: Pause,
    /// Hints about the host or its socket.
    pub(super) host_hints: HintHistory,
    /// Hints about the application.
    pub(super) application_hints: HintHistory,
    /// No report of overload before.
    pub(super) overload_quiet_until_ns: u64,
    /// No alarm for what most of the service shows before.
    pub(super) correlated_quiet_until_ns: u64,
    pub(super) down: bool,
    /// When it came up for the last time.
    up_ns: u64,
    /// Nothing has been learned since: what was asked of it before is in the next totals.
    has_come_up: bool,
}

impl ServerHistory {
    pub(super) fn new() -> Self {
        Self {
            listener: WaitModel::new(Assumption::Kernel),
            application: WaitModel::new(Assumption::Siblings),
            sent_again: SentAgain::default(),
            host_pause: Pause::default(),
            application_pause: Pause::default(),
            host_hints: HintHistory::default(),
            application_hints: HintHistory::default(),
            overload_quiet_until_ns: 0,
            correlated_quiet_until_ns: 0,
            down: false,
            up_ns: 0,
            has_come_up: false,
        }
    }

    /// Learns from the counters; returns the number of handshakes answered since the last time, `None` if there was
    /// demand and no answer.
    pub(super) fn learn(
        &mut self,
        counters: &ServerCounters,
        settings: &DetectorSettings,
        now_ns: u64,
    ) -> Option<u64> {
        let (listener, application) = (totals(Layer::Host, counters), totals(Layer::Application, counters));
        // An outage may be shorter than the time between two calls.
        if self.down || std::mem::take(&mut self.has_come_up) {
            self.listener.skip(&listener, now_ns);
            self.application.skip(&application, now_ns);
            self.sent_again.skip(counters);
            return Some(0);
        }
        if self.application.learn(&application, settings.memory, self.up_ns, now_ns).is_some() {
            self.sent_again.learn(counters);
        }
        self.listener.learn(&listener, settings.memory, self.up_ns, now_ns)
    }

    /// It is up again: no suspicion was wrong, and what clients waited for until now is no sign of anything.
    pub(super) fn come_up(&mut self, now_ns: u64) {
        self.down = false;
        self.up_ns = now_ns;
        self.has_come_up = true;
        self.host_pause.restart(now_ns);
        self.application_pause.restart(now_ns);
        self.host_hints.restart(now_ns);
        self.application_hints.restart(now_ns);
    }

    /// The model of a layer.
    pub(super) fn wait_model(&self, layer: Layer) -> &WaitModel {
        match layer {
            Layer::Host => &self.listener,
            Layer::Application => &self.application,
        }
    }

    /// When a suspicion of a layer may be raised.
    pub(super) fn pause(&self, layer: Layer) -> &Pause {
        match layer {
            Layer::Host => &self.host_pause,
            Layer::Application => &self.application_pause,
        }
    }

    /// The hints about a layer.
    pub(super) fn hints(&self, layer: Layer) -> &HintHistory {
        match layer {
            Layer::Host => &self.host_hints,
            Layer::Application => &self.application_hints,
        }
    }

    /// The same, to change them.
    pub(super) fn hints_mut(&mut self, layer: Layer) -> &mut HintHistory {
        match layer {
            Layer::Host => &mut self.host_hints,
            Layer::Application => &mut self.application_hints,
        }
    }

    /// The host was suspected without reason.
    pub(super) fn clear_host(&mut self, settings: &DetectorSettings, now_ns: u64) {
        self.listener.forgive(self.host_pause.waiting);
        self.host_pause.clear(settings, now_ns);
        self.host_hints.refute(now_ns);
    }

    /// The application was suspected without reason.
    pub(super) fn clear_application(&mut self, settings: &DetectorSettings, now_ns: u64) {
        self.application.forgive(self.application_pause.waiting);
        self.application_pause.clear(settings, now_ns);
        self.application_hints.refute(now_ns);
    }

    /// The longest time that the application hardly ever is without progress while it is used: many times the usual
    /// gap, as some of its clients may be those without a connection.
    pub(super) fn longest_gap(&self) -> Duration {
        const TIMES: f64 = 20.0;
        const LONGEST: f64 = 1.0;
        let rate = self.application.answers_per_second();
        Duration::from_secs_f64((TIMES / rate.max(TIMES / LONGEST)).min(LONGEST))
    }

    /// The newest sign of life of the host other than its listening socket's. Where its own packets are seen, what
    /// clients acknowledge is older.
    pub(super) fn other_life_ns(state: &ServerState, visibility: Visibility) -> u64 {
        match visibility {
            Visibility::Both => state.reply_ns,
            Visibility::ClientOnly | Visibility::CountersOnly(_) => state.application.progress_ns,
        }
    }
}

/// The totals of a layer.
pub(super) fn totals(layer: Layer, counters: &ServerCounters) -> Totals {
    match layer {
        // UDP has no SYNs: there each datagram may want an answer.
        Layer::Host if counters.syn == 0 => {
            Totals { demands: counters.packets_in, answers: counters.handshake }
        }
        Layer::Host => Totals { demands: counters.syn, answers: counters.handshake },
        Layer::Application => Totals { demands: counters.requests, answers: counters.response },
    }
}

/// The share of requests that is sent again, by loss alone.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct SentAgain {
    last: Option<(u64, u64)>,
    again: f64,
    requests: f64,
}

impl SentAgain {
    /// How many requests are remembered.
    const MEMORY: f64 = 2_000.0;

    fn skip(&mut self, counters: &ServerCounters) {
        self.last = Some((counters.sent_again, counters.requests));
    }

    #[expect(clippy::cast_precision_loss, reason = "counts between two samples are far below 2^52")]
    fn learn(&mut self, counters: &ServerCounters) {
        let now = (counters.sent_again, counters.requests);
        let Some((again, requests)) = self.last.replace(now) else { return };
        let (again, requests) = (now.0.wrapping_sub(again) as f64, now.1.wrapping_sub(requests) as f64);
        let kept = (-requests / Self::MEMORY).exp();
        self.again = self.again * kept + again;
        self.requests = self.requests * kept + requests;
    }

    /// From 0 to 1.
    pub(super) fn share(&self) -> f64 {
        const FEW: f64 = 20.0;
        (self.again / (self.requests + FEW)).min(1.0)
    }
}

/// When the next suspicion of one layer may be raised.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Pause {
    /// The strength of the suspicion that is being probed.
    pub(super) pending: Option<Strength>,
    /// The number of waiting client networks when it was raised.
    waiting: u32,
    /// Older evidence does not count.
    pub(super) cleared_ns: u64,
    kinds: [KindPause; EvidenceKind::COUNT],
}

/// The same for one kind of evidence.
#[derive(Clone, Copy, Debug, Default)]
struct KindPause {
    /// It speaks for the suspicion that is being probed.
    raised: bool,
    quiet_until_ns: u64,
    /// How many suspicions in a row were wrong.
    false_alarms: u32,
}

impl KindPause {
    /// The suspicion was wrong: the next pause is twice as long. A pause that has been over for as long as the longest
    /// one lasts is forgotten.
    fn clear(&mut self, settings: &DetectorSettings, now_ns: u64) {
        let forgotten = now_ns > self.quiet_until_ns.saturating_add(nanos(settings.backoff_max));
        let before = if forgotten { 0 } else { self.false_alarms };
        let pause = Backoff::new(settings.backoff, settings.backoff_max).delay(before);
        self.quiet_until_ns = now_ns.saturating_add(nanos(pause));
        self.false_alarms = before.saturating_add(1);
    }
}

impl Pause {
    /// Whether a suspicion may be raised by this kind of evidence at `now_ns`.
    pub(super) fn is_over(&self, kind: EvidenceKind, now_ns: u64) -> bool {
        now_ns >= self.kinds[kind as usize].quiet_until_ns
    }

    /// Notes a suspicion; whether it is new.
    pub(super) fn raise(&mut self, strength: Strength, kind: EvidenceKind, waiting: u32) -> bool {
        let is_new = self.pending < Some(strength);
        if is_new {
            self.pending = Some(strength);
            self.waiting = waiting;
            self.kinds[kind as usize].raised = true;
        }
        is_new
    }

    /// The suspicion was wrong: the evidence of the kinds that spoke for it pauses. One that wasn't raised here began
    /// with a hint, which is of clients that wait.
    pub(super) fn clear(&mut self, settings: &DetectorSettings, now_ns: u64) {
        if self.pending.is_none() {
            self.kinds[EvidenceKind::Silence as usize].raised = true;
        }
        self.pending = None;
        self.waiting = 0;
        self.cleared_ns = now_ns;
        for kind in self.kinds.iter_mut().filter(|kind| kind.raised) {
            kind.raised = false;
            kind.clear(settings, now_ns);
        }
    }

    /// It was not probed, and may be raised again.
    pub(super) fn not_probed(&mut self) {
        self.pending = None;
        for kind in &mut self.kinds {
            kind.raised = false;
        }
    }

    /// The server has come up: older evidence does not count, and no suspicion was wrong.
    pub(super) fn restart(&mut self, now_ns: u64) {
        *self = Self { cleared_ns: now_ns, ..Self::default() };
    }
}
