//! What a tick takes: every server's signs of life are read and weighed, a tenth of the counters are read and learned
//! from.
//!
//! The memory that is read is laid out like the kernel side's maps, which the agent reads as memory as well.

use std::{hint::black_box, time::Duration};

use bytemuck::Zeroable as _;
use lvs_agent::{
    model::{DetectorSettings, defaults},
    passive::{Detector, Finding, Layer, Readings, View, Visibility},
};
use lvs_common::{
    Latencies, LayerState, ServerAnswered, ServerCounters, ServerId, ServerState, ServerWaiting,
};
use nix::time::ClockId;

const MS: u64 = 1_000_000;
/// After how many ticks each server's counters are read again.
const LEARN_EVERY: usize = 10;
/// Connections a second to each server.
const RATE: u32 = 10;
/// How long a server's traffic is learned before, in s.
const KNOWN: u64 = 60;

/// The condition of the servers while ticks are measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Condition {
    /// All of them have just answered, and nobody waits.
    Calm,
    /// As many spoofed SYNs wait as are remembered, and have for long: nothing that is new to the servers.
    Flooded,
    /// All of them are silent since a moment ago: what leads to them has failed.
    Silent,
}

/// What the ticks took.
#[derive(Clone, Debug, Default)]
pub struct Ticks {
    /// Each of them in time of the processor, the shortest first.
    pub times: Vec<Duration>,
    /// Suspicions of servers.
    pub suspicions: usize,
    /// Alarms for what most of a service shows.
    pub common: usize,
    /// Hints.
    pub hints: usize,
}

/// Servers as the agent sees them.
struct Maps {
    servers: usize,
    cpus: usize,
    states: Vec<ServerState>,
    /// All servers of the first CPU, then all of the next one.
    counters: Vec<ServerCounters>,
    waiting: Vec<ServerWaiting>,
    answered: Vec<ServerAnswered>,
}

impl Readings for Maps {
    fn counters(&self, id: ServerId) -> ServerCounters {
        self.counters(id)
    }

    fn active_flows(&self, _: ServerId, _: u64) -> u32 {
        0
    }

    fn waiting(&self, id: ServerId) -> ServerWaiting {
        self.waiting[id.0 as usize]
    }

    fn answered(&self, id: ServerId, layer: Layer, network: u8) -> u32 {
        let answered = &self.answered[id.0 as usize];
        match layer {
            Layer::Host => answered.listener[usize::from(network)],
            Layer::Application => answered.application[usize::from(network)],
        }
    }
}

impl Maps {
    fn new(servers: usize, cpus: usize) -> Self {
        let (states, counters) =
            (vec![ServerState::zeroed(); servers], vec![ServerCounters::zeroed(); servers * cpus]);
        let waiting = vec![ServerWaiting::zeroed(); servers];
        let answered = vec![ServerAnswered::zeroed(); servers];
        Self { servers, cpus, states, counters, waiting, answered }
    }

    fn counters(&self, id: ServerId) -> ServerCounters {
        let entries = (0..self.cpus).map(|cpu| &self.counters[cpu * self.servers + id.0 as usize]);
        entries.fold(ServerCounters::zeroed(), |sum, one| sum.plus(one))
    }

    /// Another second of traffic, counted on the first CPU.
    fn second(&mut self, demands: u32) {
        let bucket = Latencies::bucket_of(MS);
        for counters in &mut self.counters[..self.servers] {
            counters.syn += u64::from(demands);
            counters.handshake.buckets[bucket] += RATE;
            counters.requests += u64::from(RATE);
            counters.response.buckets[bucket] += RATE;
        }
    }

