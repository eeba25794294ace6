//! Who serves when an agent begins: whoever does in the kernel's table, until checks say who should.

use std::collections::BTreeSet;

use proptest::prelude::*;

use super::*;

/// A destination's presence by a letter: `I`n, `Q`uiesced, `A`bsent.
fn presence_of(letters: &str) -> impl Fn(&DestinationKey) -> Presence {
    let letters = letters.to_owned();
    move |destination| {
        let host = (1..=9).find(|host| key(*host) == *destination).expect("one of the hosts");
        match letters.as_bytes().get(usize::from(host) - 1) {
            Some(b'I') => Presence::In,
            Some(b'Q') => Presence::Quiesced,
            _ => Presence::Absent,
        }
    }
}

/// The hosts that take connections by the desired table.
fn serving(engine: &Engine) -> BTreeSet<u8> {
    let wanted = engine.wanted();
    let destinations = &wanted.services[&key(1).service].destinations;
    let takes =
        |host: &u8| destinations.get(&key(*host).server).is_some_and(|one| !one.weight.is_quiescent());
    (1..=9).filter(takes).collect()
}

fn backups(hosts: &[u8], checked: bool) -> String {
    let backup = |host| format!("[[service.backup]]\naddress = \"10.0.0.{host}\"\nchecked = {checked}\n");
    hosts.iter().map(backup).collect()
}

/// An engine that begins with this table.
fn begin(text: &str, letters: &str) -> Case {
    let now = Instant::now();
    let mut engine = Engine::new(&services(text), presence_of(letters));
    engine.begin(now);
    Case { engine, now }
}

fn set(hosts: &[u8]) -> BTreeSet<u8> {
    hosts.iter().copied().collect()
}

#[test]
fn a_backup_that_serves_at_the_start_does_so_until_a_server_is_well() {
    for (on_failure, table) in [("quiesce", "QQI"), ("remove", "AAI")] {
        for checked in [false, true] {
            let text = web(&format!("on-failure = \"{on_failure}\""), 2) + &backups(&[3], checked);
            let mut case = begin(&text, table);
            assert_eq!(serving(&case.engine), set(&[3]), "{on_failure}");
            // The quorum is lost before anything is known of the backup itself.
            case.becomes(1, false);
            let lost = case.becomes(2, false);
            assert_eq!(lost.events, [pool_event(PoolEvent::QuorumLost)], "it was in before");
            assert_eq!(serving(&case.engine), set(&[3]), "{on_failure}, checked: {checked}");
            if checked {
                case.observe(3, 0, true);
                assert_eq!(serving(&case.engine), set(&[3]));
            }
            let back = case.becomes(2, true);
            assert_eq!(back.events, [PoolEvent::QuorumBack, PoolEvent::BackupsOut].map(pool_event));
            assert_eq!(serving(&case.engine), set(&[2]));
        }
    }
}

#[test]
fn a_backup_leaves_as_soon_as_the_first_server_answers() {
    let mut case = begin(&(web("", 2) + &backups(&[3, 4], false)), "QQII");
    case.observe(1, 0, false);
    assert_eq!(serving(&case.engine), set(&[3, 4]));
    case.observe(2, 0, true);
    assert_eq!(serving(&case.engine), set(&[2]));
}

#[test]
fn a_backup_that_is_dead_itself_leaves_at_once() {
    let mut case = begin(&(web("", 1) + &backups(&[2, 3], true)), "QII");
    case.becomes(2, false);
    assert_eq!(serving(&case.engine), set(&[3]));
}

