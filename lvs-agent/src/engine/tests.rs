mod serving;
mod shared_failures;
mod unasked;

use std::time::Duration;

use super::*;
use crate::{
    ipvs::{ServiceFlags, WantedService, Wish},
    model::{AgentOrder, AgentReport, ForwardingMethod, Netmask, Persistence, Tunnel, TunnelFlags},
    pool::{Drain, PoolEvent},
};

fn wanted(text: &str) -> Wanted {
    let config = crate::config::native::read(text, "test.toml".as_ref()).expect("it is a configuration");
    Engine::new(&config.services, |_| Presence::in_table(Some(true))).wanted()
}

fn pool_event(change: PoolEvent) -> Event {
    Event::Pool { service: "web".into(), key: key(1).service, change }
}

/// The only service of a configuration, and its servers.
fn service(text: &str) -> (ServiceKey, WantedService) {
    wanted(text).services.into_iter().next().expect("there is a service")
}

#[test]
fn configured_settings_are_desired() {
    let (key, udp) = service(
        r#"
        [[service]]
        address = "[2001:db8::53]:53"
        protocol = "udp"
        persistent = "90s"
        persistent-netmask = 64
        one-packet = true
        forward = "tunnel"
        tunnel = { type = "gue", port = 6080, checksum = "full" }
        [[service.server]]
        address = "10.0.0.1"
        [[service.server]]
        address = "2001:db8::1"
        forward = "masquerade"
        "#,
    );
    assert_eq!(key.to_string(), "udp [2001:db8::53]:53");
    let persistence = Persistence::new(Duration::from_secs(90), Netmask::V6(64));
    assert_eq!(udp.persistence, Wish::Set(Some(persistence)));
    assert_eq!(udp.flags, Wish::Set(ServiceFlags::ONE_PACKET));
    let gue = Tunnel::Gue { port: 6080, flags: TunnelFlags::CHECKSUM };
    let destination = |server: &str| udp.destinations[&server.parse().expect("it is an address")];
    let tunnelled = destination("10.0.0.1:53");
    assert_eq!((tunnelled.method, tunnelled.tunnel), (ForwardingMethod::Tunnel, Wish::Set(gue)));
    let masqueraded = destination("[2001:db8::1]:53");
    assert_eq!((masqueraded.method, masqueraded.tunnel), (ForwardingMethod::Masquerade, Wish::Keep));
}

#[test]
fn settings_that_are_not_configured_have_defaults() {
    let (key, marked) = service(
        r#"
        [[service]]
        mark = 7
        family = "ipv6"
        forward = "tunnel"
        [[service.server]]
        address = "10.0.0.1"
        "#,
    );
    assert_eq!(key.to_string(), "mark 7 (IPv6)");
    assert_eq!(marked.persistence, Wish::Set(None));
    assert_eq!(marked.flags, Wish::Keep, "the scheduler's own flags may be among them");
    let (server, tunnelled) = marked.destinations.first_key_value().expect("there is a server");
    assert_eq!(server.to_string(), "10.0.0.1:0");
    assert_eq!(tunnelled.tunnel, Wish::Set(Tunnel::Ipip));
}

/// The services of a configuration.
fn services(text: &str) -> Vec<VirtualService> {
    crate::config::native::read(text, "test.toml".as_ref()).expect("it is a configuration").services
}

/// The text of a service with the servers 10.0.0.1 and so on, and `lines` in it.
fn web(lines: &str, servers: u8) -> String {
    let head = "[[service]]\nname = \"web\"\naddress = \"192.0.2.80:80\"\nforward = \"masquerade\"\nfall = 2\nrise = 1\n";
    let server = |host| format!("[[service.server]]\naddress = \"10.0.0.{host}\"\nweight = 10\n");
    format!("{head}{lines}\n") + &(1..=servers).map(server).collect::<String>()
}

fn key(host: u8) -> DestinationKey {
    let service =
        ServiceKey::Address { protocol: crate::model::Protocol::Tcp, address: ([192, 0, 2, 80], 80).into() };
    DestinationKey { service, server: ([10, 0, 0, host], 80).into() }
}

/// An engine and the time.
struct Case {
    engine: Engine,
    now: Instant,
}

impl Case {
    fn new(text: &str) -> Self {
        let now = Instant::now();
        let mut engine = Engine::new(&services(text), |_| Presence::Absent);
        engine.decide_all(now);
        Self { engine, now }
    }

    /// The result of a baseline check of a server, the one with this index.
    fn observe(&mut self, host: u8, check: usize, success: bool) -> Effects {
        let sample = Sample { check: Some(check), success, source: crate::health::Source::Baseline };
        self.engine.observe(&key(host), sample, None, self.now)
    }

