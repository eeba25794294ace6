//! Hints: something is odd about a server, which is less than a suspicion and costs one probe.
//!
//! A hint counts connections, not networks: a probe from the director can't be fooled by clients, so that distrust of
//! them belongs into what hints may cost, not into waiting for more of them. There are two kinds:
//!
//! - **Unlikely**: so many connections wait for so long that a healthy server would look like this less than
//!   [`UNLIKELY_AN_HOUR`] times an hour (the same test as for suspicions, of independent connections).
//! - **Odd**: one connection has waited for longer than the server has made anybody wait in the last minutes, and hardly
//!   any has been lost. That is no more than a guess, so that few of them are allowed.
//!
//! Each hint that a probe has refuted makes the next one harder to get for an hour: first for the network whose clients
//! waited. A client network that waits in vain, or only pretends to, soon counts for nothing, and the others still do.

use std::{collections::VecDeque, time::Duration};

use lvs_common::{LayerState, ServerId};

use super::{
    Detector, View,
    finding::{Evidence, Finding, Hint, Layer},
    history::ServerHistory,
    readings::Readings,
    siblings,
    silence::{self, Expected, Measure, Scale},
    time::nanos,
    wait_model::WaitModel,
    witnesses::of_layer,
};
use crate::backoff::Backoff;

/// How often an hour a healthy server's clients may wait so by chance: a tenth of what the odd ones may cost.
const UNLIKELY_AN_HOUR: f64 = 0.5;
/// How many hints an hour may be refuted before a single connection that waits is no reason any more.
const ODD_AN_HOUR: u32 = 3;
/// A hint comes after this part of the shortest silence that is a suspicion.
const FLOOR: f64 = 0.4;
/// A single connection must have waited for so many times as long as anybody lately.
const MARGIN: f64 = 1.5;
/// With more demands without an answer in the last minutes than this, another one is nothing odd.
const HARDLY_LOST: f64 = 1.5;
/// What counts as lost anyway, as a part of what counts for a suspicion.
const LOSS: f64 = 0.2;
/// How long a refuted hint is held against the next ones.
const HELD: Duration = Duration::from_hours(1);
/// How many refuted hints are remembered: as many connections as are remembered of one layer.
const REMEMBERED: usize = LayerState::REMEMBERED;
/// The pause after a refuted hint, and the longest one: each further one doubles it.
const PAUSE: Duration = Duration::from_secs(1);
const LONGEST_PAUSE: Duration = Duration::from_mins(1);
/// After this nobody answers any more whether the hint was true.
const PATIENCE: Duration = Duration::from_secs(10);

/// Whose connections were the reason for a hint.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Source {
    /// One client network's, by its bit number.
    Network(u8),
    /// Those of several.
    Several,
}

/// The hints of one layer of one server.
#[derive(Clone, Debug, Default)]
pub(super) struct HintHistory {
    /// The hint that is being probed: until when an outcome is waited for.
    pending: Option<(u64, Source)>,
    quiet_until_ns: u64,
    /// Whoever began to wait before counts no more.
    cleared_ns: u64,
    /// How many were refuted in a row.
    in_a_row: u32,
    refuted: VecDeque<(u64, Source)>,
}

impl HintHistory {
    fn may_be_raised(&self, now_ns: u64) -> bool {
        now_ns >= self.quiet_until_ns && self.pending.is_none_or(|(until_ns, _)| now_ns >= until_ns)
    }

    fn raise(&mut self, source: Source, now_ns: u64) {
        self.pending = Some((now_ns.saturating_add(nanos(PATIENCE)), source));
    }

    /// A probe has been answered: if there was a hint, it is refuted.
    pub(super) fn refute(&mut self, now_ns: u64) {
        self.cleared_ns = now_ns;
        let Some((_, source)) = self.pending.take() else { return };
        if now_ns > self.quiet_until_ns.saturating_add(nanos(LONGEST_PAUSE)) {
            self.in_a_row = 0;
        }
        let pause = Backoff::new(PAUSE, LONGEST_PAUSE).delay(self.in_a_row);
        self.quiet_until_ns = now_ns.saturating_add(nanos(pause));
        self.in_a_row = self.in_a_row.saturating_add(1);
        if self.refuted.len() == REMEMBERED {
            self.refuted.pop_front();
        }
        self.refuted.push_back((now_ns, source));
    }

