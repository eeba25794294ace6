//! What a service's table should be, given the states of its servers. Pure.
//!
//! Hard states decide, soft ones change nothing. What the fast path has found may only take out so much: never the last
//! server that takes connections, and never more than half of them. If everything looks dead at once it is the
//! director's own network that is to be suspected first; what is held in then goes when the baseline checks agree.

use crate::{
    config::OnFailure,
    health::{Cause, State},
    service::Weight,
};

/// How a destination stands in the table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Presence {
    /// With its own weight.
    In,
    /// With weight 0.
    Quiesced,
    /// Not at all.
    Absent,
}

impl Presence {
    /// How a destination stands that is found in the table with `weight`, or not found there.
    #[must_use]
    pub fn of_found(takes_connections: Option<bool>) -> Self {
        match takes_connections {
            Some(true) => Self::In,
            Some(false) => Self::Quiesced,
            None => Self::Absent,
        }
    }
}

impl From<OnFailure> for Presence {
    fn from(on_failure: OnFailure) -> Self {
        match on_failure {
            OnFailure::Quiesce => Self::Quiesced,
            OnFailure::Remove => Self::Absent,
        }
    }
}

/// One server of the service.
#[derive(Clone, Copy, Debug)]
struct Member {
    weight: Weight,
    presence: Presence,
}

/// The servers of one service, and how they stand.
#[derive(Clone, Debug)]
pub struct Pool {
    on_failure: OnFailure,
    members: Vec<Member>,
}

/// What has come of a look at all states.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Decision {
    /// The members whose presence is to change.
    pub changed: Vec<usize>,
    /// The members that are down by the fast path's finding but held in.
    pub held: Vec<usize>,
}

impl Pool {
    /// A pool of servers with these weights, standing as they were found.
    ///
    /// A server that is not in the table stays out, or at weight 0, until its first success; one that carries traffic
    /// goes on doing so until it has been checked.
    #[must_use]
    pub fn new(on_failure: OnFailure, servers: impl IntoIterator<Item = (Weight, Presence)>) -> Self {
        let unproven = |found| if found == Presence::Absent { on_failure.into() } else { found };
        let members =
            servers.into_iter().map(|(weight, found)| Member { weight, presence: unproven(found) }).collect();
        Self { on_failure, members }
    }

    /// How member `index` stands: its weight in the table, or `None` if it is not there.
    #[must_use]
    pub fn weight(&self, index: usize) -> Option<Weight> {
        let member = self.members.get(index)?;
        match member.presence {
            Presence::In => Some(member.weight),
            Presence::Quiesced => Some(Weight::QUIESCENT),
            Presence::Absent => None,
        }
    }

    /// Looks at the members' states, in the order of the members, and moves those that must move. Looking again at the
    /// same states changes nothing.
    pub fn decide(&mut self, states: &[State]) -> Decision {
        let mut decision = Decision { changed: Vec::new(), held: Vec::new() };
        // First what comes in, and what goes without a limit: both decide how much the fast path may still take.
        for (index, state) in states.iter().enumerate() {
            match state {
                State::Up | State::Suspect { .. } => self.put(index, Presence::In, &mut decision),
                State::Down { cause: Cause::Baseline, .. } => {
                    self.put(index, self.on_failure.into(), &mut decision);
                }
                State::Down { cause: Cause::Fast, .. } | State::Recovering { .. } | State::Unknown { .. } => {
                }
            }
        }
        for (index, state) in states.iter().enumerate() {
            if !matches!(state, State::Down { cause: Cause::Fast, .. }) || !self.is_in(index) {
                continue;
            }
            if self.may_lose(index, states) {
                self.put(index, self.on_failure.into(), &mut decision);
            } else {
                decision.held.push(index);
            }
        }
        decision
    }

    fn put(&mut self, index: usize, presence: Presence, decision: &mut Decision) {
        let Some(member) = self.members.get_mut(index) else { return };
        if member.presence != presence {
            member.presence = presence;
            decision.changed.push(index);
        }
    }

    fn is_in(&self, index: usize) -> bool {
        self.members.get(index).is_some_and(|member| member.presence == Presence::In)
    }

