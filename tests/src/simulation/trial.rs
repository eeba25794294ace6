//! Trials: how soon a fault is found, and how often there is none.

use std::{
    mem::{Discriminant, discriminant},
    time::Duration,
};

use bytemuck::Zeroable as _;
use lvs_agent::{
    model::{DetectorSettings, defaults},
    passive::{Detector, Evidence, Finding, Layer, Observation, Readings, Strength, Suspicion, View},
};
use lvs_common::{ServerCounters, ServerId, ServerWaiting};

use super::{
    Fault, KernelModel, Scenario,
    simulator::{Server, Simulator},
};

/// How long the agent's probe takes to clear a suspicion, in ns.
const CLEARED_AFTER: u64 = 2_000_000;
/// After how many ticks the agent lets the detector learn.
const LEARN_EVERY: u64 = 10;
/// The servers one after the other, so many ticks apart: four of them spread over all.
const APART: u64 = 3;

/// A detector and the simulator that it observes.
#[derive(Clone)]
struct DetectorRun {
    simulator: Simulator,
    detector: Detector,
    tick: Duration,
    ticks: u64,
}

/// What was found, and when, in ns of the simulation.
struct Found {
    server: usize,
    at: u64,
    finding: Finding,
}

impl DetectorRun {
    fn new(scenario: Scenario, settings: DetectorSettings, seed: u64) -> Self {
        let ids: Vec<ServerId> = (0..scenario.servers).map(id).collect();
        let mut detector = Detector::new(settings);
        detector.set_services([ids]);
        Self { simulator: Simulator::new(scenario, seed), detector, tick: defaults::TICK, ticks: 0 }
    }

    /// Lets time pass until `until`; each finding is shown to `found`, which says whether to go on.
    fn advance(&mut self, until: u64, mut found: impl FnMut(&mut Detector, Found) -> bool) -> bool {
        while self.simulator.now < until {
            let tick = u64::try_from(self.tick.as_nanos()).unwrap_or(1);
            let next = self.simulator.now / tick * tick + tick;
            self.simulator.run(next);
            if self.simulator.scenario.is_stalled(self.simulator.now) {
                continue;
            }
            let at_edge = !self.simulator.edges.is_empty();
            let servers: Vec<usize> = if at_edge {
                self.simulator.edges.drain(..).map(usize::from).collect()
            } else {
                self.begin_tick();
                (0..self.simulator.servers.len()).collect()
            };
            for server in servers {
                let Some(finding) = self.look(server) else { continue };
                if !found(&mut self.detector, Found { server, at: self.simulator.now, finding }) {
                    return false;
                }
            }
        }
        true
    }

    fn begin_tick(&mut self) {
        let now = self.simulator.now;
        self.detector.tick(self.tick, now);
        self.ticks += 1;
        for (number, server) in self.simulator.servers.iter().enumerate() {
            if (self.ticks + u64::from(id(number).0) * APART).is_multiple_of(LEARN_EVERY) {
                self.detector.learn(id(number), &server.kernel.counters, now);
            }
        }
    }

    fn look(&mut self, server: usize) -> Option<Finding> {
        let now = self.simulator.now;
        let kernel = &self.simulator.servers[server].kernel;
        let view =
            View { id: id(server), visibility: self.simulator.scenario.visibility, state: kernel.state };
        self.detector.evaluate(&view, &Kernels(&self.simulator.servers), now)
    }
}

/// What the kernel side keeps of all servers.
struct Kernels<'a>(&'a [Server]);

impl Kernels<'_> {
    fn of(&self, id: ServerId) -> Option<&KernelModel> {
        self.0.get(id.0 as usize).map(|server| &server.kernel)
    }
}

impl Readings for Kernels<'_> {
    fn counters(&self, id: ServerId) -> ServerCounters {
        self.of(id).map_or_else(ServerCounters::zeroed, |kernel| kernel.counters)
    }

    fn active_flows(&self, id: ServerId, now_ns: u64) -> u32 {
        self.of(id).map_or(0, |kernel| kernel.active_flows(now_ns))
    }

    fn waiting(&self, id: ServerId) -> ServerWaiting {
        self.of(id).map_or_else(ServerWaiting::zeroed, |kernel| kernel.waiting)
    }

    fn answered(&self, id: ServerId, layer: Layer, network: u8) -> u32 {
        let Some(kernel) = self.of(id) else { return 0 };
        let times = match layer {
            Layer::Host => &kernel.answered.listener,
            Layer::Application => &kernel.answered.application,
        };
        times[usize::from(network)]
    }
}

fn id(server: usize) -> ServerId {
    ServerId(u32::try_from(server).unwrap_or(u32::MAX))
}

/// When a fault was found, counted from its beginning.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Detection {
    /// The first hint or suspicion of the server: when it is asked.
    pub asked: Option<Duration>,
    /// The first suspicion of the server, of either strength.
    pub first: Option<Duration>,
    /// The first strong one.
    pub strong: Option<Duration>,
    /// The first one of its host, not its application.
    pub host: Option<Duration>,
    /// The first report that it is overloaded.
    pub overloaded: Option<Duration>,
    /// What was said first.
    pub layer: Option<Layer>,
    /// Suspicions of its siblings.
    pub wrong: u32,
}

