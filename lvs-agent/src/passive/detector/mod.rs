//! From signs of life to suspicions. Pure: the time is an argument.
//!
//! Silence without demand means nothing, and every proof of life ends all doubt on its layer. Between two proofs the
//! waits of distinct client networks are weighed against what this server has shown to be usual ([`silence`]); refusals,
//! ICMP, a failed neighbour and data sent again speak for themselves. Siblings tell what is usual for the clients of a
//! service: how many of their SYNs never get an answer, and which server gets which share of them.

mod finding;
mod memory;
mod onset;
mod siblings;
mod silence;
#[cfg(test)]
mod tests;
mod waits;

use std::time::Duration;

use lvs_common::{ServerCounters, ServerId, ServerState};

pub use finding::{Evidence, Finding, Layer, Strength, Suspicion, Usual};

use self::{
    memory::{Memories, Memory, totals},
    onset::Exchanged,
    siblings::Siblings,
    silence::{Expected, Measure, Silence},
    waits::Waits,
};
use super::Sight;
use crate::model::DetectorSettings;

/// A tick that comes so much too late was not the timer's fault: the director had no time for it.
const STALL: Duration = Duration::from_millis(20);

/// What is known of one server at one time.
#[derive(Clone, Copy, Debug)]
pub struct View {
    /// Which one.
    pub id: ServerId,
    /// How much of its traffic is seen.
    pub sight: Sight,
    /// Its signs of life.
    pub state: ServerState,
}

/// What the detector is told about the course of things.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Observation {
    /// A probe for a suspicion of this layer succeeded: the signal was wrong, and is not believed for a while. An
    /// application that answers clears its host as well; a host that answers says nothing of its application.
    Cleared(Layer),
    /// The server is down: there is nothing left to suspect.
    Down,
    /// The server is up again.
    Up,
}

/// Watches all servers for missing signs of life.
#[derive(Clone, Debug)]
pub struct Detector {
    settings: DetectorSettings,
    memories: Memories,
    siblings: Siblings,
    /// When the last tick was.
    ticked_ns: Option<u64>,
    /// Since when the director has not stood still.
    awake_ns: u64,
}

/// A layer of a server that is silent.
struct Silent<'a> {
    id: ServerId,
    layer: Layer,
    state: &'a lvs_common::Layer,
    measure: Measure,
    seen: Silence,
}

impl Silent<'_> {
    /// When the first of those who wait began to.
    fn first_ns(&self, now_ns: u64) -> u64 {
        now_ns.saturating_sub(nanos(self.seen.lasted))
    }

    /// In words and numbers, with what is usual.
    fn evidence(&self, waits: &Waits) -> Evidence {
        let Silence { lasted: silence, clients, attempts } = self.seen;
        Evidence::Silent { layer: self.layer, silence, clients, attempts, usual: waits.usual() }
    }
}

/// A candidate for a suspicion.
type Doubt = (Strength, Evidence);

impl Detector {
    /// A detector that knows nothing of any server yet.
    #[must_use]
    pub fn new(settings: DetectorSettings) -> Self {
        Self {
            settings,
            memories: Memories::default(),
            siblings: Siblings::default(),
            ticked_ns: None,
            awake_ns: 0,
        }
    }

    /// Tells which servers are siblings: each item is the servers of one service. To be told again when that changes.
    pub fn set_services(&mut self, services: impl IntoIterator<Item = Vec<ServerId>>) {
        self.siblings.set(services);
    }

    /// Forgets a server whose id is free again.
    pub fn forget(&mut self, id: ServerId) {
        self.memories.forget(id);
    }

    /// To be told of every tick before its looks. If the last one was much longer ago than a tick, the director itself
    /// stood still: servers may have answered meanwhile without anybody to see it, so nobody's silence counts from before
    /// now. Returns for how long it stood still.
    pub fn tick(&mut self, tick: Duration, now_ns: u64) -> Option<Duration> {
        let last_ns = self.ticked_ns.replace(now_ns)?;
        let late = Duration::from_nanos(now_ns.saturating_sub(last_ns)).checked_sub(tick)?;
        if late < STALL {
            return None;
        }
        self.awake_ns = now_ns;
        Some(late)
    }

    /// Learns what is usual for a server from its counters, summed over CPUs. To be told about ten times a second.
    pub fn learn(&mut self, id: ServerId, counters: &ServerCounters, now_ns: u64) {
        let memory = self.memories.of(id);
        if let Some(answers) = memory.learn(counters, &self.settings, now_ns) {
            self.siblings.answered(id, answers);
        }
    }

