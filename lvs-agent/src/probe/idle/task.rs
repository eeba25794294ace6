//! The task that owns all idle connections. Each has a small task of its own that waits for its socket; what becomes of
//! it is decided here, by its [`Policy`].

use std::{
    collections::{BTreeSet, HashMap},
    sync::Arc,
    time::{Duration, Instant},
};

use lvs_common::PROBE_MARK;
use tokio::{
    net::TcpStream,
    select,
    sync::mpsc,
    task::{AbortHandle, JoinSet},
};
use tokio_util::sync::CancellationToken;

use super::{
    change::IdleChange,
    connection::{self, Attempt, Notice},
    descriptors,
    mailbox::{IdleHandle, IdleWish, Mail},
    policy::{Action, Condition, Policy, Unasked},
};
use crate::{
    keyed::KeyMap,
    model::DestinationKey,
    probe::timer::{now, sleep_until},
    probe::{random, target::ProbeTarget},
};

/// Notices that may wait; their senders wait if there is no room.
const NOTICES: usize = 256;
/// Reports that may wait for the controller, which takes microseconds for each; the task waits if there is no room.
const REPORTS: usize = 256;
/// How many connections may be under way at once: after a fault of the network all of them are made anew.
const MAX_CONNECTING: usize = 256;
/// When one is tried again that had no place among these.
const CONNECTING_FULL: Duration = Duration::from_millis(20);
/// When one is tried again that had no descriptor, or that the director could not try.
const DIRECTOR_BUSY: Duration = Duration::from_mins(1);

/// What the task reports.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum IdleReport {
    /// Something has become of the connection to a server.
    Server {
        /// The destinations that it is for.
        destinations: Arc<[DestinationKey]>,
        /// What.
        change: IdleChange,
    },
    /// Not all servers have one, for the sake of the probes: the process may open too few files.
    Limited {
        /// How many are wanted.
        wanted: usize,
        /// How many there may be.
        limit: usize,
    },
}

/// A server, with the connection to it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
struct ServerNumber(u32);

/// A server to which an idle connection is kept.
#[derive(Debug)]
struct Server {
    target: ProbeTarget,
    destinations: Arc<[DestinationKey]>,
    policy: Policy,
    connection: Option<Connection>,
    /// Its place in the queue.
    queued: Option<Instant>,
}

#[derive(Debug)]
struct Connection {
    attempt: Attempt,
    task: AbortHandle,
    /// `None` while it is being made.
    stream: Option<Arc<TcpStream>>,
}

/// All idle connections.
#[derive(Debug)]
pub struct IdleConnections {
    handle: IdleHandle,
    reports: mpsc::Sender<IdleReport>,
    servers: KeyMap<ServerNumber, Server>,
    by_target: HashMap<ProbeTarget, ServerNumber>,
    by_destination: KeyMap<DestinationKey, ServerNumber>,
    conditions: KeyMap<DestinationKey, Condition>,
    /// The connections that there are, or that are being made.
    attempts: KeyMap<Attempt, ServerNumber>,
    connecting: usize,
    /// The servers for which something is due, by when it is.
    queue: BTreeSet<(Instant, ServerNumber)>,
    tasks: JoinSet<()>,
    notices: mpsc::Sender<(Attempt, Notice)>,
    noticed: mpsc::Receiver<(Attempt, Notice)>,
    capacity: usize,
    /// The firewall mark of connections whose check names none.
    own_mark: u32,
    /// Whether it was told that there are too few descriptors.
    is_limited: bool,
    next_server: u32,
    next_attempt: u64,
}

impl IdleConnections {
    /// None yet: the handle says which are wanted, and what becomes of them is received. As many as the limit of open
    /// files allows, with enough left for probes.
    #[must_use]
    pub fn new() -> (Self, IdleHandle, mpsc::Receiver<IdleReport>) {
        Self::with_capacity(descriptors::capacity())
    }

    /// None yet, and never more than `capacity`.
    pub(super) fn with_capacity(capacity: usize) -> (Self, IdleHandle, mpsc::Receiver<IdleReport>) {
        let (notices, arriving) = mpsc::channel(NOTICES);
        let (reports, reported) = mpsc::channel(REPORTS);
        let handle = IdleHandle::default();
        let connections = Self {
            handle: handle.clone(),
            reports,
            servers: KeyMap::default(),
            by_target: HashMap::new(),
            by_destination: KeyMap::default(),
            conditions: KeyMap::default(),
            attempts: KeyMap::default(),
            connecting: 0,
            queue: BTreeSet::new(),
            tasks: JoinSet::new(),
            notices,
            noticed: arriving,
            capacity,
            own_mark: PROBE_MARK,
            is_limited: false,
            next_server: 0,
            next_attempt: 0,
        };
        (connections, handle, reported)
    }

    /// The same with this firewall mark where a check names none.
    #[must_use]
    pub fn marked(self, own_mark: u32) -> Self {
        Self { own_mark, ..self }
    }

