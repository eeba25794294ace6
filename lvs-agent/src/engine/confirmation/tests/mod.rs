mod cases;
mod hints;
mod properties;
mod provisional;

use std::time::Duration;

use super::*;
use crate::{
    config::native,
    health::Sample,
    model::{CheckKind, VirtualService},
    passive::forwardings,
    pool::Presence,
    probe::{Failure, FailureReason, LocalFault, Phase},
};

/// Three services: pages, connections (whose first server is also the first one of the pages), and DNS by ping.
const SERVICES: &str = r#"
[defaults]
forward = "masquerade"
rise = 2

[[service]]
name = "pages"
address = "192.0.2.1:80"
fall = 3
check = { type = "http" }
server = [{ address = "10.0.0.1" }, { address = "10.0.0.2" }, { address = "10.0.0.3" }]

[[service]]
name = "connections"
address = "192.0.2.2:80"
fall = 2
check = { type = "connect" }
server = [{ address = "10.0.0.1" }, { address = "10.0.0.4" }]

[[service]]
name = "names"
address = "192.0.2.3:53"
protocol = "udp"
fall = 3
check = { type = "ping" }
server = [{ address = "10.0.0.5" }, { address = "10.0.0.6" }, { address = "10.0.0.7" }]
"#;

/// 10.0.0.1, which serves pages and connections.
const SHARED: ServerId = ServerId(0);
/// 10.0.0.2 and 10.0.0.3, which serve pages.
const PAGES: [ServerId; 2] = [ServerId(1), ServerId(2)];
/// 10.0.0.4, which serves connections.
const CONNECTIONS: ServerId = ServerId(3);
/// 10.0.0.5, which serves DNS.
const NAMES: ServerId = ServerId(4);
/// All of them.
const SERVERS: u32 = 7;

/// What a probe comes to.
#[derive(Clone, Copy, Debug)]
enum Came {
    Answered,
    Refused,
    TimedOut,
    /// The director noticed the timeout too late.
    TimedOutLate,
    /// It could not be sent.
    NotSent,
}

impl Came {
    fn outcome(self, timeout: Duration) -> Outcome {
        let timed_out = FailureReason::TimedOut { phase: Phase::Connect };
        let (reason, after) = match self {
            Self::Answered => {
                return Ok(Success { latency: Duration::from_millis(1), connect: None, weight: None });
            }
            Self::Refused => (FailureReason::Refused, Duration::from_millis(1)),
            Self::TimedOut => (timed_out, timeout),
            Self::TimedOutLate => (timed_out, 2 * timeout),
            Self::NotSent => {
                let fault = LocalFault::new("connect", &std::io::Error::from_raw_os_error(24));
                (fault.into(), Duration::ZERO)
            }
        };
        Err(Failure { reason, after })
    }
}

/// A burst that was started.
#[derive(Clone, Debug)]
struct Burst {
    request: ProbeRequest,
    /// The numbers of the probes that have not ended.
    left: Vec<u32>,
    /// When they start.
    rhythm: Rhythm,
}

/// What some steps were, but for the bursts that they started.
#[derive(Debug, Default, PartialEq)]
struct Done {
    feedback: Vec<DetectorFeedback>,
    events: Vec<Event>,
}

impl Done {
    fn extend(&mut self, further: Self) {
        self.feedback.extend(further.feedback);
        self.events.extend(further.events);
    }
}

/// Confirmations, the engine, and a time that passes. The bursts only end when they are told to.
struct Case {
    services: Vec<VirtualService>,
    engine: Engine,
    targets: Targets,
    confirmations: Confirmations,
    now: Instant,
    bursts: Vec<Burst>,
}

impl Case {
    /// All servers are up.
    fn new(settings: &BurstSettings) -> Self {
        let services = native::read(SERVICES, "test.toml".as_ref()).expect("it is a configuration").services;
        let now = Instant::now();
        let mut engine = Engine::new(&services, |_| Presence::Absent);
        engine.decide_all(now);
        let targets = Targets::new(services.iter().flat_map(forwardings));
        let confirmations = Confirmations::new(settings);
        let mut case = Self { services, engine, targets, confirmations, now, bursts: Vec::new() };
        for server in 0..SERVERS {
            case.check(ServerId(server), true);
        }
        case
    }

