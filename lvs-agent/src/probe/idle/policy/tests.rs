//! Servers of every kind, in invented time.

use proptest::prelude::*;

use super::*;

const SECOND: Duration = Duration::from_secs(1);

fn ms(milliseconds: u64) -> Duration {
    Duration::from_millis(milliseconds)
}

/// What a server does with a connection.
#[derive(Clone, Copy, Debug)]
enum Behaviour {
    /// It accepts, and ends it at this age.
    Ends(IdleEnd, Duration),
    /// It accepts, and never ends it.
    Keeps,
    Refuses,
    Ignores,
}

use Behaviour::{Ends, Ignores, Keeps, Refuses};

/// A policy, and the server that it meets.
struct World {
    policy: Policy,
    now: Instant,
    /// When the server ends the connection that is open, and how.
    end: Option<(Instant, IdleEnd)>,
    connects: Vec<Instant>,
    /// What was reported, and when.
    reports: Vec<(Instant, IdleChange)>,
}

impl World {
    fn new(unasked: Unasked) -> Self {
        let policy = Policy::new(unasked, 7);
        Self { policy, now: Instant::now(), end: None, connects: Vec::new(), reports: Vec::new() }
    }

    fn up(unasked: Unasked) -> Self {
        let mut world = Self::new(unasked);
        world.condition(Condition::Up);
        world
    }

    fn condition(&mut self, condition: Condition) {
        let actions = self.policy.is_now(condition, self.now);
        self.carry_out(actions, &mut || Keeps);
    }

    fn carry_out(&mut self, actions: Vec<Action>, behaviour: &mut dyn FnMut() -> Behaviour) {
        for action in actions {
            match action {
                Action::Connect => {
                    assert_ne!(self.policy.condition, Condition::Down, "nobody connects to a dead server");
                    self.connects.push(self.now);
                    let answers = match behaviour() {
                        Ends(end, after) => {
                            self.end = Some((self.now + after, end));
                            self.policy.connected(self.now)
                        }
                        Keeps => self.policy.connected(self.now),
                        Refuses => self.policy.failed(IdleEnd::Refused, self.now),
                        Ignores => self.policy.failed(IdleEnd::Unanswered, self.now),
                    };
                    self.carry_out(answers, behaviour);
                }
                Action::Close | Action::Abort => self.end = None,
                Action::Report(change) => self.reports.push((self.now, change)),
            }
        }
    }

    /// Time passes while the server behaves so.
    fn pass(&mut self, time: Duration, mut behaviour: impl FnMut() -> Behaviour) {
        let until = self.now + time;
        loop {
            let end = self.end.map(|(at, _)| at);
            let Some(next) = self.policy.next().into_iter().chain(end).min().filter(|at| *at <= until) else {
                self.now = until;
                return;
            };
            self.now = next;
            let actions = match self.end.take_if(|(at, _)| *at <= next) {
                Some((_, end)) => self.policy.ended(end, next),
                None => self.policy.due(next),
            };
            self.carry_out(actions, &mut behaviour);
        }
    }

    fn count(&self, wanted: impl Fn(&IdleChange) -> bool) -> usize {
        self.reports.iter().filter(|(_, change)| wanted(change)).count()
    }

    fn signs(&self) -> Vec<IdleSign> {
        let signs = self.reports.iter().filter_map(|(_, change)| match change {
            IdleChange::Ended { sign, .. } => Some(*sign).filter(|sign| *sign != IdleSign::Nothing),
            _ => None,
        });
        signs.collect()
    }

    fn offs(&self) -> Vec<IdleOff> {
        let offs = self.reports.iter().filter_map(|(_, change)| match change {
            IdleChange::Off(why) => Some(*why),
            _ => None,
        });
        offs.collect()
    }
}

