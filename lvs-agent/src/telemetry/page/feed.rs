//! What the pages that are open are told: one look at the agent every two seconds for all of them together, and none
//! while nobody has the page open.

use std::{
    cell::RefCell,
    collections::VecDeque,
    net::IpAddr,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use bytes::Bytes;
use serde::Serialize;
use tokio::{
    sync::{Notify, mpsc},
    time::{Instant, sleep},
};
use tokio_util::sync::CancellationToken;

use super::{
    stream::EventStream,
    view::{All, Changes, EventView, View},
};
use crate::telemetry::source::SourceSlot;

/// Pages at once: some people with some pages each.
const VIEWERS: usize = 32;
/// Pages of one address: a few fewer than it may have connections, so that Prometheus on the same machine has some.
const VIEWERS_OF_ONE: usize = 12;
/// Messages that may wait for a page. One comes about every two seconds: who reads none for so long is gone, or too
/// slow.
const QUEUE: usize = 8;
/// How often events are looked for.
const TURN: Duration = Duration::from_secs(1);
/// How old a status may be: the kernel makes its estimates anew every two seconds.
const FRESH: Duration = Duration::from_millis(1900);
/// How old it may be if something has happened since.
const AT_MOST: Duration = Duration::from_millis(900);
/// For how long rates are remembered without anybody to see them: as long as the page shows them.
const FORGOTTEN: Duration = Duration::from_mins(2);
/// How many events a page shows.
const EVENTS: usize = 100;

/// The pages that are open, and what they know.
pub(crate) struct Feed {
    source: SourceSlot,
    viewers: RefCell<Vec<Viewer>>,
    /// Told when a page is opened.
    opened: Notify,
}

/// An open page.
struct Viewer {
    address: IpAddr,
    messages: mpsc::Sender<Bytes>,
    /// Ends its connection.
    too_slow: CancellationToken,
    knows_nothing: bool,
}

/// What was last seen.
#[derive(Default)]
struct Seen {
    view: Option<(Instant, View)>,
    events: VecDeque<EventView>,
    /// The history that events are numbered in, and the last one's number.
    last: Option<(u64, u64)>,
}

/// What a look has brought.
#[derive(Default)]
struct News {
    /// Whether there is a new view, and the one before.
    is_new: bool,
    before: Option<View>,
    events: Vec<EventView>,
    trouble: Option<String>,
}

impl Feed {
    pub(crate) fn new(source: SourceSlot) -> Self {
        Self { source, viewers: RefCell::default(), opened: Notify::new() }
    }

    /// The messages to a page that was opened at an address; none if there are too many. `too_slow` is cancelled if it
    /// doesn't read them.
    pub(crate) fn open(&self, address: IpAddr, too_slow: CancellationToken) -> Option<EventStream> {
        let mut viewers = self.viewers.borrow_mut();
        viewers.retain(|viewer| !viewer.messages.is_closed());
        let of_address = viewers.iter().filter(|viewer| viewer.address == address).count();
        if viewers.len() >= VIEWERS || of_address >= VIEWERS_OF_ONE {
            return None;
        }
        let (messages, stream) = mpsc::channel(QUEUE);
        viewers.push(Viewer { address, messages, too_slow, knows_nothing: true });
        self.opened.notify_one();
        Some(EventStream::new(stream))
    }

    /// Tells the pages what happens, for ever.
    pub(crate) async fn run(&self) {
        let mut seen = Seen::default();
        loop {
            if self.is_alone() {
                self.opened.notified().await;
            }
            seen.forget_old();
            let news = seen.look(&self.source).await;
            self.tell(&seen, &news);
            tokio::select! {
                () = sleep(TURN) => {}
                () = self.opened.notified() => {}
            }
        }
    }

    fn is_alone(&self) -> bool {
        let mut viewers = self.viewers.borrow_mut();
        viewers.retain(|viewer| !viewer.messages.is_closed());
        viewers.is_empty()
    }

    /// Each message is made once for all that get it.
    fn tell(&self, seen: &Seen, news: &News) {
        let mut viewers = self.viewers.borrow_mut();
        let knows = |viewer: &Viewer| !viewer.knows_nothing;
        let all = viewers.iter().any(|viewer| viewer.knows_nothing).then(|| seen.all()).flatten();
        let moved = news.has_moved(seen);
        let changes = viewers.iter().any(knows).then(|| if moved { seen.all() } else { seen.since(news) });
        let trouble = news.trouble.as_ref().map(|text| message("trouble", &Trouble { text }));
        for viewer in viewers.iter_mut() {
            let own = if viewer.knows_nothing { all.clone() } else { changes.clone().flatten() };
            viewer.knows_nothing &= own.is_none();
            for message in own.into_iter().chain(trouble.clone()) {
                if viewer.messages.try_send(message).is_err() {
                    viewer.too_slow.cancel();
                }
            }
        }
        viewers.retain(|viewer| !viewer.too_slow.is_cancelled());
    }
}

impl Seen {
    fn forget_old(&mut self) {
        if self.view.as_ref().is_some_and(|(at, _)| at.elapsed() > FORGOTTEN) {
            self.view = None;
        }
    }

    async fn look(&mut self, source: &SourceSlot) -> News {
        let Some(source) = source.get() else {
            return News { trouble: Some("the agent is starting".to_owned()), ..News::default() };
        };
        let mut news = News::default();
        match source.events(self.last, EVENTS).await {
            Ok(events) => {
                if self.last.is_some_and(|(instance, _)| instance != events.instance) {
                    self.events.clear();
                }
                self.last = Some((events.instance, events.next));
                news.events = events.lines.into_iter().filter_map(EventView::of).collect();
                self.events.extend(news.events.iter().cloned());
                let surplus = self.events.len().saturating_sub(EVENTS);
                self.events.drain(..surplus);
            }
            Err(trouble) => news.trouble = Some(trouble),
        }
        let limit = if news.events.is_empty() { FRESH } else { AT_MOST };
        if self.view.as_ref().is_none_or(|(at, _)| at.elapsed() >= limit) {
            match source.status(FRESH).await {
                Ok(status) => {
                    let before = self.view.take().map(|(_, view)| view);
                    let view = View::of(&status, now_s(), before.as_ref());
                    self.view = Some((Instant::now(), view));
                    (news.is_new, news.before) = (true, before);
                }
                Err(trouble) => news.trouble = Some(trouble),
            }
        }
        news
    }

    /// For a page that knows nothing yet.
    fn all(&self) -> Option<Bytes> {
        let (_, view) = self.view.as_ref()?;
        let every_ms = u64::try_from(FRESH.as_millis()).unwrap_or(u64::MAX);
        let all = Whole { now: now_s(), every_ms, all: view.all(), events: self.events.iter().collect() };
        Some(message("all", &all))
    }

    /// For pages that know what was before.
    fn since(&self, news: &News) -> Option<Bytes> {
        let changes = match (&self.view, &news.before) {
            (Some((_, view)), Some(before)) => Some(view.since(before)),
            _ => None,
        };
        if changes.is_none() && news.events.is_empty() {
            return None;
        }
        let sample = changes.is_some();
        Some(message("changes", &Part { now: now_s(), sample, changes, events: &news.events }))
    }
}

impl News {
    /// Whether services or servers have come or gone.
    fn has_moved(&self, seen: &Seen) -> bool {
        match (&seen.view, &self.before) {
            (Some((_, view)), Some(before)) => !view.has_places_of(before),
            (Some(_), None) => self.is_new,
            (None, _) => false,
        }
    }
}

#[derive(Serialize)]
struct Whole<'a> {
    now: u64,
    /// How often a message comes.
    every_ms: u64,
    #[serde(flatten)]
    all: All<'a>,
    events: Vec<&'a EventView>,
}

#[derive(Serialize)]
struct Part<'a> {
    now: u64,
    /// Whether rates were looked at: those that aren't in `changes` are as they were.
    sample: bool,
    #[serde(flatten)]
    changes: Option<Changes<'a>>,
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    events: &'a [EventView],
}

#[derive(Serialize)]
struct Trouble<'a> {
    text: &'a str,
}

/// A message of an event stream (<https://html.spec.whatwg.org/multipage/server-sent-events.html>). JSON has no line
/// ends.
fn message(name: &str, data: &impl Serialize) -> Bytes {
    let data = serde_json::to_string(data).unwrap_or_else(|_| "null".to_owned());
    Bytes::from(format!("event: {name}\ndata: {data}\n\n"))
}

fn now_s() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs()
}

#[cfg(test)]
mod tests;
