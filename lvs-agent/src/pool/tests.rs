use std::num::NonZeroU32;

use proptest::prelude::*;

use super::*;
use crate::model::Quorum;

const UP: State = State::Up;
const SUSPECT: State = State::Suspect { baseline: 1, confirm: 0 };
const UNKNOWN: State = State::Unknown { failures: 0 };
const FAST: State = State::Down { cause: Cause::Fast, baseline: 0 };
const DEAD: State = State::Down { cause: Cause::Baseline, baseline: 3 };
const RECOVERING: State = State::Recovering { successes: 1 };
const SECOND: Duration = Duration::from_secs(1);

fn damped() -> State {
    State::Damped { until: Instant::now() }
}

fn rules(on_failure: OnFailure) -> PoolRules {
    PoolRules::new(on_failure, &PoolPolicy::default())
}

fn policy(change: impl FnOnce(&mut PoolPolicy)) -> PoolRules {
    let mut policy = PoolPolicy::default();
    change(&mut policy);
    PoolRules::new(OnFailure::Quiesce, &policy)
}

fn quorum(weight: u32, hysteresis: u32) -> Quorum {
    Quorum { weight: NonZeroU32::new(weight).unwrap(), hysteresis, up: None, down: None }
}

fn pool(rules: PoolRules, current: &[Presence]) -> Pool {
    Pool::new(rules, current.iter().map(|presence| (Weight(5), *presence)), [])
}

/// A pool with as many servers, all in, and backups of weight 1.
fn backed(servers: usize, backups: usize) -> Pool {
    let members = vec![(Weight(5), Presence::In); servers];
    Pool::new(rules(OnFailure::Quiesce), members, vec![(Weight(1), Presence::Absent); backups])
}

fn weights(pool: &Pool) -> Vec<Option<u16>> {
    let weight = |index| pool.weight(Role::Server(index)).map(|weight| weight.0);
    (0..pool.members.len()).map(weight).collect()
}

fn backups(pool: &Pool) -> Vec<bool> {
    pool.backups.iter().map(|backup| backup.weight.is_some()).collect()
}

/// Decides by these states at the present time, with backups that aren't checked.
fn decide(pool: &mut Pool, states: &[State]) -> Decision {
    let unchecked = vec![None; pool.backups.len()];
    pool.decide(states, &unchecked, Instant::now())
}

#[test]
fn unchecked_servers_keep_their_presence() {
    let current = [Presence::In, Presence::Quiesced, Presence::Absent];
    let mut quiescing = pool(rules(OnFailure::Quiesce), &current);
    let mut removing = pool(rules(OnFailure::Remove), &current);
    let mut open = pool(policy(|policy| policy.start = StartPolicy::In), &current);
    for pool in [&mut quiescing, &mut removing, &mut open] {
        assert!(decide(pool, &[UNKNOWN; 3]).moved.is_empty());
    }
    assert_eq!(weights(&quiescing), [Some(5), Some(0), Some(0)]);
    assert_eq!(weights(&removing), [Some(5), Some(0), None]);
    assert_eq!(weights(&open), [Some(5), Some(0), Some(5)]);
    for (on_failure, out) in [(OnFailure::Quiesce, Some(0)), (OnFailure::Remove, None)] {
        let policy = PoolPolicy { start: StartPolicy::In, ..PoolPolicy::default() };
        let mut removed = pool(PoolRules::new(on_failure, &policy), &[Presence::Removed]);
        assert!(decide(&mut removed, &[UNKNOWN]).moved.is_empty());
        assert_eq!(weights(&removed), [out], "an earlier agent has found it dead");
    }
}

