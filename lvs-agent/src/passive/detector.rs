//! From signs of life to suspicions. Pure: the time is an argument.
//!
//! What counts is the *first unanswered SYN*: a server that proves its life after every SYN is alive at any rate, and one
//! that lets SYNs of several client networks wait for longer than it ever does is not. Silence without demand means
//! nothing. The usual wait is the server's own, measured by the kernel side from a SYN to the next proof of life, so far
//! clients and slow servers set their own scale.

use std::{collections::BTreeMap, fmt, time::Duration};

use lvs_common::{Latencies, ServerCounters, ServerId, ServerState};

use crate::config::DetectorSettings;

/// Over how many waits the usual wait is averaged: one SYN that was lost and sent again after a second must not blind
/// the detector for long.
const USUAL_WAIT_MEMORY: f64 = 64.0;

/// A tick that comes so much too late was not the timer's fault: the director had no time for it.
const STALL: Duration = Duration::from_millis(20);

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
    waits: Latencies,
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
    /// When the last tick was.
    ticked_ns: Option<u64>,
    /// Since when the director has not stood still.
    awake_ns: u64,
}

impl Detector {
    /// A detector that knows nothing of any server yet.
    #[must_use]
    pub fn new(settings: DetectorSettings) -> Self {
        Self { settings, memories: BTreeMap::new(), ticked_ns: None, awake_ns: 0 }
    }

    /// To be told of every tick before its looks. If the last one was much longer ago than a tick, the director itself
    /// stood still: servers may have answered meanwhile without anybody to see it, so nobody's silence counts from before
    /// now. Returns for how long it stood still.
    pub fn tick(&mut self, tick: Duration, now_ns: u64) -> Option<Duration> {
        let last_ns = self.ticked_ns.replace(now_ns)?;
        let late = Duration::from_nanos(now_ns.saturating_sub(last_ns)).checked_sub(tick)?;
        if late < STALL {
            return None;
        }
        self.awake_ns = now_ns;
        Some(late)
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
            .chain(silence(settings, memory, view, self.awake_ns, now_ns))
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
        let new = counters.handshake.since(&self.waits);
        self.waits = counters.handshake;
        let waits = new.total();
        if waits == 0 {
            return;
        }
        let longest = |bucket| Latencies::upper_bound_ns(bucket).unwrap_or(1 << 33) as f64;
        let sum: f64 =
            new.buckets.iter().enumerate().map(|(bucket, &count)| f64::from(count) * longest(bucket)).sum();
        let mean = sum / waits as f64;
        let kept = (-(waits as f64) / USUAL_WAIT_MEMORY).exp();
        self.usual_ns = Some(self.usual_ns.map_or(mean, |usual| mean + (usual - mean) * kept));
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
    awake_ns: u64,
    now_ns: u64,
) -> Option<(Strength, Evidence)> {
    let state = &view.state;
    let waiting_since_ns = state.listener.waiting_since()?;
    if state.listener.last_ns <= memory.cleared_ns {
        return None;
    }
    let floor = if view.half_seen { settings.silence_half_seen } else { settings.silence_masquerade };
    let usual = memory.usual();
    let threshold = usual.map_or(floor, |usual| floor.max(usual.mul_f64(settings.silence_factor)));
    let since = waiting_since_ns.max(memory.cleared_ns).max(awake_ns);
    let silence = Duration::from_nanos(now_ns.saturating_sub(since));
    if silence < threshold {
        return None;
    }
    let clients = state.listener.networks.count_ones();
    let strength = match (clients >= settings.clients, state.listener.attempts) {
        (true, _) => Strength::Strong,
        (false, 2..) => Strength::Weak,
        // A single SYN may just have been lost.
        (false, _) => return None,
    };
    Some((strength, Evidence::Silent { silence, clients, syns: state.listener.attempts, usual }))
}

fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use bytemuck::Zeroable as _;
    use lvs_common::Layer;
    use proptest::prelude::*;

    const ID: ServerId = ServerId(3);
    const MS: u64 = 1_000_000;

