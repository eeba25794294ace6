//! What is usual on one layer of a server: the rates of demand and of answers, and how long answers take.

use std::time::Duration;

use lvs_common::{Latencies, LayerState};

use super::{
    finding::Usual,
    snapshot::{LayerSnapshot, RecentTotals, Totals},
    time::nanos,
};

/// How fast a change of the share of the unanswered is noticed: a flood must be known for what it is within seconds.
const QUICK: Duration = Duration::from_secs(1);

/// No wait is longer, of those without a bound: Linux sends a SYN again after 1, 3, 7 and 15 s (RFC 6298 and
/// `tcp_syn_retries`), and few clients wait for the last one.
const LONGEST: Duration = Duration::from_secs(15);

/// How many samples an assumption weighs as much as.
const ASSUMED: f64 = 4.0;

/// What is assumed of a server without samples.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Assumption {
    /// Within a second or so, as a kernel anywhere in the world does.
    Kernel,
    /// Probably as its siblings do, as far as they have samples; without siblings, at any time.
    Siblings,
}

impl Assumption {
    /// The share of answers that take longer than `age`.
    fn survival(self, age: Duration, siblings: &[&WaitModel]) -> f64 {
        /// No answer is expected from a new server's kernel sooner.
        const PATIENCE: f64 = 0.25;
        /// How likely a new server is unlike its siblings: slower answers by nature, another machine.
        const UNLIKE: f64 = 0.05;
        match self {
            Self::Kernel => {
                let share = PATIENCE / age.as_secs_f64();
                (share * share.sqrt()).min(1.0)
            }
            Self::Siblings => {
                let samples: f64 = siblings.iter().map(|model| model.samples()).sum();
                let later: f64 = siblings.iter().map(|model| model.later_than(age)).sum();
                UNLIKE + (1.0 - UNLIKE) * (later + ASSUMED) / (samples + ASSUMED)
            }
        }
    }
}

/// The totals that were last learned from.
#[derive(Clone, Copy, Debug)]
struct Learned {
    totals: Totals,
    /// Demands, without those since the last proof of life: whether they get an answer isn't known yet.
    settled: u64,
    at_ns: u64,
}

/// The model of one layer of one server.
#[derive(Clone, Debug)]
pub(super) struct WaitModel {
    assumption: Assumption,
    last: Option<Learned>,
    slow: Window,
    quick: Window,
    /// Answers by how long they took, forgotten like `slow`.
    buckets: [f64; Latencies::BUCKETS],
    /// For each bucket the answers in it and in all later ones: asked for far more often than anything is learned.
    later: [f64; Latencies::BUCKETS],
    /// Squares of the differences from the expected number of answers, and the sum of those numbers.
    scatter: (f64, f64),
    recent: RecentTotals,
    snapshot: LayerSnapshot,
}

/// Sums that forget exponentially.
#[derive(Clone, Copy, Debug, Default)]
struct Window {
    demands: f64,
    answers: f64,
    seconds: f64,
}

impl Window {
    fn add(&mut self, demands: f64, answers: f64, seconds: f64, kept: f64) {
        self.demands = self.demands * kept + demands;
        self.answers = self.answers * kept + answers;
        self.seconds = self.seconds * kept + seconds;
    }

    fn per_second(&self, sum: f64) -> f64 {
        if self.seconds > 0.0 { sum / self.seconds } else { 0.0 }
    }

    fn unanswered(&self) -> f64 {
        (self.demands - self.answers).max(0.0) / (self.demands + ASSUMED)
    }
}

impl WaitModel {
    pub(super) fn new(assumption: Assumption) -> Self {
        Self {
            assumption,
            last: None,
            slow: Window::default(),
            quick: Window::default(),
            buckets: [0.0; Latencies::BUCKETS],
            later: [0.0; Latencies::BUCKETS],
            scatter: (0.0, 0.0),
            recent: RecentTotals::default(),
            snapshot: LayerSnapshot::default(),
        }
    }

