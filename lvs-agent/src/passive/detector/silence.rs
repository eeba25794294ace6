//! Silence, weighed: how much likelier are these waits if the server is dead than if it is alive?
//!
//! A sequential likelihood-ratio test (Wald 1945; Page's CUSUM starts it anew at every proof of life). A dead server
//! never answers; a living one lets a client wait for longer than `t` with the probability `S(t)` that it has shown. So
//! each client network that waits multiplies the ratio by `1 / S(t)`, until any proof of life makes it zero. As long as
//! `S` is not below the truth, the ratio of a living server is a supermartingale from one proof to the next, and exceeds
//! `x` with a probability of at most `1 / x` (Ville's inequality) - whatever the rate and the distances of the clients.

use std::time::Duration;

use lvs_common::Layer;

use super::{nanos, siblings, waits::Waits};
use crate::model::DetectorSettings;

/// Silence on one layer.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Silence {
    /// Since the first of those who wait began to.
    pub(super) lasted: Duration,
    /// How many client networks wait.
    pub(super) clients: u32,
    /// How often they asked.
    pub(super) attempts: u32,
}

/// How a silence is to be measured.
#[derive(Clone, Copy, Debug)]
pub(super) struct Measure {
    /// Nothing that is older than this counts.
    pub(super) since_ns: u64,
    /// When the server last showed in another way that its host lives; 0: that doesn't matter.
    pub(super) alive_ns: u64,
    /// How long it is silent in that other way at most. Whoever waited before it last wasn't counts only then.
    pub(super) alive_gap: Duration,
    /// Only demands newer than this count.
    pub(super) demand_since_ns: u64,
    /// The shortest silence.
    pub(super) floor: Duration,
}

/// Whether those who wait are enough, and for long enough, to be weighed at all. Cheap, and seldom true of a server that
/// lives.
pub(super) fn observed(
    settings: &DetectorSettings,
    layer: &Layer,
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

/// Since when those wait who count; a time from before the last proof of life is the rest of an update under way.
fn begun(layer: &Layer, measure: &Measure, now_ns: u64) -> impl Iterator<Item = u64> {
    let Measure { since_ns: start_ns, alive_ns, alive_gap, .. } = *measure;
    let silent = !is_within(alive_ns, alive_gap, now_ns);
    let begun = layer.beginnings().iter().copied().filter(|&since_ns| since_ns >= layer.progress_ns);
    begun
        .filter(move |&since_ns| silent || since_ns > alive_ns)
        .map(move |since_ns| since_ns.max(alive_ns).max(start_ns))
}

/// What a layer shows as long as its server lives.
#[derive(Clone, Copy, Debug)]
pub(super) struct Expected<'a> {
    /// What it has shown itself.
    pub(super) own: &'a Waits,
    /// What is usual of a server that has shown little itself.
    pub(super) siblings: &'a [&'a Waits],
    /// The share of demands that never get an answer.
    pub(super) unanswered: f64,
}

impl Expected<'_> {
    /// Answers a second. A server that has come into a service just now gets about as many as most of its siblings.
    fn rate(&self) -> f64 {
        let own = self.own.most_answers_per_second();
        if !self.own.is_strange() {
            return own;
        }
        let others = self.siblings.iter().map(|waits| waits.most_answers_per_second());
        siblings::median(others).map_or(own, |usual| own.max(usual))
    }
}

/// The weight of what was observed: the natural logarithm of the likelihood ratio; of one that is `enough` no more than
/// that it is.
pub(super) fn weigh(
    settings: &DetectorSettings,
    layer: &Layer,
    expected: &Expected<'_>,
    measure: &Measure,
    enough: f64,
    now_ns: u64,
) -> f64 {
    let Expected { own, siblings, unanswered } = *expected;
    let time = Duration::from_nanos(now_ns.saturating_sub(layer.progress_ns)).as_secs_f64();
    let real = believable(expected, layer.attempts, time);
    let thinned = thinned(own, layer.attempts, time);
    let one = |since_ns: u64| {
        let age = Duration::from_nanos(now_ns.saturating_sub(since_ns));
        let unanswered = unanswered + (1.0 - unanswered) * own.survival(age, siblings);
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

/// More than [`weigh`] can ever give, with at least this share of demands that never get an answer.
pub(super) fn most(settings: &DetectorSettings, layer: &Layer, unanswered: f64) -> f64 {
    #[expect(clippy::cast_precision_loss, reason = "a handful")]
    let waiting = layer.beginnings().len() as f64;
    -unanswered.clamp(settings.loss, 1.0).ln() * waiting
}

/// The share of demands that may be from clients who want an answer: where far more ask than are ever answered, it is a
/// flood, and most of it never will be. Clients who ask again after a second may double the number.
fn believable(expected: &Expected<'_>, attempts: u32, time: f64) -> f64 {
    const AGAIN: f64 = 2.0;
    let answers = expected.rate() * time;
    let envelope = AGAIN * answers + 2.0 * (expected.own.burstiness() * answers).sqrt() + 1.0;
    (envelope / f64::from(attempts.max(1))).min(1.0)
}

/// The share of the usual demand that is left: it might be just those whose answers always take long.
fn thinned(waits: &Waits, attempts: u32, time: f64) -> f64 {
    let usual = waits.demands_per_second() * time;
    let now = f64::from(attempts.max(1));
    if usual > now { now / usual } else { 1.0 }
}

/// Weights from which on a suspicion is weak, and strong.
///
/// A server starts a new test with every answer at most. With `rate` answers a second the weak threshold leaves
/// `false_alarms` suspicions an hour (Ville's bound times the number of tests).
pub(super) fn thresholds(settings: &DetectorSettings, rate: f64) -> (f64, f64) {
    const HOUR: f64 = 3600.0;
    let weak = (HOUR * rate.max(1.0) / settings.false_alarms).ln();
    (weak, (settings.phi * std::f64::consts::LN_10).max(weak))
}

/// The shortest silence of a layer as a time before now.
pub(super) fn is_within(time_ns: u64, floor: Duration, now_ns: u64) -> bool {
    now_ns.saturating_sub(time_ns) <= nanos(floor)
}
