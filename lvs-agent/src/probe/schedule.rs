//! Which baseline check is due when. Pure: the time is an argument.
//!
//! Each check has a grid of times: every interval, at a phase that its id gives, so that the checks of 10,000 servers
//! are spread evenly over the interval and stay so. A little jitter around the grid keeps a check from meeting the
//! same periodic event on the server each time. A check never overlaps itself: one that takes longer than its interval
//! starts again when it ends, and the grid times that it has missed are not made up for.

use std::{
    collections::BTreeSet,
    time::{Duration, Instant},
};

use crate::keyed::KeyMap;

/// The shortest interval: the resolution of the timers.
const MIN_INTERVAL: Duration = Duration::from_millis(1);
/// The jitter is less than this part of the interval.
const JITTER_PART: u64 = 16;

/// The caller's number for a baseline check. It must not be reused for another check: a result may still be queued.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct CheckId(pub u32);

/// When each check is due.
#[derive(Debug)]
pub(super) struct Schedule {
    /// From where on the grids are counted.
    origin: Instant,
    entries: KeyMap<CheckId, Entry>,
    /// The checks that are not running, by when they are due.
    queue: BTreeSet<(Instant, CheckId)>,
}

/// One check.
#[derive(Debug)]
struct Entry {
    interval: Duration,
    /// When it is due. While it runs: when it would be, which may pass.
    due: Instant,
    started: Option<Instant>,
    running: bool,
}

/// A check that is to start now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Due {
    pub(super) id: CheckId,
    /// How long it has been due already.
    pub(super) late: Duration,
}

impl Schedule {
    /// Nothing is due yet.
    pub(super) fn new(origin: Instant) -> Self {
        Self { origin, entries: KeyMap::default(), queue: BTreeSet::new() }
    }

    /// Adds a check, or starts one anew. It is first due within an interval from now.
    pub(super) fn add(&mut self, id: CheckId, interval: Duration, now: Instant) {
        self.remove(id);
        let interval = interval.max(MIN_INTERVAL);
        let due = self.slot(id, interval, now);
        self.entries.insert(id, Entry { interval, due, started: None, running: false });
        self.queue.insert((due, id));
    }

    /// Takes a check out, if it is there.
    pub(super) fn remove(&mut self, id: CheckId) {
        if let Some(entry) = self.entries.remove(&id) {
            self.queue.remove(&(entry.due, id));
        }
    }

    /// Changes a check's interval, if it is there. Where that makes it faster, the next start comes no later than it
    /// would have.
    pub(super) fn set_interval(&mut self, id: CheckId, interval: Duration, now: Instant) {
        let interval = interval.max(MIN_INTERVAL);
        let Some(entry) = self.entries.get(&id) else { return };
        if entry.interval == interval {
            return;
        }
        let from = entry.started.map_or(now, |started| now.max(started + interval / 2));
        let slot = self.slot(id, interval, from);
        let Some(entry) = self.entries.get_mut(&id) else { return };
        let due = if interval < entry.interval { slot.min(entry.due) } else { slot };
        if !entry.running {
            self.queue.remove(&(entry.due, id));
            self.queue.insert((due, id));
        }
        (entry.interval, entry.due) = (interval, due);
    }

    /// Makes a check due now, if it is there. One that is running started before whatever speaks for haste: it runs
    /// again when it ends.
    pub(super) fn bring_forward(&mut self, id: CheckId, now: Instant) {
        let Some(entry) = self.entries.get_mut(&id) else { return };
        if !entry.running {
            self.queue.remove(&(entry.due, id));
            self.queue.insert((entry.due.min(now), id));
        }
        entry.due = entry.due.min(now);
    }

    /// When the next check is due that isn't running.
    pub(super) fn next(&self) -> Option<Instant> {
        self.queue.first().map(|(due, _)| *due)
    }

    /// The check that has been due longest, if one is. From now on it is running.
    pub(super) fn start(&mut self, now: Instant) -> Option<Due> {
        let (due, id) = *self.queue.first().filter(|(due, _)| *due <= now)?;
        self.queue.remove(&(due, id));
        let interval = self.entries.get(&id)?.interval;
        // Half an interval off a start that was late; in the steady state this is always the next grid time.
        let next = self.slot(id, interval, now + interval / 2);
        let entry = self.entries.get_mut(&id)?;
        (entry.due, entry.started, entry.running) = (next, Some(now), true);
        Some(Due { id, late: now - due })
    }

    /// A check has ended. It is due again at its next grid time, or at once if that has passed.
    pub(super) fn finished(&mut self, id: CheckId, now: Instant) {
        if let Some(entry) = self.entries.get_mut(&id).filter(|entry| entry.running) {
            entry.running = false;
            entry.due = entry.due.max(now);
            self.queue.insert((entry.due, id));
        }
    }

