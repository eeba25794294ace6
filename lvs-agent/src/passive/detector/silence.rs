//! How much evidence a silence is: how much likelier are these waits if the server is dead than if it is alive?
//!
//! A sequential likelihood-ratio test (Wald 1945; Page's CUSUM starts it anew at every proof of life). A dead server
//! never answers; a living one lets a client wait for longer than `t` with the probability `S(t)` that it has shown. So
//! each client network that waits multiplies the ratio by `1 / S(t)`, until any proof of life makes it zero. As long as
//! `S` is not below the truth, the ratio of a living server is a supermartingale from one proof to the next, and
//! exceeds `x` with a probability of at most `1 / x` (Ville's inequality) - whatever the rate and the distances of the
//! clients.

use std::time::Duration;

use lvs_common::LayerState;

use super::{
    siblings,
    time::{is_within, nanos},
    wait_model::WaitModel,
};
use crate::model::DetectorSettings;

/// A silence of one layer.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Silence {
    /// Since the first waiting client began to wait.
    pub(super) lasted: Duration,
    /// Waiting client networks.
    pub(super) clients: u32,
    /// SYNs or requests they sent.
    pub(super) attempts: u32,
    /// When further connections of these networks began to wait, where siblings vouch for the network.
    pub(super) witnessed: Vec<u64>,
}

impl Silence {
    /// Those that wait independently of each other: networks, and connections of networks that are fine.
    pub(super) fn independent(&self) -> u32 {
        self.clients.saturating_add(u32::try_from(self.witnessed.len()).unwrap_or(u32::MAX))
    }
}

/// The window in which a silence is measured.
#[derive(Clone, Copy, Debug)]
pub(super) struct Measure {
    /// Nothing older counts.
    pub(super) since_ns: u64,
    /// The last other sign of life of the host; 0: none matters.
    pub(super) alive_ns: u64,
    /// The longest usual gap between two such signs. Clients that waited before the last one count only after this gap.
    pub(super) alive_gap: Duration,
    /// Only newer demand counts.
    pub(super) demand_since_ns: u64,
    /// The shortest silence.
    pub(super) floor: Duration,
}

/// The silence, if enough clients wait for long enough to weigh it at all. Cheap, and seldom so for a living server.
///
/// `witnessed` finds the connections that siblings vouch for, by the beginning of the silence.
pub(super) fn observed(
    settings: &DetectorSettings,
    layer: &LayerState,
    measure: &Measure,
    witnessed: impl FnOnce(u64) -> Vec<u64>,
    now_ns: u64,
) -> Option<Silence> {
    let first_ns = first(layer, measure, measure.floor, now_ns)?;
    let (clients, attempts) = (layer.networks.count(), layer.attempts);
    if clients.max(attempts) < settings.clients {
        return None;
    }
    let lasted = Duration::from_nanos(now_ns.saturating_sub(first_ns));
    let silence = Silence { lasted, clients, attempts, witnessed: witnessed(first_ns) };
    (silence.independent() >= settings.clients).then_some(silence)
}

/// The beginning of a silence that has lasted for `floor` at least.
pub(super) fn first(layer: &LayerState, measure: &Measure, floor: Duration, now_ns: u64) -> Option<u64> {
    // A layer that has never shown life says nothing by being silent: it may not be its way to answer (one-way UDP).
    if layer.progress_ns == 0 || layer.last_ns <= measure.demand_since_ns {
        return None;
    }
    let first_ns = begun(layer, &[], measure, now_ns).next()?;
    (now_ns.saturating_sub(first_ns) >= nanos(floor)).then_some(first_ns)
}

/// When the clients that count began to wait: the first ones of their networks, and `further` ones.
fn begun<'a>(
    layer: &'a LayerState,
    further: &'a [u64],
    measure: &'a Measure,
    now_ns: u64,
) -> impl Iterator<Item = u64> + 'a {
    let all = layer.beginnings().iter().chain(further);
    all.filter_map(move |&since_ns| measure.counted(layer, since_ns, now_ns))
}

impl Measure {
    /// From when the wait of a client counts that began at `since_ns`, if it does at all. A time before the last proof
    /// of life is left from an update under way.
    pub(super) fn counted(&self, layer: &LayerState, since_ns: u64, now_ns: u64) -> Option<u64> {
        let is_silent = !is_within(self.alive_ns, self.alive_gap, now_ns);
        let counts = since_ns >= layer.progress_ns && (is_silent || since_ns > self.alive_ns);
        counts.then(|| since_ns.max(self.alive_ns).max(self.since_ns))
    }
}