    /// Learns from the totals at `now_ns`; returns the number of answers since the last time.
    ///
    /// A time with demand and without any answer is left open (`None`) until there is one: if the server is dead, its
    /// death must not become what is usual. Nor must the waits of those who asked before it came up, at `up_ns`: SYNs
    /// that are sent again, a second later or three, are answered once it is back.
    pub(super) fn learn(
        &mut self,
        totals: &Totals,
        memory: Duration,
        up_ns: u64,
        now_ns: u64,
    ) -> Option<u64> {
        self.recent.note(totals, now_ns);
        let Some(last) = self.last else {
            self.skip(totals, now_ns);
            return Some(0);
        };
        let fresh = totals.answers.since(&last.totals.answers);
        let answers = fresh.total();
        if answers == 0 && totals.demands != last.totals.demands {
            return None;
        }
        let settled = totals.demands.saturating_sub(self.snapshot.attempts()).max(last.settled);
        let seconds = Duration::from_nanos(now_ns.saturating_sub(last.at_ns)).as_secs_f64();
        self.last = Some(Learned { totals: *totals, settled, at_ns: now_ns });
        self.fold(real(settled - last.settled), real(answers), seconds, memory);
        let up_for_ns = now_ns.saturating_sub(up_ns);
        for (bucket, (known, count)) in self.buckets.iter_mut().zip(fresh.buckets).enumerate() {
            if Latencies::upper_bound_ns(bucket).unwrap_or(nanos(LONGEST)) <= up_for_ns {
                *known += f64::from(count);
            }
        }
        let mut sum = 0.0;
        for (later, bucket) in self.later.iter_mut().zip(&self.buckets).rev() {
            sum += bucket;
            *later = sum;
        }
        Some(answers)
    }

    /// Takes the totals as learned without learning from them.
    pub(super) fn skip(&mut self, totals: &Totals, now_ns: u64) {
        self.last = Some(Learned { totals: *totals, settled: totals.demands, at_ns: now_ns });
    }

    /// Keeps the layer's state as it is now.
    pub(super) fn note_snapshot(&mut self, layer: &LayerState) {
        self.snapshot = LayerSnapshot::new(layer);
    }

    /// The layer's last state.
    pub(super) fn snapshot(&self) -> &LayerSnapshot {
        &self.snapshot
    }

    /// The totals of the last seconds.
    pub(super) fn recent(&self) -> &RecentTotals {
        &self.recent
    }

    fn fold(&mut self, demands: f64, answers: f64, seconds: f64, memory: Duration) {
        let kept = (-seconds / memory.as_secs_f64()).exp();
        if self.slow.seconds > 1.0 {
            let expected = self.answers_per_second() * seconds;
            self.scatter.0 = self.scatter.0 * kept + (answers - expected).powi(2);
            self.scatter.1 = self.scatter.1 * kept + expected;
        }
        self.slow.add(demands, answers, seconds, kept);
        self.quick.add(demands, answers, seconds, (-seconds / QUICK.as_secs_f64()).exp());
        for bucket in &mut self.buckets {
            *bucket *= kept;
        }
    }

    /// A suspicion was wrong: so many clients waited though the server lives.
    pub(super) fn forgive(&mut self, waiting: u32) {
        self.slow.demands += f64::from(waiting);
        self.quick.demands += f64::from(waiting);
    }

    /// The share of demands that never get an answer, as known so far: spoofed SYNs, clients that give up.
    pub(super) fn unanswered(&self) -> f64 {
        self.slow.unanswered().max(self.quick.unanswered())
    }

    /// Answers a second, over the whole memory.
    pub(super) fn answers_per_second(&self) -> f64 {
        self.slow.per_second(self.slow.answers)
    }

    /// Demands a second, over the whole memory.
    pub(super) fn demands_per_second(&self) -> f64 {
        self.slow.per_second(self.slow.demands)
    }

    /// Answers a second, now or over the whole memory, whichever is more.
    pub(super) fn most_answers_per_second(&self) -> f64 {
        self.answers_per_second().max(self.quick.per_second(self.quick.answers))
    }

    /// How many times more the number of answers scatters than that of independent clients would: variance over mean.
    pub(super) fn burstiness(&self) -> f64 {
        const MOST: f64 = 100.0;
        let (squares, expected) = self.scatter;
        if expected > 0.0 { (squares / expected).clamp(1.0, MOST) } else { 1.0 }
    }

    /// The share of answers that take longer than `age`, of all that come at all. Never below the truth by the width of
    /// a bucket. The samples of `siblings` count where the layer itself has few.
    pub(super) fn survival(&self, age: Duration, siblings: &[&WaitModel]) -> f64 {
        (self.later_than(age) + ASSUMED * self.assumption.survival(age, siblings))
            / (self.samples() + ASSUMED)
    }

