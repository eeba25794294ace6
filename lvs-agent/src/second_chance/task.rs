//! The task: takes news in, looks at the kept SYNs when something is due, sends, and tells what became of them.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use lvs_common::{KeptSyn, ServerId, chance};
use tokio::{
    sync::{mpsc, watch as latest},
    task::spawn_blocking,
    time::{MissedTickBehavior, interval, sleep},
};
use tokio_util::sync::CancellationToken;
use tracing::{debug, warn};

use super::{
    book::{Action, Book, KeptTable},
    failover::{Cause, Outcome},
    origins::Origins,
    sender::{self, Sender},
    servers::News,
    ways::{self, Settings, To},
};
use crate::{
    clock::monotonic_ns,
    event::{ChanceCause, ChanceResult, Event, GivenUp, Publisher, Record, Subject, Subscriber},
    ipvs::Sysctl,
    messages::{RefusedChances, WatchedServices},
    model::VirtualService,
    passive::{KeptBrief, KeptSyns, Targets},
    supervision::Restartable,
    telemetry::metrics,
};

/// How often life is shown: four times within the second for which it counts.
const LIFE: Duration = Duration::from_millis(250);
/// How many RSTs may be held back between two signs of life: no more than could be sent again anyway.
const HELD_MOST: u64 = 500;
/// News that may wait: a director of 10,000 servers that die at once has less in a tenth of a second.
const NEWS: usize = 4096;

/// What the task is made of.
pub(crate) struct Parts {
    pub(crate) kept: KeptSyns,
    pub(crate) targets: latest::Receiver<Arc<Targets>>,
    pub(crate) services: latest::Receiver<WatchedServices>,
    pub(crate) events: Publisher,
    /// For the status: which services have none.
    pub(crate) refused: latest::Sender<RefusedChances>,
}

/// Second chance while the agent runs.
pub(crate) struct SecondChanceTask {
    worker: Arc<Mutex<Worker>>,
    news: mpsc::Receiver<News>,
    targets: latest::Receiver<Arc<Targets>>,
    services: latest::Receiver<WatchedServices>,
    events: Publisher,
    refused: Vec<(String, ways::Refusal)>,
    told: latest::Sender<RefusedChances>,
}

/// What blocks: maps, and packets.
struct Worker {
    kept: KeptSyns,
    book: Book,
    sender: Sender,
    origins: Origins,
    /// The ids that have a way, to be switched off when they no longer have one.
    ways: Vec<ServerId>,
    held: u64,
}

/// Hands the events that matter to the task.
struct Feed(mpsc::Sender<News>);

impl Subscriber for Feed {
    fn on_event(&mut self, record: &Record) {
        if let Some(news) = News::of(&record.event)
            && self.0.try_send(news).is_err()
        {
            warn!("second chance is behind: what became of a server is lost to it");
        }
    }
}

impl KeptTable for KeptSyns {
    fn each(&self, since_ns: u64, f: &mut dyn FnMut(usize, &KeptBrief)) {
        self.briefs_since(since_ns).for_each(|(place, brief)| f(place, &brief));
    }

    fn get(&self, place: usize) -> Option<KeptSyn> {
        Self::get(self, place)
    }

    fn is_announced(&self, place: usize) -> bool {
        Self::is_announced(self, place)
    }
}

impl SecondChanceTask {
    /// Follows the events from now on; nothing is kept before it runs.
    pub(crate) fn new(parts: Parts) -> Self {
        let Parts { kept, targets, services, events, refused } = parts;
        let (feed, news) = mpsc::channel(NEWS);
        events.subscribe(Feed(feed));
        let worker = Worker {
            kept,
            book: Book::default(),
            sender: Sender::new(),
            origins: Origins::default(),
            ways: Vec::new(),
            held: 0,
        };
        let worker = Arc::new(Mutex::new(worker));
        Self { worker, news, targets, services, events, refused: Vec::new(), told: refused }
    }

    fn worker(&self) -> MutexGuard<'_, Worker> {
        // What a panic left behind is whole: each place is written at once.
        self.worker.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Finds out anew which servers have it.
    fn set_ways(&mut self) {
        let targets = self.targets.borrow_and_update().clone();
        let services = self.services.borrow_and_update().clone();
        let settings = settings();
        let (ways, refused) = ways::ways(&targets, &services, settings);
        self.worker().set_ways(ways, settings.conntrack);
        for (service, reason) in refused.iter().filter(|one| !self.refused.contains(one)) {
            self.events
                .publish(Event::NoSecondChance { service: service.clone(), reason: reason.to_string() });
        }
        let words = refused.iter().map(|(service, reason)| (service.clone(), reason.to_string())).collect();
        self.told.send_replace(Some(Arc::new(words)));
        self.refused = refused;
    }

    async fn look(&self) {
        let worker = self.worker.clone();
        let looked = spawn_blocking(move || lock(&worker).look()).await;
        let Ok((actions, outcomes)) = looked else { return };
        if !actions.is_empty() {
            let unknown = self.worker().sender.unknown(actions.iter().map(device));
            if !unknown.is_empty() {
                let found = sender::addresses(unknown).await;
                self.worker().sender.learn(found);
            }
            let worker = self.worker.clone();
            // It fails only where the runtime ends.
            spawn_blocking(move || lock(&worker).act(actions)).await.ok();
        }
        for outcome in outcomes {
            self.tell(outcome);
        }
    }

