//! The latest events, kept in memory for whoever asks later. Nobody who reads holds up who publishes.

use std::{
    collections::VecDeque,
    fmt,
    sync::{Arc, Mutex, PoisonError},
    time::{SystemTime, UNIX_EPOCH},
};

use super::{ConfigNotice, Event, HintFate, ProbeKind, Record, Subscriber, SyncChange, timeline::Timelines};
use crate::control::Timeline;

/// How many events are kept: what a busy director says in a day.
const MOST: usize = 10_000;
/// How much memory they may take. An event takes some hundred bytes; only lists of what others have changed are long.
const MOST_BYTES: usize = 16 << 20;
/// What the texts of an event take, where they have no length that others choose.
const TEXTS: usize = 256;

/// An event that is kept.
#[derive(Debug)]
pub(crate) struct Entry {
    /// Its number, from 1, without gaps.
    pub(crate) number: u64,
    pub(crate) record: Record,
    /// Of an edit that takes out a server that has failed.
    pub(crate) timeline: Option<Timeline>,
    bytes: usize,
}

/// Some of the events.
#[derive(Debug, Default)]
pub(crate) struct Excerpt {
    pub(crate) entries: Vec<Arc<Entry>>,
    /// The number of the last one, or what was asked for if there are none.
    pub(crate) last: u64,
    /// Whether there are more after it.
    pub(crate) more: bool,
    /// How many of those that were asked for are forgotten.
    pub(crate) lost: u64,
}

/// The latest events. Clones share them. It subscribes to the events itself.
#[derive(Clone)]
pub(crate) struct History {
    shared: Arc<Mutex<Shared>>,
    instance: u64,
}

#[derive(Default)]
struct Shared {
    entries: VecDeque<Arc<Entry>>,
    published: u64,
    bytes: usize,
    timelines: Timelines,
}

impl fmt::Debug for History {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("History").field("kept", &self.lock().entries.len()).finish_non_exhaustive()
    }
}

impl History {
    /// Nothing has happened yet.
    pub(crate) fn new() -> Self {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        // In milliseconds, so that programs that know doubles only lose nothing.
        let instance = u64::try_from(now.as_millis()).unwrap_or(u64::MAX);
        Self { shared: Arc::default(), instance }
    }

    /// A number that the history of no other agent here has.
    pub(crate) fn instance(&self) -> u64 {
        self.instance
    }

    /// The number of the last event; 0 before the first.
    pub(crate) fn newest(&self) -> u64 {
        self.lock().published
    }