#[test]
fn servers_that_are_up_are_in_the_table_and_those_down_are_not() {
    for (on_failure, out) in [(OnFailure::Quiesce, Some(0)), (OnFailure::Remove, None)] {
        let mut pool = pool(rules(on_failure), &[Presence::Absent; 3]);
        assert!(!decide(&mut pool, &[UP, SUSPECT, UNKNOWN]).moved.is_empty());
        assert_eq!(weights(&pool), [Some(5), Some(5), out]);
        decide(&mut pool, &[UP, DEAD, DEAD]);
        assert_eq!(weights(&pool), [Some(5), out, out]);
        decide(&mut pool, &[UP, RECOVERING, damped()]);
        assert_eq!(weights(&pool), [Some(5), out, out]);
        decide(&mut pool, &[UP, UP, UP]);
        assert_eq!(weights(&pool), [Some(5); 3]);
    }
}

/// A name, the share, the states, the weights that follow, and the servers retained.
type Case = (&'static str, f64, &'static [State], &'static [u16], &'static [usize]);

#[test]
fn the_fast_path_takes_out_its_share_and_never_the_last_server() {
    let cases: [Case; 9] = [
        ("both of two", 0.5, &[FAST, FAST], &[5, 5], &[0, 1]),
        ("one of one", 0.5, &[FAST], &[5], &[0]),
        ("one of two", 0.5, &[FAST, UP], &[0, 5], &[]),
        ("half", 0.5, &[FAST, FAST, FAST, UP], &[0, 0, 5, 5], &[2]),
        ("servers down by the baseline count", 0.5, &[DEAD, DEAD, FAST, UP], &[0, 0, 5, 5], &[2]),
        ("the baseline has no limit", 0.5, &[DEAD, DEAD], &[0, 0], &[]),
        ("all but one", 1.0, &[FAST, FAST, FAST, UP], &[0, 0, 0, 5], &[]),
        ("a quarter of three is one", 0.25, &[FAST, FAST, UP], &[0, 5, 5], &[1]),
        ("none", 0.0, &[FAST, UP, UP, UP], &[5, 5, 5, 5], &[0]),
    ];
    for (name, share, states, expected, retained) in cases {
        let mut pool = pool(policy(|policy| policy.fast_share = share), &vec![Presence::In; states.len()]);
        decide(&mut pool, &vec![UP; states.len()]);
        let decision = decide(&mut pool, states);
        let expected: Vec<_> = expected.iter().map(|weight| Some(*weight)).collect();
        assert_eq!((weights(&pool), decision.retained.as_slice()), (expected, retained), "{name}");
        assert_eq!(pool.alarm(), !retained.is_empty(), "{name}");
        let again = decide(&mut pool, states);
        assert_eq!(again, Decision::default(), "{name}: it is reported once");
    }
}

#[test]
fn an_alarm_ends_when_the_baseline_agrees_or_the_servers_answer() {
    let mut pool = pool(rules(OnFailure::Quiesce), &[Presence::In; 2]);
    decide(&mut pool, &[UP, UP]);
    assert_eq!(decide(&mut pool, &[FAST, FAST]).events, [PoolEvent::AlarmRaised]);
    assert_eq!(decide(&mut pool, &[FAST, UP]).events, [PoolEvent::AlarmOver]);
    assert_eq!(decide(&mut pool, &[FAST, FAST]).events, [PoolEvent::AlarmRaised]);
    assert_eq!(decide(&mut pool, &[FAST, DEAD]).events, [PoolEvent::AlarmOver, PoolEvent::QuorumLost]);
}