    /// As many results as a hard state takes.
    fn becomes(&mut self, host: u8, up: bool) -> Effects {
        (0..2)
            .map(|_| self.observe(host, 0, up))
            .reduce(|mut sum, last| {
                sum.transition = sum.transition.or(last.transition);
                sum.table_changed |= last.table_changed;
                sum.events.extend(last.events);
                sum
            })
            .expect("there are two")
    }

    /// Weights of the first hosts; -1: not in the table.
    fn weights<const N: usize>(&self) -> [i32; N] {
        let wanted = self.engine.wanted();
        let destinations = &wanted.services[&key(1).service].destinations;
        std::array::from_fn(|index| {
            let host = u8::try_from(index + 1).expect("few hosts");
            let destination = destinations.get(&key(host).server);
            destination.map_or(-1, |destination| destination.weight.0.into())
        })
    }

    fn replace(&mut self, text: &str) -> Effects {
        self.engine.replace(&services(text), |_| Presence::Absent, self.now)
    }
}

#[test]
fn a_backup_takes_over_while_all_servers_are_down() {
    let backup = "[[service.backup]]\naddress = \"10.0.0.3\"\nchecked = false\n";
    let mut case = Case::new(&(web("on-failure = \"remove\"", 2) + backup));
    assert_eq!(case.weights(), [-1, -1, -1]);
    assert_eq!(case.becomes(1, true).events, [pool_event(PoolEvent::QuorumBack)]);
    case.becomes(2, true);
    case.becomes(1, false);
    assert_eq!(case.weights(), [-1, 10, -1]);
    let last = case.becomes(2, false);
    let expected = [PoolEvent::QuorumLost, PoolEvent::BackupsIn].map(pool_event);
    assert_eq!((case.weights(), last.events), ([-1, -1, 1], expected.to_vec()));
    case.becomes(1, true);
    assert_eq!(case.weights(), [10, -1, -1]);
}

#[test]
fn a_backup_is_checked_like_any_server() {
    let backup = "[[service.backup]]\naddress = \"10.0.0.2\"\n[[service.backup]]\naddress = \"10.0.0.3\"\n";
    let mut case = Case::new(&(web("", 1) + backup));
    for (host, up) in [(1, false), (2, false), (3, true)] {
        case.becomes(host, up);
    }
    assert_eq!(case.weights(), [0, -1, 1]);
    case.becomes(2, true);
    case.becomes(3, false);
    assert_eq!(case.weights(), [0, 1, -1]);
    assert_eq!(case.engine.state(&key(2)), Some(State::Up));
}

#[test]
fn a_firewall_mark_has_backups_as_well() {
    let text = "[[service]]\nmark = 7\nforward = \"direct-route\"\nfall = 1\n[[service.server]]\naddress = \"10.0.0.1\"\n\
                [[service.backup]]\naddress = \"127.0.0.1\"\nchecked = false\n";
    let mut engine = Engine::new(&services(text), |_| Presence::Absent);
    let now = Instant::now();
    let (destination, ..) = engine.destinations().next().expect("there is a server");
    let sample = Sample { check: Some(0), success: false, source: crate::health::Source::Baseline };
    assert!(engine.observe(&destination, sample, None, now).table_changed);
    let wanted = engine.wanted();
    let weights: Vec<_> = wanted.services[&destination.service]
        .destinations
        .iter()
        .map(|(server, destination)| (server.to_string(), destination.weight.0))
        .collect();
    assert_eq!(weights, [("10.0.0.1:0".to_owned(), 0), ("127.0.0.1:0".to_owned(), 1)]);
}

#[test]
fn several_checks_decide_about_one_server() {
    let lines = "check = [{ type = \"ping\" }, { type = \"http\" }]";
    let mut case = Case::new(&web(lines, 2));
    case.observe(1, 0, true);
    assert_eq!(case.weights(), [0, 0]);
    assert!(case.observe(1, 1, true).table_changed);
    assert_eq!(case.weights(), [10, 0]);
    assert_eq!(case.engine.application_check(&key(1)).map(|(index, _)| index), Some(1));
    let mut any = Case::new(&web(&format!("{lines}\ncombine = \"any\""), 2));
    any.observe(1, 1, true);
    assert_eq!(any.weights(), [10, 0]);
    assert_eq!(any.engine.application_check(&key(1)), None);
    let checks: Vec<_> = services(&web(lines, 2))[0]
        .all_checks()
        .map(|(destination, index, check)| (destination, index, check.kind.asks_application()))
        .collect();
    let expected = [(key(1), 0, false), (key(1), 1, true), (key(2), 0, false), (key(2), 1, true)];
    assert_eq!(checks, expected);
}

