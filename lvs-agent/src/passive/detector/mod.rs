//! From signs of life to suspicions. Pure: no I/O, and the time is an argument.
//!
//! Silence without demand is no evidence, and a proof of life clears its layer. Between two proofs of life the waits of
//! distinct client networks are weighed against what is usual for this server; refusals, ICMP, a failed neighbour and
//! data sent again are evidence by themselves. Siblings show what is usual for the clients of a service: how many of
//! their SYNs never get an answer, and which share of them each server gets.
//!
//! | file | what is in it |
//! |---|---|
//! | `mod.rs` | the detector: candidates for a suspicion by kind of evidence, and the strongest of them |
//! | `finding.rs` | what it reports: suspicions and their evidence, in types and in words |
//! | `history.rs` | what it keeps of each server: models, pauses after a false suspicion |
//! | `wait_model.rs` | what is usual on a layer: rates, waiting times, the share without an answer |
//! | `snapshot.rs` | a layer's last state and its totals of the last seconds |
//! | `reports.rs` | what is reported and not suspected: overload, a silence of most of a service |
//! | `hints.rs`, `hint_history.rs` | what is odd; how often that may be said |
//! | `silence.rs` | the weight of a silence, and the thresholds |
//! | `witnesses.rs` | whose connections count, because siblings have answered their network |
//! | `readings.rs` | what is read of the kernel side when it is needed |
//! | `onset.rs` | whether siblings show the same onset of unanswered demand |
//! | `siblings.rs` | which servers are siblings, and how many handshakes they complete |
//! | `time.rs` | nanoseconds and windows |

mod finding;
mod hint_history;
mod hints;
mod history;
mod onset;
mod readings;
mod reports;
mod siblings;
mod silence;
mod snapshot;
#[cfg(test)]
mod tests;
mod time;
mod wait_model;
mod witnesses;

use std::time::Duration;

use lvs_common::{LayerState, ServerCounters, ServerId, ServerState};

pub use finding::{
    Evidence, EvidenceKind, Finding, Hint, HintSource, IdleEnd, Layer, Strength, Suspicion, Usual,
};
pub use readings::Readings;

use self::{
    history::{Histories, ServerHistory, totals},
    onset::Exchanged,
    siblings::Siblings,
    silence::{Expected, Measure, Silence},
    snapshot::Asked,
    time::nanos,
    wait_model::WaitModel,
};
use super::visibility::Visibility;
use crate::model::DetectorSettings;

/// A tick that is so late was not the timer's fault: the director was starved of CPU.
const STALL: Duration = Duration::from_millis(20);

/// One server at one time, as the detector evaluates it.
#[derive(Clone, Copy, Debug)]
pub struct View {
    /// Which one.
    pub id: ServerId,
    /// How much of its traffic is seen.
    pub visibility: Visibility,
    /// Its signs of life.
    pub state: ServerState,
}

/// What became of a server, for the detector.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Observation {
    /// A probe for a suspicion of this layer succeeded: the suspicion was false, and no other is raised for a while. An
    /// application that answers clears its host as well; a host that answers is no evidence for its application.
    Cleared(Layer),
    /// A probe for a hint about this layer succeeded: nothing was the matter. Hints about it become rarer. It says
    /// nothing about suspicions. A hint that could not be probed has no such answer.
    HintRefuted(Layer),
    /// The server is down: there is nothing to suspect.
    Down,
    /// The server is up again.
    Up,
}

/// Finds servers without signs of life.
#[derive(Clone, Debug)]
pub struct Detector {
    settings: DetectorSettings,
    histories: Histories,
    siblings: Siblings,
    /// When the last tick was.
    ticked_ns: Option<u64>,
    /// The end of the director's last stall.
    awake_ns: u64,
}

/// A layer of a server that is silent.
struct SilentLayer<'a> {
    id: ServerId,
    layer: Layer,
    state: &'a LayerState,
    measure: Measure,
    silence: Silence,
}

