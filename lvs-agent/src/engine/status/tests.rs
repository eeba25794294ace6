use super::*;
use crate::{
    config::native,
    engine::{
        Effects,
        admin::{AdminCommand, apply},
        selection::ServerSelector,
    },
    event::Event,
    health::{Sample, Source},
    model::StatusCodes,
    pool::Presence,
    probe::{Failure, FailureReason, Outcome, Success},
};

/// Two services: `web` with three servers, `mail` with one.
fn engine() -> Engine {
    let text = r#"
        [defaults]
        forward = "masquerade"
        fall = 1
        rise = 1
        check = { type = "http" }
        [[service]]
        name = "web"
        address = "192.0.2.1:80"
        scheduler = "wrr"
        persistent = "5m"
        [[service.server]]
        address = "10.0.0.1:80"
        [[service.server]]
        address = "10.0.0.2:80"
        [[service.server]]
        address = "10.0.0.3:80"
        [[service]]
        name = "mail"
        address = "192.0.2.1:25"
        [[service.server]]
        address = "10.0.0.1:25"
    "#;
    let config = native::read(text, "test.toml".as_ref()).expect("it is a configuration");
    Engine::new(&config.services, |_| Presence::In)
}

fn observe(engine: &mut Engine, server: &str, success: bool, now: Instant) {
    observe_reason(engine, server, (!success).then_some(FailureReason::Refused), now);
}

/// A result of a server's check. `None`: it answered as it should.
fn observe_reason(engine: &mut Engine, server: &str, reason: Option<FailureReason>, now: Instant) -> Effects {
    let server = server.parse().unwrap();
    let (destination, ..) = engine.destinations().find(|(key, ..)| key.server == server).unwrap();
    let after = Duration::from_millis(3);
    let success = reason.is_none();
    let outcome: Outcome = match reason {
        Some(reason) => Err(Failure { reason, after }),
        None => Ok(Success { latency: after, connect: None, weight: None }),
    };
    assert_eq!(engine.note_check(&destination, 0, &outcome, now), None);
    let sample = Sample { check: Some(0), success, source: Source::Baseline };
    engine.observe_outcome(&destination, sample, &outcome, now)
}

fn healths(engine: &Engine, now: Instant) -> Vec<Health> {
    let services = service_statuses(engine, |_| None, None, now).unwrap();
    services.iter().map(|service| service.status.health).collect()
}

#[test]
fn a_service_is_up_degraded_or_without_a_server() {
    let (mut engine, now) = (engine(), Instant::now());
    let all = ["10.0.0.1:80", "10.0.0.2:80", "10.0.0.3:80"];
    assert_eq!(healths(&engine, now), [Health::Degraded; 2], "nothing is known yet");
    for server in all.into_iter().chain(["10.0.0.1:25"]) {
        observe(&mut engine, server, true, now);
    }
    assert_eq!(healths(&engine, now), [Health::Up; 2]);
    assert_eq!(one_line(&engine, now), "4 of 4 servers up, all is up");
    observe(&mut engine, all[0], false, now);
    assert_eq!(healths(&engine, now), [Health::Degraded, Health::Up]);
    assert_eq!(one_line(&engine, now), "3 of 4 servers up, degraded");
    observe(&mut engine, all[1], false, now);
    observe(&mut engine, all[2], false, now);
    observe(&mut engine, "10.0.0.1:25", false, now);
    assert_eq!(healths(&engine, now), [Health::NoServer; 2]);
    assert!(one_line(&engine, now).ends_with("servers up, a service has no server"));
}

#[test]
fn a_server_that_people_hold_out_is_no_fault_unless_it_was_the_last() {
    let (mut engine, now) = (engine(), Instant::now());
    for server in ["10.0.0.1:80", "10.0.0.2:80", "10.0.0.3:80", "10.0.0.1:25"] {
        observe(&mut engine, server, true, now);
    }
    let selector = ServerSelector { server: "10.0.0.1".parse().unwrap(), service: None };
    apply(&mut engine, AdminCommand::Maintenance(true), &selector, now).unwrap();
    assert_eq!(healths(&engine, now), [Health::Up, Health::NoServer]);
    let services = service_statuses(&engine, |_| None, None, now).unwrap();
    assert!(services[0].destinations[0].is_held && !services[0].destinations[1].is_held);
}