#[test]
fn the_admin_state_overrides_health() {
    let drained = |drain| AdminState::from(AdminCommands::drain(drain));
    let maintenance = AdminState::from(AdminCommands { maintenance: true, ..AdminCommands::default() });
    let administrator = AdminState { administrator: true, ..AdminState::default() };
    let cases = [
        (OnFailure::Quiesce, drained(Drain::Quiesce), Some(0)),
        (OnFailure::Remove, drained(Drain::Quiesce), Some(0)),
        (OnFailure::Quiesce, drained(Drain::Remove), None),
        (OnFailure::Quiesce, maintenance, Some(0)),
        (OnFailure::Remove, maintenance, None),
        (OnFailure::Remove, AdminState { maintenance_file: true, ..AdminState::default() }, None),
        (OnFailure::Remove, administrator, Some(0)),
    ];
    for (on_failure, admin_state, expected) in cases {
        let mut pool = pool(rules(on_failure), &[Presence::In; 3]);
        decide(&mut pool, &[UP; 3]);
        pool.set_admin_state(Role::Server(0), admin_state);
        for state in [UP, SUSPECT, FAST, DEAD, RECOVERING, damped(), UP] {
            decide(&mut pool, &[state, UP, UP]);
            assert_eq!(weights(&pool), [expected, Some(5), Some(5)], "{admin_state:?} {state}");
        }
        pool.set_admin_state(Role::Server(0), AdminState::default());
        decide(&mut pool, &[UP; 3]);
        assert_eq!(weights(&pool), [Some(5); 3], "{admin_state:?}");
    }
}

#[test]
fn a_drained_server_counts_neither_as_healthy_nor_in_the_share() {
    let mut pool = pool(rules(OnFailure::Quiesce), &[Presence::In; 4]);
    for index in [0, 1] {
        let admin_state = AdminCommands::drain(Drain::Quiesce).into();
        pool.set_admin_state(Role::Server(index), admin_state);
    }
    decide(&mut pool, &[UP; 4]);
    assert_eq!(decide(&mut pool, &[UP, UP, FAST, FAST]).retained, [2, 3]);
    decide(&mut pool, &[UP; 4]);
    assert_eq!(decide(&mut pool, &[UP, UP, FAST, UP]).retained, [0_usize; 0]);
    assert_eq!(weights(&pool), [Some(0), Some(0), Some(0), Some(5)]);
}

#[test]
fn backups_are_in_while_the_quorum_is_lost() {
    let mut pool = backed(2, 2);
    assert_eq!(decide(&mut pool, &[UNKNOWN; 2]).events, []);
    assert_eq!(decide(&mut pool, &[UP, UP]).events, [PoolEvent::QuorumBack]);
    assert_eq!(decide(&mut pool, &[DEAD, UP]).events, []);
    let last = decide(&mut pool, &[DEAD, DEAD]);
    assert_eq!(
        (last.events.as_slice(), !last.moved.is_empty()),
        ([PoolEvent::QuorumLost, PoolEvent::BackupsIn].as_slice(), true)
    );
    assert_eq!((weights(&pool), backups(&pool)), (vec![Some(0); 2], vec![true; 2]));
    assert_eq!(decide(&mut pool, &[DEAD, RECOVERING]).events, []);
    let back = decide(&mut pool, &[DEAD, UP]);
    assert_eq!(back.events, [PoolEvent::QuorumBack, PoolEvent::BackupsOut]);
    assert_eq!((weights(&pool), backups(&pool)), (vec![Some(0), Some(5)], vec![false; 2]));
}

#[test]
fn only_healthy_backups_are_in() {
    let mut pool = backed(1, 3);
    let now = Instant::now();
    pool.decide(&[DEAD], &[Some(UNKNOWN), Some(UP), None], now);
    assert_eq!(backups(&pool), [false, true, true]);
    let decision = pool.decide(&[DEAD], &[Some(UP), Some(DEAD), None], now);
    assert_eq!((decision.moved, decision.events), ([0, 1].map(Role::Backup).to_vec(), vec![]));
    assert_eq!(backups(&pool), [true, false, true]);
    pool.set_admin_state(
        Role::Backup(2),
        AdminCommands { maintenance: true, ..AdminCommands::default() }.into(),
    );
    let decision = pool.decide(&[DEAD], &[Some(DEAD), Some(DEAD), None], now);
    assert_eq!((backups(&pool), decision.events), (vec![false; 3], vec![PoolEvent::BackupsOut]));
}