impl SilentLayer<'_> {
    /// When the first waiting client began to wait.
    fn first_ns(&self, now_ns: u64) -> u64 {
        now_ns.saturating_sub(nanos(self.silence.lasted))
    }

    /// The silence as evidence, with what is usual.
    fn evidence(&self, model: &WaitModel) -> Evidence {
        let Silence { lasted: silence, clients, attempts, .. } = self.silence;
        let (layer, usual) = (self.layer, model.usual());
        if self.silence.witnessed.is_empty() {
            return Evidence::Silent { layer, silence, clients, attempts, usual };
        }
        Evidence::Witnessed { layer, silence, connections: self.silence.independent(), clients, usual }
    }

    /// As how much demand a sibling must have without an answer to be as silent.
    fn asked(&self, settings: &DetectorSettings) -> Asked {
        if self.silence.clients >= settings.clients {
            Asked::ByNetworks(settings.clients)
        } else {
            Asked::Times(settings.clients)
        }
    }
}

/// A candidate for a suspicion.
type Candidate = (Strength, Evidence);

impl Detector {
    /// A detector without any history.
    #[must_use]
    pub fn new(settings: DetectorSettings) -> Self {
        Self {
            settings,
            histories: Histories::default(),
            siblings: Siblings::default(),
            ticked_ns: None,
            awake_ns: 0,
        }
    }

    /// Sets which servers are siblings: each item is the servers of one service. Call it again when that changes.
    pub fn set_services(&mut self, services: impl IntoIterator<Item = Vec<ServerId>>) {
        self.siblings.set(services);
    }

    /// Forgets a server whose id is free again.
    pub fn forget(&mut self, id: ServerId) {
        self.histories.forget(id);
    }

    /// Measures from now on: what came before says nothing about the traffic that comes now. No silence counts from
    /// before, as after a stall of the director's.
    pub fn restart(&mut self, now_ns: u64) {
        self.awake_ns = now_ns;
    }

    /// Call it on every tick before servers are evaluated. If the last one was much longer ago than a tick, the
    /// director itself stalled: answers may not have been seen meanwhile, so no silence counts from before now. Returns
    /// how long the stall was.
    pub fn tick(&mut self, tick: Duration, now_ns: u64) -> Option<Duration> {
        let last_ns = self.ticked_ns.replace(now_ns)?;
        let late = Duration::from_nanos(now_ns.saturating_sub(last_ns)).checked_sub(tick)?;
        if late < STALL {
            return None;
        }
        self.awake_ns = now_ns;
        Some(late)
    }

    /// Learns what is usual for a server from its counters, summed over CPUs. Call it about ten times a second.
    pub fn learn(&mut self, id: ServerId, counters: &ServerCounters, now_ns: u64) {
        let history = self.histories.of(id);
        if let Some(answers) = history.learn(counters, &self.settings, now_ns) {
            self.siblings.answered(id, answers);
        }
    }

    /// Evaluates one server at `now_ns` (`CLOCK_MONOTONIC`, as the eBPF programs' times). A suspicion is returned once;
    /// a weak one may be followed by a strong one, and one of the application by one of the host, while it is being
    /// probed. A hint is returned once as well, before any suspicion of its layer.
    ///
    /// `readings` are made only where somebody waits for long, and of a few siblings of a server with a candidate.
    pub fn evaluate(&mut self, view: &View, readings: &impl Readings, now_ns: u64) -> Option<Finding> {
        if self.is_at_rest(view) { None } else { self.look_closely(view, readings, now_ns) }
    }

    /// Whether nobody waits for a server and nothing was said against it: most are so at most times, and nothing can
    /// come of it, whatever the time is. Otherwise it is to be [evaluated](Self::evaluate).
    pub fn is_at_rest(&mut self, view: &View) -> bool {
        let history = self.histories.of(view.id);
        history.listener.note_snapshot(&view.state.listener);
        history.application.note_snapshot(&view.state.application);
        matches!(view.visibility, Visibility::CountersOnly(_)) || rests(&view.state)
    }

