//! What is simulated.

use std::time::Duration;

use lvs_agent::passive::Visibility;

/// Clients, servers and what befalls them.
#[derive(Clone, Debug)]
pub struct Scenario {
    /// Servers of the service.
    pub servers: usize,
    /// How much the director sees.
    pub visibility: Visibility,
    /// New connections a second to the service.
    pub rate: f64,
    /// How they come.
    pub arrivals: Arrivals,
    /// Whether connections go to the servers in turn; else each to any of them.
    pub round_robin: bool,
    /// Client networks.
    pub networks: u32,
    /// Client addresses in each of them, at most 254; connections of one address differ by port.
    pub addresses: u32,
    /// Round trip times between clients and director, each with its share of the clients.
    pub distances: Vec<(f64, Duration)>,
    /// The share of packets that are lost between clients and director, each way.
    pub client_loss: f64,
    /// The share of packets that are lost between director and servers, each way.
    pub server_loss: f64,
    /// What the servers do with a request.
    pub serving: Serving,
    /// Long-lived connections to each server, and requests a second on each of them.
    pub long_flows: (u32, f64),
    /// What else goes on.
    pub disturbance: Disturbance,
    /// How often the director has no time, and for how long.
    pub stalls: Option<(Duration, Duration)>,
}

/// How new connections come.
#[derive(Clone, Copy, Debug)]
pub enum Arrivals {
    /// Independent of each other.
    Poisson,
    /// Evenly, as load generators do it.
    Regular,
    /// Ten times as many for a tenth of the time, in bursts of this mean length; almost nothing in between.
    Bursts(Duration),
    /// From a tenth to nearly twice the rate and back within this time.
    Diurnal(Duration),
}

/// How long a server takes for a response: log-normal.
#[derive(Clone, Copy, Debug)]
pub struct Serving {
    /// Half of the responses take no longer.
    pub median: Duration,
    /// Of the logarithm.
    pub sigma: f64,
    /// The share of requests that are long polls, answered after 25 s.
    pub long_polls: f64,
}

/// What befalls clients, not servers.
#[derive(Clone, Copy, Debug)]
pub enum Disturbance {
    /// Nothing.
    None,
    /// Spoofed SYNs: so many a second for as long, after each pause of as long.
    Flood {
        /// SYNs a second to the service.
        rate: f64,
        /// How long it lasts.
        lasts: Duration,
        /// How long it pauses.
        pause: Duration,
    },
    /// One client network, with this share of all clients, gets no answers.
    BadNetwork(f64),
    /// So much of the clients' packets is lost for as long, after each pause of as long.
    Loss {
        /// The share of lost packets.
        share: f64,
        /// How long it lasts.
        lasts: Duration,
        /// How long it pauses.
        pause: Duration,
    },
}

/// What befalls one server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// Its process is killed: the kernel answers with RST.
    Killed,
    /// No packet reaches it any more, or it has lost power.
    Silent,
    /// It accepts, and never answers.
    Hung,
    /// Each response takes half a second longer.
    Slow,
    /// Its accept queue is full: SYNs are dropped, established flows go on.
    Overloaded,
}

impl Scenario {
    /// Whether the director has no time at `now`, in ns.
    #[must_use]
    pub fn is_stalled(&self, now: u64) -> bool {
        self.stalls.is_some_and(|(every, lasts)| u128::from(now) % every.as_nanos().max(1) < lasts.as_nanos())
    }
}

impl Default for Scenario {
    /// Four healthy masqueraded servers on a LAN, 200 connections a second from clients 1 ms away.
    fn default() -> Self {
        Self {
            servers: 4,
            visibility: Visibility::Both,
            rate: 200.0,
            arrivals: Arrivals::Poisson,
            round_robin: false,
            networks: 250,
            addresses: 250,
            distances: vec![(1.0, Duration::from_millis(1))],
            client_loss: 0.002,
            server_loss: 0.0001,
            serving: Serving { median: Duration::from_millis(5), sigma: 0.5, long_polls: 0.0 },
            long_flows: (0, 0.0),
            disturbance: Disturbance::None,
            stalls: None,
        }
    }
}