    /// Nobody has asked the server: not before a while.
    pub(super) fn not_probed(&mut self, now_ns: u64) {
        if self.pending.take().is_some() {
            self.quiet_until_ns = now_ns.saturating_add(nanos(PAUSE));
        }
    }

    /// The server is down or up again: what was before doesn't count.
    pub(super) fn restart(&mut self, now_ns: u64) {
        self.pending = None;
        self.cleared_ns = now_ns;
        self.quiet_until_ns = now_ns;
        self.in_a_row = 0;
    }

    fn held(&self, now_ns: u64) -> impl Iterator<Item = Source> + '_ {
        let from_ns = now_ns.saturating_sub(nanos(HELD));
        self.refuted.iter().filter(move |(at_ns, _)| *at_ns >= from_ns).map(|(_, source)| *source)
    }

    /// How many of a network's connections count for nothing: one for each hint that it was wrong about.
    fn discount(&self, network: u8, now_ns: u64) -> u32 {
        count(self.held(now_ns).filter(|source| *source == Source::Network(network)))
    }

    /// How many connections more it takes, whose ever they are.
    fn surcharge(&self, now_ns: u64) -> u32 {
        count(self.held(now_ns).filter(|source| *source == Source::Several))
    }

    /// Whether a single connection of this network may still be a reason: all that were refuted for this network count,
    /// and of those for any other one the first.
    fn trusts(&self, network: u8, now_ns: u64) -> bool {
        let (mut others, mut refuted) = (Vec::new(), 0);
        for source in self.held(now_ns) {
            match source {
                Source::Network(other) if other != network => {
                    if others.contains(&other) {
                        continue;
                    }
                    others.push(other);
                }
                Source::Network(_) | Source::Several => {}
            }
            refuted += 1;
        }
        refuted < ODD_AN_HOUR
    }
}

fn count(items: impl Iterator) -> u32 {
    u32::try_from(items.count()).unwrap_or(u32::MAX)
}

/// The connections that wait, as far as they count.
#[derive(Clone, Debug, Default)]
struct Waiting {
    /// Since when, and of which network; the first one of its network comes first.
    connections: Vec<(u64, u8)>,
    /// How many of each network there were, those without weight too.
    networks: Vec<(u8, u32)>,
}

impl Waiting {
    /// Adds a connection, unless its network's first so many count for nothing.
    fn add(&mut self, since_ns: u64, network: u8, discount: u32) {
        let known = self.networks.iter_mut().find(|(known, _)| *known == network);
        let before = match known {
            Some((_, known)) => {
                *known += 1;
                *known - 1
            }
            None => {
                self.networks.push((network, 1));
                0
            }
        };
        if before >= discount {
            self.connections.push((since_ns, network));
        }
    }

    fn source(&self) -> Option<Source> {
        let (_, first) = self.connections.first()?;
        let is_one = self.connections.iter().all(|(_, network)| network == first);
        Some(if is_one { Source::Network(*first) } else { Source::Several })
    }

    /// How many networks the connections that count come from.
    fn distinct(&self) -> u32 {
        count(self.networks.iter().filter(|(known, _)| self.connections.iter().any(|(_, one)| one == known)))
    }
}

impl Detector {
    /// What is odd about a server that isn't suspected.
    pub(super) fn hint(&mut self, view: &View, readings: &impl Readings, now_ns: u64) -> Option<Finding> {
        let id = view.id;
        for layer in [Layer::Host, Layer::Application] {
            let history = self.histories.get(id)?;
            let Some((source, evidence)) = self.oddity(history, view, layer, readings, now_ns) else {
                continue;
            };
            self.histories.get_mut(id)?.hints_mut(layer).raise(source, now_ns);
            return Some(Finding::Hint(Hint { id, layer, evidence }));
        }
        None
    }

