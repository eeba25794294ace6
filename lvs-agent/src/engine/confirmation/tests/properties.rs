//! What holds whatever is suspected, answered and passed, in whatever order.

use proptest::{collection::vec, prelude::*, sample::select};

use super::*;

/// Something that happens.
#[derive(Clone, Copy, Debug)]
enum Happens {
    Suspected {
        server: ServerId,
        layer: Layer,
        strength: Strength,
        unreachable: bool,
    },
    /// The next probe of one of the bursts comes to this.
    ProbeEnds {
        burst: usize,
        came: Came,
    },
    /// One of the bursts whose probes have ended is over.
    BurstEnds {
        burst: usize,
    },
    /// The regular checks of a server come to this.
    Checked {
        server: ServerId,
        success: bool,
    },
    Passes {
        ms: u64,
    },
    /// Something is odd.
    Hinted {
        server: ServerId,
        layer: Layer,
        unreachable: bool,
    },
    /// Servers that are out provisionally are asked, as far as they are due.
    Due,
}

fn happens() -> impl Strategy<Value = Happens> {
    let server = || (0..SERVERS).prop_map(ServerId);
    let layer = || select(&[Layer::Host, Layer::Application]);
    let strength = select(&[Strength::Weak, Strength::Strong]);
    let came = select(&[Came::Answered, Came::Refused, Came::TimedOut, Came::TimedOutLate, Came::NotSent]);
    let suspected = (server(), layer(), strength, any::<bool>());
    prop_oneof![
        4 => suspected.prop_map(|(server, layer, strength, unreachable)| {
            Happens::Suspected { server, layer, strength, unreachable }
        }),
        6 => (any::<usize>(), came).prop_map(|(burst, came)| Happens::ProbeEnds { burst, came }),
        4 => any::<usize>().prop_map(|burst| Happens::BurstEnds { burst }),
        2 => (server(), any::<bool>()).prop_map(|(server, success)| Happens::Checked { server, success }),
        2 => (0_u64..400).prop_map(|ms| Happens::Passes { ms }),
        3 => (server(), layer(), any::<bool>()).prop_map(|(server, layer, unreachable)| {
            Happens::Hinted { server, layer, unreachable }
        }),
        1 => Just(Happens::Due),
    ]
}

/// What is known of a confirmation in progress without looking into it.
#[derive(Debug, Default)]
struct Open {
    /// One of its probes has failed, …
    failed: bool,
    /// … or succeeded.
    answered: bool,
    /// It began with a hint, about this layer, and is no suspicion yet.
    hint: Option<Layer>,
    /// It has taken a token for this evidence.
    charged: Option<EvidenceKind>,
}

/// A case, and what must be true of it.
struct Watched {
    case: Case,
    open: BTreeMap<(ServerId, Layer), Open>,
    /// What the budget must have left.
    budget: Budget<ServerId, (Layer, EvidenceKind)>,
    /// When each server was last suspected, or a hint about it probed, as long as it has not answered.
    doubted: BTreeMap<ServerId, Instant>,
}

/// Which confirmation a burst belongs to.
fn subject(burst: &Burst) -> Option<(ServerId, Layer)> {
    match burst.request.purpose {
        Purpose::Suspicion { server, layer } => Some((server, layer)),
        Purpose::RegularCheck | Purpose::Return | Purpose::WholeCheck => None,
    }
}

impl Watched {
    fn new(settings: &BurstSettings) -> Self {
        Self {
            case: Case::new(settings),
            open: BTreeMap::new(),
            budget: Budget::new(settings),
            doubted: BTreeMap::new(),
        }
    }