    /// At most `limit` events after the one with the number `after`, none from before `since_ns` of `CLOCK_MONOTONIC`.
    pub(crate) fn after(&self, after: u64, since_ns: u64, limit: usize) -> Excerpt {
        let shared = self.lock();
        let first = after.saturating_add(1);
        let oldest = shared.entries.front().map_or(shared.published + 1, |entry| entry.number);
        let lost = if since_ns == 0 { oldest.saturating_sub(first) } else { 0 };
        let skipped = usize::try_from(first.saturating_sub(oldest)).unwrap_or(usize::MAX);
        let mut later = shared.entries.iter().skip(skipped).filter(|entry| entry.record.at_ns >= since_ns);
        let entries: Vec<_> = later.by_ref().take(limit).cloned().collect();
        let more = later.next().is_some();
        let newest = entries.last().map_or(after.min(shared.published), |entry| entry.number);
        Excerpt { entries, last: newest, more, lost }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Shared> {
        self.shared.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Subscriber for History {
    fn on_event(&mut self, record: &Record) {
        let mut shared = self.lock();
        let timeline = shared.timelines.follow(record);
        if is_routine(&record.event) {
            return;
        }
        shared.published += 1;
        let bytes = size_of::<Entry>() + length(&record.event);
        shared.bytes += bytes;
        let entry = Entry { number: shared.published, record: record.clone(), timeline, bytes };
        shared.entries.push_back(Arc::new(entry));
        while shared.entries.len() > MOST || (shared.bytes > MOST_BYTES && shared.entries.len() > 1) {
            let Some(oldest) = shared.entries.pop_front() else { break };
            shared.bytes -= oldest.bytes;
        }
    }
}

/// Whether nobody would ask for it later: what happens all the time, and would take the place of what matters.
fn is_routine(event: &Event) -> bool {
    match event {
        Event::Services { .. } => true,
        Event::Hint { fate, .. } => *fate != HintFate::Asked,
        Event::Probe { kind, outcome, .. } => match kind {
            ProbeKind::Baseline { is_new_failure } => !is_new_failure,
            ProbeKind::Hint => outcome.is_ok(),
            ProbeKind::Return | ProbeKind::Port => true,
            ProbeKind::Confirm { .. } | ProbeKind::Ping => false,
        },
        _ => false,
    }
}

/// About how many bytes it has elsewhere.
fn length(event: &Event) -> usize {
    let texts = |texts: &[String]| texts.iter().map(|text| size_of::<String>() + text.len()).sum::<usize>();
    TEXTS
        + match event {
            Event::Interference { differences, .. } => texts(differences),
            Event::SyncDaemon { change, .. } => match change {
                SyncChange::Started { device, instead_of, .. } => device.len() + instead_of.len(),
                SyncChange::Changed { differences, .. } => texts(differences),
                SyncChange::Failed { error, .. } => error.len(),
                SyncChange::Found | SyncChange::Stopped => 0,
            },
            Event::Reloaded { summary, .. } => texts(&summary.taken_over) + texts(&summary.warnings),
            Event::ReloadFailed { error, .. } | Event::Failed { error } => error.len(),
            Event::Config(ConfigNotice::Warning { text, .. }) => text.len(),
            Event::Command { command, about, .. } => command.len() + about.len(),
            Event::Mail { to, subject, .. } => to.len() + subject.len(),
            Event::NoSecondChance { service, reason } => service.len() + reason.len(),
            Event::SecondChance { result, .. } => size_of_val(result.given_up.as_slice()),
            Event::Suspicion { subjects, .. }
            | Event::Hint { subjects, .. }
            | Event::Correlated { subjects, .. }
            | Event::Cleared { subjects }
            | Event::ProbeWithheld { subjects, .. }
            | Event::IdleConnection { subjects, .. }
            | Event::Probe { subjects, .. } => size_of_val(subjects.as_slice()),
            _ => 0,
        }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::{Publisher, examples};

    fn numbers(excerpt: &Excerpt) -> Vec<u64> {
        excerpt.entries.iter().map(|entry| entry.number).collect()
    }

    #[test]
    fn the_latest_events_are_kept_in_their_order_and_gaps_are_told() {
        let (publisher, history) = (Publisher::default(), History::new());
        publisher.subscribe(history.clone());
        assert!(history.after(0, 0, 10).entries.is_empty());
        for at_ns in 1..=(MOST as u64 + 5) {
            publisher.publish_at(at_ns, Event::TableReachable);
        }
        let first = history.after(0, 0, 3);
        assert_eq!((numbers(&first), first.lost, first.more, first.last), (vec![6, 7, 8], 5, true, 8));
        let newest = MOST as u64 + 5;
        let rest = history.after(newest - 1, 0, 3);
        assert_eq!((numbers(&rest), rest.lost, rest.more, rest.last), (vec![newest], 0, false, newest));
        let nothing = history.after(newest, 0, 3);
        assert_eq!((numbers(&nothing), nothing.lost, nothing.last), (vec![], 0, newest));
        let ahead = history.after(u64::MAX, 0, 3);
        assert_eq!((numbers(&ahead), ahead.last), (vec![], newest), "a number that was never given");
        let late = history.after(0, newest - 1, 9);
        assert_eq!((numbers(&late), late.lost), (vec![newest - 1, newest], 0));
    }

    #[test]
    fn what_happens_all_the_time_is_left_out() {
        let (publisher, history) = (Publisher::default(), History::new());
        publisher.subscribe(history.clone());
        let (routine, others): (Vec<_>, Vec<_>) = examples().into_iter().partition(is_routine);
        assert!(routine.len() >= 6 && others.len() > 50, "{} {}", routine.len(), others.len());
        publisher.publish_all(examples());
        assert_eq!(history.after(0, 0, MOST).entries.len(), others.len());
    }

    #[test]
    fn long_events_take_no_more_memory_than_they_may() {
        let (publisher, history) = (Publisher::default(), History::new());
        publisher.subscribe(history.clone());
        let differences: Vec<String> = (0..1000).map(|_| "x".repeat(1000)).collect();
        for event in examples() {
            if let Event::Interference { service, repair_in, .. } = event {
                for _ in 0..50 {
                    let differences = differences.clone();
                    publisher.publish(Event::Interference { service, differences, repair_in });
                }
            }
        }
        let kept = history.after(0, 0, MOST);
        assert!((10..20).contains(&kept.entries.len()), "{}", kept.entries.len());
        assert_eq!(kept.lost, 50 - kept.entries.len() as u64);
        assert!(history.lock().bytes <= MOST_BYTES);
    }
}
