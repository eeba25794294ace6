//! From signs of life to suspicions. Pure: the time is an argument.
//!
//! What counts is the *first unanswered SYN*: a server that proves its life after every SYN is alive at any rate, and one
//! that lets SYNs of several client networks wait for longer than it ever does is not. Silence without demand means
//! nothing. The usual wait is the server's own, measured by the kernel side from a SYN to the next proof of life, so far
//! clients and slow servers set their own scale.

use std::{collections::BTreeMap, fmt, time::Duration};

use lvs_common::{ServerCounters, ServerId, ServerState};

use crate::config::DetectorSettings;

/// Weight of the newest mean in the usual wait. With the default tick and some traffic in each, the memory is about a
/// second.
const USUAL_WAIT_SHARE: f64 = 0.01;

/// What is known of one server at one time.
#[derive(Clone, Copy, Debug)]
pub struct View {
    /// Which one.
    pub id: ServerId,
    /// Whether the director sees only what clients send.
    pub half_seen: bool,
    /// Its counters, summed over CPUs.
    pub counters: ServerCounters,
    /// Its signs of life.
    pub state: ServerState,
}

/// How much a suspicion is worth.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Strength {
    /// Enough for one probe.
    Weak,
    /// Enough for the confirming burst.
    Strong,
}

impl fmt::Display for Strength {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Weak => "weak",
            Self::Strong => "strong",
        })
    }
}

/// What speaks against a server.
#[derive(Clone, Debug, PartialEq)]
pub enum Evidence {
    /// It answers SYNs with RST.
    Refused {
        /// How many, with no SYN accepted between.
        refusals: u32,
        /// From the first of them to the newest.
        within: Duration,
    },
    /// It answers nothing.
    Silent {
        /// Since the first SYN that waits.
        silence: Duration,
        /// How many client networks wait.
        clients: u32,
        /// How many SYNs they sent.
        syns: u32,
        /// What this server's clients usually wait, if that is known.
        usual: Option<Duration>,
    },
}

impl fmt::Display for Evidence {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Refused { refusals, within } => {
                write!(f, "{refusals} refused in {} ms with none accepted", within.as_millis())
            }
            Self::Silent { silence, clients, syns, usual } => {
                let networks = if *clients == 1 { "network" } else { "networks" };
                write!(
                    f,
                    "no progress for {} ms while {clients} client {networks} sent {syns} SYNs; usual wait ",
                    silence.as_millis()
                )?;
                match usual {
                    Some(usual) => write!(f, "{:.1} ms", usual.as_secs_f64() * 1000.0),
                    None => f.write_str("not known yet"),
                }
            }
        }
    }
}

/// The wish for a probe.
#[derive(Clone, Debug, PartialEq)]
pub struct Suspicion {
    /// Of which server.
    pub id: ServerId,
    /// One probe or the whole burst.
    pub strength: Strength,
    /// Why.
    pub evidence: Evidence,
}

/// What the detector is told about the course of things.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Observation {
    /// A probe for a suspicion succeeded: the signal was wrong, and is not believed for a while.
    Cleared,
    /// The server is down: there is nothing left to suspect.
    Down,
    /// The server is up again.
    Up,
}

/// One server's past.
#[derive(Clone, Debug, Default)]
struct Memory {
    waits: u64,
    wait_sum_ns: u64,
    usual_ns: Option<f64>,
    /// The strength of the suspicion that is being probed.
    pending: Option<Strength>,
    down: bool,
    /// Evidence from before does not count.
    cleared_ns: u64,
    /// No suspicion before.
    quiet_until_ns: u64,
    backoff: Duration,
}

/// Watches all servers for missing signs of life.
#[derive(Clone, Debug)]
pub struct Detector {
    settings: DetectorSettings,
    memories: BTreeMap<ServerId, Memory>,
}

impl Detector {
    /// A detector that knows nothing of any server yet.
    #[must_use]
    pub fn new(settings: DetectorSettings) -> Self {
        Self { settings, memories: BTreeMap::new() }
    }

    /// Looks at one server at `now_ns` (`CLOCK_MONOTONIC`, as the kernel side's times). A suspicion is returned once; a
    /// weak one may be followed by a strong one while it is being probed.
    pub fn look(&mut self, view: &View, now_ns: u64) -> Option<Suspicion> {
        let settings = &self.settings;
        let memory = self.memories.entry(view.id).or_default();
        memory.learn(&view.counters);
        if memory.down || now_ns < memory.quiet_until_ns {
            return None;
        }
        let (strength, evidence) = refusal(settings, memory, &view.state)
            .into_iter()
            .chain(silence(settings, memory, view, now_ns))
            .max_by_key(|(strength, _)| *strength)?;
        if memory.pending >= Some(strength) {
            return None;
        }
        memory.pending = Some(strength);
        Some(Suspicion { id: view.id, strength, evidence })
    }