    /// The longest wait of the last minutes, as a bound; `None` if there are too few samples, or it is longer than is
    /// measured.
    pub(super) fn longest(&self) -> Option<Duration> {
        /// With fewer samples nobody knows how long clients wait.
        const ENOUGH: f64 = 8.0;
        /// Of one sample so much is left after twice the memory.
        const FORGOTTEN: f64 = 0.13;
        if self.samples() < ENOUGH {
            return None;
        }
        let bucket = self.buckets.iter().rposition(|&count| count >= FORGOTTEN)?;
        Latencies::upper_bound_ns(bucket).map(Duration::from_nanos)
    }

    /// How many demands of the last minutes never got an answer.
    pub(super) fn lost(&self) -> f64 {
        (self.slow.demands - self.slow.answers).max(0.0)
    }

    fn later_than(&self, age: Duration) -> f64 {
        self.later[Latencies::bucket_of(u64::try_from(age.as_nanos()).unwrap_or(u64::MAX))]
    }

    fn samples(&self) -> f64 {
        self.later[0]
    }

    /// Whether there are too few samples for a rate.
    pub(super) fn is_new(&self) -> bool {
        const FEW: f64 = 50.0;
        self.samples() < FEW
    }

    /// The usual wait, once there are a few samples.
    pub(super) fn usual(&self) -> Option<Usual> {
        const ENOUGH: f64 = 3.0;
        let samples = self.samples();
        if samples < ENOUGH {
            return None;
        }
        let below = |share: f64| {
            let mut sum = 0.0;
            let reaches = |count: &f64| {
                sum += count;
                sum >= samples * share
            };
            let bucket = self.buckets.iter().position(reaches)?;
            Latencies::upper_bound_ns(bucket).map(Duration::from_nanos)
        };
        let longest = Latencies::upper_bound_ns(Latencies::BUCKETS - 2).map(Duration::from_nanos);
        Some(Usual { half: below(0.5).or(longest)?, nearly_all: below(0.99) })
    }
}

#[expect(clippy::cast_precision_loss, reason = "counts of a tenth of a second are far below 2^52")]
fn real(count: u64) -> f64 {
    count as f64
}

#[cfg(test)]
mod tests {
    use super::*;
    use bytemuck::Zeroable as _;

    const MEMORY: Duration = Duration::from_mins(2);
    const MS: u64 = 1_000_000;

    /// Learns for `seconds`, ten times each: `demands` and `answers` that took `ns`, each time.
    fn steady(model: &mut WaitModel, totals: &mut Totals, seconds: u64, demands: u64, answers: u32, ns: u64) {
        let start = model.last.map_or(0, |last| last.at_ns);
        for step in 1..=seconds * 10 {
            totals.demands += demands;
            totals.answers.buckets[Latencies::bucket_of(ns)] += answers;
            model.learn(totals, MEMORY, 0, start + step * 100 * MS);
        }
    }

    fn known(demands: u64, answers: u32, ns: u64) -> (WaitModel, Totals) {
        let mut model = WaitModel::new(Assumption::Kernel);
        let mut totals = Totals { demands: 0, answers: Latencies::zeroed() };
        model.learn(&totals, MEMORY, 0, 0);
        steady(&mut model, &mut totals, 60, demands, answers, ns);
        (model, totals)
    }

    #[test]
    fn rates_and_times_are_learned() {
        let (model, _) = known(5, 5, MS);
        assert!((model.answers_per_second() - 50.0).abs() < 0.1, "{}", model.answers_per_second());
        assert!(model.unanswered() < 0.001);
        assert!(model.burstiness() < 1.01);
        assert!(model.survival(Duration::from_micros(900), &[]) > 0.99);
        assert!(model.survival(Duration::from_millis(2), &[]) < 0.01);
        let usual = model.usual().expect("three thousand samples");
        assert!((1_000..2_000).contains(&usual.half.as_micros()), "{usual:?}");
    }

    #[test]
    fn no_answer_is_expected_soon_from_a_server_without_samples() {
        let (kernel, alone) = (WaitModel::new(Assumption::Kernel), WaitModel::new(Assumption::Siblings));
        for (ms, at_most, at_least) in [(200, 1.0, 1.0), (1_000, 0.2, 0.05), (4_000, 0.02, 0.0)] {
            let survival = kernel.survival(Duration::from_millis(ms), &[]);
            assert!((at_least..=at_most).contains(&survival), "{ms} ms: {survival}");
            assert!((alone.survival(Duration::from_millis(ms), &[]) - 1.0).abs() < f64::EPSILON);
        }
        assert_eq!(kernel.usual(), None);
    }

