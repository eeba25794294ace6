use super::*;
use crate::{
    health::Source,
    model::{Protocol, ServiceKey, VirtualService, Weight},
    passive::Missing,
    pool::{AdminState, Presence},
};

const SECOND: Duration = Duration::from_secs(1);

fn services(lines: &str, servers: u8) -> Vec<VirtualService> {
    let head = "[[service]]\nname = \"web\"\naddress = \"192.0.2.80:80\"\nforward = \"direct-route\"\nfall = 2\nrise = 1\n";
    let server = |host| format!("[[service.server]]\naddress = \"10.0.0.{host}\"\nweight = 10\n");
    let text = format!("{head}{lines}\n") + &(1..=servers).map(server).collect::<String>();
    crate::config::native::read(&text, "test.toml".as_ref()).expect("it is a configuration").services
}

fn key(host: u8) -> DestinationKey {
    let service = ServiceKey::Address { protocol: Protocol::Tcp, address: ([192, 0, 2, 80], 80).into() };
    DestinationKey { service, server: ([10, 0, 0, host], 80).into() }
}

/// An engine whose servers are up, and the time.
struct Case {
    engine: Engine,
    now: Instant,
    servers: u8,
    events: Vec<String>,
}

impl Case {
    fn new(lines: &str, servers: u8) -> Self {
        let engine = Engine::new(&services(lines, servers), |_| Presence::In);
        let mut case = Self { engine, now: Instant::now(), servers, events: Vec::new() };
        case.pass(2 * SECOND);
        case
    }

    /// Time passes, with a check of each server each second, which succeeds.
    fn pass(&mut self, time: Duration) {
        let end = self.now + time;
        while self.now < end {
            self.now += SECOND;
            for host in 1..=self.servers {
                self.check(host, true);
            }
            let effects = self.engine.advance(self.now);
            self.take_in(&effects);
        }
    }

    fn check(&mut self, host: u8, success: bool) {
        let sample = Sample { check: Some(0), success, source: Source::Baseline };
        let effects = self.engine.observe(&key(host), sample, None, self.now);
        self.take_in(&effects);
    }

    fn fail(&mut self, host: u8, attempts: u64, lasted: u64) {
        let complaint = Complaint {
            missing: Missing::Handshake,
            attempts,
            answered: 0,
            networks: 9,
            lasted: Duration::from_secs(lasted),
            siblings: Comparison::Answer(1.0),
        };
        self.say(host, ClientsSay::Failing(complaint));
    }

    fn say(&mut self, host: u8, say: ClientsSay) {
        let report = ClientReport { id: ServerId(host.into()), say };
        let effects = self.engine.clients_say(&key(host), &report, self.now);
        self.take_in(&effects);
    }

    fn take_in(&mut self, effects: &Effects) {
        let about = effects.events.iter().filter(|event| matches!(event, Event::Contradiction { .. }));
        self.events.extend(about.map(|event| event.name().to_owned()));
    }

    fn weights(&self) -> Vec<Option<u16>> {
        (1..=self.servers).map(|host| self.engine.weight(&key(host)).map(|Weight(weight)| weight)).collect()
    }

    /// The names of the events since the last call.
    fn events(&mut self) -> Vec<String> {
        std::mem::take(&mut self.events)
    }
}

const REMOVE: &str = "on-contradiction = \"remove\"";

#[test]
fn a_contradiction_is_reported_once_when_it_begins_and_once_when_it_ends() {
    let mut case = Case::new("", 3);
    case.pass(10 * SECOND);
    case.fail(1, 375, 10);
    case.pass(10 * SECOND);
    case.fail(1, 750, 20);
    assert_eq!(case.events(), ["contradiction"]);
    assert_eq!(case.weights(), [Some(10); 3], "it is only reported");
    let words = case.engine.contradiction(&key(1)).expect("there is one").words(case.now);
    assert!(
        words.starts_with("for 20s its clients fail while its checks succeed: none of 750 SYNs"),
        "{words}"
    );
    assert!(words.contains("the VIP is not on the server's loopback"), "{words}");
    case.say(1, ClientsSay::Served);
    case.say(1, ClientsSay::Served);
    assert_eq!(case.events(), ["contradiction-over"]);
    assert!(case.engine.contradiction(&key(1)).is_none());
}

#[test]
fn without_two_successful_probes_meanwhile_it_is_no_contradiction() {
    let mut case = Case::new("", 3);
    // Its last success is older than the complaint.
    case.now += 20 * SECOND;
    case.fail(1, 375, 10);
    assert_eq!(case.events(), [""; 0]);
    case.check(1, true);
    case.fail(1, 375, 10);
    assert_eq!(case.events(), [""; 0], "one success is an accident");
    // A failure: its state is soft.
    case.check(1, true);
    case.check(1, false);
    case.fail(1, 375, 10);
    assert_eq!(case.events(), [""; 0]);
    case.pass(2 * SECOND);
    case.fail(1, 375, 10);
    assert_eq!(case.events(), ["contradiction"]);
}

#[test]
fn clients_and_probes_that_agree_are_no_contradiction() {
    let mut case = Case::new(REMOVE, 3);
    case.fail(1, 375, 2);
    assert_eq!(case.weights(), [Some(0), Some(10), Some(10)]);
    case.check(1, false);
    case.check(1, false);
    assert_eq!(case.events(), ["contradiction", "contradiction-over"]);
    case.fail(1, 500, 5);
    assert_eq!(case.events(), [""; 0], "it is down");
    case.pass(2 * SECOND);
    assert_eq!(case.weights(), [Some(10); 3], "its health alone decides again");
}

