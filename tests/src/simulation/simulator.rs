//! The queue of events, and the state of all servers.

use std::{cmp::Reverse, collections::BinaryHeap, time::Duration};

use fastrand::Rng;

use super::{Fault, KernelModel, Scenario, clients::Clients, random};

/// One server: what the kernel side knows of it, and how it really is.
#[derive(Clone, Debug, Default)]
pub(super) struct Server {
    pub(super) kernel: KernelModel,
    /// Since when it has which fault.
    pub(super) fault: Option<(Fault, u64)>,
    /// Connections that a hung process has not accepted.
    pub(super) backlog: u32,
}

impl Server {
    /// Whether it has this fault at `now`.
    pub(super) fn has(&self, fault: Fault, now: u64) -> bool {
        self.fault.is_some_and(|(kind, since)| kind == fault && now >= since)
    }

    /// Whether no packet is answered at `now`.
    pub(super) fn is_dead(&self, now: u64) -> bool {
        self.has(Fault::Silent, now) || self.has(Fault::Killed, now)
    }
}

/// A connection that a client begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Connection {
    pub(super) tag: u64,
    /// When the first SYN was sent.
    pub(super) since: u64,
    /// Between the client and the director, in ns.
    pub(super) rtt: u64,
    pub(super) server: u16,
    pub(super) network: u32,
    /// How many SYNs were sent.
    pub(super) tries: u8,
    /// The SYN-ACK was seen.
    pub(super) answered: bool,
}

/// A sampled flow that goes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Exchange {
    pub(super) tag: u64,
    pub(super) rtt: u64,
    pub(super) server: u16,
    pub(super) network: u32,
    /// It stays open after a response.
    pub(super) long: bool,
}

/// What happens next.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Event {
    /// A client begins a connection, and another one will: unless the rate has changed since, which is counted.
    Connect(u32),
    /// A spoofed SYN, and another one will come.
    Flood,
    /// The flood or the loss begins or ends.
    Turn,
    /// A burst begins or ends.
    Burst,
    /// The same SYN again.
    SynAgain(Connection),
    /// The server's answer to the SYN passes the director.
    SynAck(Connection),
    /// The server's RST passes.
    Refusal(Connection),
    /// The client's ACK passes.
    Established(Connection),
    /// A request passes.
    Request(Exchange),
    /// The acknowledgement of a response passes.
    Response(Exchange),
    /// A request passes again; the time to the next one, in ns.
    RequestAgain(Exchange, u64),
    /// A spoofed SYN of a network, sent at this time, is answered by a masqueraded server.
    FloodAnswer(u16, u32, u64),
}

/// Everything that is simulated.
#[derive(Clone, Debug)]
pub(super) struct Simulator {
    pub(super) scenario: Scenario,
    pub(super) rng: Rng,
    pub(super) servers: Vec<Server>,
    pub(super) now: u64,
    events: BinaryHeap<Reverse<(u64, u64, Event)>>,
    sequence: u64,
    pub(super) clients: Clients,
    pub(super) next_server: usize,
    pub(super) in_burst: bool,
    /// How often the rate has changed suddenly.
    pub(super) rates: u32,
    pub(super) disturbed: bool,
    /// Events that are reported to the agent at once.
    pub(super) edges: Vec<u16>,
}

impl Simulator {
    pub(super) fn new(scenario: Scenario, seed: u64) -> Self {
        let servers = vec![Server::default(); scenario.servers];
        let mut simulator = Self {
            rng: Rng::with_seed(seed),
            servers,
            // Not at zero, which stands for "never".
            now: 1_000_000_000,
            events: BinaryHeap::new(),
            sequence: 0,
            clients: Clients::default(),
            next_server: 0,
            in_burst: false,
            rates: 0,
            disturbed: false,
            edges: Vec::new(),
            scenario,
        };
        simulator.begin();
        simulator
    }

    /// Other random numbers from here on.
    pub(super) fn reseed(&mut self, seed: u64) {
        self.rng = Rng::with_seed(seed);
    }

    /// Lets something happen `delay` ns from now.
    pub(super) fn after(&mut self, delay: u64, event: Event) {
        self.sequence += 1;
        self.events.push(Reverse((self.now + delay, self.sequence, event)));
    }

    /// Lets things happen until `until`, or until there is an edge.
    pub(super) fn run(&mut self, until: u64) {
        while let Some(Reverse((at, _, event))) = self.events.peek().copied() {
            if at > until {
                break;
            }
            self.events.pop();
            self.now = at;
            self.happen(event);
            if !self.edges.is_empty() {
                return;
            }
        }
        self.now = until;
    }

    /// Injects the fault at the first server now.
    pub(super) fn inject(&mut self, fault: Fault) {
        let now = self.now;
        self.servers[0].fault = Some((fault, now));
    }

    pub(super) fn happens(&mut self, share: f64) -> bool {
        share > 0.0 && self.rng.f64() < share
    }

    pub(super) fn exponential(&mut self, per_second: f64) -> u64 {
        random::exponential(&mut self.rng, per_second)
    }

    /// About as long as `median`.
    pub(super) fn about(&mut self, median: Duration, sigma: f64) -> u64 {
        random::log_normal(&mut self.rng, median, sigma)
    }
}