    /// What all of their maps hold at `now`, since `begun`.
    fn set(&mut self, condition: Condition, begun: u64, now: u64) {
        let alive = LayerState { progress_ns: now - MS, last_ns: now - 2 * MS, ..LayerState::zeroed() };
        let waiting = |progress_ns: u64, gap_ns: u64| {
            let mut layer = LayerState { progress_ns, last_ns: progress_ns, ..LayerState::zeroed() };
            for since_ns in (progress_ns + gap_ns..now).step_by(usize::try_from(gap_ns).unwrap_or(usize::MAX))
            {
                if let Some(slot) = layer.since_ns.get_mut(layer.waiting as usize) {
                    *slot = since_ns;
                    layer.waiting += 1;
                }
                layer.networks.add(layer.attempts);
                layer.attempts += 1;
                layer.last_ns = since_ns;
            }
            layer
        };
        let listener = match condition {
            Condition::Calm => alive,
            Condition::Flooded => waiting(now - 120 * MS, MS),
            Condition::Silent => waiting(begun, 1_000 * MS / u64::from(RATE)),
        };
        let application =
            if condition == Condition::Silent { LayerState { progress_ns: begun, ..alive } } else { alive };
        self.states.fill(ServerState { listener, application, ..ServerState::zeroed() });
    }
}

/// What this thread has taken, whatever else the machine does; zero where that can't be told.
fn processor_time() -> Duration {
    ClockId::CLOCK_THREAD_CPUTIME_ID.now().map_or(Duration::ZERO, Duration::from)
}

/// Lets the detector evaluate `servers` in services of `each` `count` times.
#[must_use]
pub fn measure(
    settings: &DetectorSettings,
    servers: usize,
    each: usize,
    condition: Condition,
    count: u64,
) -> Ticks {
    let cpus = std::thread::available_parallelism().map_or(1, usize::from);
    let mut maps = Maps::new(servers, cpus);
    let ids: Vec<ServerId> = (0..servers).filter_map(|id| u32::try_from(id).ok()).map(ServerId).collect();
    let mut detector = Detector::new(settings.clone());
    detector.set_services(ids.chunks(each).map(<[_]>::to_vec));
    let demands = if condition == Condition::Flooded { 100 * RATE } else { RATE };
    for second in 0..KNOWN {
        maps.second(demands);
        for &id in &ids {
            detector.learn(id, &maps.counters(id), second * 1_000 * MS);
        }
    }
    let begun = KNOWN * 1_000 * MS;
    let mut ticks = Ticks::default();
    let mut next = 0;
    for number in 0..count {
        let now = begun + (number + 1) * 10 * MS;
        maps.set(condition, begun, now);
        let start = processor_time();
        detector.tick(defaults::TICK, now);
        for _ in 0..servers.div_ceil(LEARN_EVERY) {
            detector.learn(ids[next], &maps.counters(ids[next]), now);
            next = (next + 1) % servers;
        }
        for &id in &ids {
            let view = View {
                id,
                visibility: Visibility::ClientOnly,
                state: black_box(&maps.states)[id.0 as usize],
            };
            match detector.evaluate(&view, &maps, now) {
                Some(Finding::Suspicion(_)) => ticks.suspicions += 1,
                Some(Finding::Correlated { .. }) => ticks.common += 1,
                Some(Finding::Hint(_)) => ticks.hints += 1,
                Some(Finding::Overloaded { .. }) | None => {}
            }
        }
        ticks.times.push(processor_time().saturating_sub(start));
    }
    ticks.times.sort_unstable();
    ticks
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn servers_look_as_they_should() {
        let found = |condition| {
            let ticks = measure(&DetectorSettings::default(), 12, 4, condition, 100);
            (ticks.times.len(), ticks.suspicions, ticks.common)
        };
        assert_eq!(found(Condition::Calm), (100, 0, 0));
        assert_eq!(found(Condition::Flooded), (100, 0, 0));
        // A server that is evaluated before its siblings show as much is suspected; the others raise an alarm.
        let (_, suspicions, common) = found(Condition::Silent);
        assert!(common >= 6 && suspicions + common == 12, "{suspicions}, {common}");
    }
}