#[test]
fn a_check_may_request_a_weight() {
    let mut case = Case::new(&web("check = { type = \"file\", file = \"/weight\" }", 2));
    let sample = Sample { check: Some(0), success: true, source: crate::health::Source::Baseline };
    for (requested, weight) in [(Some(3), 3), (Some(3), 3), (None, 3), (Some(0), 0), (Some(20), 20)] {
        let reported = requested.map(|weight| Reported::Weight(Weight(weight)));
        let effects = case.engine.observe(&key(1), sample, reported, case.now);
        let before = effects.table_changed;
        assert_eq!(case.weights(), [weight, 0], "{requested:?}");
        let again = case.engine.observe(&key(1), sample, reported, case.now);
        assert_eq!(again, Effects::default(), "{before}");
    }
}

#[test]
fn administrative_states_override_health() {
    let mut case = Case::new(&web("", 3));
    for host in 1..=3 {
        case.becomes(host, true);
    }
    let drained = AdminState::from(AdminCommands::drain(Drain::Quiesce));
    assert!(case.engine.set_admin_state(&key(1), drained, case.now).expect("it is there").table_changed);
    assert!(!case.engine.set_admin_state(&key(1), drained, case.now).expect("it is there").table_changed);
    let administrator = AdminState { administrator: true, ..AdminState::default() };
    case.engine.set_admin_state(&key(2), administrator, case.now);
    assert_eq!(case.weights(), [0, 0, 10]);
    assert_eq!(case.becomes(2, false), Effects::default(), "it is never called failed");
    assert!(case.becomes(1, false).transition.is_some());
    assert_eq!(case.engine.set_admin_state(&key(9), drained, case.now), None);
    case.engine.set_admin_state(&key(1), AdminState::default(), case.now);
    case.becomes(1, true);
    assert_eq!(case.weights(), [10, 0, 10]);
}

#[test]
fn a_file_in_the_maintenance_directory_takes_servers_out() {
    let mut case = Case::new(&web("", 2));
    case.becomes(1, true);
    case.becomes(2, true);
    let drained = AdminState::from(AdminCommands::drain(Drain::Quiesce));
    case.engine.set_admin_state(&key(2), drained, case.now);
    let named = MaintenanceSet::from([(key(1).server.ip(), None)]);
    assert!(case.engine.set_maintenance(named.clone(), case.now).table_changed);
    assert_eq!(case.engine.set_maintenance(named, case.now), Effects::default());
    assert_eq!(case.weights(), [0, 0]);
    case.replace(&web("on-failure = \"remove\"", 2));
    assert_eq!(case.weights(), [-1, 0], "after a reload as well");
    case.engine.set_maintenance(MaintenanceSet::new(), case.now);
    assert_eq!(case.weights(), [10, 0], "other commands stay");
}

#[test]
fn commands_outlast_the_agent_for_servers_that_are_still_there() {
    let mut case = Case::new(&web("", 3));
    let saved = BTreeMap::from([
        (key(1), AdminCommands::drain(Drain::Quiesce)),
        (key(2), AdminCommands { maintenance: true, drain: Some(Drain::Remove) }),
        (key(9), AdminCommands::drain(Drain::Quiesce)),
    ]);
    assert_eq!(case.engine.restore_commands(&saved, case.now), [key(9)]);
    for host in 1..=3 {
        case.becomes(host, true);
    }
    assert_eq!(case.weights(), [0, -1, 10]);
    let restored: Vec<_> = case.engine.commands().into_iter().collect();
    assert_eq!(restored, [(key(1), saved[&key(1)]), (key(2), saved[&key(2)])]);
    case.engine.set_admin_state(&key(1), AdminState::default(), case.now);
    assert_eq!(case.weights(), [10, -1, 10]);
    assert_eq!(case.engine.commands().len(), 1);
}

#[test]
fn slow_start_raises_the_weight_with_time() {
    let mut case = Case::new(&web("slow-start = \"10s\"", 2));
    case.becomes(1, true);
    case.becomes(2, true);
    assert_eq!((case.weights(), case.engine.next_change()), ([10, 10], None));
    case.becomes(1, false);
    case.becomes(1, true);
    assert_eq!(case.weights(), [1, 10]);
    let mut weights = Vec::new();
    while let Some(next) = case.engine.next_change() {
        assert!(next > case.now);
        case.now = next;
        let effects = case.engine.advance(next);
        assert!(effects.events.is_empty());
        weights.push(case.weights::<1>()[0]);
    }
    assert_eq!(weights, (2..=10).collect::<Vec<_>>());
    assert_eq!(case.engine.rises_to(&key(1)), None);
}

