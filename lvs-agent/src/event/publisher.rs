//! The one place that events are published to.

use std::{
    fmt,
    sync::{Arc, Mutex, PoisonError},
    time::SystemTime,
};

use super::Event;
use crate::clock::monotonic_ns;

/// An event as it was published.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Record {
    /// Its number, from 1, in the order in which all subscribers get them.
    pub(crate) sequence: u64,
    /// When it happened: `CLOCK_MONOTONIC`, in nanoseconds.
    pub(crate) at_ns: u64,
    /// When it was published, on the wall clock.
    pub(crate) time: SystemTime,
    /// What happened.
    pub(crate) event: Event,
}

/// Who gets all events. It must not wait for anything and must not publish: all that decides stands behind it.
pub(crate) trait Subscriber: Send {
    /// Takes one event.
    fn on_event(&mut self, record: &Record);
}

/// Publishes events to all subscribers, one after another and in the same order for all. Clones publish to the same ones.
#[derive(Clone, Default)]
pub(crate) struct Publisher(Arc<Mutex<Shared>>);

#[derive(Default)]
struct Shared {
    published: u64,
    subscribers: Vec<Box<dyn Subscriber>>,
}

impl Publisher {
    /// From now on `subscriber` gets all events, after those that subscribed before it.
    pub(crate) fn subscribe(&self, subscriber: impl Subscriber + 'static) {
        self.lock().subscribers.push(Box::new(subscriber));
    }

    /// Publishes what happens now.
    pub(crate) fn publish(&self, event: Event) {
        self.publish_at(monotonic_ns(), event);
    }

    /// Publishes what happened at `at_ns` of `CLOCK_MONOTONIC`.
    pub(crate) fn publish_at(&self, at_ns: u64, event: Event) {
        let mut shared = self.lock();
        shared.published += 1;
        let record = Record { sequence: shared.published, at_ns, time: SystemTime::now(), event };
        for subscriber in &mut shared.subscribers {
            subscriber.on_event(&record);
        }
    }

    /// Publishes several, in their order.
    pub(crate) fn publish_all(&self, events: impl IntoIterator<Item = Event>) {
        for event in events {
            self.publish(event);
        }
    }

    /// A subscriber that panicked has lost one event; the others go on.
    fn lock(&self) -> std::sync::MutexGuard<'_, Shared> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for Publisher {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Publisher").field("published", &self.lock().published).finish_non_exhaustive()
    }
}

/// A subscriber that keeps everything, for tests.
#[cfg(test)]
#[derive(Clone, Default)]
pub(crate) struct Recorded(Arc<Mutex<Vec<Record>>>);

#[cfg(test)]
impl Subscriber for Recorded {
    fn on_event(&mut self, record: &Record) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).push(record.clone());
    }
}

#[cfg(test)]
impl Recorded {
    /// What was published since this was last asked.
    pub(crate) fn take(&self) -> Vec<Record> {
        std::mem::take(&mut *self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

#[cfg(test)]
mod tests {
    use std::thread;

    use super::*;

    #[test]
    fn all_subscribers_get_all_events_in_one_order() {
        let publisher = Publisher::default();
        let (one, other) = (Recorded::default(), Recorded::default());
        publisher.subscribe(one.clone());
        publisher.subscribe(other.clone());
        thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| publisher.publish_all((0..250).map(|_| Event::TableReachable)));
            }
        });
        let (one, other) = (one.take(), other.take());
        assert_eq!(one, other);
        let numbers: Vec<u64> = one.iter().map(|record| record.sequence).collect();
        assert_eq!(numbers, (1..=1000).collect::<Vec<_>>());
    }

    #[test]
    fn who_subscribes_later_gets_what_is_published_later() {
        let (publisher, late) = (Publisher::default(), Recorded::default());
        publisher.publish(Event::Stopping);
        publisher.subscribe(late.clone());
        publisher.publish_at(7, Event::Stopped);
        let records = late.take();
        assert_eq!(records.len(), 1);
        assert_eq!((records[0].sequence, records[0].at_ns), (2, 7));
    }
}