#[test]
fn an_excluded_server_is_tried_after_a_back_off_that_doubles() {
    let mut case = Case::new(REMOVE, 3);
    case.pass(10 * SECOND);
    case.fail(1, 375, 10);
    assert_eq!(
        (case.events(), case.weights()),
        (vec!["contradiction".to_owned()], vec![Some(0), Some(10), Some(10)])
    );
    let mut attempts = 375;
    for minutes in [1, 2, 4, 8, 16, 32, 60, 60] {
        case.pass(Duration::from_secs(60 * minutes - 1));
        assert_eq!(case.weights()[0], Some(0), "{minutes} min");
        case.pass(SECOND);
        assert_eq!(case.weights()[0], Some(1), "as few clients as can be");
        // Old numbers say nothing of the trial.
        case.fail(1, attempts + 19, 600);
        case.pass(10 * SECOND);
        case.fail(1, attempts + 19, 600);
        assert_eq!(case.weights()[0], Some(1));
        attempts += 20;
        case.fail(1, attempts, 600);
        assert_eq!(case.weights()[0], Some(0));
        assert_eq!(case.events(), ["contradiction-trial", "contradiction-out"]);
    }
    case.pass(Duration::from_hours(1));
    case.say(1, ClientsSay::Served);
    assert_eq!(case.events(), ["contradiction-trial", "contradiction-over"]);
    assert_eq!(case.weights(), [Some(10); 3]);
    // What was soon after is remembered.
    case.pass(Duration::from_mins(5));
    case.fail(1, 100, 10);
    case.pass(Duration::from_mins(59));
    assert_eq!(case.weights()[0], Some(0));
    case.say(1, ClientsSay::Served);
    case.pass(Duration::from_mins(11));
    case.fail(1, 100, 10);
    case.pass(Duration::from_mins(1));
    assert_eq!(case.weights()[0], Some(1), "forgotten after ten minutes");
}

#[test]
fn never_the_last_server_nor_most_of_a_service_is_excluded() {
    for (servers, excluded) in [(1, 0), (2, 1), (3, 1), (4, 2), (5, 2)] {
        let mut case = Case::new(REMOVE, servers);
        for host in 1..=servers {
            case.fail(host, 375, 2);
        }
        let out = case.weights().into_iter().filter(|weight| *weight == Some(0)).count();
        assert_eq!(out, excluded, "of {servers}");
        assert_eq!(case.events(), vec!["contradiction"; servers.into()]);
    }
    // Who was kept is excluded once there is room.
    let mut case = Case::new(REMOVE, 3);
    case.fail(1, 375, 2);
    case.fail(2, 375, 2);
    assert_eq!(case.weights(), [Some(0), Some(10), Some(10)]);
    case.say(1, ClientsSay::Served);
    case.fail(2, 500, 12);
    assert_eq!(case.weights(), [Some(10), Some(0), Some(10)]);
    assert_eq!(case.events(), ["contradiction", "contradiction", "contradiction-over", "contradiction-out"]);
}

#[test]
fn an_excluded_server_serves_where_nobody_else_does() {
    let mut case = Case::new(REMOVE, 2);
    case.fail(1, 375, 2);
    assert_eq!(case.weights(), [Some(0), Some(10)]);
    case.check(2, false);
    case.check(2, false);
    assert_eq!(case.weights(), [Some(10), Some(0)]);
    case.check(2, true);
    assert_eq!(case.weights(), [Some(0), Some(10)]);
}

#[test]
fn a_complaint_that_siblings_share_excludes_nobody() {
    let mut case = Case::new(REMOVE, 3);
    let complaint = Complaint {
        missing: Missing::Handshake,
        attempts: 500,
        answered: 0,
        networks: 9,
        lasted: 2 * SECOND,
        siblings: Comparison::Alike,
    };
    case.say(1, ClientsSay::Failing(complaint));
    assert_eq!((case.events(), case.weights()), (vec!["contradiction".to_owned()], vec![Some(10); 3]));
}

#[test]
fn another_configuration_readmits_or_ends() {
    let mut case = Case::new(REMOVE, 3);
    case.fail(1, 375, 2);
    let effects = case.engine.replace(&services("", 3), |_| Presence::In, case.now);
    case.take_in(&effects);
    assert_eq!(case.weights(), [Some(10); 3], "it is only reported now");
    assert_eq!(case.events(), ["contradiction"]);
    assert_eq!(case.engine.next_change(), None, "nothing is to be tried");
    let without_first: Vec<VirtualService> = services("", 3)
        .into_iter()
        .map(|mut service| {
            service.servers.remove(0);
            service
        })
        .collect();
    let effects = case.engine.replace(&without_first, |_| Presence::In, case.now);
    case.take_in(&effects);
    assert_eq!(case.events(), ["contradiction-over"]);
}

#[test]
fn on_failure_says_how_it_is_out_and_people_have_the_last_word() {
    let mut case = Case::new(&format!("on-failure = \"remove\"\n{REMOVE}"), 3);
    case.fail(1, 375, 2);
    assert_eq!(case.weights(), [None, Some(10), Some(10)]);
    let drained = AdminState { administrator: true, ..AdminState::default() };
    case.engine.set_admin_state(&key(1), drained, case.now);
    assert_eq!(case.weights()[0], Some(0));
    case.pass(Duration::from_mins(2));
    assert_eq!(case.weights()[0], Some(0), "no trial raises a weight that people hold at 0");
}