#[test]
fn a_reload_keeps_the_state_of_servers_that_stay() {
    let mut case = Case::new(&web("", 3));
    for (host, up) in [(1, true), (2, false), (3, true)] {
        case.becomes(host, up);
    }
    let drained = AdminState::from(AdminCommands::drain(Drain::Quiesce));
    case.engine.set_admin_state(&key(3), drained, case.now);
    assert_eq!(case.replace(&web("", 3)), Effects::default(), "nothing has changed");
    assert!(case.replace(&(web("", 3) + "[[service.server]]\naddress = \"10.0.0.4\"\n")).table_changed);
    assert_eq!(case.weights(), [10, 0, 0, 0]);
    assert_eq!(case.engine.state(&key(2)).map(State::is_hard_down), Some(true));
    let other = web("fall = 9", 2).replace("fall = 2\n", "").replace("weight = 10", "weight = 20");
    assert!(case.replace(&other).table_changed);
    assert_eq!(case.weights(), [20, 0, -1, -1]);
    assert_eq!(case.engine.failures_to_fall(&key(1)), 9);
    assert_eq!(case.becomes(3, true), Effects::default(), "it has gone");
    // In another order, with another `on-failure`, and with a changed weight.
    let turned = web("on-failure = \"remove\"", 0)
        + "[[service.server]]\naddress = \"10.0.0.2\"\n[[service.server]]\naddress = \"10.0.0.1\"\nweight = 5\n";
    case.replace(&turned);
    assert_eq!(case.weights(), [5, -1]);
    case.becomes(2, true);
    assert_eq!(case.weights(), [5, 1]);
}

#[test]
fn most_of_a_service_fails_from_two_servers_and_more_than_half() {
    let fails = |servers: u8, failing: &[u8]| {
        let mut case = Case::new(&web("", servers));
        for host in 1..=servers {
            case.becomes(host, true);
        }
        for host in failing {
            case.observe(*host, 0, false);
        }
        case.engine.most_fail(&key(1).service)
    };
    assert_eq!([fails(1, &[1]), fails(2, &[1]), fails(3, &[1]), fails(4, &[1, 2])], [false; 4]);
    assert_eq!([fails(2, &[1, 2]), fails(3, &[1, 3]), fails(4, &[2, 3, 4])], [true; 3]);
}

#[test]
fn configured_flags_are_desired() {
    let mut config = services(&web("", 1)).remove(0);
    let flags = |config: &VirtualService| Service::new(config, |_| Presence::Absent).wanted().flags;
    assert_eq!(flags(&config), Wish::Keep);
    let extra = |config: &VirtualService| Service::new(config, |_| Presence::Absent).wanted().extra_flags;
    assert_eq!(extra(&config), ServiceFlags::NONE);
    config.scheduler = "mh".parse().expect("it is one");
    assert_eq!((flags(&config), extra(&config)), (Wish::Keep, ServiceFlags::SCHEDULER_1));
    config.scheduler_flags = Some(crate::model::SchedulerFlags::default());
    assert_eq!(extra(&config), ServiceFlags::NONE, "the file has said otherwise");
    config.scheduler_flags = Some(crate::model::SchedulerFlags { flag_1: true, flag_2: false, flag_3: true });
    assert_eq!(flags(&config), Wish::Set(ServiceFlags::SCHEDULER_1 | ServiceFlags::SCHEDULER_3));
}

#[test]
fn a_scheduler_that_refuses_clients_at_weight_0_has_its_servers_removed() {
    let mut case = Case::new(&web("scheduler = \"dh\"", 2));
    case.becomes(1, true);
    case.becomes(2, true);
    case.becomes(2, false);
    assert_eq!(case.weights(), [10, -1]);
    case.replace(&web("scheduler = \"sh\"", 2));
    assert_eq!(case.weights(), [10, 0], "with the fallback flag");
    case.replace(&web("scheduler = \"sh\"\nscheduler-flags = []", 2));
    assert_eq!(case.weights(), [10, -1]);
}

#[test]
fn configured_thresholds_are_desired() {
    let text = web("", 0) + "[[service.server]]\naddress = \"10.0.0.1\"\nupper-threshold = 9\n";
    let (_, service) = service(&text);
    let destination = service.destinations[&key(1).server];
    assert_eq!((destination.upper_threshold, destination.lower_threshold), (Wish::Set(9), Wish::Keep));
}

mod agents;
mod lowered;