    /// Whether the fast path may take out one more: a healthy one must remain, and no more than half be out.
    fn may_lose(&self, index: usize, states: &[State]) -> bool {
        let takes_connections = |other: usize| !self.members[other].weight.is_quiescent();
        let survivor = (0..self.members.len()).any(|other| {
            other != index && self.is_in(other) && states[other].is_up() && takes_connections(other)
        });
        let out = (0..self.members.len()).filter(|&other| !self.is_in(other)).count();
        let limit = (self.members.len() / 2).max(1);
        survivor && out < limit
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const UP: State = State::Up;
    const UNKNOWN: State = State::Unknown { failures: 0 };
    const FAST: State = State::Down { cause: Cause::Fast, baseline: 0 };
    const DEAD: State = State::Down { cause: Cause::Baseline, baseline: 3 };
    const RECOVERING: State = State::Recovering { successes: 1 };

    fn pool(on_failure: OnFailure, found: &[Presence]) -> Pool {
        Pool::new(on_failure, found.iter().map(|presence| (Weight(5), *presence)))
    }

    fn weights(pool: &Pool) -> Vec<Option<u16>> {
        (0..pool.members.len()).map(|index| pool.weight(index).map(|weight| weight.0)).collect()
    }

    #[test]
    fn what_is_not_known_stays_as_it_was_found() {
        let found = [Presence::In, Presence::Quiesced, Presence::Absent];
        let mut quiescing = pool(OnFailure::Quiesce, &found);
        let mut removing = pool(OnFailure::Remove, &found);
        for pool in [&mut quiescing, &mut removing] {
            assert!(pool.decide(&[UNKNOWN; 3]).changed.is_empty());
        }
        assert_eq!(weights(&quiescing), [Some(5), Some(0), Some(0)], "new servers are there, but quiet");
        assert_eq!(weights(&removing), [Some(5), Some(0), None]);
    }

    /// What it shows, the states, the weights that follow, and who is held in.
    type Case = (&'static str, [State; 3], [Option<u16>; 3], &'static [usize]);

    #[test]
    fn what_states_do() {
        let cases: [Case; 7] = [
            ("all up", [UP, UP, UP], [Some(5); 3], &[]),
            ("one down, found fast", [UP, FAST, UP], [Some(5), Some(0), Some(5)], &[]),
            ("two of three: more than half", [FAST, FAST, UP], [Some(0), Some(5), Some(5)], &[1]),
            ("all down, found fast", [FAST, FAST, FAST], [Some(5); 3], &[0, 1, 2]),
            ("all down, the baseline agrees", [DEAD, DEAD, DEAD], [Some(0); 3], &[]),
            (
                "one by the baseline leaves none to the fast path",
                [DEAD, FAST, UP],
                [Some(0), Some(5), Some(5)],
                &[1],
            ),
            ("recovering is still down", [UP, RECOVERING, UP], [Some(5), Some(5), Some(5)], &[]),
        ];
        for (name, states, expected, held) in cases {
            let mut pool = pool(OnFailure::Quiesce, &[Presence::In; 3]);
            let decision = pool.decide(&states);
            assert_eq!(weights(&pool), expected, "{name}");
            assert_eq!(decision.held, held, "{name}");
        }
    }

    #[test]
    fn a_recovering_server_stays_out_until_it_is_up() {
        let mut pool = pool(OnFailure::Remove, &[Presence::In; 2]);
        for (states, expected) in [
            ([UP, DEAD], [Some(5), None]),
            ([UP, RECOVERING], [Some(5), None]),
            ([UP, UP], [Some(5), Some(5)]),
        ] {
            pool.decide(&states);
            assert_eq!(weights(&pool), expected);
        }
    }

    #[test]
    fn the_only_server_goes_only_by_the_baselines_finding() {
        let mut pool = pool(OnFailure::Quiesce, &[Presence::In]);
        assert_eq!(pool.decide(&[FAST]).held, [0]);
        assert_eq!(pool.decide(&[DEAD]).changed, [0]);
    }

    #[test]
    fn the_fast_path_may_take_one_of_two() {
        let mut pool = pool(OnFailure::Quiesce, &[Presence::In; 2]);
        assert_eq!(pool.decide(&[FAST, UP]).changed, [0]);
        assert_eq!(pool.decide(&[FAST, FAST]).held, [1], "the last one stays");
    }

    fn any_state() -> impl Strategy<Value = State> {
        prop_oneof![
            Just(UP),
            Just(UNKNOWN),
            Just(FAST),
            Just(DEAD),
            Just(RECOVERING),
            Just(State::Suspect { baseline: 1, confirm: 0 }),
        ]
    }

    fn any_course() -> impl Strategy<Value = Vec<Vec<State>>> {
        (1_usize..9).prop_flat_map(|servers| {
            proptest::collection::vec(proptest::collection::vec(any_state(), servers), 1..12)
        })
    }

    proptest! {
        /// Over any course of states: looking twice changes nothing; up is in; what the baseline calls dead is out; and
        /// a look in which only the fast path speaks against servers leaves a healthy one in if there was one.
        #[test]
        fn decisions(courses in any_course()) {
            let mut pool = pool(OnFailure::Quiesce, &vec![Presence::In; courses[0].len()]);
            for states in courses {
                pool.decide(&states);
                let again = pool.decide(&states);
                prop_assert_eq!(again.changed, Vec::<usize>::new());
                for (index, state) in states.iter().enumerate() {
                    if state.is_up() {
                        prop_assert!(pool.is_in(index));
                    }
                    if *state == DEAD {
                        prop_assert!(!pool.is_in(index));
                    }
                }
                for held in again.held {
                    prop_assert!(states[held] == FAST && pool.is_in(held));
                }
            }
        }

        /// From a full pool, the fast path alone never takes more than half, nor the last.
        #[test]
        fn the_fast_path_is_limited(dead in proptest::collection::vec(any::<bool>(), 1..20)) {
            let mut pool = pool(OnFailure::Quiesce, &vec![Presence::In; dead.len()]);
            let states: Vec<_> = dead.iter().map(|dead| if *dead { FAST } else { UP }).collect();
            pool.decide(&states);
            let out = (0..dead.len()).filter(|index| !pool.is_in(*index)).count();
            prop_assert!(out <= (dead.len() / 2).max(1));
            prop_assert!(out < dead.len());
            let all_dead = dead.iter().all(|dead| *dead);
            if all_dead {
                prop_assert_eq!(out, 0);
            }
        }
    }
}