#[test]
fn what_people_ordered_holds_before_the_first_edit() {
    let text = web("start = \"in\"", 2) + &backups(&[3, 4], false);
    let mut engine = Engine::new(&services(&text), presence_of("AAIQ"));
    let drained = |drain| AdminCommands::drain(drain);
    let saved = BTreeMap::from([
        (key(1), drained(Drain::Remove)),
        (key(2), drained(Drain::Quiesce)),
        (key(3), AdminCommands { maintenance: true, ..AdminCommands::default() }),
        (key(4), drained(Drain::Quiesce)),
    ]);
    let now = Instant::now();
    engine.restore_commands(&saved, now);
    engine.begin(now);
    let weights = |engine: &Engine| [1, 2, 3, 4].map(|host| engine.weight(&key(host)).map(|weight| weight.0));
    // All are out by order, so that the quorum is lost.
    assert_eq!(weights(&engine), [None, Some(0), None, Some(0)]);
    let first = engine.decide_all(now);
    assert_eq!(first.events, [PoolEvent::QuorumLost, PoolEvent::BackupsOut].map(pool_event));
    assert_eq!(engine.decide_all(now), Effects::default(), "told once");
    engine.set_admin_state(&key(4), AdminState::default(), now);
    assert_eq!(weights(&engine), [None, Some(0), None, Some(1)]);
}

#[test]
fn a_drained_backup_keeps_its_connections_while_the_quorum_is_lost() {
    let mut case = begin(&(web("", 1) + &backups(&[2], false)), "QI");
    case.becomes(1, false);
    let weight = |case: &Case| case.engine.weight(&key(2)).map(|weight| weight.0);
    let drain = AdminState::from(AdminCommands::drain(Drain::Quiesce));
    case.engine.set_admin_state(&key(2), drain, case.now);
    assert_eq!(weight(&case), Some(0));
    case.engine.set_admin_state(&key(2), AdminState::default(), case.now);
    assert_eq!(weight(&case), Some(1));
    case.engine.set_admin_state(&key(2), AdminCommands::drain(Drain::Remove).into(), case.now);
    assert_eq!(weight(&case), None);
}

#[test]
fn who_serves_does_so_after_a_reload_that_gives_it_another_role() {
    let mut case = begin(&web("", 2), "IQ");
    case.becomes(1, true);
    case.becomes(2, false);
    // The one that serves becomes the backup of one that is dead, and of one that isn't known.
    let server = |host: u8| format!("[[service.server]]\naddress = \"10.0.0.{host}\"\nweight = 10\n");
    for server_now in [2, 5] {
        let text = web("", 0) + &server(server_now) + &backups(&[1], true);
        case.engine.replace(&services(&text), |_| Presence::Absent, case.now);
        assert_eq!(serving(&case.engine), set(&[1]), "{server_now}");
    }
    case.becomes(5, false);
    assert_eq!(serving(&case.engine), set(&[1]));
    // What was ordered stays in force.
    let drain = AdminState::from(AdminCommands::drain(Drain::Quiesce));
    case.engine.set_admin_state(&key(1), drain, case.now);
    case.replace(&web("", 1));
    assert_eq!(case.engine.weight(&key(1)), Some(Weight(0)));
    case.engine.set_admin_state(&key(1), AdminState::default(), case.now);
    case.replace(&(web("", 0) + &server(5) + &backups(&[1], true)));
    // And a server again, of which nothing has to be learned anew.
    case.replace(&web("", 1));
    assert_eq!(serving(&case.engine), set(&[1]));
    assert_eq!(case.engine.state(&key(1)), Some(State::Up));
}

#[test]
fn a_backup_serves_on_while_servers_come_and_go_by_a_reload() {
    let mut case = begin(&(web("", 2) + &backups(&[9], true)), "QQ");
    case.becomes(9, true);
    case.becomes(1, false);
    case.becomes(2, false);
    assert_eq!(serving(&case.engine), set(&[9]));
    for (servers, others) in [(3, vec![9]), (1, vec![9]), (2, vec![8, 9])] {
        case.replace(&(web("", servers) + &backups(&others, true)));
        assert_eq!(serving(&case.engine), set(&[9]), "{servers} servers, backups {others:?}");
    }
}

/// What may happen to an engine.
#[derive(Clone, Debug)]
enum Step {
    /// A result of a check of this host.
    Result(u8, bool),
    /// Time, and all decisions once more.
    Time(u64),
}

fn any_step() -> impl Strategy<Value = Step> {
    prop_oneof![
        3 => (1_u8..8, any::<bool>()).prop_map(|(host, success)| Step::Result(host, success)),
        1 => (0_u64..5000).prop_map(Step::Time),
    ]
}