    fn happens(&mut self, what: Happens) -> Result<(), TestCaseError> {
        match what {
            Happens::Suspected { server, layer, strength, unreachable } => {
                self.suspected(server, layer, strength, unreachable)
            }
            Happens::ProbeEnds { burst, came } => {
                let running = |one: &&usize| !self.case.bursts[**one].left.is_empty();
                match self.pick(burst, running) {
                    Some(burst) => self.probe_ends(burst, came),
                    None => Ok(()),
                }
            }
            Happens::BurstEnds { burst } => {
                let over = |one: &&usize| self.case.bursts[**one].left.is_empty();
                match self.pick(burst, over) {
                    Some(burst) => self.burst_ends(burst),
                    None => Ok(()),
                }
            }
            Happens::Checked { server, success } => {
                self.case.check(server, success);
                Ok(())
            }
            Happens::Passes { ms } => {
                self.case.now += Duration::from_millis(ms);
                Ok(())
            }
            Happens::Hinted { server, layer, unreachable } => self.hinted(server, layer, unreachable),
            Happens::Due => {
                let before = self.case.bursts.len();
                let (confirmations, at) = self.case.split();
                let steps = confirmations.due(at);
                prop_assert_eq!(self.case.carry_out(steps), Done::default());
                for burst in &self.case.bursts[before..] {
                    prop_assert_eq!(burst.request.purpose, Purpose::Return);
                    for destination in burst.request.destinations.iter() {
                        prop_assert!(self.case.engine.state(destination).is_some_and(State::is_provisional));
                    }
                }
                Ok(())
            }
        }
    }

    /// One of the bursts of which that is true.
    fn pick(&self, number: usize, which: impl Fn(&&usize) -> bool) -> Option<usize> {
        let indices: Vec<usize> = (0..self.case.bursts.len()).collect();
        let those: Vec<usize> = indices.iter().filter(which).copied().collect();
        those.get(number.checked_rem(those.len())?).copied()
    }

    fn suspected(
        &mut self,
        server: ServerId,
        layer: Layer,
        strength: Strength,
        unreachable: bool,
    ) -> Result<(), TestCaseError> {
        let key = (server, layer);
        let is_open = self.open.contains_key(&key);
        let evidence =
            if unreachable { Evidence::Unreachable { messages: 1 } } else { Evidence::NeighbourFailed };
        let kind = evidence.kind();
        let taken = if is_open { Ok(()) } else { self.budget.take(server, (layer, kind), self.case.now) };
        let has_token = taken.is_ok();
        if taken != Err(Exhausted::Refuted) {
            self.doubted.insert(server, self.case.now);
        }
        let before = self.case.bursts.len();
        let Done { feedback, events } = self.case.suspect(server, layer, strength, evidence);
        let is_withheld = |event: &Event| matches!(event, Event::ProbeWithheld { .. });
        prop_assert_eq!(events.iter().any(is_withheld), !has_token);
        let is_started = self.case.bursts.len() > before;
        if !has_token {
            // An exhausted budget gives that feedback and nothing else.
            prop_assert!(!is_started);
            prop_assert_eq!(feedback, [DetectorFeedback::NotProbed(server)]);
        } else if is_open {
            prop_assert_eq!(feedback, [], "it is answered with the one in progress");
        } else if is_started {
            prop_assert_eq!(feedback, []);
            self.open.insert(key, Open { charged: Some(kind), ..Open::default() });
        } else {
            prop_assert_eq!(feedback, [DetectorFeedback::NotProbed(server)]);
        }
        if let Some(open) = self.open.get_mut(&key) {
            open.hint = None;
        }
        self.only(before, &[key])
    }

    /// A hint is told of once, and starts one confirmation at most; that costs no token.
    fn hinted(&mut self, id: ServerId, layer: Layer, unreachable: bool) -> Result<(), TestCaseError> {
        let evidence =
            if unreachable { Evidence::Unreachable { messages: 1 } } else { Evidence::NeighbourFailed };
        let before = self.case.bursts.len();
        let done = self.case.find(&Finding::Hint(Hint { id, layer, source: None, evidence }));
        prop_assert_eq!(done.feedback, []);
        let [Event::Hint { fate, .. }] = &done.events[..] else {
            return Err(TestCaseError::fail(format!("{:?}", done.events)));
        };
        let keys: BTreeSet<_> = self.case.bursts[before..].iter().filter_map(subject).collect();
        prop_assert_eq!(keys.len(), usize::from(*fate == crate::event::HintFate::Asked));
        for key in keys {
            prop_assert!(!self.open.contains_key(&key), "that is in progress");
            prop_assert_eq!(key.0, id);
            self.doubted.insert(id, self.case.now);
            self.open.insert(key, Open { hint: Some(layer), ..Open::default() });
            self.only(before, &[key])?;
        }
        Ok(())
    }