    /// Splits off the confirmations from what they are told.
    fn split(&mut self) -> (&mut Confirmations, Situation<'_>) {
        let at = Situation { engine: &self.engine, targets: &self.targets, now: self.now };
        (&mut self.confirmations, at)
    }

    fn destinations(&self, server: ServerId) -> Vec<DestinationKey> {
        self.targets.get(server).expect("it is one of the servers").destinations.clone()
    }

    fn subjects(&self, server: ServerId) -> Vec<Subject> {
        self.engine.subjects(&self.destinations(server))
    }

    fn is_up(&self, server: ServerId) -> bool {
        self.destinations(server).iter().all(|destination| is_up(&self.engine, destination))
    }

    /// The regular checks of a server come to this; what is asked in their place is started.
    fn check(&mut self, server: ServerId, success: bool) {
        for destination in self.destinations(server) {
            let (confirmations, at) = self.split();
            let in_place = confirmations.check_in_place(&destination, at).filter(|_| success);
            if in_place.is_some() {
                self.carry_out(in_place);
            } else {
                let sample = Sample { check: Some(0), success, source: Source::Baseline };
                self.engine.observe(&destination, sample, None, self.now);
            }
        }
    }

    /// The detector has found something.
    fn find(&mut self, finding: &Finding) -> Done {
        let (confirmations, at) = self.split();
        let steps = confirmations.found(finding, at);
        self.carry_out(steps)
    }

    fn suspect(&mut self, server: ServerId, layer: Layer, strength: Strength, evidence: Evidence) -> Done {
        let suspicion = Suspicion { id: server, strength, layer, evidence };
        let (confirmations, at) = self.split();
        let steps = confirmations.suspected(&suspicion, at);
        self.carry_out(steps)
    }

    /// The next probe of a burst comes to this: its answer is given to the engine.
    fn probe_ends(&mut self, burst: usize, came: Came) -> (Answer, Done) {
        let number = self.bursts[burst].left.remove(0);
        let request = self.bursts[burst].request.clone();
        let allowed = request.patience.probe;
        let probe = BurstProbe { index: number - 1, outcome: came.outcome(allowed), allowed };
        if probe.outcome.is_ok() {
            self.bursts[burst].left.clear();
        }
        let (confirmations, at) = self.split();
        let (answer, steps) = confirmations.probe_ended(&request, number, &probe, at);
        let mut done = self.carry_out(steps);
        for AnsweredCheck { destination, check, source } in &answer.checks {
            let sample = Sample { check: *check, success: answer.verdict == Verdict::Alive, source: *source };
            if answer.verdict != Verdict::Unknown {
                self.engine.observe(destination, sample, None, self.now);
            }
        }
        let (confirmations, at) = self.split();
        let steps = confirmations.taken_in(&request, answer.verdict, at);
        done.extend(self.carry_out(steps));
        (answer, done)
    }

    /// A burst whose probes have all ended is over.
    fn burst_ends(&mut self, burst: usize) -> Done {
        let Burst { request, left, .. } = self.bursts.remove(burst);
        assert_eq!(left, [0; 0], "no burst ends before its probes");
        let (confirmations, at) = self.split();
        let steps = confirmations.burst_ended(&request, None, at);
        self.carry_out(steps)
    }

    /// All probes of the only burst come to this, and it is over.
    fn all_end(&mut self, came: Came) -> Done {
        assert_eq!(self.bursts.len(), 1, "{:?}", self.bursts);
        while !self.bursts[0].left.is_empty() {
            self.probe_ends(0, came);
        }
        self.burst_ends(0)
    }

    fn carry_out(&mut self, steps: impl IntoIterator<Item = Step>) -> Done {
        let mut done = Done::default();
        for step in steps {
            match step {
                Step::Probe { request, number_from, rhythm } => {
                    let left = (number_from..number_from + rhythm.count.get()).collect();
                    self.bursts.push(Burst { request, left, rhythm });
                }
                Step::Feedback(feedback) => done.feedback.push(feedback),
                Step::Publish(event) => done.events.push(event),
            }
        }
        done
    }

    /// What the bursts ask, and the numbers of the probes that they have left.
    fn asked(&self) -> Vec<(CheckKind, Vec<u32>)> {
        let asked = |burst: &Burst| ((*burst.request.question).clone(), burst.left.clone());
        self.bursts.iter().map(asked).collect()
    }
}