    #[test]
    fn a_server_without_samples_is_expected_to_be_like_its_siblings() {
        let (quick, _) = known(5, 5, MS);
        let late = Duration::from_millis(200);
        let mut newcomer = WaitModel::new(Assumption::Siblings);
        assert!(
            (0.05..0.06).contains(&newcomer.survival(late, &[&quick])),
            "{}",
            newcomer.survival(late, &[&quick])
        );
        let mut totals = Totals { demands: 0, answers: Latencies::zeroed() };
        newcomer.learn(&totals, MEMORY, 0, 60_000 * MS);
        steady(&mut newcomer, &mut totals, 1, 1, 1, 300 * MS);
        assert!(newcomer.survival(late, &[&quick]) > 0.7, "{}", newcomer.survival(late, &[&quick]));
        let (slow, _) = known(5, 5, 300 * MS);
        assert!(WaitModel::new(Assumption::Siblings).survival(late, &[&slow]) > 0.99);
    }

    #[test]
    fn a_silence_is_not_learned_but_a_flood_is_within_seconds() {
        let (mut model, mut totals) = known(5, 5, MS);
        steady(&mut model, &mut totals, 10, 5, 0, MS);
        assert!(model.unanswered() < 0.001, "no answer at all: left open");
        let (mut model, mut totals) = known(5, 5, MS);
        steady(&mut model, &mut totals, 2, 500, 5, MS);
        assert!(model.unanswered() > 0.9, "{}", model.unanswered());
        assert!((model.answers_per_second() - 50.0).abs() < 0.1);
    }

    #[test]
    fn clients_that_still_wait_do_not_count_as_unanswered() {
        let (mut model, mut totals) = known(5, 5, MS);
        // Five are answered, then it hangs, and five more have asked by the next sample.
        model.note_snapshot(&LayerState { attempts: 5, ..LayerState::zeroed() });
        totals.demands += 10;
        totals.answers.buckets[Latencies::bucket_of(MS)] += 5;
        model.learn(&totals, MEMORY, 0, 60_100 * MS);
        assert!(model.unanswered() < 0.001, "{}", model.unanswered());
        // They are, once others who came later have been answered.
        model.note_snapshot(&LayerState::zeroed());
        steady(&mut model, &mut totals, 1, 1, 1, MS);
        assert!(model.unanswered() > 0.01, "{}", model.unanswered());
    }

    /// Clients that asked it while it was down send their SYNs again after a second, and are answered when it is back.
    #[test]
    fn waits_that_began_before_the_server_came_up_are_not_learned() {
        let longest = |waited_ms: u64, after_ms: u64| {
            let (mut model, mut totals) = known(5, 5, MS);
            let up_ns = 70_000 * MS;
            model.skip(&totals, up_ns);
            totals.demands += 8;
            totals.answers.buckets[Latencies::bucket_of(waited_ms * MS)] += 8;
            model.learn(&totals, MEMORY, up_ns, up_ns + after_ms * MS);
            assert!(model.lost() < 1.0, "they were answered");
            model.longest().expect("many samples").as_millis()
        };
        let usual = longest(1, 100);
        for (waited_ms, after_ms, is_learned) in [
            (1_000, 700, false),
            (3_000, 2_500, false),
            (20, 10, false),
            (1_000, 1_100, true),
            (300, 700, true),
        ] {
            let learned = longest(waited_ms, after_ms) > usual;
            assert_eq!(learned, is_learned, "{waited_ms} ms, {after_ms} ms after it came up");
        }
    }

    #[test]
    fn skipped_totals_are_never_learned() {
        let (mut model, mut totals) = known(5, 5, MS);
        totals.demands += 100_000;
        model.skip(&totals, 70_000 * MS);
        steady(&mut model, &mut totals, 1, 5, 5, MS);
        assert!(model.unanswered() < 0.001);
    }

    #[test]
    fn bursts_raise_burstiness() {
        let (mut model, mut totals) = known(5, 5, MS);
        for _ in 0..30 {
            steady(&mut model, &mut totals, 1, 50, 50, MS);
            steady(&mut model, &mut totals, 9, 1, 1, MS);
        }
        assert!(model.burstiness() > 10.0, "{}", model.burstiness());
    }
}