    fn settings() -> DetectorSettings {
        DetectorSettings {
            silence_masquerade: Duration::from_millis(60),
            silence_half_seen: Duration::from_millis(150),
            silence_factor: 8.0,
            clients: 4,
            refusals: 3,
            backoff: Duration::from_millis(250),
            backoff_max: Duration::from_secs(5),
        }
    }

    fn view(state: ServerState) -> View {
        View { id: ID, half_seen: false, counters: ServerCounters::zeroed(), state }
    }

    fn waited(times: u32, ns: u64) -> ServerCounters {
        let mut counters = ServerCounters::zeroed();
        counters.handshake.buckets[Latencies::bucket_of(ns)] = times;
        counters
    }

    /// SYNs from `clients` networks wait since `since`, the newest from `last`.
    fn waiting(clients: u32, syns: u32, since: u64, last: u64) -> ServerState {
        let listener = Layer {
            networks: (1 << clients) - 1,
            attempts: syns,
            last_ns: last,
            waiting: 1,
            since_ns: [since; Layer::REMEMBERED],
            ..Layer::zeroed()
        };
        ServerState { listener, ..ServerState::zeroed() }
    }

    fn refused(refusals: u32, since: u64, last: u64) -> ServerState {
        ServerState { refusals, refused_since_ns: since, refused_last_ns: last, ..ServerState::zeroed() }
    }

    #[test]
    fn one_look_at_a_server() {
        let start = 1_000 * MS;
        let strong = Some(Strength::Strong);
        let weak = Some(Strength::Weak);
        let cases = [
            ("nothing waits", ServerState::zeroed(), 10_000 * MS, None),
            ("below the floor", waiting(8, 20, start, start + 50 * MS), start + 59 * MS, None),
            ("above it, four networks", waiting(4, 4, start, start + 50 * MS), start + 60 * MS, strong),
            ("above it, three networks", waiting(3, 9, start, start + 50 * MS), start + 60 * MS, weak),
            ("above it, a single SYN", waiting(1, 1, start, start), start + 500 * MS, None),
            ("above it, one SYN twice", waiting(1, 2, start, start + 400 * MS), start + 500 * MS, weak),
            ("refused once", refused(1, start, start), start, weak),
            ("refused three times", refused(3, start, start + 9 * MS), start + 9 * MS, strong),
        ];
        for (name, state, now, expected) in cases {
            let suspicion = Detector::new(settings()).look(&view(state), now);
            assert_eq!(suspicion.map(|suspicion| suspicion.strength), expected, "{name}");
        }
    }

    #[test]
    fn half_seen_servers_get_the_longer_floor() {
        let start = 1_000 * MS;
        let half_seen = View { half_seen: true, ..view(waiting(4, 4, start, start + 10 * MS)) };
        let mut detector = Detector::new(settings());
        assert_eq!(detector.look(&half_seen, start + 149 * MS), None);
        assert!(detector.look(&half_seen, start + 150 * MS).is_some());
    }

    #[test]
    fn far_clients_set_their_own_scale() {
        let counters = waited(100, 50 * MS);
        let start = 1_000 * MS;
        let slow = View { counters, ..view(waiting(8, 8, start, start + 10 * MS)) };
        let mut detector = Detector::new(settings());
        assert_eq!(detector.look(&slow, start + 400 * MS), None, "eight times 50 ms are not over");
        let suspicion = detector.look(&slow, start + 410 * MS).expect("now they are");
        assert_eq!(
            suspicion.evidence.to_string(),
            "no progress for 410 ms while 8 client networks sent 8 SYNs; usual wait 50.3 ms"
        );
    }

    #[test]
    fn one_lost_syn_does_not_move_the_scale_by_much() {
        let mut detector = Detector::new(settings());
        let mut counters = waited(500, MS);
        detector.look(&View { counters, ..view(ServerState::zeroed()) }, MS);
        counters = counters.plus(&waited(1, 1_000 * MS));
        detector.look(&View { counters, ..view(ServerState::zeroed()) }, 2 * MS);
        let usual = detector.usual_wait(ID).expect("it has been measured");
        assert!(usual < Duration::from_millis(20), "{usual:?}");
    }

