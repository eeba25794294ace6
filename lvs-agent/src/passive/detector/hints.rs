//! Hints: something is odd about a server, which is less than a suspicion and costs one probe.
//!
//! A hint counts connections, not networks: a probe from the director can't be fooled by clients, so that distrust of
//! them belongs into what hints may cost, not into waiting for more of them. There are two kinds:
//!
//! - **Unlikely**: so many connections wait for so long that a healthy server would look like this less than
//!   [`UNLIKELY_AN_HOUR`] times an hour (the same test as for suspicions, of independent connections).
//! - **Odd**: one connection has waited for longer than the server has made anybody wait in the last minutes, and
//!   hardly any has been lost. That is no more than a guess, so that few of them are allowed.

use std::time::Duration;

use lvs_common::{LayerState, ServerId};

use super::{
    Detector, View,
    finding::{Evidence, EvidenceKind, Finding, Hint, HintSource, Layer},
    hint_history::HintHistory,
    history::ServerHistory,
    readings::Readings,
    siblings,
    silence::{self, Expected, Measure, Scale},
    wait_model::WaitModel,
    witnesses::of_layer,
};

/// How often an hour a healthy server's clients may wait so by chance: a small part of what the odd ones may cost.
const UNLIKELY_AN_HOUR: f64 = 0.5;
/// A hint comes after this part of the shortest silence that is a suspicion.
const FLOOR: f64 = 0.4;
/// A single connection must have waited for so many times as long as anybody lately.
const MARGIN: f64 = 1.5;
/// With more demands without an answer in the last minutes than this, another one is nothing odd.
const HARDLY_LOST: f64 = 1.5;
/// What counts as lost anyway, as a part of what counts for a suspicion.
const LOSS: f64 = 0.2;

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
        let before = if let Some((_, known)) = known {
            *known += 1;
            *known - 1
        } else {
            self.networks.push((network, 1));
            0
        };
        if before >= discount {
            self.connections.push((since_ns, network));
        }
    }

    fn source(&self) -> Option<HintSource> {
        let (_, first) = self.connections.first()?;
        let is_one = self.connections.iter().all(|(_, network)| network == first);
        Some(if is_one { HintSource::Network(*first) } else { HintSource::Several })
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
            return Some(Finding::Hint(Hint { id, layer, source: Some(source), evidence }));
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
    ) -> Option<(HintSource, Evidence)> {
        let hints = history.hints(layer);
        let pause = history.pause(layer);
        if !hints.may_be_raised(now_ns)
            || pause.pending.is_some()
            || !pause.is_over(EvidenceKind::Silence, now_ns)
        {
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
        let is_hint = is_odd(hints, model, &waiting, waited, now_ns)
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

/// Whether the one that waits longest has waited for longer than anybody lately.
fn is_odd(hints: &HintHistory, model: &WaitModel, waiting: &Waiting, waited: Duration, now_ns: u64) -> bool {
    let is_long = model.longest().is_some_and(|longest| waited >= longest.mul_f64(MARGIN));
    is_long
        && model.lost() <= HARDLY_LOST
        && waiting.connections.iter().any(|(_, network)| hints.trusts(*network, now_ns))
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

fn count(items: impl Iterator) -> u32 {
    u32::try_from(items.count()).unwrap_or(u32::MAX)
}