#[test]
fn a_service_is_found_by_name_key_and_address_and_its_checks_say_what_they_found() {
    let (mut engine, start) = (engine(), Instant::now());
    observe(&mut engine, "10.0.0.2:80", false, start);
    let now = start + Duration::from_millis(70);
    for name in ["web", "tcp 192.0.2.1:80", "192.0.2.1:80"] {
        let services = service_statuses(&engine, |_| None, Some(name), now).unwrap();
        let [service] = &services[..] else { panic!("{name}: {services:?}") };
        let ServiceStatus { name, scheduler, persistent_s, .. } = &service.status;
        assert_eq!((name.as_str(), scheduler.as_str(), *persistent_s), ("web", "wrr", Some(300)));
        let server = service.destinations[1].clone().with_signal(SignalStatus::none("no"));
        let expected = CheckStatus {
            check: "http".to_owned(),
            result: CheckOutcome::Failure,
            text: "connection refused".to_owned(),
            took_ms: 3.0,
            age_ms: 70,
        };
        assert_eq!(server.checks, [expected]);
    }
    let unknown = service_statuses(&engine, |_| None, Some("wbe"), now).unwrap_err();
    assert_eq!(unknown.to_string(), "there is no service \"wbe\"; there are web, mail, …");
}

#[test]
fn another_address_that_is_asked_is_told() {
    for (check, expected) in [
        ("{ type = \"connect\" }", None),
        ("{ type = \"connect\", connect-to = \"192.0.2.9:81\" }", Some("192.0.2.9:81")),
        ("{ type = \"http\", connect-to = \"192.0.2.9\" }", Some("192.0.2.9:80")),
        ("{ type = \"ping\", connect-to = \"2001:db8::9\" }", Some("2001:db8::9")),
    ] {
        let text = format!(
            "[[service]]\nname = \"web\"\naddress = \"192.0.2.1:80\"\nforward = \"masquerade\"\ncheck = {check}\n\
             [[service.server]]\naddress = \"10.0.0.2:80\"\n"
        );
        let config = native::read(&text, "test.toml".as_ref()).unwrap_or_else(|error| panic!("{error}"));
        let engine = Engine::new(&config.services, |_| Presence::Absent);
        let services = service_statuses(&engine, |_| None, None, Instant::now()).unwrap();
        let expected = expected.map(|asked| format!("address {asked} instead of its own"));
        assert_eq!(services[0].destinations[0].probe_path, expected, "{check}");
    }
}

#[test]
fn since_when_a_server_is_in_its_state_grows_until_it_is_in_another() {
    let (mut engine, start) = (engine(), Instant::now());
    let server = "10.0.0.2:80";
    let ms = Duration::from_millis;
    let since = |engine: &Engine, now| {
        let services = service_statuses(engine, |_| None, Some("web"), now).unwrap();
        services[0].destinations[1].clone().with_signal(SignalStatus::none("no")).state_age_ms
    };
    assert_eq!(since(&engine, start + ms(900)), None, "since the start");
    // Each result in turn, when it comes, and how long the server has been in its state 70 ms after it.
    for (success, at, age) in [
        (false, 1_000, 70),
        (false, 3_000, 2_070),
        (true, 5_000, 70),
        (true, 65_000, 60_070),
        (false, 66_000, 70),
        (false, 67_000, 1_070),
    ] {
        observe(&mut engine, server, success, start + ms(at));
        assert_eq!(since(&engine, start + ms(at + 70)), Some(age), "at {at} ms");
        assert_eq!(since(&engine, start + ms(at + 90)), Some(age + 20), "at {at} ms, later");
    }
}

#[test]
fn another_reason_of_a_server_that_is_down_is_an_event_once() {
    let (mut engine, start) = (engine(), Instant::now());
    let status = |got| FailureReason::WrongStatus { got, wanted: StatusCodes::from(200..=399) };
    let refused = || FailureReason::Refused;
    let mut told = Vec::new();
    let reasons =
        [refused(), refused(), status(503), status(503), status(503), status(502), status(502), status(502)];
    for (second, reason) in (1..).zip(reasons) {
        let now = start + Duration::from_secs(second);
        let effects = observe_reason(&mut engine, "10.0.0.1:80", Some(reason), now);
        for event in effects.events {
            if let Event::Reason { subject, was, outcome } = event {
                let server = subject.destination.server.to_string();
                told.push((second, server, was, outcome.unwrap_err().reason.to_string()));
            }
        }
    }
    let expected = [(4, refused(), status(503)), (7, status(503), status(502))]
        .map(|(second, was, new)| (second, "10.0.0.1:80".to_owned(), was.to_string(), new.to_string()));
    assert_eq!(told, expected);
}