    /// Looks at one server at `now_ns` (`CLOCK_MONOTONIC`, as the kernel side's times). A suspicion is returned once; a
    /// weak one may be followed by a strong one, and one of the application by one of the host, while it is being probed.
    ///
    /// `active_flows` counts the sampled flows that are active; it is called only where data was sent again. `counters`
    /// reads those of any server as they are now; it is called for a few siblings of a server that is about to be suspected.
    pub fn look(
        &mut self,
        view: &View,
        active_flows: impl FnOnce() -> u32,
        counters: impl Fn(ServerId) -> ServerCounters,
        now_ns: u64,
    ) -> Option<Finding> {
        let memory = self.memories.of(view.id);
        memory.listener.glance(&view.state.listener);
        memory.application.glance(&view.state.application);
        if matches!(view.sight, Sight::CountedOnly(_)) {
            return None;
        }
        let memory = self.memories.get(view.id).filter(|memory| !memory.down)?;
        let host = if memory.host_pause.is_over(now_ns) {
            self.doubt_of_host(memory, view, active_flows, &counters, now_ns)
        } else {
            None
        };
        let application = || self.doubt_of_application(memory, view, &counters, now_ns);
        let (layer, doubt) = match host {
            Some(doubt) => (Layer::Host, Some(doubt)),
            None if memory.host_pause.pending.is_none() => (Layer::Application, application()),
            None => return None,
        };
        match doubt {
            Some((strength, evidence)) => self.raise(view.id, layer, strength, evidence),
            None => self.overload(view, now_ns).or_else(|| self.common(view, now_ns)),
        }
    }

    /// The director's neighbour entry for a server has failed: nothing can be sent to it.
    pub fn neighbour_failed(&mut self, id: ServerId, now_ns: u64) -> Option<Finding> {
        let memory = self.memories.of(id);
        if memory.down || !memory.host_pause.is_over(now_ns) {
            return None;
        }
        self.raise(id, Layer::Host, Strength::Strong, Evidence::NeighbourFailed)
    }

    /// Takes note of what became of a server.
    pub fn observe(&mut self, id: ServerId, observation: Observation, now_ns: u64) {
        let settings = &self.settings;
        let memory = self.memories.of(id);
        match observation {
            Observation::Down => {
                memory.down = true;
                memory.host_pause.pending = None;
                memory.application_pause.pending = None;
            }
            Observation::Up => {
                memory.down = false;
                memory.host_pause.restart(now_ns);
                memory.application_pause.restart(now_ns);
                self.siblings.restart(id);
            }
            Observation::Cleared(Layer::Host) => {
                memory.clear_host(settings, now_ns);
                self.siblings.restart(id);
            }
            Observation::Cleared(Layer::Application) => {
                memory.clear_application(settings, now_ns);
                if memory.host_pause.pending.is_some() {
                    memory.clear_host(settings, now_ns);
                    self.siblings.restart(id);
                }
            }
        }
    }

    /// A suspicion could not be probed (no budget left): it may be raised again.
    pub fn not_probed(&mut self, id: ServerId) {
        if let Some(memory) = self.memories.get_mut(id) {
            memory.host_pause.pending = None;
            memory.application_pause.pending = None;
        }
    }

    /// How long clients usually wait for the server's listening socket, once it is known.
    #[must_use]
    pub fn usual_wait(&self, id: ServerId) -> Option<Duration> {
        Some(self.memories.get(id)?.listener.usual()?.half)
    }

    fn raise(
        &mut self,
        id: ServerId,
        layer: Layer,
        strength: Strength,
        evidence: Evidence,
    ) -> Option<Finding> {
        let memory = self.memories.get_mut(id)?;
        let waiting = match evidence {
            Evidence::Silent { clients, .. } => clients,
            _ => 0,
        };
        let pause = match layer {
            Layer::Host => &mut memory.host_pause,
            Layer::Application => &mut memory.application_pause,
        };
        pause.raise(strength, waiting).then_some(Finding::Suspicion(Suspicion {
            id,
            strength,
            layer,
            evidence,
        }))
    }

    fn doubt_of_host(
        &self,
        memory: &Memory,
        view: &View,
        active_flows: impl FnOnce() -> u32,
        counters: &impl Fn(ServerId) -> ServerCounters,
        now_ns: u64,
    ) -> Option<Doubt> {
        let cleared_ns = memory.host_pause.cleared_ns;
        refusal(&self.settings, &view.state, cleared_ns)
            .into_iter()
            .chain(unreachable(&view.state, cleared_ns))
            .chain(self.silence_of_host(memory, view, counters, now_ns))
            .chain(self.sent_again(memory, &view.state, active_flows, now_ns))
            .max_by_key(|(strength, _)| *strength)
    }