#[test]
fn the_end_of_a_server_is_a_hint_and_its_refusal_a_suspicion_within_milliseconds() {
    for end in [IdleEnd::Finished, IdleEnd::Reset] {
        for age in [ms(300), 20 * SECOND, 100 * SECOND] {
            let mut world = World::up(Unasked::GiveUp);
            let mut first = true;
            let died = |first: &mut bool| if std::mem::take(first) { Ends(end, age) } else { Refuses };
            world.pass(age + SECOND / 2 + ms(10), || died(&mut first));
            let (at, _) = world.reports[1];
            assert_eq!(world.signs()[..2], [IdleSign::Hint, IdleSign::Suspicion], "{age:?}");
            assert!(world.reports[2].0 - at <= ms(6), "{:?}", world.reports);
            // Its checks agree.
            world.condition(Condition::Down);
            let connects = world.connects.len();
            world.pass(1000 * SECOND, || Refuses);
            assert_eq!(world.connects.len(), connects, "not while it is down");
            world.condition(Condition::Up);
            world.pass(SECOND, || Keeps);
            assert!(world.policy.is_open(), "what it did when it died is no fault of idle connections");
            assert_eq!(world.offs(), []);
            // Nor was that its idle timeout.
            assert_eq!(world.policy.usual_near(age), None);
        }
    }
}

#[test]
fn a_probe_that_a_dying_listener_still_accepts_is_followed_by_one_that_it_refuses() {
    let mut world = World::up(Unasked::GiveUp);
    let mut answers =
        [Ends(IdleEnd::Finished, 100 * SECOND), Ends(IdleEnd::Reset, ms(3)), Refuses].into_iter();
    world.pass(100 * SECOND + SECOND, || answers.next().unwrap_or(Refuses));
    assert_eq!(world.signs()[..3], [IdleSign::Hint, IdleSign::Hint, IdleSign::Suspicion]);
    let (first, third) = (world.reports[1].0, world.reports[4].0);
    assert!(third - first <= ms(40), "{:?}", third - first);
    world.condition(Condition::Down);
    assert_eq!(world.policy.usual_near(100 * SECOND), None, "that is no idle timeout");
}

#[test]
fn a_servers_own_idle_timeout_is_a_hint_once() {
    for timeout in [ms(12_000), ms(60_000), ms(75_000), ms(120_000)] {
        for end in [IdleEnd::Finished, IdleEnd::Reset] {
            let mut world = World::up(Unasked::GiveUp);
            let mut jitter = [0, 80, 200, 40].into_iter().cycle();
            world.pass(3600 * SECOND, || Ends(end, timeout + ms(jitter.next().unwrap_or(0))));
            assert_eq!(world.signs(), [IdleSign::Hint], "{timeout:?}");
            assert_eq!(world.offs(), []);
            let open = world.count(|change| *change == IdleChange::Opened);
            let cycles = usize::try_from(3600 * SECOND.as_millis() / timeout.as_millis()).unwrap();
            assert!((cycles - cycles / 50 - 2..=cycles).contains(&open), "{open} connections, {timeout:?}");
        }
    }
}

#[test]
fn an_end_that_comes_sooner_or_later_than_usual_is_a_hint() {
    let mut world = World::up(Unasked::GiveUp);
    world.pass(200 * SECOND, || Ends(IdleEnd::Finished, 60 * SECOND));
    assert_eq!(world.signs().len(), 1);
    for age in [20 * SECOND, 100 * SECOND] {
        // The last hint was long ago.
        world.pass(660 * SECOND, || Ends(IdleEnd::Finished, 60 * SECOND));
        let before = world.signs().len();
        world.pass(170 * SECOND, || Ends(IdleEnd::Finished, age));
        assert_eq!(world.signs().len(), before + 1, "{age:?}");
    }
}

#[test]
fn a_server_that_cuts_refuses_or_ignores_is_given_up_and_told_once() {
    let at_once = Ends(IdleEnd::Finished, ms(1));
    let cases = [
        (at_once, IdleOff::Cut { after: ms(1) }, 3),
        (Ends(IdleEnd::Reset, ms(1)), IdleOff::Cut { after: ms(1) }, 3),
        (Ends(IdleEnd::Finished, 2 * SECOND), IdleOff::Cut { after: 2 * SECOND }, 1),
        (Refuses, IdleOff::Refused, 3),
        (Ignores, IdleOff::Unanswered, 0),
    ];
    for (behaviour, why, signs) in cases {
        let mut world = World::up(Unasked::GiveUp);
        world.pass(30 * SECOND, || behaviour);
        assert_eq!(world.offs(), [why], "{behaviour:?}");
        assert_eq!(world.connects.len(), 4, "{behaviour:?}");
        assert_eq!(world.signs().len(), signs, "{behaviour:?}");
        // It is tried from time to time, and nothing is told.
        world.pass(24 * 3600 * SECOND, || behaviour);
        assert!((18..=24).contains(&(world.connects.len() - 4)), "{}", world.connects.len());
        assert_eq!((world.offs().len(), world.signs().len()), (1, signs), "{behaviour:?}");
        assert_eq!(world.policy.off().is_some(), world.count(|change| *change == IdleChange::On) == 0);
        // Until it is another server.
        world.pass(2 * 3600 * SECOND, || Keeps);
        assert_eq!(world.count(|change| *change == IdleChange::On), 1);
        assert!(world.policy.is_open() && world.policy.off().is_none());
    }
}