    /// Evaluates a server that somebody waits for, or that something was said against.
    fn look_closely(&mut self, view: &View, readings: &impl Readings, now_ns: u64) -> Option<Finding> {
        let history = self.histories.get(view.id).filter(|history| !history.down)?;
        let host = self.host_candidate(history, view, readings, now_ns);
        let application = || self.application_candidate(history, view, readings, now_ns);
        let (layer, candidate) = match host {
            Some(candidate) => (Layer::Host, Some(candidate)),
            None if history.host_pause.pending.is_none() => (Layer::Application, application()),
            None => return None,
        };
        match candidate {
            Some((strength, evidence)) => self.raise(view.id, layer, strength, evidence),
            None => self
                .overload(view, readings, now_ns)
                .or_else(|| self.correlated(view, readings, now_ns))
                .or_else(|| self.hint(view, readings, now_ns)),
        }
    }

    /// The director's neighbour entry for a server has failed: nothing can be sent to it.
    pub fn neighbour_failed(&mut self, id: ServerId, now_ns: u64) -> Option<Finding> {
        let history = self.histories.of(id);
        if history.down || !history.host_pause.is_over(EvidenceKind::Neighbour, now_ns) {
            return None;
        }
        self.raise(id, Layer::Host, Strength::Strong, Evidence::NeighbourFailed)
    }

    /// Takes in what became of a server.
    pub fn observe(&mut self, id: ServerId, observation: Observation, now_ns: u64) {
        let settings = &self.settings;
        let history = self.histories.of(id);
        match observation {
            Observation::Down => {
                history.down = true;
                history.host_pause.not_probed();
                history.application_pause.not_probed();
                history.host_hints.restart(now_ns);
                history.application_hints.restart(now_ns);
            }
            Observation::Up => {
                history.come_up(now_ns);
                self.siblings.restart(id);
            }
            Observation::Cleared(Layer::Host) => {
                history.clear_host(settings, now_ns);
                self.siblings.restart(id);
            }
            Observation::Cleared(Layer::Application) => {
                history.clear_application(settings, now_ns);
                if history.host_pause.pending.is_some() {
                    history.clear_host(settings, now_ns);
                    self.siblings.restart(id);
                }
                history.host_hints.refute(now_ns);
            }
            Observation::HintRefuted(Layer::Host) => history.host_hints.refute(now_ns),
            Observation::HintRefuted(Layer::Application) => {
                history.application_hints.refute(now_ns);
                history.host_hints.refute(now_ns);
            }
        }
    }

    /// A suspicion could not be probed (no budget left): it may be raised again; so may a hint, after a while.
    pub fn not_probed(&mut self, id: ServerId, now_ns: u64) {
        if let Some(history) = self.histories.get_mut(id) {
            history.host_pause.not_probed();
            history.application_pause.not_probed();
            history.host_hints.not_probed(now_ns);
            history.application_hints.not_probed(now_ns);
        }
    }

    /// How long clients usually wait for the server's listening socket, once it is known.
    #[must_use]
    pub fn usual_wait(&self, id: ServerId) -> Option<Duration> {
        Some(self.histories.get(id)?.listener.usual()?.half)
    }

    fn raise(
        &mut self,
        id: ServerId,
        layer: Layer,
        strength: Strength,
        evidence: Evidence,
    ) -> Option<Finding> {
        let history = self.histories.get_mut(id)?;
        let waiting = match evidence {
            Evidence::Silent { clients, .. } => clients,
            Evidence::Witnessed { connections, .. } => connections,
            _ => 0,
        };
        let pause = match layer {
            Layer::Host => &mut history.host_pause,
            Layer::Application => &mut history.application_pause,
        };
        pause.raise(strength, evidence.kind(), waiting).then_some(Finding::Suspicion(Suspicion {
            id,
            strength,
            layer,
            evidence,
        }))
    }