#[test]
fn a_backup_that_is_in_takes_the_weight_that_its_check_reports() {
    let mut pool = backed(1, 1);
    decide(&mut pool, &[DEAD]);
    assert!(pool.set_reported_weight(Role::Backup(0), Weight(7)));
    assert_eq!(decide(&mut pool, &[DEAD]).moved, [Role::Backup(0)]);
    assert_eq!(pool.weight(Role::Backup(0)), Some(Weight(7)));
}

#[test]
fn backups_without_members_are_in_at_once() {
    let mut pool = backed(0, 1);
    assert_eq!(decide(&mut pool, &[]).events, [PoolEvent::QuorumLost, PoolEvent::BackupsIn]);
}

#[test]
fn the_fast_path_alone_brings_no_backup_in() {
    let mut pool = backed(3, 1);
    decide(&mut pool, &[UP; 3]);
    let decision = decide(&mut pool, &[FAST; 3]);
    assert_eq!(
        (decision.retained.as_slice(), decision.events.as_slice()),
        ([0, 1, 2].as_slice(), [PoolEvent::AlarmRaised].as_slice())
    );
    assert_eq!(backups(&pool), [false]);
    assert!(decide(&mut pool, &[DEAD; 3]).events.contains(&PoolEvent::BackupsIn));
}

#[test]
fn a_quorum_of_weights_with_hysteresis() {
    let rules = policy(|policy| policy.quorum = quorum(10, 5));
    let mut pool = Pool::new(rules, vec![(Weight(5), Presence::In); 3], [(Weight(1), Presence::Absent)]);
    let mut quorum = |states: &[State]| {
        decide(&mut pool, states);
        (pool.quorum_state(), pool.backups_in())
    };
    assert_eq!(quorum(&[UP, UP, UP]), (QuorumState::Has, 0));
    assert_eq!(quorum(&[UP, DEAD, DEAD]), (QuorumState::Has, 0));
    assert_eq!(quorum(&[DEAD, DEAD, DEAD]), (QuorumState::Lost, 1));
    assert_eq!(quorum(&[UP, UP, DEAD]), (QuorumState::Lost, 1));
    assert_eq!(quorum(&[UP, UP, UP]), (QuorumState::Has, 0));
}

#[test]
fn a_damped_server_is_used_if_nothing_else_serves() {
    let mut pool = pool(rules(OnFailure::Remove), &[Presence::In; 2]);
    decide(&mut pool, &[UP, UP]);
    decide(&mut pool, &[DEAD, UP]);
    decide(&mut pool, &[damped(), UP]);
    assert_eq!(weights(&pool), [None, Some(5)]);
    decide(&mut pool, &[damped(), DEAD]);
    assert_eq!(weights(&pool), [Some(5), None]);
    decide(&mut pool, &[damped(), UP]);
    assert_eq!(weights(&pool), [None, Some(5)]);
    let mut backed = backed(1, 1);
    decide(&mut backed, &[DEAD]);
    decide(&mut backed, &[damped()]);
    assert_eq!((weights(&backed), backups(&backed)), (vec![Some(0)], vec![true]), "but not than a backup");
}

#[test]
fn a_check_may_report_a_weight() {
    let mut pool = backed(2, 1);
    decide(&mut pool, &[UP; 2]);
    assert!(
        pool.set_reported_weight(Role::Server(0), Weight(9))
            && !pool.set_reported_weight(Role::Server(0), Weight(9))
    );
    assert!(!decide(&mut pool, &[UP; 2]).moved.is_empty());
    assert_eq!(weights(&pool), [Some(9), Some(5)]);
    decide(&mut pool, &[DEAD, UP]);
    decide(&mut pool, &[UP; 2]);
    assert_eq!(weights(&pool), [Some(9), Some(5)], "until it reports another one");
    pool.set_reported_weight(Role::Server(0), Weight(0));
    decide(&mut pool, &[UP, UP]);
    assert_eq!(weights(&pool), [Some(0), Some(5)]);
    assert_eq!(decide(&mut pool, &[UP, FAST]).retained, [1], "weight 0 takes no connections");
    assert!(decide(&mut pool, &[UP, DEAD]).events.contains(&PoolEvent::QuorumLost));
}