    /// Keeps the connections until `shutdown`, and closes them quietly then.
    pub async fn run(mut self, shutdown: CancellationToken) {
        loop {
            let next = self.queue.first().map(|(at, _)| *at);
            select! {
                () = shutdown.cancelled() => break,
                mail = self.handle.take() => self.take_in(mail).await,
                Some((attempt, notice)) = self.noticed.recv() => self.notice(attempt, notice).await,
                // Only their memory is of interest.
                Some(_) = self.tasks.join_next() => {}
                () = sleep_until(next) => self.run_due().await,
            }
        }
        self.tasks.shutdown().await;
    }

    /// The controller wants other connections, or knows other things of servers.
    async fn take_in(&mut self, Mail { wishes, conditions }: Mail) {
        if let Some(wishes) = wishes {
            self.replace(wishes).await;
        }
        for (destination, condition) in conditions {
            if let Some(known) = self.conditions.get_mut(&destination) {
                *known = condition;
            }
            if let Some(number) = self.by_destination.get(&destination).copied() {
                self.update_condition(number).await;
            }
        }
    }

    async fn replace(&mut self, wishes: Vec<IdleWish>) {
        let mut wanted: HashMap<ProbeTarget, (Unasked, Vec<DestinationKey>)> = HashMap::new();
        self.conditions = wishes.iter().map(|wish| (wish.destination, wish.condition)).collect();
        for IdleWish { destination, target, unasked, .. } in wishes {
            let (lenience, destinations) = wanted.entry(target).or_insert((unasked, Vec::new()));
            *lenience = unasked.max(*lenience);
            destinations.push(destination);
        }
        let gone: Vec<_> = self.by_target.extract_if(|target, _| !wanted.contains_key(target)).collect();
        for (_, number) in gone {
            self.remove(number).await;
        }
        self.by_destination.clear();
        self.handle.states().retain(|destination, _| self.conditions.contains_key(destination));
        let count = wanted.len();
        for (target, (unasked, destinations)) in wanted {
            let number = self.number_of(target, unasked);
            self.by_destination.extend(destinations.iter().map(|destination| (*destination, number)));
            if let Some(server) = self.servers.get_mut(&number) {
                server.destinations = destinations.into();
                server.policy.set_unasked(unasked, now());
            }
            self.update_condition(number).await;
        }
        if count > self.capacity {
            self.tell_limit(count).await;
        }
    }

    /// The server with this target, a new one if there is none.
    fn number_of(&mut self, target: ProbeTarget, unasked: Unasked) -> ServerNumber {
        if let Some(number) = self.by_target.get(&target) {
            return *number;
        }
        let number = ServerNumber(self.next_server);
        self.next_server = self.next_server.wrapping_add(1);
        let policy = Policy::new(unasked, random::number());
        let marked = ProbeTarget { own_mark: self.own_mark, ..target };
        let server =
            Server { target: marked, destinations: [].into(), policy, connection: None, queued: None };
        self.servers.insert(number, server);
        self.by_target.insert(target, number);
        number
    }

    /// A server is no longer configured.
    async fn remove(&mut self, number: ServerNumber) {
        let actions = self.servers.get_mut(&number).map(|server| server.policy.retire(now()));
        self.carry_out(number, actions.unwrap_or_default()).await;
        if let Some(server) = self.servers.remove(&number)
            && let Some(at) = server.queued
        {
            self.queue.remove(&(at, number));
        }
    }

    /// A server is as well as the best of the destinations that it serves.
    async fn update_condition(&mut self, number: ServerNumber) {
        let Some(server) = self.servers.get_mut(&number) else { return };
        let conditions =
            server.destinations.iter().filter_map(|destination| self.conditions.get(destination));
        let condition = conditions.max().copied().unwrap_or(Condition::Down);
        let actions = server.policy.is_now(condition, now());
        self.carry_out(number, actions).await;
    }

    /// Does what is due.
    async fn run_due(&mut self) {
        let now = now();
        while let Some((at, number)) = self.queue.first().copied()
            && at <= now
        {
            self.queue.pop_first();
            let Some(server) = self.servers.get_mut(&number) else { continue };
            server.queued = None;
            let actions = server.policy.due(now);
            self.carry_out(number, actions).await;
        }
    }