/// Lets the first server of a service fail `trials` times, each after the same time of learning; gives up after
/// `patience`.
///
/// No suspicion is confirmed nor cleared: the first one and the first strong one are wanted.
#[must_use]
pub fn detect(
    scenario: &Scenario,
    settings: &DetectorSettings,
    fault: Fault,
    trials: u32,
    patience: Duration,
    seed: u64,
) -> Vec<Detection> {
    let mut experienced = DetectorRun::new(scenario.clone(), settings.clone(), seed);
    let warm = experienced.simulator.now + nanos(settings.memory);
    experienced.advance(warm, clear);
    (0..trials)
        .map(|trial| {
            let mut run = experienced.clone();
            run.simulator.reseed(seed ^ (u64::from(trial) + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15));
            // Not in step with the ticks.
            let later = run.simulator.now + run.simulator.rng.u64(1..1_000_000_000);
            run.advance(later / 10_000_000 * 10_000_000, clear);
            run.simulator.run(later);
            one_fault(run, fault, patience)
        })
        .collect()
}

fn one_fault(mut run: DetectorRun, fault: Fault, patience: Duration) -> Detection {
    let injected = run.simulator.now;
    run.simulator.inject(fault);
    let mut detection = Detection::default();
    run.advance(injected + nanos(patience), |detector, found| {
        let after = Duration::from_nanos(found.at - injected);
        match found.finding {
            Finding::Overloaded { .. } if found.server == 0 => {
                detection.overloaded.get_or_insert(after);
            }
            Finding::Hint(_) if found.server == 0 => {
                detection.asked.get_or_insert(after);
            }
            Finding::Suspicion(ref suspicion) if found.server == 0 => {
                detection.asked.get_or_insert(after);
                detection.first.get_or_insert(after);
                detection.layer.get_or_insert(suspicion.layer);
                if suspicion.layer == Layer::Host {
                    detection.host.get_or_insert(after);
                }
                if suspicion.strength == Strength::Strong {
                    detection.strong.get_or_insert(after);
                }
            }
            Finding::Hint(_) => return clear(detector, found),
            Finding::Overloaded { .. } | Finding::Correlated { .. } => {}
            Finding::Suspicion(_) => {
                detection.wrong += 1;
                return clear(detector, found);
            }
        }
        let found = detection.strong.is_some() && (detection.host.is_some() || fault != Fault::Silent);
        !found && detection.overloaded.is_none()
    });
    detection
}

/// Suspicions of healthy servers.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Alarms {
    /// How long each of the servers was watched, together.
    pub watched: Duration,
    /// Weak suspicions of the host, strong ones, and of the application.
    pub weak: u32,
    /// See `weak`.
    pub strong: u32,
    /// See `weak`.
    pub application: u32,
    /// Reports of overload.
    pub overloaded: u32,
    /// Hints.
    pub hints: u32,
    /// Alarms for what most of the service showed.
    pub common: u32,
    /// Each kind of reason with how often it was given and, in words, when it was first.
    pub reasons: Vec<(Discriminant<Evidence>, u32, String)>,
}

impl Alarms {
    /// All suspicions.
    #[must_use]
    pub fn all(&self) -> u32 {
        self.weak + self.strong + self.application
    }

    /// How many hints one of `servers` servers has got an hour.
    #[must_use]
    pub fn hints_an_hour_and_server(&self, servers: usize) -> f64 {
        #[expect(clippy::cast_precision_loss, reason = "a handful")]
        let servers = servers as f64;
        f64::from(self.hints) / servers * 3600.0 / self.watched.as_secs_f64()
    }

    fn note(&mut self, evidence: &Evidence) {
        let kind = discriminant(evidence);
        match self.reasons.iter_mut().find(|(known, ..)| *known == kind) {
            Some((_, times, _)) => *times += 1,
            None => self.reasons.push((kind, 1, evidence.to_string())),
        }
    }
}

/// Watches healthy servers for `time` after they have become known. Each suspicion is cleared by a probe.
#[must_use]
pub fn false_alarms(scenario: &Scenario, settings: &DetectorSettings, time: Duration, seed: u64) -> Alarms {
    let mut run = DetectorRun::new(scenario.clone(), settings.clone(), seed);
    let warm = run.simulator.now + nanos(settings.memory.min(time));
    run.advance(warm, clear);
    let mut alarms = Alarms { watched: time, ..Alarms::default() };
    let until = run.simulator.now + nanos(time);
    run.advance(until, |detector, found| {
        let evidence = match &found.finding {
            Finding::Overloaded { evidence, .. } => {
                alarms.overloaded += 1;
                evidence
            }
            Finding::Correlated { evidence, .. } => {
                alarms.common += 1;
                evidence
            }
            Finding::Hint(hint) => {
                alarms.hints += 1;
                &hint.evidence
            }
            Finding::Suspicion(Suspicion { strength, layer, evidence, .. }) => {
                match (layer, strength) {
                    (Layer::Application, _) => alarms.application += 1,
                    (Layer::Host, Strength::Weak) => alarms.weak += 1,
                    (Layer::Host, Strength::Strong) => alarms.strong += 1,
                }
                evidence
            }
        };
        alarms.note(evidence);
        clear(detector, found)
    });
    alarms
}

/// The probe succeeds.
#[expect(clippy::needless_pass_by_value, reason = "it is one of the ways to take a finding")]
fn clear(detector: &mut Detector, found: Found) -> bool {
    let at = found.at + CLEARED_AFTER;
    match &found.finding {
        Finding::Suspicion(one) => detector.observe(one.id, Observation::Cleared(one.layer), at),
        Finding::Hint(hint) => detector.observe(hint.id, Observation::HintRefuted(hint.layer), at),
        Finding::Overloaded { .. } | Finding::Correlated { .. } => {}
    }
    true
}

fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}