#[test]
fn a_server_that_comes_back_gets_a_slow_start() {
    let rules = policy(|policy| policy.slow_start = Some(10 * SECOND));
    let mut pool = Pool::new(rules, vec![(Weight(100), Presence::Absent); 2], []);
    let start = Instant::now();
    pool.decide(&[UP, UP], &[], start);
    assert_eq!(weights(&pool), [Some(100); 2], "at the start they are all as warm as each other");
    assert_eq!(pool.next_change(start), None);
    pool.decide(&[DEAD, UP], &[], start);
    let mut now = start + SECOND;
    pool.decide(&[UP, UP], &[], now);
    let mut seen = vec![weights(&pool)[0]];
    while let Some(next) = pool.next_change(now) {
        now = next;
        let decision = pool.decide(&[UP, UP], &[], now);
        seen.push(weights(&pool)[0]);
        assert!(decision.moved.is_empty() || seen[seen.len() - 2] < seen[seen.len() - 1]);
    }
    assert_eq!(now, start + 11 * SECOND);
    let steps = [1, 10, 20, 30, 40, 50, 60, 70, 80, 90, 100].map(Some);
    assert_eq!(seen, steps);
    pool.decide(&[DEAD, UP], &[], now);
    pool.decide(&[UP, UP], &[], now);
    assert_eq!(weights(&pool), [Some(1), Some(100)], "and again");
}

#[test]
fn a_provisional_removal_costs_no_slow_start_unless_the_baseline_check_agrees_to_it() {
    let rules = policy(|policy| policy.slow_start = Some(10 * SECOND));
    for (last, expected) in [(FAST, 5), (DEAD, 1)] {
        let mut pool = pool(rules, &[Presence::In; 2]);
        decide(&mut pool, &[UP, UP]);
        decide(&mut pool, &[FAST, UP]);
        decide(&mut pool, &[last, UP]);
        assert_eq!(weights(&pool), [Some(0), Some(5)]);
        decide(&mut pool, &[UP, UP]);
        assert_eq!(weights(&pool), [Some(expected), Some(5)], "after {last:?}");
    }
}

#[test]
fn a_server_that_comes_back_warm_gets_no_slow_start() {
    let rules = policy(|policy| policy.slow_start = Some(10 * SECOND));
    let mut pool = Pool::new(rules, vec![(Weight(100), Presence::In); 2], []);
    let start = Instant::now();
    let weights_at = |pool: &mut Pool, states: [State; 2], warm: [bool; 2], seconds: u32| {
        for (index, warm) in warm.into_iter().enumerate() {
            pool.set_warm(index, warm);
        }
        pool.decide(&states, &[], start + seconds * SECOND);
        weights(pool)
    };
    weights_at(&mut pool, [UP, UP], [false; 2], 0);
    // That they fail together is known only after the first is out.
    weights_at(&mut pool, [DEAD, UP], [false; 2], 1);
    weights_at(&mut pool, [DEAD, DEAD], [true; 2], 2);
    assert_eq!(weights_at(&mut pool, [UP, UP], [true; 2], 3), [Some(100); 2]);
    // One that is in its own slow start goes on with it.
    weights_at(&mut pool, [DEAD, UP], [false, true], 4);
    assert_eq!(weights_at(&mut pool, [UP, UP], [false, true], 10), [Some(1), Some(100)]);
    weights_at(&mut pool, [DEAD, DEAD], [true; 2], 12);
    assert!(!pool.is_ramping(Role::Server(0)));
    assert_eq!(weights_at(&mut pool, [UP, UP], [true; 2], 15), [Some(50), Some(100)]);
    // A drain is no failure.
    pool.set_admin_state(Role::Server(1), AdminCommands::drain(Drain::Quiesce).into());
    weights_at(&mut pool, [UP, UP], [true; 2], 40);
    pool.set_admin_state(Role::Server(1), AdminState::default());
    assert_eq!(weights_at(&mut pool, [UP, UP], [true; 2], 41), [Some(100), Some(1)]);
}