    fn tell(&self, outcome: Outcome) {
        let Outcome { destination, cause, retried, mut waits, given_up } = outcome;
        waits.sort_unstable();
        metrics::count_second_chance(
            waits.len(),
            given_up.iter().map(|(reason, count)| (reason.name(), *count)),
        );
        let services = self.services.borrow();
        let Some(service) = services.iter().find(|service| service.key == destination.service) else {
            return;
        };
        if retried == 0 && given_up.is_empty() {
            return;
        }
        let result = ChanceResult {
            cause: match cause {
                Cause::Out => ChanceCause::Out,
                Cause::Cleared => ChanceCause::Cleared,
            },
            retried,
            completed: waits.len(),
            median: waits.get(waits.len() / 2).copied(),
            longest: waits.last().copied(),
            given_up: given_up.into_iter().collect(),
        };
        let subject = Subject { service: service.name.as_str().into(), destination };
        self.events.publish(Event::SecondChance { subject, result });
    }

    /// From now on the programs let everything pass, and keep nothing.
    fn end(&self) {
        let mut worker = self.worker();
        worker.kept.show_life(0, 0);
        worker.set_ways(BTreeMap::new(), false);
    }
}

impl Restartable for SecondChanceTask {
    async fn run(&mut self, shutdown: &CancellationToken) {
        self.set_ways();
        let mut life = interval(LIFE);
        life.set_missed_tick_behavior(MissedTickBehavior::Skip);
        loop {
            let due = self.worker().book.next_look();
            let pause = due.map(|at| Duration::from_nanos(at.saturating_sub(monotonic_ns())));
            tokio::select! {
                biased;
                () = shutdown.cancelled() => break,
                Some(news) = self.news.recv() => self.worker().book.take(&news, monotonic_ns()),
                () = sleep(pause.unwrap_or_default()), if pause.is_some() => self.look().await,
                Ok(()) = self.targets.changed() => self.set_ways(),
                Ok(()) = self.services.changed() => self.set_ways(),
                _ = life.tick() => self.worker().show_life(),
            }
        }
        self.end();
    }
}

impl Worker {
    fn set_ways(&mut self, ways: BTreeMap<ServerId, ways::Way>, conntrack: bool) {
        let before = std::mem::take(&mut self.ways);
        for id in before.into_iter().filter(|id| !ways.contains_key(id)) {
            self.kept.set_chance(id, chance::OFF);
        }
        for (id, way) in &ways {
            self.kept.set_chance(*id, way.chance);
        }
        self.ways = ways.keys().copied().collect();
        self.book.set_ways(ways, conntrack);
    }

    fn show_life(&mut self) {
        let now_ns = monotonic_ns();
        let most = if self.book.may_hold_back() { HELD_MOST } else { 0 };
        let held = self.kept.show_life(now_ns, most);
        if held != self.held {
            metrics::count_held_back(held.saturating_sub(self.held));
            self.held = held;
            self.book.held(now_ns);
        }
    }

    fn look(&mut self) -> (Vec<Action>, Vec<Outcome>) {
        if self.kept.held() != self.held {
            self.show_life();
        }
        self.sender.forget_devices();
        let might_hold_back = self.book.may_hold_back();
        let looked = self.book.look(&self.kept, monotonic_ns());
        if might_hold_back != self.book.may_hold_back() {
            self.show_life();
        }
        looked
    }

    fn act(&mut self, actions: Vec<Action>) {
        self.origins.find(&actions);
        for action in actions {
            match action {
                Action::Retry { place, kept, to, destination } => {
                    if let Err(reason) = self.retry(place, &kept, to) {
                        self.book.not_sent(&destination, place, reason);
                    }
                }
                Action::Refuse { kept } => match self.sender.refusal(&kept) {
                    Ok(()) => metrics::count_refused_late(),
                    Err(error) => debug!("a client can't be refused: {error}"),
                },
            }
        }
    }

    fn retry(&mut self, place: usize, kept: &KeptSyn, to: To) -> Result<(), GivenUp> {
        let to = match to {
            To::Kept => None,
            To::Address(address) => Some(address),
            To::ConnectionTable => Some(self.origins.of(kept).ok_or(GivenUp::NoEntry)?),
        };
        // The server may have answered since, or the client given up.
        if !self.is_still(place, kept) {
            return Ok(());
        }
        self.kept.announce(place, monotonic_ns());
        self.sender.syn(kept, to).map_err(|error| {
            debug!("a SYN can't be sent again: {error}");
            GivenUp::NotSent
        })?;
        metrics::count_retried();
        Ok(())
    }

    fn is_still(&self, place: usize, kept: &KeptSyn) -> bool {
        self.kept.get(place).is_some_and(|now| KeptSyn { held_ns: kept.held_ns, ..now } == *kept)
    }
}

fn lock(worker: &Mutex<Worker>) -> MutexGuard<'_, Worker> {
    worker.lock().unwrap_or_else(PoisonError::into_inner)
}

/// By which device a packet is to come in.
fn device(action: &Action) -> u32 {
    match action {
        Action::Retry { kept, .. } => kept.device,
        Action::Refuse { kept } => kept.reply_device,
    }
}

/// Says that no service has a second chance, as there is no passive detection.
pub(crate) fn refuse_all(services: &[VirtualService], events: &Publisher) {
    for service in services.iter().filter(|service| service.second_chance.is_on()) {
        let reason = ways::Refusal::NoSignal.to_string();
        events.publish(Event::NoSecondChance { service: service.name.clone(), reason });
    }
}

/// The kernel's settings as they are.
fn settings() -> Settings {
    let is_on = |sysctl: Sysctl| sysctl.read().map(|value| value != 0);
    Settings {
        expire_nodest: is_on(Sysctl::ExpireNodestConn).unwrap_or(true),
        expire_quiescent: is_on(Sysctl::ExpireQuiescentTemplate).unwrap_or(true),
        conntrack: is_on(Sysctl::Conntrack).unwrap_or(false),
    }
}
