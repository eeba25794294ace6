//! Failures that most servers share earn no penalty; those of one alone do.

use std::{collections::BTreeSet, ops::Range};

use proptest::prelude::*;

use super::*;

/// The interval of all checks, in milliseconds.
const INTERVAL: u64 = 1000;

/// A director whose checks are answered or refused at once, by invented time.
struct Director {
    engine: Engine,
    start: Instant,
    /// Every destination, and when its checks are made in each interval, in milliseconds.
    phases: Vec<(DestinationKey, u64)>,
    /// When nobody answers.
    link: Vec<Range<u64>>,
    /// When one host doesn't answer.
    own: Vec<(u8, Range<u64>)>,
}

/// What was seen of the destinations in one tick.
struct Seen<'a> {
    ms: u64,
    engine: &'a Engine,
}

impl Director {
    fn new(text: &str) -> Self {
        let services = services(text);
        let start = Instant::now();
        let mut engine = Engine::new(&services, |_| Presence::In);
        engine.decide_all(start);
        let destinations: Vec<_> = services.iter().flat_map(VirtualService::all_destinations).collect();
        let hosts: BTreeSet<_> = destinations.iter().map(|one| one.server.ip()).collect();
        // Like the agent's: one check for all services of a server, spread over the interval.
        let phase = |one: &DestinationKey| {
            let place = hosts.iter().position(|host| *host == one.server.ip()).unwrap() as u64;
            place * INTERVAL / hosts.len() as u64 / 10 * 10
        };
        let phases = destinations.iter().map(|one| (*one, phase(one))).collect();
        Self { engine, start, phases, link: Vec::new(), own: Vec::new() }
    }

    fn answers(&self, destination: &DestinationKey, ms: u64) -> bool {
        let down = |(host, when): &(u8, Range<u64>)| {
            key(*host).server.ip() == destination.server.ip() && when.contains(&ms)
        };
        let local = destination.server.ip().is_loopback();
        (local || !self.link.iter().any(|when| when.contains(&ms))) && !self.own.iter().any(down)
    }

    /// Runs for so many milliseconds, in ticks of 10.
    fn run(&mut self, until: u64, mut each: impl FnMut(&Seen<'_>)) {
        for ms in (0..until).step_by(10) {
            let now = self.start + Duration::from_millis(ms);
            self.engine.advance(now);
            for (destination, phase) in self.phases.clone() {
                if ms % INTERVAL == phase {
                    let success = self.answers(&destination, ms);
                    let sample = Sample { check: Some(0), success, source: crate::health::Source::Baseline };
                    self.engine.observe(&destination, sample, None, now);
                }
            }
            each(&Seen { ms, engine: &self.engine });
        }
    }
}

impl Seen<'_> {
    fn state(&self, host: u8) -> State {
        self.engine.state(&key(host)).expect("it is checked")
    }

    fn weight(&self, host: u8) -> u16 {
        self.engine.weight(&key(host)).map_or(0, |weight| weight.0)
    }

    fn is_damped(&self, host: u8) -> bool {
        matches!(self.state(host), State::Damped { .. }) || self.engine.relapses(&key(host)) > 0
    }
}

/// A service of so many servers that come back after three successes.
fn slow_to_rise(lines: &str, servers: u8) -> String {
    let check =
        "check = { type = \"connect\", interval = \"1s\", timeout = \"500ms\", soft-interval = \"1s\" }";
    web(&format!("{check}\n{lines}"), servers).replace("rise = 1", "rise = 3")
}

/// The director's link flaps four times in 45 s.
fn flaps() -> Vec<Range<u64>> {
    [5_000, 15_000, 25_000, 35_000].map(|from| from..from + 4_500).to_vec()
}