    /// All bursts from that one on are for these confirmations, and ask no more than they should.
    fn only(&self, before: usize, keys: &[(ServerId, Layer)]) -> Result<(), TestCaseError> {
        for burst in &self.case.bursts[before..] {
            let key = subject(burst).expect("it was started for a suspicion");
            prop_assert!(keys.contains(&key), "{burst:?}");
            let request = &burst.request;
            let same = |one: &&Burst| {
                let other = &one.request;
                subject(one) == Some(key)
                    && other.target == request.target
                    && other.question == request.question
            };
            let in_flight = self.case.bursts.iter().filter(same).map(|one| one.left.len()).sum::<usize>();
            let destinations = self.case.destinations(key.0);
            let fall = destinations.iter().map(|one| self.case.engine.failures_to_fall(one)).max();
            prop_assert!(in_flight <= fall.unwrap_or(0) as usize, "{in_flight} of {fall:?} for {key:?}");
            prop_assert!(self.open.contains_key(&key), "it is in progress");
        }
        Ok(())
    }

    fn probe_ends(&mut self, burst: usize, came: Came) -> Result<(), TestCaseError> {
        let key = subject(&self.case.bursts[burst]);
        let asked = self.case.bursts[burst].request.destinations.clone();
        let before = self.case.bursts.len();
        let (answer, done) = self.case.probe_ends(burst, came);
        prop_assert_eq!(done.feedback, []);
        let Some(key) = key else {
            let is_asked = |key: &DestinationKey| asked.contains(key);
            if answer.verdict == Verdict::Alive {
                let of_server = |server: ServerId| self.case.destinations(server);
                self.doubted.retain(|server, _| !of_server(*server).iter().any(is_asked));
            }
            // Who answers again is asked the whole check.
            let further = self.case.bursts[before..].iter();
            prop_assert!(
                further.map(|burst| burst.request.purpose).all(|purpose| purpose == Purpose::WholeCheck)
            );
            return Ok(());
        };
        prop_assert_eq!(self.case.bursts.len(), before, "only its end leads to another");
        if self.is_correlated(key.0) {
            prop_assert_ne!(answer.verdict, Verdict::Dead, "nothing dead is concluded");
        }
        let open = self.open.get_mut(&key).expect("it is in progress");
        let is_suspicion = |event: &Event| matches!(event, Event::Suspicion { .. });
        let becomes_suspicion = answer.verdict == Verdict::Dead && open.hint.take().is_some();
        prop_assert_eq!(done.events.iter().any(is_suspicion), becomes_suspicion);
        open.failed |= answer.verdict == Verdict::Dead;
        open.answered |= answer.verdict == Verdict::Alive;
        Ok(())
    }