#[test]
fn an_undrained_server_and_a_new_one_get_a_slow_start() {
    let rules = policy(|policy| policy.slow_start = Some(10 * SECOND));
    let mut pool = Pool::new(rules, vec![(Weight(100), Presence::In); 2], []);
    let now = Instant::now();
    pool.decide(&[UP, UP], &[], now);
    pool.set_admin_state(Role::Server(0), AdminCommands::drain(Drain::Quiesce).into());
    pool.decide(&[UP, UP], &[], now);
    pool.set_admin_state(Role::Server(0), AdminState::default());
    pool.decide(&[UP, UP], &[], now);
    assert_eq!(weights(&pool), [Some(1), Some(100)]);
    let new = Origin::New(Presence::Absent);
    let members = [Origin::Kept(1), Origin::Kept(0), new, Origin::New(Presence::In)];
    pool.replace(rules, members.map(|origin| (Weight(50), origin)), []);
    pool.decide(&[UP; 4], &[], now);
    assert_eq!(weights(&pool), [Some(50), Some(1), Some(1), Some(50)]);
}

#[test]
fn a_kept_server_keeps_its_weight_and_admin_state() {
    let mut pool = backed(3, 2);
    decide(&mut pool, &[UP, DEAD, UP]);
    let admin_state = AdminCommands::drain(Drain::Quiesce).into();
    pool.set_admin_state(Role::Server(2), admin_state);
    pool.set_reported_weight(Role::Server(0), Weight(7));
    let members = [(Weight(1), Origin::Kept(2)), (Weight(2), Origin::Kept(0)), (Weight(3), Origin::Kept(1))];
    pool.replace(rules(OnFailure::Remove), members, [(Weight(4), Origin::Kept(1))]);
    decide(&mut pool, &[UP, UP, DEAD]);
    assert_eq!(weights(&pool), [Some(0), Some(7), None]);
    assert_eq!(pool.admin_state(Role::Server(0)), admin_state);
    assert_eq!(pool.full_weight(Role::Server(2)), Some(Weight(3)));
    decide(&mut pool, &[UP, DEAD, DEAD]);
    assert_eq!(pool.weight(Role::Backup(0)), Some(Weight(4)));
}

fn any_state() -> impl Strategy<Value = State> {
    prop_oneof![
        Just(UP),
        Just(UP),
        Just(SUSPECT),
        Just(UNKNOWN),
        Just(FAST),
        Just(DEAD),
        Just(RECOVERING),
        Just(()).prop_map(|()| damped()),
    ]
}

fn any_admin_state() -> impl Strategy<Value = AdminState> {
    let drain = prop_oneof![Just(None), Just(Some(Drain::Quiesce)), Just(Some(Drain::Remove))];
    (drain, any::<(bool, bool, bool)>()).prop_map(
        |(drain, (maintenance, maintenance_file, administrator))| AdminState {
            commands: AdminCommands { drain, maintenance },
            maintenance_file,
            administrator,
            agent: None,
        },
    )
}

/// What may happen between two decisions.
#[derive(Clone, Debug)]
enum Step {
    States(Vec<(usize, State)>),
    AdminState(usize, AdminState),
    Weight(usize, u16),
    ReportedWeight(usize, u16),
    ClientState(usize, ClientState),
    Time(u64),
}