#[test]
fn after_the_directors_own_link_was_down_all_servers_are_back_at_their_next_check() {
    let sorry = "[[service.backup]]\naddress = \"127.0.0.1\"\nchecked = false\n";
    for servers in [2, 3, 4, 7] {
        let mut director = Director::new(&(slow_to_rise("slow-start = \"20s\"", servers) + sorry));
        director.link = flaps();
        let mut sorry_seen = 0;
        director.run(50_000, |seen| {
            let (_, state) = seen.engine.service(&key(1).service).expect("there is one");
            let full = (1..=servers).filter(|host| seen.weight(*host) == 10).count();
            assert!(!(1..=servers).any(|host| seen.is_damped(host)), "{} ms, {servers}", seen.ms);
            assert_eq!(
                state.backups_in > 0,
                full == 0,
                "{} ms: the sorry server leaves at the same moment",
                seen.ms
            );
            sorry_seen += usize::from(state.backups_in > 0);
            if flaps().iter().all(|when| seen.ms < when.start || seen.ms >= when.end + INTERVAL) {
                assert_eq!(full, usize::from(servers), "{} ms, {servers} servers", seen.ms);
            }
        });
        assert!(sorry_seen > 0, "the link was down");
    }
}

#[test]
fn a_server_that_fails_alone_is_damped_as_before() {
    for servers in [1, 2, 3] {
        let mut director = Director::new(&slow_to_rise("", servers));
        director.own = flaps().into_iter().map(|when| (1, when)).collect();
        let (mut damped, mut others) = (false, false);
        director.run(50_000, |seen| {
            damped |= seen.is_damped(1);
            others |= (2..=servers).any(|host| seen.is_damped(host));
        });
        assert_eq!((damped, others), (true, false), "{servers}");
    }
}

#[test]
fn half_of_a_service_is_not_most_of_it() {
    let mut director = Director::new(&slow_to_rise("", 4));
    for when in flaps() {
        director.own.extend([(1, when.clone()), (2, when)]);
    }
    let mut damped = false;
    director.run(50_000, |seen| damped |= seen.is_damped(1) && seen.is_damped(2));
    assert!(damped);
}

#[test]
fn servers_that_were_dead_before_do_not_count() {
    let mut director = Director::new(&slow_to_rise("", 5));
    director.own = vec![(3, 0..90_000), (4, 0..90_000), (5, 0..90_000)];
    director.link = flaps();
    director.run(50_000, |seen| assert!(!seen.is_damped(1) && !seen.is_damped(2), "{} ms", seen.ms));
}

#[test]
fn a_penalty_from_before_is_neither_longer_nor_forgotten() {
    let mut director = Director::new(&slow_to_rise("flap = { penalty = \"8s\" }", 3));
    // The first one flaps by itself, and then waits for its penalty while the link goes.
    director.own = vec![(1, 2_000..5_000), (1, 10_000..13_000)];
    director.link.push(17_000..19_500);
    let mut back = None;
    director.run(40_000, |seen| {
        assert!(!seen.is_damped(2) && !seen.is_damped(3), "{} ms", seen.ms);
        if seen.ms >= 13_000 && seen.state(1).is_up() {
            back.get_or_insert(seen.ms);
        }
    });
    // Healthy from 13 s on, so that its eight seconds are over at 21 s; the third success after the link is at 22 s.
    assert_eq!(back, Some(22_000));
}

#[test]
fn one_machine_with_several_ports_is_one() {
    let server = |port| format!("[[service.server]]\naddress = \"10.0.0.1:800{port}\"\n");
    let text = slow_to_rise("", 0) + &(1..=4).map(server).collect::<String>();
    let mut director = Director::new(&text);
    director.own = flaps().into_iter().map(|when| (1, when)).collect();
    let mut damped = false;
    director.run(50_000, |seen| {
        let states = seen.engine.destinations().map(|(one, ..)| seen.engine.state(&one));
        damped |= states.flatten().any(|state| matches!(state, State::Damped { .. }));
    });
    assert!(damped);
}

/// So many services, each with these servers.
fn several(services: &[&[u8]]) -> String {
    let service = |(number, hosts): (usize, &&[u8])| {
        let head = slow_to_rise("", 0)
            .replace("192.0.2.80:80", &format!("192.0.2.{}:80", 80 + number))
            .replace("\"web\"", &format!("\"web{number}\""));
        let server = |host| format!("[[service.server]]\naddress = \"10.0.0.{host}\"\nweight = 10\n");
        head + &hosts.iter().map(server).collect::<String>()
    };
    services.iter().enumerate().map(service).collect()
}

