//! What the detector remembers of one server.

use std::time::Duration;

use lvs_common::{ServerCounters, ServerId, ServerState};

use super::{
    Layer, Sight, Strength, nanos,
    waits::{Assumption, Totals, Waits},
};
use crate::{backoff::Backoff, model::DetectorSettings};

/// The past of all servers. Ids are small numbers that are given again, so that each is a place.
#[derive(Clone, Debug, Default)]
pub(super) struct Memories(Vec<Option<Memory>>);

impl Memories {
    /// A server's past, from now on if there was none.
    pub(super) fn of(&mut self, id: ServerId) -> &mut Memory {
        let place = id.0 as usize;
        if self.0.len() <= place {
            self.0.resize(place + 1, None);
        }
        self.0[place].get_or_insert_with(Memory::new)
    }

    pub(super) fn get(&self, id: ServerId) -> Option<&Memory> {
        self.0.get(id.0 as usize)?.as_ref()
    }

    pub(super) fn get_mut(&mut self, id: ServerId) -> Option<&mut Memory> {
        self.0.get_mut(id.0 as usize)?.as_mut()
    }

    pub(super) fn forget(&mut self, id: ServerId) {
        if let Some(memory) = self.0.get_mut(id.0 as usize) {
            *memory = None;
        }
    }
}

/// One server's past.
#[derive(Clone, Debug)]
pub(super) struct Memory {
    pub(super) listener: Waits,
    pub(super) application: Waits,
    pub(super) sent_again: SentAgain,
    /// The suspicion of the host or its socket.
    pub(super) host_pause: Pause,
    /// The suspicion of the application.
    pub(super) application_pause: Pause,
    /// No report of overload before.
    pub(super) overload_quiet_until_ns: u64,
    /// No alarm for what most of the service shows before.
    pub(super) common_quiet_until_ns: u64,
    pub(super) down: bool,
}

impl Memory {
    pub(super) fn new() -> Self {
        Self {
            listener: Waits::new(Assumption::Kernel),
            application: Waits::new(Assumption::Siblings),
            sent_again: SentAgain::default(),
            host_pause: Pause::default(),
            application_pause: Pause::default(),
            overload_quiet_until_ns: 0,
            common_quiet_until_ns: 0,
            down: false,
        }
    }

    /// Takes in the counters; returns how many handshakes were answered since the last time, `None` if none was though
    /// some were begun.
    pub(super) fn learn(
        &mut self,
        counters: &ServerCounters,
        settings: &DetectorSettings,
        now_ns: u64,
    ) -> Option<u64> {
        let (listener, application) = (totals(Layer::Host, counters), totals(Layer::Application, counters));
        if self.down {
            self.listener.skip(&listener, now_ns);
            self.application.skip(&application, now_ns);
            self.sent_again.skip(counters);
            return Some(0);
        }
        if self.application.learn(&application, settings.memory, now_ns).is_some() {
            self.sent_again.learn(counters);
        }
        self.listener.learn(&listener, settings.memory, now_ns)
    }

    /// What is usual on a layer.
    pub(super) fn waits(&self, layer: Layer) -> &Waits {
        match layer {
            Layer::Host => &self.listener,
            Layer::Application => &self.application,
        }
    }

    /// The host was suspected without reason.
    pub(super) fn clear_host(&mut self, settings: &DetectorSettings, now_ns: u64) {
        self.listener.forgive(self.host_pause.waiting);
        self.host_pause.clear(settings, now_ns);
    }

    /// The application was suspected without reason.
    pub(super) fn clear_application(&mut self, settings: &DetectorSettings, now_ns: u64) {
        self.application.forgive(self.application_pause.waiting);
        self.application_pause.clear(settings, now_ns);
    }

    /// For how long the application hardly ever shows no progress while it is used: many times the usual gap, as some of
    /// its clients may be those who get no connection.
    pub(super) fn longest_gap(&self) -> Duration {
        const TIMES: f64 = 20.0;
        const LONGEST: f64 = 1.0;
        let rate = self.application.answers_per_second();
        Duration::from_secs_f64((TIMES / rate.max(TIMES / LONGEST)).min(LONGEST))
    }

    /// The newest sign that the host lives, other than by its listening socket. Where its own packets are seen, what its
    /// clients acknowledge is old news.
    pub(super) fn other_life_ns(state: &ServerState, sight: Sight) -> u64 {
        match sight {
            Sight::Whole => state.reply_ns,
            Sight::Half | Sight::CountedOnly(_) => state.application.progress_ns,
        }
    }
}

/// What is counted of a layer.
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

/// Which share of requests is sent again, by loss alone.
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

    #[expect(clippy::cast_precision_loss, reason = "counts between two looks are far below 2^52")]
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

/// When a suspicion of one kind may be raised.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Pause {
    /// The strength of the suspicion that is being probed.
    pub(super) pending: Option<Strength>,
    /// How many client networks waited when it was raised.
    waiting: u32,
    /// Evidence from before does not count.
    pub(super) cleared_ns: u64,
    quiet_until_ns: u64,
    /// How many suspicions in a row were wrong.
    false_alarms: u32,
}

impl Pause {
    /// Whether any suspicion may be raised at `now_ns`.
    pub(super) fn is_over(&self, now_ns: u64) -> bool {
        now_ns >= self.quiet_until_ns
    }

    /// Takes note of a suspicion; whether it is news.
    pub(super) fn raise(&mut self, strength: Strength, waiting: u32) -> bool {
        let news = self.pending < Some(strength);
        if news {
            self.pending = Some(strength);
            self.waiting = waiting;
        }
        news
    }

    /// The suspicion was wrong: the next pause is twice as long. A pause that has been over for as long as the longest
    /// one lasts is forgotten.
    pub(super) fn clear(&mut self, settings: &DetectorSettings, now_ns: u64) {
        let forgotten = now_ns > self.quiet_until_ns.saturating_add(nanos(settings.backoff_max));
        let before = if forgotten { 0 } else { self.false_alarms };
        let pause = Backoff::new(settings.backoff, settings.backoff_max).delay(before);
        *self = Self {
            pending: None,
            waiting: 0,
            cleared_ns: now_ns,
            quiet_until_ns: now_ns.saturating_add(nanos(pause)),
            false_alarms: before.saturating_add(1),
        };
    }

    /// The server has come up: nothing from before counts, and nothing was wrong.
    pub(super) fn restart(&mut self, now_ns: u64) {
        *self = Self { cleared_ns: now_ns, ..Self::default() };
    }
}