    fn oddity(
        &self,
        history: &ServerHistory,
        view: &View,
        layer: Layer,
        readings: &impl Readings,
        now_ns: u64,
    ) -> Option<(Source, Evidence)> {
        let hints = history.hints(layer);
        let pause = history.pause(layer);
        if !hints.may_be_raised(now_ns) || pause.pending.is_some() || !pause.is_over(now_ns) {
            return None;
        }
        let state = match layer {
            Layer::Host => &view.state.listener,
            Layer::Application => &view.state.application,
        };
        let measure = self.measure(history, view, layer);
        let floor = measure.floor.mul_f64(FLOOR);
        // Cheap, and seldom so for a living server.
        silence::first(state, &measure, floor, now_ns)?;
        let waiting = waiting(view.id, layer, state, &measure, hints, readings, now_ns);
        let since_ns = waiting.connections.iter().map(|(since_ns, _)| *since_ns).min()?;
        let waited = Duration::from_nanos(now_ns.saturating_sub(since_ns));
        if waited < floor {
            return None;
        }
        let model = history.wait_model(layer);
        let is_hint = self.is_odd(hints, model, &waiting, waited, now_ns)
            || self.is_unlikely(view.id, layer, state, &waiting, now_ns);
        let evidence = Evidence::Waiting {
            layer,
            waited,
            connections: count(waiting.connections.iter()),
            clients: waiting.distinct(),
            longest: model.longest(),
        };
        is_hint.then_some((waiting.source()?, evidence))
    }

    /// Whether the one that waits longest has waited for longer than anybody lately.
    fn is_odd(
        &self,
        hints: &HintHistory,
        model: &WaitModel,
        waiting: &Waiting,
        waited: Duration,
        now_ns: u64,
    ) -> bool {
        let is_long = model.longest().is_some_and(|longest| waited >= longest.mul_f64(MARGIN));
        is_long
            && model.lost() <= HARDLY_LOST
            && waiting.connections.iter().any(|(_, network)| hints.trusts(*network, now_ns))
    }

    /// Whether chance leaves so many connections waiting for so long less than [`UNLIKELY_AN_HOUR`] times an hour.
    fn is_unlikely(
        &self,
        id: ServerId,
        layer: Layer,
        state: &LayerState,
        waiting: &Waiting,
        now_ns: u64,
    ) -> bool {
        let Some(history) = self.histories.get(id) else { return false };
        let (model, hints) = (history.wait_model(layer), history.hints(layer));
        let others = self.sibling_models(id, layer);
        let usual = siblings::median(others.iter().map(|model| model.unanswered())).unwrap_or(0.0);
        let unanswered = model.unanswered().max(usual);
        let expected = Expected { model, siblings: &others, unanswered };
        let loss = self.settings.loss * LOSS;
        let scale = Scale::new(loss, state, &expected, now_ns);
        let weight: f64 = waiting.connections.iter().map(|(since_ns, _)| scale.weigh(*since_ns)).sum();
        let surcharge = -loss.ln() * f64::from(hints.surcharge(now_ns));
        weight >= silence::threshold(model.most_answers_per_second(), UNLIKELY_AN_HOUR) + surcharge
    }
}

/// The connections that wait and count: not those that waited already when a probe was answered.
fn waiting(
    id: ServerId,
    layer: Layer,
    state: &LayerState,
    measure: &Measure,
    hints: &HintHistory,
    readings: &impl Readings,
    now_ns: u64,
) -> Waiting {
    let known = readings.waiting(id);
    let known = of_layer(&known, layer);
    let first = state.beginnings().iter().copied().zip(known.first);
    let mut waiting = Waiting::default();
    for (since_ns, network) in first.chain(known.further()) {
        if since_ns <= hints.cleared_ns {
            continue;
        }
        if let Some(counted_ns) = measure.counted(state, since_ns, now_ns) {
            waiting.add(counted_ns, network, hints.discount(network, now_ns));
        }
    }
    waiting
}