/// Whether any destination was damped.
fn is_any_damped(text: &str, set_up: impl FnOnce(&mut Director)) -> bool {
    let mut director = Director::new(text);
    set_up(&mut director);
    let mut damped = false;
    director.run(50_000, |seen| {
        let states = seen.engine.destinations().filter_map(|(one, ..)| seen.engine.state(&one));
        damped |= states.into_iter().any(|state| matches!(state, State::Damped { .. }));
    });
    damped
}

#[test]
fn services_of_one_server_have_those_of_other_services_as_siblings() {
    let cases: [(&str, &[&[u8]]); 3] = [
        ("one server each", &[&[1], &[2], &[3]]),
        ("servers in several services", &[&[1, 2], &[2, 3], &[1, 3]]),
        ("one among several", &[&[1, 2, 3], &[4]]),
    ];
    for (name, services) in cases {
        let text = several(services);
        assert!(!is_any_damped(&text, |director| director.link = flaps()), "{name}: the link");
        let alone = |director: &mut Director| {
            director.own = flaps().into_iter().map(|when| (1, when)).collect();
        };
        assert!(is_any_damped(&text, alone), "{name}: one server alone");
    }
}

#[test]
fn what_is_shared_in_one_service_says_nothing_in_another_either() {
    // Servers 1 to 3 fail together; 1 is also in a service where it is the only one that does.
    let text = several(&[&[1, 2, 3], &[1, 4, 5, 6, 7]]);
    let rack = |director: &mut Director| {
        let of = |when: Range<u64>| [1, 2, 3].map(|host| (host, when.clone()));
        director.own = flaps().into_iter().flat_map(of).collect();
    };
    assert!(!is_any_damped(&text, rack));
}

#[test]
fn a_backup_on_the_same_network_is_excused_as_well() {
    let text = slow_to_rise("", 2) + "[[service.backup]]\naddress = \"10.0.0.8\"\n";
    assert!(!is_any_damped(&text, |director| director.link = flaps()));
}

#[test]
fn a_shared_failure_outlasts_a_reload() {
    let text = slow_to_rise("", 3);
    let mut director = Director::new(&text);
    director.link.push(2_000..20_000);
    director.run(10_000, |_| {});
    assert!(director.engine.state(&key(1)).is_some_and(State::is_hard_down));
    let now = director.start + Duration::from_secs(10);
    director.engine.replace(
        &services(&(text + "[[service.server]]\naddress = \"10.0.0.4\"\n")),
        |_| Presence::Absent,
        now,
    );
    for host in 1..=3 {
        let sample = Sample { check: Some(0), success: true, source: crate::health::Source::Baseline };
        director.engine.observe(&key(host), sample, None, now);
        assert_eq!(director.engine.state(&key(host)), Some(State::Up), "{host}");
    }
}

proptest! {
    /// However often and long the link is down, as long as all servers are asked meanwhile: nobody is damped, and who
    /// is asked after it is up.
    #[test]
    fn an_outage_of_the_link_leaves_nothing_behind(
        servers in 2_u8..7,
        fall in 1_u8..4,
        rise in 1_u8..4,
        outages in proptest::collection::vec((1_050_u64..6_000, 1_100_u64..8_000), 1..8),
    ) {
        let text = slow_to_rise("slow-start = \"5s\"", servers)
            .replace("fall = 2", &format!("fall = {fall}"))
            .replace("rise = 3", &format!("rise = {rise}"));
        let mut director = Director::new(&text);
        let mut ms = 3_000;
        for (down, up) in outages {
            director.link.push(ms..ms + down);
            ms += down + up;
        }
        let link = director.link.clone();
        let mut wrong = None;
        director.run(ms, |seen| {
            let settled = link.iter().all(|when| seen.ms < when.start || seen.ms >= when.end + INTERVAL);
            for host in 1..=servers {
                if seen.is_damped(host) || settled && seen.weight(host) != 10 {
                    wrong.get_or_insert((seen.ms, host, seen.state(host), seen.weight(host)));
                }
            }
        });
        prop_assert_eq!(wrong, None);
    }
}
