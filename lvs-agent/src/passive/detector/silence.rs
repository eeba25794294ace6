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

use super::{siblings, time::is_within, wait_model::WaitModel};
use crate::model::DetectorSettings;

/// A silence of one layer.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Silence {
    /// Since the first waiting client began to wait.
    pub(super) lasted: Duration,
    /// Waiting client networks.
    pub(super) clients: u32,
    /// SYNs or requests they sent.
    pub(super) attempts: u32,
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
pub(super) fn observed(
    settings: &DetectorSettings,
    layer: &LayerState,
    measure: &Measure,
    now_ns: u64,
) -> Option<Silence> {
    // A layer that has never shown life says nothing by being silent: it may not be its way to answer (one-way UDP).
    if layer.progress_ns == 0 || layer.last_ns <= measure.demand_since_ns {
        return None;
    }
    let first_ns = begun(layer, measure, now_ns).next()?;
    let lasted = Duration::from_nanos(now_ns.saturating_sub(first_ns));
    let clients = layer.networks.count();
    let enough = lasted >= measure.floor && clients >= settings.clients;
    enough.then_some(Silence { lasted, clients, attempts: layer.attempts })
}

/// When the clients that count began to wait. A time before the last proof of life is left from an update under way.
fn begun(layer: &LayerState, measure: &Measure, now_ns: u64) -> impl Iterator<Item = u64> {
    let Measure { since_ns: start_ns, alive_ns, alive_gap, .. } = *measure;
    let silent = !is_within(alive_ns, alive_gap, now_ns);
    let begun = layer.beginnings().iter().copied().filter(|&since_ns| since_ns >= layer.progress_ns);
    begun
        .filter(move |&since_ns| silent || since_ns > alive_ns)
        .map(move |since_ns| since_ns.max(alive_ns).max(start_ns))
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
    expected: &Expected<'_>,
    measure: &Measure,
    enough: f64,
    now_ns: u64,
) -> f64 {
    let Expected { model, siblings, unanswered } = *expected;
    let time = Duration::from_nanos(now_ns.saturating_sub(layer.progress_ns)).as_secs_f64();
    let real = believable(expected, layer.attempts, time);
    let thinned = thinned(model, layer.attempts, time);
    let one = |since_ns: u64| {
        let age = Duration::from_nanos(now_ns.saturating_sub(since_ns));
        let unanswered = unanswered + (1.0 - unanswered) * model.survival(age, siblings);
        let alive = (unanswered / thinned).clamp(settings.loss, 1.0);
        -(1.0 - real + real * alive).ln()
    };
    let mut weight = 0.0;
    for since_ns in begun(layer, measure, now_ns) {
        weight += one(since_ns);
        if weight >= enough {
            break;
        }
    }
    weight
}

/// An upper bound of [`weigh`], with at least this share of demands that never get an answer.
pub(super) fn most(settings: &DetectorSettings, layer: &LayerState, unanswered: f64) -> f64 {
    #[expect(clippy::cast_precision_loss, reason = "a handful")]
    let waiting = layer.beginnings().len() as f64;
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
    const HOUR: f64 = 3600.0;
    let weak = (HOUR * rate.max(1.0) / settings.false_alarms).ln();
    (weak, (settings.phi * std::f64::consts::LN_10).max(weak))
}