    fn burst_ends(&mut self, burst: usize) -> Result<(), TestCaseError> {
        let key = subject(&self.case.bursts[burst]);
        let before = self.case.bursts.len() - 1;
        let done = self.case.burst_ends(burst);
        let Some(key @ (server, layer)) = key else {
            prop_assert_eq!((done, self.case.bursts.len()), (Done::default(), before));
            return Ok(());
        };
        let is_of = |burst: &Burst| subject(burst) == Some(key);
        if self.case.bursts[..before].iter().any(is_of) {
            prop_assert_eq!((done, self.case.bursts.len()), (Done::default(), before), "others go on");
            return Ok(());
        }
        if self.case.bursts[before..].iter().any(is_of) {
            prop_assert_eq!(done.feedback, [], "it goes on itself");
            return self.only(before, &[key]);
        }
        // It is over, which is told exactly once.
        let open = self.open.remove(&key).expect("it was in progress");
        let cleared = DetectorFeedback::Observed(server, Observation::Cleared(layer));
        if open.answered {
            self.doubted.remove(&server);
            if let Some(kind) = open.charged {
                self.budget.refuted(server, (layer, kind), self.case.now);
            }
        }
        if let Some(layer) = open.hint {
            prop_assert!(!open.failed);
            let refuted = DetectorFeedback::Observed(server, Observation::HintRefuted(layer));
            let is_refuted = open.answered || done.events.iter().any(|event| event.name() == "common");
            prop_assert_eq!(done.feedback, Vec::from_iter(is_refuted.then_some(refuted)));
            prop_assert_eq!(self.case.bursts.len(), before, "a hint alone leads to nothing else");
            return Ok(());
        }
        if open.answered {
            prop_assert_eq!(done.feedback, [cleared]);
        } else if let [feedback] = done.feedback[..] {
            prop_assert!(feedback == cleared || feedback == DetectorFeedback::NotProbed(server));
        } else {
            return Err(TestCaseError::fail(format!("{:?}", done.feedback)));
        }
        // That of an application may go on as one of its host.
        let host = (server, Layer::Host);
        if self.case.bursts.len() > before {
            prop_assert_eq!(layer, Layer::Application);
            prop_assert!(open.failed);
            self.open.entry(host).or_default();
        }
        self.only(before, &[host])
    }

    /// Whether more than half of the servers of one of a server's services, two at least, came into doubt within 300 ms
    /// of this one.
    fn is_correlated(&self, server: ServerId) -> bool {
        let Some(own) = self.doubted.get(&server) else { return false };
        let lately = |one: &ServerId| {
            let apart = |at: &Instant| (*at.max(own)).duration_since(*at.min(own));
            self.doubted.get(one).is_some_and(|at| apart(at) <= Duration::from_millis(300))
        };
        self.case.services.iter().any(|service| {
            let servers: BTreeSet<ServerId> = (0..SERVERS)
                .map(ServerId)
                .filter(|one| self.case.destinations(*one).iter().any(|key| key.service == service.key))
                .collect();
            let doubted = servers.iter().filter(|one| lately(one)).count();
            servers.contains(&server) && doubted >= 2 && 2 * doubted > servers.len()
        })
    }

    /// Whatever is in progress comes to its end.
    fn ends(&mut self) -> Result<(), TestCaseError> {
        for _ in 0..1000 {
            let Some(burst) = self.case.bursts.len().checked_sub(1) else { break };
            if self.case.bursts[burst].left.is_empty() {
                self.burst_ends(burst)?;
            } else {
                self.probe_ends(burst, Came::Refused)?;
            }
        }
        prop_assert!(self.case.bursts.is_empty(), "it never ends");
        prop_assert!(self.open.is_empty(), "without feedback: {:?}", self.open);
        prop_assert!(self.case.confirmations.in_progress.is_empty());
        Ok(())
    }
}

proptest! {
    #[test]
    fn every_suspicion_is_probed_within_bounds_and_ends_in_one_feedback(
        server_rate in 1_u32..6,
        total_rate in 1_u32..20,
        all in vec(happens(), 1..150),
    ) {
        let rate = |rate| NonZeroU32::new(rate).expect("it is not 0");
        let (server_rate, total_rate) = (rate(server_rate), rate(total_rate));
        let mut watched = Watched::new(&BurstSettings { server_rate, total_rate, ..BurstSettings::default() });
        for what in all {
            watched.happens(what)?;
            let open: Vec<_> = watched.open.keys().copied().collect();
            prop_assert_eq!(watched.case.confirmations.in_progress.keys().copied().collect::<Vec<_>>(), open);
        }
        watched.ends()?;
    }
}