    #[test]
    fn a_suspicion_is_raised_once_and_may_grow() {
        let start = 1_000 * MS;
        let mut detector = Detector::new(settings());
        let strength = |found: Option<Suspicion>| found.map(|suspicion| suspicion.strength);
        let first = detector.look(&view(refused(1, start, start)), start);
        assert_eq!(strength(first), Some(Strength::Weak));
        assert_eq!(detector.look(&view(refused(2, start, start + MS)), start + MS), None);
        let grown = detector.look(&view(refused(3, start, start + 2 * MS)), start + 2 * MS);
        assert_eq!(strength(grown), Some(Strength::Strong));
        assert_eq!(detector.look(&view(refused(9, start, start + 3 * MS)), start + 3 * MS), None);
    }

    #[test]
    fn a_cleared_server_is_left_alone_for_longer_each_time() {
        let mut detector = Detector::new(settings());
        let mut now = 1_000 * MS;
        for pause in [250, 500, 1000, 2000, 4000, 5000, 5000] {
            assert!(
                detector.look(&view(refused(3, now, now)), now).is_some(),
                "before a pause of {pause} ms"
            );
            detector.observe(ID, Observation::Cleared, now);
            let later = now + (pause - 1) * MS;
            assert_eq!(detector.look(&view(refused(3, now, later)), later), None, "within {pause} ms");
            now += pause * MS;
        }
    }

    #[test]
    fn evidence_from_before_a_clearing_does_not_count_again() {
        let mut detector = Detector::new(settings());
        let start = 1_000 * MS;
        let old = refused(3, start, start);
        assert!(detector.look(&view(old), start).is_some());
        detector.observe(ID, Observation::Cleared, start + MS);
        assert_eq!(detector.look(&view(old), start + 60_000 * MS), None);
    }

    #[test]
    fn a_server_that_is_down_is_not_suspected_until_it_is_up_again() {
        let mut detector = Detector::new(settings());
        let start = 1_000 * MS;
        detector.observe(ID, Observation::Down, start);
        assert_eq!(detector.look(&view(refused(9, start, start + MS)), start + MS), None);
        detector.observe(ID, Observation::Up, start + 2 * MS);
        assert_eq!(detector.look(&view(refused(9, start, start + MS)), start + 3 * MS), None, "old evidence");
        assert!(detector.look(&view(refused(9, start, start + 4 * MS)), start + 4 * MS).is_some());
    }

    #[test]
    fn a_director_that_stood_still_starts_to_count_anew() {
        let tick = Duration::from_millis(10);
        let start = 1_000 * MS;
        let silent = view(waiting(8, 8, start, start + 5 * MS));
        let mut detector = Detector::new(settings());
        assert_eq!(detector.tick(tick, start), None, "the first tick is not late");
        assert_eq!(detector.tick(tick, start + 29 * MS), None, "a little late is nothing");
        assert_eq!(detector.tick(tick, start + 129 * MS), Some(Duration::from_millis(90)));
        assert_eq!(detector.look(&silent, start + 129 * MS), None);
        assert_eq!(detector.tick(tick, start + 139 * MS), None);
        assert_eq!(detector.look(&silent, start + 188 * MS), None);
        assert!(
            detector.look(&silent, start + 189 * MS).is_some(),
            "60 ms of silence that somebody listened to"
        );
    }

    proptest! {
        /// Whatever the numbers: no suspicion without a SYN that waits or was refused, none within the floor.
        #[test]
        fn no_demand_no_suspicion(
            since in 0_u64..10_000 * MS,
            last in 0_u64..10_000 * MS,
            after in 0_u64..20_000 * MS,
            bits in any::<u64>(),
            syns in any::<u32>(),
            half_seen in any::<bool>(),
        ) {
            let listener = Layer {
                networks: bits,
                attempts: syns,
                last_ns: last,
                waiting: u32::from(since > 0),
                since_ns: [since; Layer::REMEMBERED],
                ..Layer::zeroed()
            };
            let state = ServerState { listener, ..ServerState::zeroed() };
            let view = View { half_seen, ..view(state) };
            let floor = if half_seen { 150 * MS } else { 60 * MS };
            if Detector::new(settings()).look(&view, after).is_some() {
                prop_assert!(since > 0 && last > 0 && syns >= 1);
                prop_assert!(after >= since + floor);
            }
        }
    }
}