proptest! {
    /// Whatever is in the table at the start: who serves changes through results of checks alone, or through first
    /// results that are overdue, which let others in and take nobody out. The last who serves leaves only if its own
    /// check says so, or if somebody else takes over.
    #[test]
    fn who_serves_changes_through_results_alone(
        servers in 1_u8..4,
        backup_checks in proptest::collection::vec(any::<bool>(), 0..4),
        letters in "[IQA]{7}",
        on_failure in prop_oneof![Just("quiesce"), Just("remove")],
        (quorum, hysteresis) in prop_oneof![Just((1, 0)), Just((7, 3)), Just((4, 2))],
        idle in proptest::collection::vec(0_u64..5000, 0..4),
        steps in proptest::collection::vec(any_step(), 0..40),
    ) {
        let lines = format!("on-failure = \"{on_failure}\"\nquorum = {{ weight = {quorum}, hysteresis = {hysteresis} }}");
        let backups: String = (servers + 1..)
            .zip(&backup_checks)
            .map(|(host, checked)| backups(&[host], *checked))
            .collect();
        let text = web(&lines, servers) + &backups;
        let hosts = servers + u8::try_from(backup_checks.len()).unwrap();
        let mut case = begin(&text, &letters);
        let overdue = case.now + Duration::from_millis(2100);
        let at_first: BTreeSet<u8> = (1..=hosts).filter(|host| letters.as_bytes()[usize::from(*host) - 1] == b'I').collect();
        prop_assert_eq!(serving(&case.engine), at_first.clone());
        for ms in idle {
            case.now += Duration::from_millis(ms);
            case.engine.advance(case.now);
            case.engine.decide_all(case.now);
            case.engine.set_maintenance(MaintenanceSet::new(), case.now);
            case.replace(&text);
            let now = serving(&case.engine);
            prop_assert!(now.is_superset(&at_first), "no result yet: {:?}, then {:?}", at_first, now);
            prop_assert!(case.now >= overdue || now == at_first, "too soon: {:?}, then {:?}", at_first, now);
        }
        // Those who have served without a break since the start.
        let mut since_start = at_first;
        for step in steps {
            let before = serving(&case.engine);
            match step {
                Step::Result(host, success) => { case.observe(host, 0, success); },
                Step::Time(ms) => {
                    case.now += Duration::from_millis(ms);
                    case.engine.advance(case.now);
                    case.engine.decide_all(case.now);
                    let now = serving(&case.engine);
                    prop_assert!(now.is_superset(&before), "time alone: {:?}, then {:?}", before, now);
                    prop_assert!(case.now >= overdue || now == before, "too soon: {:?}, then {:?}", before, now);
                }
            }
            if serving(&case.engine).is_empty() {
                for host in before {
                    let state = case.engine.state(&key(host));
                    // One that serves as a last resort does so only until something speaks against it.
                    let is_last_resort = !since_start.contains(&host);
                    let may_leave = |state: State| {
                        state.is_down()
                            || (is_last_resort && matches!(state, State::Unknown { failures: 1.. }))
                    };
                    prop_assert!(state.is_some_and(may_leave), "{} left nobody, and is {:?}", host, state);
                }
            }
            since_start.retain(|host| serving(&case.engine).contains(host));
        }
    }
}

#[test]
fn a_server_in_maintenance_at_the_start_never_serves() {
    for on_failure in ["quiesce", "remove"] {
        let now = Instant::now();
        let text = web(&format!("on-failure = \"{on_failure}\""), 2);
        let mut engine = Engine::new(&services(&text), presence_of("II"));
        engine.restore_maintenance([(key(1).server.ip(), None)].into(), now);
        engine.begin(now);
        let mut case = Case { engine, now };
        assert_eq!(serving(&case.engine), set(&[2]), "{on_failure}: the first edit");
        case.becomes(1, true);
        assert_eq!(serving(&case.engine), set(&[2]), "{on_failure}: its health changes nothing");
        // The end of its maintenance.
        case.engine.set_maintenance([].into(), case.now);
        assert_eq!(serving(&case.engine), set(&[1, 2]), "{on_failure}");
    }
}