    /// The host's listening socket, if it is silent for long enough and to clients enough to be weighed.
    fn silent_host<'a>(&self, memory: &Memory, view: &'a View, now_ns: u64) -> Option<Silent<'a>> {
        let cleared_ns = memory.host_pause.cleared_ns;
        let measure = Measure {
            since_ns: cleared_ns.max(self.awake_ns),
            alive_ns: Memory::other_life_ns(&view.state, view.sight),
            alive_gap: memory.longest_gap(),
            demand_since_ns: cleared_ns,
            floor: self.floor(view.sight),
        };
        let layer = &view.state.listener;
        let seen = silence::observed(&self.settings, layer, &measure, now_ns)?;
        Some(Silent { id: view.id, layer: Layer::Host, state: layer, measure, seen })
    }

    /// SYNs without an answer. Whatever else shows that the host lives stops the clock.
    fn silence_of_host(
        &self,
        memory: &Memory,
        view: &View,
        counters: &impl Fn(ServerId) -> ServerCounters,
        now_ns: u64,
    ) -> Option<Doubt> {
        let silent = self.silent_host(memory, view, now_ns)?;
        self.graded(&silent, counters, now_ns).or_else(|| self.outpaced(&silent, memory, counters, now_ns))
    }

    /// Requests without a response.
    fn doubt_of_application(
        &self,
        memory: &Memory,
        view: &View,
        counters: &impl Fn(ServerId) -> ServerCounters,
        now_ns: u64,
    ) -> Option<Doubt> {
        if !memory.application_pause.is_over(now_ns) {
            return None;
        }
        let cleared_ns = memory.application_pause.cleared_ns;
        let measure = Measure {
            since_ns: cleared_ns.max(self.awake_ns),
            alive_ns: 0,
            alive_gap: Duration::ZERO,
            demand_since_ns: cleared_ns,
            floor: self.settings.silence_application,
        };
        let layer = &view.state.application;
        let seen = silence::observed(&self.settings, layer, &measure, now_ns)?;
        let silent = Silent { id: view.id, layer: Layer::Application, state: layer, measure, seen };
        self.graded(&silent, counters, now_ns)
    }

    /// The weight of a silence, with the share of unanswered demands that this server or most of its siblings have, and
    /// `onset` at least.
    fn weigh(&self, silent: &Silent<'_>, onset: f64, now_ns: u64) -> f64 {
        let Some(own) = self.memories.get(silent.id).map(|memory| memory.waits(silent.layer)) else {
            return 0.0;
        };
        // In a flood most looks end here: whatever siblings show can only make it less.
        let (weak, strong) = silence::thresholds(&self.settings, own.most_answers_per_second());
        let unanswered = own.unanswered().max(onset);
        if silence::most(&self.settings, silent.state, unanswered) < weak {
            return 0.0;
        }
        let others = self.siblings.of(silent.id).filter_map(|sibling| self.memories.get(sibling));
        let others: Vec<&Waits> = others.map(|memory| memory.waits(silent.layer)).collect();
        let usual = siblings::median(others.iter().map(|waits| waits.unanswered())).unwrap_or(0.0);
        let expected = Expected { own, siblings: &others, unanswered: unanswered.max(usual) };
        silence::weigh(&self.settings, silent.state, &expected, &silent.measure, strong, now_ns)
    }

    /// What a silence is worth by itself, and still is beside what the siblings show.
    fn graded(
        &self,
        silent: &Silent<'_>,
        counters: &impl Fn(ServerId) -> ServerCounters,
        now_ns: u64,
    ) -> Option<Doubt> {
        let waits = self.memories.get(silent.id)?.waits(silent.layer);
        let grade =
            |onset| grade(&self.settings, self.weigh(silent, onset, now_ns), waits.most_answers_per_second());
        grade(0.0)?;
        if self.is_common(silent, silent.first_ns(now_ns), now_ns) {
            return None;
        }
        let strength = grade(self.onset(silent, counters, now_ns))?;
        Some((strength, silent.evidence(waits)))
    }

    /// A silence that most of the service shares, told once in a while.
    fn common(&mut self, view: &View, now_ns: u64) -> Option<Finding> {
        let memory = self.memories.get(view.id)?;
        if now_ns < memory.common_quiet_until_ns || memory.host_pause.pending.is_some() {
            return None;
        }
        let silent = self.silent_host(memory, view, now_ns)?;
        let rate = memory.listener.most_answers_per_second();
        let strength = grade(&self.settings, self.weigh(&silent, 0.0, now_ns), rate)?;
        if strength < Strength::Strong || !self.is_common(&silent, silent.first_ns(now_ns), now_ns) {
            return None;
        }
        let evidence = silent.evidence(&memory.listener);
        let quiet_until_ns = now_ns.saturating_add(nanos(self.settings.backoff_max));
        self.memories.get_mut(view.id)?.common_quiet_until_ns = quiet_until_ns;
        Some(Finding::Correlated { id: view.id, evidence })
    }

    /// Whether more than half of a service are silent in the same way since `first_ns`, two at least. Either all that asks is not meant to
    /// be answered, or all is dead at once; then the director's own network comes first, and the baseline checks decide.
    fn is_common(&self, silent: &Silent<'_>, first_ns: u64, now_ns: u64) -> bool {
        let (mut all, mut common) = (1, 1);
        for (_, memory) in self.siblings_up(silent.id) {
            let glance = memory.waits(silent.layer).glanced();
            all += 1;
            common += u32::from(glance.is_silent_too(self.settings.clients, first_ns, now_ns));
        }
        common >= 2 && common * 2 > all
    }

    /// The share of demands that siblings leave without an answer since this silence began, if that is something new.
    fn onset(&self, silent: &Silent<'_>, counters: impl Fn(ServerId) -> ServerCounters, now_ns: u64) -> f64 {
        /// Reading counters of all CPUs costs more than all else here.
        const ASKED: usize = 8;
        let first_ns = silent.first_ns(now_ns);
        let is_silent = |memory: &Memory| {
            let glance = memory.waits(silent.layer).glanced();
            glance.is_silent_too(self.settings.clients, first_ns, now_ns)
        };
        let mut exchanged = Exchanged::default();
        // One that is silent as well may be dead as well.
        for (id, memory) in self.siblings_up(silent.id).filter(|(_, memory)| !is_silent(memory)).take(ASKED) {
            let totals = totals(silent.layer, &counters(id));
            exchanged.add(memory.waits(silent.layer), &totals, first_ns, now_ns);
        }
        exchanged.onset()
    }

    fn siblings_up(&self, id: ServerId) -> impl Iterator<Item = (ServerId, &Memory)> {
        let known = self.siblings.of(id).filter_map(|sibling| Some((sibling, self.memories.get(sibling)?)));
        known.filter(|(_, memory)| !memory.down)
    }

    /// A flood hides which SYNs are real, but not which server gets its share of handshakes done.
    fn outpaced(
        &self,
        silent: &Silent<'_>,
        memory: &Memory,
        counters: &impl Fn(ServerId) -> ServerCounters,
        now_ns: u64,
    ) -> Option<Doubt> {
        /// Clients come in groups, and schedulers have habits: each handshake counts less than independent ones would.
        const DEPENDENT: f64 = 0.7;
        /// The share of answers that may take longer than those who wait have waited.
        const LATE: f64 = 0.05;
        if memory.listener.survival(silent.seen.lasted, &[]) > LATE {
            return None;
        }
        let outpaced = self.siblings.outpaced(silent.id)?;
        let weigh = |answers| -(1.0 - outpaced.share).max(f64::MIN_POSITIVE).ln() * real(answers) * DEPENDENT;
        let rate = memory.listener.most_answers_per_second();
        grade(&self.settings, weigh(outpaced.answers), rate)?;
        // The kernel side counts handshakes whether or not the director has time to look: unlike waits, they needn't be
        // measured anew after each time that it hadn't. Since the last such time siblings may not have done any, either.
        let begun_ns = silent.state.waiting_since()?.max(silent.state.progress_ns);
        let from_ns = begun_ns.max(memory.host_pause.cleared_ns);
        if self.is_common(silent, from_ns, now_ns) {
            return None;
        }
        let within = |id: ServerId| {
            let sibling = self.memories.get(id).filter(|sibling| !sibling.down)?;
            Some(sibling.listener.course().answers_within(from_ns, &totals(Layer::Host, &counters(id))))
        };
        let others = self.siblings.members(outpaced.service).filter(|&id| id != silent.id);
        let siblings = others.filter_map(within).sum::<u64>().min(outpaced.answers);
        let strength = grade(&self.settings, weigh(siblings), rate)?;
        let silence = Duration::from_nanos(now_ns.saturating_sub(from_ns));
        Some((strength, Evidence::Outpaced { silence, siblings, share: outpaced.share }))
    }

    /// Data sent again on established flows, with no sign of life of any kind since.
    fn sent_again(
        &self,
        memory: &Memory,
        state: &ServerState,
        active_flows: impl FnOnce() -> u32,
        now_ns: u64,
    ) -> Option<Doubt> {
        let settings = &self.settings;
        let again = &state.again;
        let from_ns = memory.host_pause.cleared_ns.max(self.awake_ns);
        let lately = silence::is_within(again.last_ns, settings.resent_within, now_ns);
        if again.flows == 0 || again.last_ns <= from_ns || !lately {
            return None;
        }
        let clients = again.networks.count_ones();
        let loss = memory.sent_again.share().clamp(settings.loss, 1.0);
        let weight = -loss.ln() * f64::from(clients);
        grade(settings, weight, memory.application.most_answers_per_second())?;
        let common = clients >= settings.resent_clients
            || f64::from(again.flows) >= settings.resent_share * f64::from(active_flows());
        let strength = if common { Strength::Strong } else { Strength::Weak };
        let within = Duration::from_nanos(now_ns.saturating_sub(again.since_ns.max(from_ns)));
        Some((strength, Evidence::SentAgain { flows: again.flows, clients, within }))
    }

    /// SYNs without an answer while established flows are answered.
    fn overload(&mut self, view: &View, now_ns: u64) -> Option<Finding> {
        let memory = self.memories.get(view.id)?;
        let floor = self.floor(view.sight);
        let answered_ns = Memory::other_life_ns(&view.state, view.sight);
        let busy = memory.host_pause.pending.is_some() || now_ns < memory.overload_quiet_until_ns;
        if busy || !silence::is_within(answered_ns, floor, now_ns) {
            return None;
        }
        let layer = &view.state.listener;
        let since_ns = memory.host_pause.cleared_ns.max(self.awake_ns);
        let measure =
            Measure { since_ns, alive_ns: 0, alive_gap: Duration::ZERO, demand_since_ns: since_ns, floor };
        let seen = silence::observed(&self.settings, layer, &measure, now_ns)?;
        // An answer that was on its way when the host died is no sign that it lives.
        let first_ns = now_ns.saturating_sub(nanos(seen.lasted));
        if answered_ns < first_ns.saturating_add(nanos(floor)) {
            return None;
        }
        let silent = Silent { id: view.id, layer: Layer::Host, state: layer, measure, seen };
        let weight = self.weigh(&silent, 0.0, now_ns);
        let strength = grade(&self.settings, weight, memory.listener.most_answers_per_second())?;
        if strength < Strength::Strong {
            return None;
        }
        let pause = nanos(self.settings.backoff_max);
        let memory = self.memories.get_mut(view.id)?;
        memory.overload_quiet_until_ns = now_ns.saturating_add(pause);
        let evidence = Evidence::Overloaded {
            silence: seen.lasted,
            clients: seen.clients,
            attempts: seen.attempts,
            answered: Duration::from_nanos(now_ns.saturating_sub(answered_ns)),
        };
        Some(Finding::Overloaded { id: view.id, evidence })
    }

    fn floor(&self, sight: Sight) -> Duration {
        match sight {
            Sight::Whole => self.settings.silence_masquerade,
            Sight::Half | Sight::CountedOnly(_) => self.settings.silence_half_seen,
        }
    }
}