fn any_step() -> impl Strategy<Value = Step> {
    let server = 0_usize..8;
    prop_oneof![
        4 => proptest::collection::vec((server.clone(), any_state()), 1..8).prop_map(Step::States),
        1 => (server.clone(), prop_oneof![3 => Just(AdminState::default()), 1 => any_admin_state()])
            .prop_map(|(index, admin_state)| Step::AdminState(index, admin_state)),
        1 => (server.clone(), 0_u16..40).prop_map(|(index, weight)| Step::Weight(index, weight)),
        1 => (server.clone(), 0_u16..40).prop_map(|(index, weight)| Step::ReportedWeight(index, weight)),
        1 => (server, prop_oneof![Just(ClientState::Served), Just(ClientState::Excluded), Just(ClientState::OnTrial)])
            .prop_map(|(index, client_state)| Step::ClientState(index, client_state)),
        2 => (0_u64..8000).prop_map(Step::Time),
    ]
}

prop_compose! {
    fn any_rules()(
        on_failure in prop_oneof![Just(OnFailure::Quiesce), Just(OnFailure::Remove)],
        start in prop_oneof![Just(StartPolicy::Out), Just(StartPolicy::In)],
        fast_share in 0.0..=1.0,
        slow_start in proptest::option::of((1_u64..20_000).prop_map(Duration::from_millis)),
        (weight, hysteresis) in (1_u32..30, 0_u32..10),
    ) -> PoolRules {
        let policy = PoolPolicy { start, fast_share, slow_start, quorum: quorum(weight, hysteresis), ..PoolPolicy::default() };
        PoolRules::new(on_failure, &policy)
    }
}

/// Whether the server gets new connections by the table.
fn takes_connections(weight: Option<Weight>) -> bool {
    weight.is_some_and(|weight| !weight.is_quiescent())
}