    /// A connection has something to tell.
    async fn notice(&mut self, attempt: Attempt, notice: Notice) {
        // Of one that was closed meanwhile nothing is of interest.
        let Some(number) = self.attempts.get(&attempt).copied() else { return };
        let now = now();
        let was_open = match notice {
            Notice::Ended(_) | Notice::NoDescriptors | Notice::NotTried(_) => self.forget(number).is_some(),
            Notice::Connected(_) | Notice::Heard | Notice::Flooded => true,
        };
        let Some(server) = self.servers.get_mut(&number) else { return };
        let actions = match notice {
            Notice::Connected(stream) => {
                self.connecting -= 1;
                if let Some(connection) = &mut server.connection {
                    connection.stream = Some(stream);
                }
                server.policy.connected(now)
            }
            Notice::Heard => {
                server.policy.heard(now);
                Vec::new()
            }
            Notice::Flooded => server.policy.flooded(now),
            Notice::Ended(end) if was_open => server.policy.ended(end, now),
            Notice::Ended(end) => server.policy.failed(end, now),
            Notice::NoDescriptors => {
                server.policy.postponed(now + DIRECTOR_BUSY);
                self.make_room().await;
                Vec::new()
            }
            Notice::NotTried(error) => {
                let address = server.target.address;
                tracing::debug!(%address, %error, "this director could not open an idle connection");
                server.policy.postponed(now + DIRECTOR_BUSY);
                Vec::new()
            }
        };
        self.carry_out(number, actions).await;
    }

    /// Carries out what a server's policy wants, and puts the server into its place in the queue.
    async fn carry_out(&mut self, number: ServerNumber, actions: Vec<Action>) {
        for action in actions {
            match action {
                Action::Connect => self.connect(number).await,
                Action::Close => drop(self.forget(number)),
                Action::Abort => {
                    if let Some(stream) = self.forget(number) {
                        connection::reset_at_drop(&stream);
                    }
                }
                Action::Report(change) => {
                    if let Some(server) = self.servers.get(&number) {
                        let destinations = server.destinations.clone();
                        self.report(IdleReport::Server { destinations, change }).await;
                    }
                }
            }
        }
        self.settle(number);
    }

    async fn connect(&mut self, number: ServerNumber) {
        let (used, limit) = (self.attempts.len(), self.capacity);
        let is_full = self.connecting >= MAX_CONNECTING;
        let Some(server) = self.servers.get_mut(&number) else { return };
        if used >= limit || is_full {
            let wait = if is_full { CONNECTING_FULL } else { DIRECTOR_BUSY };
            server.policy.postponed(now() + wait);
            if used >= limit {
                self.tell_limit(self.servers.len()).await;
            }
            return;
        }
        let attempt = Attempt(self.next_attempt);
        self.next_attempt += 1;
        // Boxed: a future is moved several times on its way into a task.
        let run = Box::pin(connection::run(attempt, server.target, self.notices.clone()));
        let task = self.tasks.spawn(run);
        server.connection = Some(Connection { attempt, task, stream: None });
        self.attempts.insert(attempt, number);
        self.connecting += 1;
    }

    /// Ends the task of a server's connection. The connection is closed when the stream is dropped, too.
    fn forget(&mut self, number: ServerNumber) -> Option<Arc<TcpStream>> {
        let Connection { attempt, task, stream } = self.servers.get_mut(&number)?.connection.take()?;
        task.abort();
        self.attempts.remove(&attempt);
        self.connecting -= usize::from(stream.is_none());
        stream
    }

    /// There are no descriptors left: half of the connections make room for what matters more.
    async fn make_room(&mut self) {
        self.capacity = self.attempts.len() / 2;
        let open = self.servers.iter().filter(|(_, server)| server.policy.is_open());
        let surplus = self.attempts.len().saturating_sub(self.capacity);
        let closed: Vec<_> = open.map(|(number, _)| *number).take(surplus).collect();
        for number in closed {
            let now = now();
            let shed =
                self.servers.get_mut(&number).map(|server| server.policy.shed(now, now + DIRECTOR_BUSY));
            // Boxed, as this is part of what it calls.
            Box::pin(self.carry_out(number, shed.unwrap_or_default())).await;
        }
        self.tell_limit(self.servers.len()).await;
    }

    /// Tells once that not all servers have a connection.
    async fn tell_limit(&mut self, wanted: usize) {
        if !std::mem::replace(&mut self.is_limited, true) {
            self.report(IdleReport::Limited { wanted, limit: self.capacity }).await;
        }
    }

    /// Nobody listens any more only at the end.
    async fn report(&self, report: IdleReport) {
        self.reports.send(report).await.ok();
    }

    /// Notes how a server's connection is, and when something is due for it.
    fn settle(&mut self, number: ServerNumber) {
        let Some(server) = self.servers.get_mut(&number) else { return };
        let next = server.policy.next();
        if server.queued != next {
            if let Some(before) = server.queued {
                self.queue.remove(&(before, number));
            }
            self.queue.extend(next.map(|at| (at, number)));
            server.queued = next;
        }
        let state = match server.policy.off() {
            Some(why) => format!("off: {why}"),
            None if server.policy.is_open() => "open".to_owned(),
            None => "not open".to_owned(),
        };
        let mut states = self.handle.states();
        for destination in &*server.destinations {
            if states.get(destination) != Some(&state) {
                states.insert(*destination, state.clone());
            }
        }
    }
}

#[cfg(test)]
mod tests;