#[test]
fn a_server_that_greets_is_left_alone_unless_the_operator_wants_it() {
    let mut world = World::up(Unasked::GiveUp);
    world.pass(SECOND, || Keeps);
    world.policy.heard(world.now);
    world.pass(3600 * SECOND, || Keeps);
    assert_eq!((world.offs(), world.connects.len()), (vec![IdleOff::Greets], 1));
    world.condition(Condition::Down);
    world.condition(Condition::Up);
    world.pass(3600 * SECOND, || Keeps);
    assert_eq!(world.connects.len(), 1, "nor after it was down");
    world.policy.set_unasked(Unasked::Discard, world.now);
    world.pass(SECOND, || Keeps);
    world.policy.heard(world.now);
    world.pass(60 * SECOND, || Keeps);
    assert!(world.policy.is_open());
    let actions = world.policy.flooded(world.now);
    world.carry_out(actions, &mut || Keeps);
    assert_eq!(world.offs(), [IdleOff::Greets, IdleOff::Talks]);
}

#[test]
fn parting_words_are_no_greeting() {
    let mut world = World::up(Unasked::GiveUp);
    world.pass(50 * SECOND, || Ends(IdleEnd::Finished, 60 * SECOND));
    let Some((end, _)) = world.end else { panic!("it is open") };
    world.pass(end.duration_since(world.now + ms(5)), || Keeps);
    world.policy.heard(world.now);
    world.pass(60 * SECOND, || Keeps);
    assert_eq!((world.offs(), world.signs().len(), world.connects.len()), (vec![], 1, 2));
}

#[test]
fn a_server_of_one_client_at_a_time_is_freed_at_its_first_failure() {
    // With `fall` above 1, and with 1.
    for failing in [Condition::Suspect, Condition::Silent] {
        let mut world = World::up(Unasked::GiveUp);
        for round in 1..=2 {
            world.pass(10 * SECOND, || Keeps);
            assert_eq!(world.connects.len(), round);
            world.condition(failing);
            assert!(!world.policy.is_open(), "the connection is out of the server's way");
            world.pass(SECOND, || Keeps);
            world.condition(Condition::Up);
        }
        assert_eq!(world.offs(), [IdleOff::Harmed]);
        world.pass(600 * SECOND, || Keeps);
        assert_eq!(world.connects.len(), 2);
    }
}

#[test]
fn a_server_that_dies_soon_after_its_first_connection_is_no_victim_of_it() {
    let ways = [
        // Closing it did not help.
        &[Condition::Suspect, Condition::Down][..],
        &[Condition::Suspect, Condition::Silent],
        &[Condition::Silent],
        &[Condition::Down],
    ];
    for way in ways {
        let mut world = World::up(Unasked::GiveUp);
        for _ in 0..4 {
            world.pass(5 * SECOND, || Keeps);
            assert!(world.policy.is_open(), "{way:?}");
            for condition in way {
                world.condition(*condition);
            }
            world.pass(4 * SECOND, || Keeps);
            world.condition(Condition::Up);
        }
        assert_eq!(world.offs(), [], "{way:?}");
    }
}

#[test]
fn a_connection_that_has_done_no_harm_for_long_is_kept_in_doubt() {
    let mut world = World::up(Unasked::GiveUp);
    world.pass(60 * SECOND, || Keeps);
    world.condition(Condition::Suspect);
    assert!(world.policy.is_open());
    world.condition(Condition::Silent);
    assert!(!world.policy.is_open());
    world.pass(60 * SECOND, || Keeps);
    assert_eq!(world.connects.len(), 1);
}