    fn host_candidate(
        &self,
        history: &ServerHistory,
        view: &View,
        readings: &impl Readings,
        now_ns: u64,
    ) -> Option<Candidate> {
        let pause = &history.host_pause;
        // What was refuted of one kind says nothing about the others.
        let may_be = |kind| pause.is_over(kind, now_ns);
        let refusal = || refusal(&self.settings, &view.state, pause.cleared_ns);
        let unreachable = || unreachable(&view.state, pause.cleared_ns);
        let silence = || self.host_silence(history, view, readings, now_ns);
        let sent_again = || self.sent_again(history, view, readings, now_ns);
        let candidates = [
            may_be(EvidenceKind::Refusals).then(refusal),
            may_be(EvidenceKind::Unreachable).then(unreachable),
            may_be(EvidenceKind::Silence).then(silence),
            may_be(EvidenceKind::SentAgain).then(sent_again),
        ];
        candidates.into_iter().flatten().flatten().max_by_key(|(strength, _)| *strength)
    }

    /// The window in which a layer's silence is measured. Whatever else shows that the host lives stops its clock.
    fn measure(&self, history: &ServerHistory, view: &View, layer: Layer) -> Measure {
        let cleared_ns = history.pause(layer).cleared_ns;
        let (alive_ns, alive_gap, floor) = match layer {
            Layer::Host => (
                ServerHistory::other_life_ns(&view.state, view.visibility),
                history.longest_gap(),
                self.floor(view.visibility),
            ),
            Layer::Application => (0, Duration::ZERO, self.settings.silence_application),
        };
        let since_ns = cleared_ns.max(self.awake_ns);
        Measure { since_ns, alive_ns, alive_gap, demand_since_ns: cleared_ns, floor }
    }