    /// The first time on a check's grid that is not before `from`, and its jitter.
    fn slot(&self, id: CheckId, interval: Duration, from: Instant) -> Instant {
        let interval = nanoseconds(interval);
        let hash = spread(id);
        let phase = scale(hash, interval);
        let passed = nanoseconds(from.saturating_duration_since(self.origin));
        let round = passed.saturating_sub(phase).div_ceil(interval);
        let jitter = scale(mix(hash ^ round), interval / JITTER_PART);
        self.origin + Duration::from_nanos(phase + round * interval + jitter)
    }
}

/// Nanoseconds; enough for 584 years.
fn nanoseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

/// A number below `limit` that is to it as `hash` is to 2^64.
fn scale(hash: u64, limit: u64) -> u64 {
    u64::try_from((u128::from(hash) * u128::from(limit)) >> 64).unwrap_or(limit)
}

/// Spreads ids that follow one another evenly over all numbers (Fibonacci hashing: 2^64 over the golden ratio).
fn spread(id: CheckId) -> u64 {
    u64::from(id.0).wrapping_mul(0x9e37_79b9_7f4a_7c15)
}

/// Scrambles a number: the finalizer of `MurmurHash3`.
fn mix(mut number: u64) -> u64 {
    number = (number ^ (number >> 33)).wrapping_mul(0xff51_afd7_ed55_8ccd);
    number = (number ^ (number >> 33)).wrapping_mul(0xc4ce_b9fe_1a85_ec53);
    number ^ (number >> 33)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn ms(milliseconds: u64) -> Duration {
        Duration::from_millis(milliseconds)
    }

    /// Runs `schedule` until `end`, with checks that take as long as `takes` says and any number at a time. The starts.
    fn run(
        schedule: &mut Schedule,
        end: Instant,
        mut takes: impl FnMut(CheckId, Instant) -> Duration,
    ) -> Vec<(CheckId, Instant)> {
        let mut starts = Vec::new();
        let mut ends: BTreeSet<(Instant, CheckId)> = BTreeSet::new();
        loop {
            let next = [schedule.next(), ends.first().map(|(at, _)| *at)];
            let Some(now) = next.into_iter().flatten().min().filter(|now| *now < end) else {
                for (at, id) in ends {
                    schedule.finished(id, at);
                }
                return starts;
            };
            while let Some((at, id)) = ends.pop_first() {
                if at > now {
                    ends.insert((at, id));
                    break;
                }
                schedule.finished(id, now);
            }
            while let Some(due) = schedule.start(now) {
                assert_eq!(due.late, Duration::ZERO, "woken in time, and nothing was in the way");
                starts.push((due.id, now));
                ends.insert((now + takes(due.id, now), due.id));
            }
        }
    }

    #[test]
    fn starts_are_spread_evenly() {
        let origin = Instant::now();
        let mut schedule = Schedule::new(origin);
        for id in 0..10_000 {
            schedule.add(CheckId(id), SECOND, origin);
        }
        let starts = run(&mut schedule, origin + 10 * SECOND, |_, _| ms(3));
        assert!((99_000..=101_000).contains(&starts.len()), "{}", starts.len());
        // A tenth of the interval has its tenth of the checks; on its edges jitter lets chance have a say.
        for tenth in 10..100 {
            let from = origin + tenth * SECOND / 10;
            let count = starts.iter().filter(|(_, at)| (from..from + SECOND / 10).contains(at)).count();
            assert!((950..=1050).contains(&count), "{count} in tenth {tenth}");
        }
        // Few ids are spread as evenly as many.
        let first: Vec<_> = starts.iter().filter(|(id, _)| id.0 < 10).take(10).map(|(_, at)| *at).collect();
        let widest = first.windows(2).map(|pair| pair[1] - pair[0]).max();
        assert!(widest < Some(SECOND / 4), "{widest:?}");
    }

    proptest! {
        #[test]
        fn quick_checks_keep_their_interval(id: u32, interval in 1_u64..=100_000, takes in 0_u64..=90) {
            let (id, interval) = (CheckId(id), ms(interval));
            let origin = Instant::now();
            let mut schedule = Schedule::new(origin);
            schedule.add(id, interval, origin);
            let starts = run(&mut schedule, origin + 20 * interval, |_, _| interval * u32::try_from(takes).unwrap() / 100);
            prop_assert!((18..=20).contains(&starts.len()), "{}", starts.len());
            prop_assert!(starts[0].1 <= origin + interval + interval / 16);
            for pair in starts.windows(2) {
                let gap = pair[1].1 - pair[0].1;
                prop_assert!(gap + interval / 16 >= interval && gap <= interval + interval / 16, "{gap:?}");
            }
        }

        #[test]
        fn slow_checks_start_again_when_they_end(id: u32, takes in proptest::collection::vec(0_u64..=5000, 20)) {
            let id = CheckId(id);
            let origin = Instant::now();
            let mut schedule = Schedule::new(origin);
            schedule.add(id, SECOND, origin);
            let mut left = takes.iter().map(|takes| ms(*takes));
            let starts = run(&mut schedule, origin + Duration::from_secs(200), |_, _| left.next().unwrap_or(ms(1)));
            for (pair, takes) in starts.windows(2).zip(&takes) {
                let (gap, takes) = (pair[1].1 - pair[0].1, ms(*takes));
                prop_assert!(gap >= takes, "overlaps itself");
                prop_assert!(gap + SECOND / 16 >= SECOND / 2);
                prop_assert!(gap <= takes.max(SECOND + SECOND / 2 + SECOND / 16), "{gap:?} after {takes:?}");
            }
        }

        #[test]
        fn a_delayed_check_is_late(delay in 0_u64..=5000) {
            let origin = Instant::now();
            let mut schedule = Schedule::new(origin);
            schedule.add(CheckId(1), SECOND, origin);
            let due = schedule.next().unwrap();
            prop_assert_eq!(due.checked_sub(ms(1)).and_then(|early| schedule.start(early)), None);
            let now = due + ms(delay);
            prop_assert_eq!(schedule.start(now), Some(Due { id: CheckId(1), late: ms(delay) }));
            prop_assert_eq!((schedule.next(), schedule.start(now)), (None, None), "it is running");
            schedule.finished(CheckId(1), now);
            let gap = schedule.next().unwrap() - now;
            prop_assert!(gap >= SECOND / 2 && gap <= SECOND + SECOND / 2 + SECOND / 16, "{gap:?}");
        }

        #[test]
        fn a_shorter_interval_takes_effect_at_once(id: u32, fast in 10_u64..=500, after in 0_u64..=3000) {
            let (id, fast) = (CheckId(id), ms(fast));
            let origin = Instant::now();
            let mut schedule = Schedule::new(origin);
            schedule.add(id, SECOND, origin);
            let now = origin + ms(after);
            run(&mut schedule, now, |_, _| ms(1));
            schedule.set_interval(id, fast, now);
            let starts = run(&mut schedule, now + 40 * fast, |_, _| ms(1));
            prop_assert!(starts[0].1 - now <= fast + fast / 2 + fast / 8, "{:?}", starts[0].1 - now);
            prop_assert!(starts.len() >= 36, "{}", starts.len());
            // And back.
            let now = now + 40 * fast;
            schedule.set_interval(id, SECOND, now);
            let starts = run(&mut schedule, now + 10 * SECOND, |_, _| ms(1));
            prop_assert!((9..=10).contains(&starts.len()), "{}", starts.len());
        }

        #[test]
        fn a_check_that_is_brought_forward_runs_now_and_then_on_its_grid(after in 0_u64..=3000, takes in 0_u64..=900) {
            let id = CheckId(7);
            let origin = Instant::now();
            let mut schedule = Schedule::new(origin);
            schedule.add(id, SECOND, origin);
            let now = origin + ms(after);
            run(&mut schedule, now, |_, _| ms(takes));
            schedule.bring_forward(id, now);
            let starts = run(&mut schedule, now + 10 * SECOND, |_, _| ms(takes));
            prop_assert!(starts[0].1 <= now);
            prop_assert!(starts[1].1 - starts[0].1 >= SECOND / 2 && starts.len() <= 11, "the grid goes on");
            // One that runs already runs again when it ends.
            let due = schedule.next().unwrap();
            schedule.start(due);
            schedule.bring_forward(id, due + ms(1));
            prop_assert_eq!(schedule.next(), None);
            schedule.finished(id, due + ms(2));
            prop_assert_eq!(schedule.next(), Some(due + ms(2)));
        }

        #[test]
        fn each_check_is_always_due_or_running(
            steps in proptest::collection::vec((0_u8..7, 0_u32..4, 1_u64..300), 1..200),
        ) {
            let origin = Instant::now();
            let (mut schedule, mut now) = (Schedule::new(origin), origin);
            let (mut known, mut running) = (BTreeSet::new(), BTreeSet::new());
            for (step, id, time) in steps {
                let id = CheckId(id);
                now += ms(time);
                match step {
                    0 => { schedule.add(id, ms(time), now); known.insert(id); running.remove(&id); }
                    1 => { schedule.remove(id); known.remove(&id); running.remove(&id); }
                    2 => schedule.set_interval(id, ms(time), now),
                    3 => { schedule.finished(id, now); running.remove(&id); }
                    4 => schedule.bring_forward(id, now),
                    _ => if let Some(due) = schedule.start(now) {
                        prop_assert!(known.contains(&due.id), "not there any more");
                        prop_assert!(running.insert(due.id), "overlaps itself");
                    },
                }
                prop_assert_eq!(schedule.queue.len() + running.len(), known.len());
                prop_assert_eq!(schedule.entries.len(), known.len());
                for (due, _) in &schedule.queue {
                    prop_assert!(*due <= now + ms(600), "{:?} ahead", *due - now);
                }
            }
        }
    }
}