#[test]
fn a_silent_connection_is_made_anew_before_firewalls_forget_it() {
    let mut world = World::up(Unasked::GiveUp);
    world.pass(3600 * SECOND, || Keeps);
    let gaps: Vec<_> = world.connects.windows(2).map(|pair| pair[1] - pair[0]).collect();
    assert!(gaps.iter().all(|gap| (180 * SECOND..240 * SECOND).contains(gap)), "{gaps:?}");
    assert!(gaps.windows(2).any(|pair| pair[0] != pair[1]), "with jitter");
    assert_eq!(world.signs(), []);
    assert!(world.policy.is_open());
}

#[test]
fn what_the_director_cannot_do_says_nothing_about_the_server() {
    let mut world = World::up(Unasked::GiveUp);
    for _ in 0..10 {
        let at = world.policy.next().unwrap();
        assert_eq!(world.policy.due(at), [Action::Connect]);
        world.policy.postponed(at + SECOND);
    }
    world.now = world.policy.next().unwrap();
    world.pass(SECOND, || Keeps);
    assert!(world.policy.is_open());
    let actions = world.policy.shed(world.now, world.now + SECOND);
    world.carry_out(actions, &mut || Keeps);
    assert!(!world.policy.is_open());
    world.pass(2 * SECOND, || Keeps);
    assert!(world.policy.is_open());
    assert_eq!((world.offs(), world.signs()), (vec![], vec![]));
}

proptest! {
    #[test]
    fn no_server_and_no_fault_leads_to_a_loop(
        steps in proptest::collection::vec((0_u8..10, 0_u64..=8, 1_u64..=90_000), 1..60),
        seed: u64,
    ) {
        let mut world = World::new(Unasked::GiveUp);
        world.policy.seed = seed;
        let mut downs = 0;
        for (kind, age, time) in steps {
            let age = ms([0, 1, 30, 900, 3000, 9990, 11_000, 60_000, 170_000][usize::try_from(age).unwrap()]);
            let behaviour = match kind {
                0 => { world.condition(Condition::Down); downs += 1; Keeps }
                1 => { world.condition(Condition::Suspect); Keeps }
                2 | 3 => { world.condition(Condition::Up); Keeps }
                4 => Ends(IdleEnd::Reset, age),
                5 => Refuses,
                6 => Ignores,
                7 => Keeps,
                _ => Ends(IdleEnd::Finished, age),
            };
            world.pass(ms(time), || behaviour);
        }
        // Packets: at most 4 for each. A whole life of a server, from up to down, may be over in an instant, though.
        let ups = 1 + world.count(|change| matches!(change, IdleChange::Ended { end: IdleEnd::Closed, .. }));
        for (index, from) in world.connects.iter().enumerate() {
            let within = world.connects[index..].iter().take_while(|at| **at < *from + 10 * SECOND).count();
            prop_assert!(within <= 6 + 4 * ups, "{within} connections in 10 s");
        }
        // Told once each time, and never given up for nothing.
        let told = world.reports.iter().filter(|(_, change)| matches!(change, IdleChange::Off(_) | IdleChange::On));
        let told: Vec<_> = told.map(|(_, change)| matches!(change, IdleChange::Off(_))).collect();
        prop_assert!(told.windows(2).all(|pair| pair[0] != pair[1]), "{:?}", world.reports);
        // Hints: no more than three for an incident, and one of these in ten minutes, unless it was right. The last
        // hint of an incident may come as long after its beginning as that lasts.
        let hints: Vec<_> = world.reports.iter().filter(|(_, change)|
            matches!(change, IdleChange::Ended { sign: IdleSign::Hint, .. })).map(|(at, _)| *at).collect();
        for (index, from) in hints.iter().enumerate() {
            let within = hints[index..].iter().take_while(|at| **at + INCIDENT < *from + QUIET).count();
            prop_assert!(within <= 3 + 3 * downs, "{within} hints in 10 minutes");
        }
    }

    #[test]
    fn jitter_is_below_its_bound_and_spread(seed: u64) {
        let mut policy = Policy::new(Unasked::GiveUp, seed);
        let draws: Vec<_> = (0..64).map(|_| policy.jitter(SECOND)).collect();
        prop_assert!(draws.iter().all(|draw| *draw < SECOND));
        let low = draws.iter().filter(|draw| **draw < SECOND / 2).count();
        prop_assert!((8..=56).contains(&low), "{low} of 64 in the lower half");
    }
}