    /// Takes note of what became of a server.
    pub fn observe(&mut self, id: ServerId, observation: Observation, now_ns: u64) {
        let settings = &self.settings;
        let memory = self.memories.entry(id).or_default();
        memory.pending = None;
        match observation {
            Observation::Down => memory.down = true,
            Observation::Up => {
                memory.down = false;
                memory.cleared_ns = now_ns;
                memory.backoff = Duration::ZERO;
            }
            Observation::Cleared => {
                // A pause that has been over for as long as it lasted is forgotten.
                let pause = nanos(memory.backoff);
                let forgotten =
                    now_ns > memory.quiet_until_ns.saturating_add(pause.max(nanos(settings.backoff_max)));
                let next = if forgotten { Duration::ZERO } else { memory.backoff * 2 };
                memory.backoff = next.clamp(settings.backoff, settings.backoff_max);
                memory.cleared_ns = now_ns;
                memory.quiet_until_ns = now_ns.saturating_add(nanos(memory.backoff));
            }
        }
    }

    /// A suspicion could not be probed (no budget left): it may be raised again.
    pub fn not_probed(&mut self, id: ServerId) {
        self.memories.entry(id).or_default().pending = None;
    }

    /// The server's usual wait from a SYN to the next proof of life, once it is known.
    #[must_use]
    pub fn usual_wait(&self, id: ServerId) -> Option<Duration> {
        self.memories.get(&id)?.usual()
    }
}

impl Memory {
    /// Takes in the waits that ended since the last look.
    #[expect(clippy::cast_precision_loss, reason = "waits are far below 2^52 ns, 52 days")]
    fn learn(&mut self, counters: &ServerCounters) {
        let waits = counters.waits.wrapping_sub(self.waits);
        let sum = counters.wait_sum_ns.wrapping_sub(self.wait_sum_ns);
        self.waits = counters.waits;
        self.wait_sum_ns = counters.wait_sum_ns;
        if waits == 0 {
            return;
        }
        let mean = sum as f64 / waits as f64;
        self.usual_ns = Some(match self.usual_ns {
            // Up at once, down slowly: what just took long may take long again.
            Some(usual) if mean < usual => usual + (mean - usual) * USUAL_WAIT_SHARE,
            _ => mean,
        });
    }

    fn usual(&self) -> Option<Duration> {
        self.usual_ns.map(|ns| Duration::from_secs_f64(ns / 1e9))
    }
}

fn refusal(
    settings: &DetectorSettings,
    memory: &Memory,
    state: &ServerState,
) -> Option<(Strength, Evidence)> {
    if state.refusals == 0 || state.refused_last_ns <= memory.cleared_ns {
        return None;
    }
    let strength = if state.refusals >= settings.refusals { Strength::Strong } else { Strength::Weak };
    let within = Duration::from_nanos(state.refused_last_ns.saturating_sub(state.refused_since_ns));
    Some((strength, Evidence::Refused { refusals: state.refusals, within }))
}

fn silence(
    settings: &DetectorSettings,
    memory: &Memory,
    view: &View,
    now_ns: u64,
) -> Option<(Strength, Evidence)> {
    let state = &view.state;
    if state.waiting_since_ns == 0 || state.last_syn_ns <= memory.cleared_ns {
        return None;
    }
    let floor = if view.half_seen { settings.silence_half_seen } else { settings.silence_masquerade };
    let usual = memory.usual();
    let threshold = usual.map_or(floor, |usual| floor.max(usual.mul_f64(settings.silence_factor)));
    let since = state.waiting_since_ns.max(memory.cleared_ns);
    let silence = Duration::from_nanos(now_ns.saturating_sub(since));
    if silence < threshold {
        return None;
    }
    let clients = state.waiting_clients.count_ones();
    let strength = match (clients >= settings.clients, state.waiting_syns) {
        (true, _) => Strength::Strong,
        (false, 2..) => Strength::Weak,
        // A single SYN may just have been lost.
        (false, _) => return None,
    };
    Some((strength, Evidence::Silent { silence, clients, syns: state.waiting_syns, usual }))
}

fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}
