use serde_json::{Value, json};

use super::*;
use crate::control::{EvidenceStatus, SignalStatus, Visibility};

const NOW: u64 = 1_700_000_000;

fn server(address: &str, state: &str) -> ServerStatus {
    ServerStatus {
        address: address.parse().unwrap(),
        method: "masquerade".to_owned(),
        weight: Some(1),
        table_weight: Some(1),
        state: state.to_owned(),
        backup: false,
        held: false,
        note: None,
        state_age_ms: Some(5_000),
        checks: vec![CheckStatus {
            check: "http".to_owned(),
            result: CheckOutcome::Success,
            text: "answered".to_owned(),
            took_ms: 0.25,
            age_ms: 900,
        }],
        traffic: Some(Traffic { active: 3, connections_per_s: 7, ..Traffic::default() }),
        failure: None,
        probe_path: None,
        idle_connection: None,
        contradiction: None,
        signal: SignalStatus {
            seen: Visibility::Both,
            reason: None,
            usual_wait_ms: Some(0.4),
            evidence: None,
        },
    }
}

fn status(servers: Vec<ServerStatus>) -> Status {
    let service = ServiceStatus {
        name: "web".to_owned(),
        key: "tcp 192.0.2.80:80".to_owned(),
        servers,
        ..ServiceStatus::default()
    };
    Status { services: vec![service], ..Status::default() }
}

fn changes(view: &View, before: &View) -> Value {
    serde_json::to_value(view.since(before)).unwrap()
}

#[test]
fn a_page_that_knows_everything_is_told_nothing() {
    let status = status(vec![server("10.0.0.1:80", "up")]);
    let before = View::of(&status, NOW, None);
    // Ages go on; the times that they mean stay, though a second is measured as two now and then.
    let mut later = status.clone();
    later.agent.uptime_ms = 3_900;
    later.services[0].servers[0].state_age_ms = Some(8_900);
    later.services[0].servers[0].checks[0].age_ms = 100;
    let view = View::of(&later, NOW + 3, Some(&before));
    assert_eq!(changes(&view, &before), json!({}));
    assert_eq!(view.services[0].servers[0].rates, [7, 7]);
}

#[test]
fn only_what_differs_is_told() {
    let all = status(vec![server("10.0.0.1:80", "up"), server("10.0.0.2:80", "up")]);
    let before = View::of(&all, NOW, None);
    let mut later = all.clone();
    later.agent.uptime_ms = 10_000;
    later.services[0].servers[0].state_age_ms = Some(15_000);
    later.services[0].servers[0].checks[0].took_ms = 0.5;
    let down = &mut later.services[0].servers[1];
    *down = ServerStatus {
        state_age_ms: Some(0),
        weight: Some(0),
        failure: Some(EvidenceStatus { text: "connection refused".to_owned(), age_ms: 1_000 }),
        ..server("10.0.0.2:80", "down")
    };
    let view = View::of(&later, NOW + 10, Some(&before));
    assert_eq!(
        changes(&view, &before),
        json!({
            "agent": { "version": "", "mode": "", "started": NOW, "health": "up", "up": 1, "servers": 2, "warnings": [] },
            "services": [[0, { "name": "web", "key": "tcp 192.0.2.80:80", "scheduler": "", "health": "up", "up": 1,
                "alarm": false, "quorum_lost": false }]],
            "servers": [[0, 1, { "address": "10.0.0.2:80", "forward": "Masq", "weight": 0, "table_weight": 1,
                "state": "down", "backup": false, "held": false, "since": NOW + 10, "signal": "whole",
                "why": [{ "text": "http answered" }, { "text": "last failure: connection refused", "at": NOW + 9 }] }]],
            "numbers": [[0, 0, [[3, 0, 7], 500, 400]]],
        })
    );
}

#[test]
fn who_comes_or_goes_moves_the_others() {
    let two = View::of(&status(vec![server("10.0.0.1:80", "up"), server("10.0.0.2:80", "up")]), NOW, None);
    let other =
        View::of(&status(vec![server("10.0.0.1:80", "up"), server("10.0.0.3:80", "up")]), NOW, Some(&two));
    let one = View::of(&status(vec![server("10.0.0.1:80", "up")]), NOW, Some(&two));
    assert!(two.has_places_of(&two) && !two.has_places_of(&other) && !two.has_places_of(&one));
    assert_eq!(other.services[0].servers[1].rates, [7], "its rates are not those of the one before");
}

#[test]
fn rates_are_kept_for_as_long_as_they_are_shown() {
    let status = status(vec![server("10.0.0.1:80", "up")]);
    let mut view = View::of(&status, NOW, None);
    for _ in 0..2 * SAMPLES {
        view = View::of(&status, NOW, Some(&view));
    }
    assert_eq!(view.services[0].servers[0].rates.len(), SAMPLES);
}

#[test]
fn names_of_others_have_no_line_ends_in_a_message() {
    let mut status = status(vec![server("10.0.0.1:80", "up")]);
    status.services[0].name = "a\nevent: b\r\ndata: {}\n\n</script>".to_owned();
    let text = serde_json::to_string(&View::of(&status, NOW, None).all()).unwrap();
    assert!(!text.contains(['\n', '\r']), "{text}");
}
