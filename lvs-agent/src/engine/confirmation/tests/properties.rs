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
}

fn happens() -> impl Strategy<Value = Happens> {
    let server = || (0..SERVERS).prop_map(ServerId);
    let layer = select(&[Layer::Host, Layer::Application]);
    let strength = select(&[Strength::Weak, Strength::Strong]);
    let came = select(&[Came::Answered, Came::Refused, Came::TimedOut, Came::TimedOutLate, Came::NotSent]);
    let suspected = (server(), layer, strength, any::<bool>());
    prop_oneof![
        4 => suspected.prop_map(|(server, layer, strength, unreachable)| {
            Happens::Suspected { server, layer, strength, unreachable }
        }),
        6 => (any::<usize>(), came).prop_map(|(burst, came)| Happens::ProbeEnds { burst, came }),
        4 => any::<usize>().prop_map(|burst| Happens::BurstEnds { burst }),
        2 => (server(), any::<bool>()).prop_map(|(server, success)| Happens::Checked { server, success }),
        2 => (0_u64..400).prop_map(|ms| Happens::Passes { ms }),
    ]
}

/// What is known of a confirmation in progress without looking into it.
#[derive(Debug, Default)]
struct Open {
    /// It had nothing but weak suspicions, …
    strong: bool,
    /// … and none of its probes has failed, …
    failed: bool,
    /// … or succeeded.
    answered: bool,
}

/// A case, and what must be true of it.
struct Watched {
    case: Case,
    open: BTreeMap<(ServerId, Layer), Open>,
    /// What the budget must have left.
    budget: Budget<ServerId>,
    /// When each server was last suspected.
    suspected: BTreeMap<ServerId, Instant>,
}

/// Which confirmation a burst belongs to.
fn subject(burst: &Burst) -> Option<(ServerId, Layer)> {
    match burst.request.purpose {
        Purpose::Suspicion { server, layer } => Some((server, layer)),
        Purpose::RegularCheck => None,
    }
}

impl Watched {
    fn new(settings: &BurstSettings) -> Self {
        Self {
            case: Case::new(settings),
            open: BTreeMap::new(),
            budget: Budget::new(settings),
            suspected: BTreeMap::new(),
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
        let has_token = is_open || self.budget.take(server, self.case.now).is_ok();
        self.suspected.insert(server, self.case.now);
        let evidence =
            if unreachable { Evidence::Unreachable { messages: 1 } } else { Evidence::NeighbourFailed };
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
            self.open.insert(key, Open::default());
        } else {
            prop_assert_eq!(feedback, [DetectorFeedback::NotProbed(server)]);
        }
        if let Some(open) = self.open.get_mut(&key) {
            open.strong |= strength == Strength::Strong;
        }
        self.only(before, &[key])
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
            let open = self.open.get(&key).expect("it is in progress");
            if !open.strong && !open.failed {
                prop_assert_eq!(&burst.left, &[1], "a weak suspicion is one probe");
            }
        }
        Ok(())
    }

    fn probe_ends(&mut self, burst: usize, came: Came) -> Result<(), TestCaseError> {
        let key = subject(&self.case.bursts[burst]);
        let before = self.case.bursts.len();
        let (answer, done) = self.case.probe_ends(burst, came);
        prop_assert_eq!(self.case.bursts.len(), before, "only its end leads to another");
        prop_assert_eq!(done.feedback, []);
        let Some(key) = key else { return Ok(()) };
        if self.is_correlated(key.0) {
            prop_assert_ne!(answer.verdict, Verdict::Dead, "nothing dead is concluded");
        }
        let open = self.open.get_mut(&key).expect("it is in progress");
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
            let strong = Open { strong: true, ..Open::default() };
            self.open.entry(host).or_insert(strong).strong = true;
        }
        self.only(before, &[host])
    }

    /// Whether more than half of the servers of one of a server's services, two at least, were suspected within the
    /// last 300 ms.
    fn is_correlated(&self, server: ServerId) -> bool {
        let lately = |one: &ServerId| {
            self.suspected.get(one).is_some_and(|at| self.case.now - *at <= Duration::from_millis(300))
        };
        self.case.services.iter().any(|service| {
            let servers: BTreeSet<ServerId> = (0..SERVERS)
                .map(ServerId)
                .filter(|one| self.case.destinations(*one).iter().any(|key| key.service == service.key))
                .collect();
            let suspected = servers.iter().filter(|one| lately(one)).count();
            servers.contains(&server) && suspected >= 2 && 2 * suspected > servers.len()
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