/// What is expected of a layer whose server lives.
#[derive(Clone, Copy, Debug)]
pub(super) struct Expected<'a> {
    /// The layer's model.
    pub(super) model: &'a WaitModel,
    /// Its siblings' models, which count where the layer itself has shown little.
    pub(super) siblings: &'a [&'a WaitModel],
    /// The share of demands that never get an answer.
    pub(super) unanswered: f64,
}

impl Expected<'_> {
    /// Answers a second. A server that is new in a service gets about as many as most of its siblings.
    fn rate(&self) -> f64 {
        let rate = self.model.most_answers_per_second();
        if !self.model.is_new() {
            return rate;
        }
        let others = self.siblings.iter().map(|model| model.most_answers_per_second());
        siblings::median(others).map_or(rate, |usual| rate.max(usual))
    }
}

/// The weight of a silence: the natural logarithm of the likelihood ratio. Weighing ends at `enough`.
pub(super) fn weigh(
    settings: &DetectorSettings,
    layer: &LayerState,
    further: &[u64],
    expected: &Expected<'_>,
    measure: &Measure,
    enough: f64,
    now_ns: u64,
) -> f64 {
    let scale = Scale::new(settings.loss, layer, expected, now_ns);
    let mut weight = 0.0;
    for since_ns in begun(layer, further, measure, now_ns) {
        weight += scale.weigh(since_ns);
        if weight >= enough {
            break;
        }
    }
    weight
}

/// Weighs clients that wait, one by one.
#[derive(Clone, Copy, Debug)]
pub(super) struct Scale<'a> {
    expected: &'a Expected<'a>,
    /// The share of demand that may be from real clients.
    real: f64,
    /// The share of the usual demand that is left.
    thinned: f64,
    /// A healthy server leaves at least this share waiting.
    loss: f64,
    now_ns: u64,
}

impl<'a> Scale<'a> {
    pub(super) fn new(loss: f64, layer: &LayerState, expected: &'a Expected<'a>, now_ns: u64) -> Self {
        let time = Duration::from_nanos(now_ns.saturating_sub(layer.progress_ns)).as_secs_f64();
        let real = believable(expected, layer.attempts, time);
        let thinned = thinned(expected.model, layer.attempts, time);
        Self { expected, real, thinned, loss, now_ns }
    }

    /// The weight of a client that has waited since then.
    pub(super) fn weigh(&self, since_ns: u64) -> f64 {
        let Expected { model, siblings, unanswered } = *self.expected;
        let age = Duration::from_nanos(self.now_ns.saturating_sub(since_ns));
        let unanswered = unanswered + (1.0 - unanswered) * model.survival(age, siblings);
        let alive = (unanswered / self.thinned).clamp(self.loss, 1.0);
        -(1.0 - self.real + self.real * alive).ln()
    }
}

/// An upper bound of [`weigh`], with at least this share of demands that never get an answer.
pub(super) fn most(settings: &DetectorSettings, layer: &LayerState, further: &[u64], unanswered: f64) -> f64 {
    #[expect(clippy::cast_precision_loss, reason = "a handful")]
    let waiting = (layer.beginnings().len() + further.len()) as f64;
    -unanswered.clamp(settings.loss, 1.0).ln() * waiting
}

/// The share of demand that may be from real clients: far more demand than is ever answered is a flood, and most of it
/// never gets an answer. Clients that retry after a second may double the number.
fn believable(expected: &Expected<'_>, attempts: u32, time: f64) -> f64 {
    const AGAIN: f64 = 2.0;
    let answers = expected.rate() * time;
    let envelope = AGAIN * answers + 2.0 * (expected.model.burstiness() * answers).sqrt() + 1.0;
    (envelope / f64::from(attempts.max(1))).min(1.0)
}

/// The share of the usual demand that is left: it may be just the part whose answers always take long.
fn thinned(model: &WaitModel, attempts: u32, time: f64) -> f64 {
    let usual = model.demands_per_second() * time;
    let now = f64::from(attempts.max(1));
    if usual > now { now / usual } else { 1.0 }
}

/// The thresholds for a weak and for a strong suspicion.
///
/// A server starts a new test with every answer at most. With `rate` answers a second the weak threshold leaves
/// `false_alarms` suspicions an hour (Ville's bound times the number of tests).
pub(super) fn thresholds(settings: &DetectorSettings, rate: f64) -> (f64, f64) {
    let weak = threshold(rate, settings.false_alarms);
    (weak, (settings.phi * std::f64::consts::LN_10).max(weak))
}

/// The threshold that chance exceeds `an_hour` times an hour at most.
pub(super) fn threshold(rate: f64, an_hour: f64) -> f64 {
    const HOUR: f64 = 3600.0;
    (HOUR * rate.max(1.0) / an_hour).ln()
}