proptest! {
    /// Whatever happens in whatever order, each decision keeps the pool's promises.
    #[test]
    fn promises_hold_after_each_decision(
        rules in any_rules(),
        current in proptest::collection::vec(
            (0_u16..40, prop_oneof![Just(Presence::In), Just(Presence::Quiesced), Just(Presence::Absent)]),
            0..7,
        ),
        backup_weights in proptest::collection::vec(0_u16..3, 0..3),
        backup_states in proptest::collection::vec(proptest::option::of(any_state()), 3),
        steps in proptest::collection::vec(any_step(), 1..40),
    ) {
        let servers = current.len();
        let members = current.iter().map(|(weight, presence)| (Weight(*weight), *presence));
        let backups = backup_weights.iter().map(|weight| (Weight(*weight), Presence::Absent));
        let mut pool = Pool::new(rules, members, backups);
        let mut states = vec![UNKNOWN; servers];
        let mut now = Instant::now();
        for step in steps {
            let full_weights: Vec<_> = pool.members.iter().map(Member::full_weight).collect();
            match step {
                Step::States(news) => for (index, state) in news {
                    if let Some(known) = states.get_mut(index) { *known = state }
                },
                Step::AdminState(index, admin_state) => pool.set_admin_state(Role::Server(index), admin_state),
                Step::Weight(index, weight) => pool.set_weight(Role::Server(index), Weight(weight)),
                Step::ReportedWeight(index, weight) => drop(pool.set_reported_weight(Role::Server(index), Weight(weight))),
                Step::ClientState(index, client_state) => pool.set_client_state(Role::Server(index), client_state),
                Step::Time(ms) => now += Duration::from_millis(ms),
            }
            let before: Vec<_> = (0..servers).map(|index| pool.weight(Role::Server(index))).collect();
            let was_in: Vec<_> = pool.members.iter().map(Member::takes_connections).collect();
            let client_states: Vec<_> = pool.members.iter().map(|member| member.client_state).collect();
            let ramps: Vec<_> = pool.members.iter().map(Member::current_ramp).collect();
            let decision = pool.decide(&states, &backup_states, now);
            let after: Vec<_> = (0..servers).map(|index| pool.weight(Role::Server(index))).collect();

            prop_assert_eq!(pool.decide(&states, &backup_states, now), Decision::default(), "deciding twice");
            let moved: Vec<_> = (0..servers).filter(|index| before[*index] != after[*index]).map(Role::Server).collect();
            let reported: Vec<_> = decision.moved.iter().filter(|role| matches!(role, Role::Server(_))).copied().collect();
            prop_assert_eq!(reported, moved);

            let lost = pool.quorum_state() == QuorumState::Lost;
            let serving: Vec<_> = (0..servers).filter(|index| {
                pool.admin_state(Role::Server(*index)).is_enabled() && takes_connections(after[*index])
            }).collect();
            for index in 0..servers {
                let (admin_state, full) = (pool.admin_state(Role::Server(index)), pool.full_weight(Role::Server(index)).unwrap());
                prop_assert!(after[index].is_none_or(|weight| weight <= full), "above its full weight");
                if !admin_state.is_enabled() {
                    prop_assert!(!takes_connections(after[index]), "not enabled");
                    if admin_state.commands.drain == Some(Drain::Quiesce) { prop_assert_eq!(after[index], Some(Weight(0))) }
                    continue;
                }
                let excluded = client_states[index] == ClientState::Excluded;
                let others = serving.iter().any(|other| *other != index) || pool.backups_in() > 0;
                if excluded && others && !takes_connections(after[index]) { continue }
                if states[index].is_up() && full > Weight(0) { prop_assert!(takes_connections(after[index]), "up is in") }
                if states[index] == DEAD { prop_assert!(!takes_connections(after[index]), "dead is out") }
                let same_ramp = client_states[index] == ClientState::Served
                    && ramps[index].is_some()
                    && ramps[index] == pool.members[index].current_ramp();
                if same_ramp && full_weights[index] == full { prop_assert!(after[index] >= before[index], "slow start") }
            }
            // The fast path: never the last healthy one, and never more than its share.
            let fast_out: Vec<_> = (0..servers).filter(|index| {
                states[*index] == FAST && was_in[*index] && pool.admin_state(Role::Server(*index)).is_enabled()
                    && pool.members[*index].presence != Presence::In
            }).collect();
            if !fast_out.is_empty() {
                prop_assert!(serving.iter().any(|index| states[*index].is_up()), "a healthy one stays");
                let enabled: Vec<_> = pool.members.iter().filter(|member| member.admin_state.is_enabled()).collect();
                let out = enabled.iter().filter(|member| member.presence != Presence::In).count();
                let by_baseline = (0..servers).filter(|index| {
                    pool.members[*index].admin_state.is_enabled() && pool.members[*index].presence != Presence::In && states[*index] != FAST
                }).count();
                prop_assert!(out <= most(enabled.len(), rules.fast_share).max(by_baseline), "the share");
            }
            // Backups: only while the quorum is lost, and then all healthy ones.
            for (index, weight) in backup_weights.iter().enumerate() {
                let usable = *weight > 0 && backup_states[index].is_none_or(State::is_up);
                prop_assert_eq!(pool.weight(Role::Backup(index)).is_some(), lost && usable);
            }
            let healthy = (0..servers).any(|index| {
                states[index].is_up() && pool.admin_state(Role::Server(index)).is_enabled() && pool.members[index].full_weight() > Weight(0)
            });
            if !lost && servers > 0 && pool.quorum_state() == QuorumState::Has {
                let possible = healthy || states.contains(&UNKNOWN) || !serving.is_empty();
                prop_assert!(possible, "a quorum of nobody");
            }
            if let Some(next) = pool.next_change(now) {
                prop_assert!(next > now);
                let mut early = pool.clone();
                let just_before = next.checked_sub(Duration::from_nanos(1)).unwrap().max(now);
                prop_assert!(early.decide(&states, &backup_states, just_before).moved.is_empty(), "nothing changes before");
            }
        }
    }
}