    /// A layer, if it is silent for long enough and enough clients wait.
    fn silent_layer<'a>(
        &self,
        view: &'a View,
        layer: Layer,
        measure: Measure,
        readings: &impl Readings,
        now_ns: u64,
    ) -> Option<SilentLayer<'a>> {
        let state = match layer {
            Layer::Host => &view.state.listener,
            Layer::Application => &view.state.application,
        };
        let witnessed = |first_ns| self.witnessed(view.id, layer, state, first_ns, readings);
        let silence = silence::observed(&self.settings, state, &measure, witnessed, now_ns)?;
        Some(SilentLayer { id: view.id, layer, state, measure, silence })
    }

    /// SYNs without an answer.
    fn host_silence(
        &self,
        history: &ServerHistory,
        view: &View,
        readings: &impl Readings,
        now_ns: u64,
    ) -> Option<Candidate> {
        let measure = self.measure(history, view, Layer::Host);
        let silent = self.silent_layer(view, Layer::Host, measure, readings, now_ns)?;
        self.silence_candidate(&silent, readings, now_ns)
            .or_else(|| self.outpaced_candidate(&silent, history, readings, now_ns))
    }

    /// Requests without a response.
    fn application_candidate(
        &self,
        history: &ServerHistory,
        view: &View,
        readings: &impl Readings,
        now_ns: u64,
    ) -> Option<Candidate> {
        if !history.application_pause.is_over(EvidenceKind::Silence, now_ns) {
            return None;
        }
        let measure = self.measure(history, view, Layer::Application);
        let silent = self.silent_layer(view, Layer::Application, measure, readings, now_ns)?;
        self.silence_candidate(&silent, readings, now_ns)
    }

    /// The models of a layer of a server's siblings.
    fn sibling_models(&self, id: ServerId, layer: Layer) -> Vec<&WaitModel> {
        let others = self.siblings.of(id).filter_map(|sibling| self.histories.get(sibling));
        others.map(|history| history.wait_model(layer)).collect()
    }

    /// The weight of a silence, with the share of unanswered demands that this server or most of its siblings have, and
    /// `onset` at least.
    fn weigh(&self, silent: &SilentLayer<'_>, onset: f64, now_ns: u64) -> f64 {
        let Some(model) = self.histories.get(silent.id).map(|history| history.wait_model(silent.layer))
        else {
            return 0.0;
        };
        // In a flood most evaluations end here: what siblings show can only lower the weight.
        let (weak, strong) = silence::thresholds(&self.settings, model.most_answers_per_second());
        let unanswered = model.unanswered().max(onset);
        let further = &silent.silence.witnessed;
        if silence::most(&self.settings, silent.state, further, unanswered) < weak {
            return 0.0;
        }
        let others = self.sibling_models(silent.id, silent.layer);
        let usual = siblings::median(others.iter().map(|model| model.unanswered())).unwrap_or(0.0);
        let expected = Expected { model, siblings: &others, unanswered: unanswered.max(usual) };
        silence::weigh(&self.settings, silent.state, further, &expected, &silent.measure, strong, now_ns)
    }

    /// A silence that reaches a threshold by itself, and still does with what its siblings show.
    fn silence_candidate(
        &self,
        silent: &SilentLayer<'_>,
        readings: &impl Readings,
        now_ns: u64,
    ) -> Option<Candidate> {
        let model = self.histories.get(silent.id)?.wait_model(silent.layer);
        let grade =
            |onset| grade(&self.settings, self.weigh(silent, onset, now_ns), model.most_answers_per_second());
        grade(0.0)?;
        if self.is_correlated(silent, silent.first_ns(now_ns), now_ns) {
            return None;
        }
        let strength = grade(self.onset(silent, readings, now_ns))?;
        Some((strength, silent.evidence(model)))
    }

    /// Whether more than half of a service, two servers at least, have been silent in the same way since `first_ns`.
    /// Either all demand is a flood or all servers are dead at once; then the director's own network is suspect first,
    /// and the baseline checks decide.
    fn is_correlated(&self, silent: &SilentLayer<'_>, first_ns: u64, now_ns: u64) -> bool {
        let asked = silent.asked(&self.settings);
        let (mut servers, mut silent_servers) = (1, 1);
        for (_, history) in self.siblings_up(silent.id) {
            let snapshot = history.wait_model(silent.layer).snapshot();
            servers += 1;
            silent_servers += u32::from(snapshot.is_silent_too(asked, first_ns, now_ns));
        }
        silent_servers >= 2 && silent_servers * 2 > servers
    }

    /// The share of demands that siblings leave without an answer since this silence began, if that is new.
    fn onset(&self, silent: &SilentLayer<'_>, readings: &impl Readings, now_ns: u64) -> f64 {
        /// Siblings that are compared with: reading counters of all CPUs costs more than all else here.
        const COMPARED: usize = 8;
        let (asked, first_ns) = (silent.asked(&self.settings), silent.first_ns(now_ns));
        let is_silent = |history: &ServerHistory| {
            let snapshot = history.wait_model(silent.layer).snapshot();
            snapshot.is_silent_too(asked, first_ns, now_ns)
        };
        let mut exchanged = Exchanged::default();
        // A sibling that is silent as well may be dead as well.
        for (id, history) in
            self.siblings_up(silent.id).filter(|(_, history)| !is_silent(history)).take(COMPARED)
        {
            let totals = totals(silent.layer, &readings.counters(id));
            exchanged.add(history.wait_model(silent.layer), &totals, first_ns, now_ns);
        }
        exchanged.onset()
    }

    fn siblings_up(&self, id: ServerId) -> impl Iterator<Item = (ServerId, &ServerHistory)> {
        let known = self.siblings.of(id).filter_map(|sibling| Some((sibling, self.histories.get(sibling)?)));
        known.filter(|(_, history)| !history.down)
    }

    /// A flood hides which SYNs are real, but not which server completes its share of handshakes.
    fn outpaced_candidate(
        &self,
        silent: &SilentLayer<'_>,
        history: &ServerHistory,
        readings: &impl Readings,
        now_ns: u64,
    ) -> Option<Candidate> {
        /// Clients come in groups, and schedulers have habits: each handshake counts less than independent ones would.
        const DEPENDENT: f64 = 0.7;
        /// The share of answers that may take longer than the clients have waited.
        const LATE: f64 = 0.05;
        if history.listener.survival(silent.silence.lasted, &[]) > LATE {
            return None;
        }
        let outpaced = self.siblings.outpaced(silent.id)?;
        let weigh = |answers| -(1.0 - outpaced.share).max(f64::MIN_POSITIVE).ln() * real(answers) * DEPENDENT;
        let rate = history.listener.most_answers_per_second();
        grade(&self.settings, weigh(outpaced.answers), rate)?;
        // Handshakes are counted in the kernel whether or not the director stalls: unlike waits, they needn't be
        // measured anew after each stall. Siblings may not have completed any since the last one.
        let begun_ns = silent.state.waiting_since()?.max(silent.state.progress_ns);
        let from_ns = begun_ns.max(history.host_pause.cleared_ns);
        if self.is_correlated(silent, from_ns, now_ns) {
            return None;
        }
        let within = |id: ServerId| {
            let sibling = self.histories.get(id).filter(|sibling| !sibling.down)?;
            Some(
                sibling
                    .listener
                    .recent()
                    .answers_within(from_ns, &totals(Layer::Host, &readings.counters(id))),
            )
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
        history: &ServerHistory,
        view: &View,
        readings: &impl Readings,
        now_ns: u64,
    ) -> Option<Candidate> {
        let settings = &self.settings;
        let again = &view.state.again;
        let from_ns = history.host_pause.cleared_ns.max(self.awake_ns);
        let is_recent = time::is_within(again.last_ns, settings.resent_within, now_ns);
        if again.flows == 0 || again.last_ns <= from_ns || !is_recent {
            return None;
        }
        let clients = again.networks.count_ones();
        let loss = history.sent_again.share().clamp(settings.loss, 1.0);
        let weight = -loss.ln() * f64::from(clients);
        grade(settings, weight, history.application.most_answers_per_second())?;
        let is_strong = clients >= settings.resent_clients
            || f64::from(again.flows)
                >= settings.resent_share * f64::from(readings.active_flows(view.id, now_ns));
        let strength = if is_strong { Strength::Strong } else { Strength::Weak };
        let within = Duration::from_nanos(now_ns.saturating_sub(again.since_ns.max(from_ns)));
        Some((strength, Evidence::SentAgain { flows: again.flows, clients, within }))
    }

    fn floor(&self, visibility: Visibility) -> Duration {
        match visibility {
            Visibility::Both => self.settings.silence_masquerade,
            Visibility::ClientOnly | Visibility::CountersOnly(_) => self.settings.silence_half_seen,
        }
    }
}

fn rests(state: &ServerState) -> bool {
    state.listener.waiting | state.application.waiting == 0
        && state.refusals | state.unreachables | state.again.flows == 0
}

fn grade(settings: &DetectorSettings, weight: f64, rate: f64) -> Option<Strength> {
    let (weak, strong) = silence::thresholds(settings, rate);
    match weight {
        _ if weight >= strong => Some(Strength::Strong),
        _ if weight >= weak => Some(Strength::Weak),
        _ => None,
    }
}

fn refusal(settings: &DetectorSettings, state: &ServerState, cleared_ns: u64) -> Option<Candidate> {
    if state.refusals == 0 || state.refused_last_ns <= cleared_ns {
        return None;
    }
    let strength = if state.refusals >= settings.refusals { Strength::Strong } else { Strength::Weak };
    let within = Duration::from_nanos(state.refused_last_ns.saturating_sub(state.refused_since_ns));
    Some((strength, Evidence::Refused { refusals: state.refusals, within }))
}

fn unreachable(state: &ServerState, cleared_ns: u64) -> Option<Candidate> {
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