fn grade(settings: &DetectorSettings, weight: f64, rate: f64) -> Option<Strength> {
    let (weak, strong) = silence::thresholds(settings, rate);
    match weight {
        _ if weight >= strong => Some(Strength::Strong),
        _ if weight >= weak => Some(Strength::Weak),
        _ => None,
    }
}

fn refusal(settings: &DetectorSettings, state: &ServerState, cleared_ns: u64) -> Option<Doubt> {
    if state.refusals == 0 || state.refused_last_ns <= cleared_ns {
        return None;
    }
    let strength = if state.refusals >= settings.refusals { Strength::Strong } else { Strength::Weak };
    let within = Duration::from_nanos(state.refused_last_ns.saturating_sub(state.refused_since_ns));
    Some((strength, Evidence::Refused { refusals: state.refusals, within }))
}

fn unreachable(state: &ServerState, cleared_ns: u64) -> Option<Doubt> {
    if state.unreachables == 0 || state.unreachable_last_ns <= cleared_ns {
        return None;
    }
    let strength = if state.unreachables > 1 { Strength::Strong } else { Strength::Weak };
    Some((strength, Evidence::Unreachable { messages: state.unreachables }))
}

#[expect(clippy::cast_precision_loss, reason = "answers within one silence are far below 2^52")]
fn real(count: u64) -> f64 {
    count as f64
}

fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}
