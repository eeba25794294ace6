//! Statuses for tests.

use crate::control::{
    CheckOutcome, CheckStatus, ServerStatus, ServiceStatus, SignalStatus, Status, Traffic, Visibility,
};

/// A server in this state.
pub(super) fn server(address: &str, state: &str) -> ServerStatus {
    let result = if state == "up" { CheckOutcome::Success } else { CheckOutcome::Failure };
    let text = if state == "up" { "answered" } else { "connection refused" };
    ServerStatus {
        probe_path: None,
        address: address.parse().unwrap(),
        method: "masquerade".to_owned(),
        weight: Some(u16::from(state == "up")),
        table_weight: Some(i32::from(state == "up")),
        state: state.to_owned(),
        backup: false,
        held: false,
        note: None,
        state_age_ms: Some(81_000),
        checks: vec![CheckStatus {
            check: "http".to_owned(),
            result,
            text: text.to_owned(),
            took_ms: 0.42,
            age_ms: 300,
        }],
        traffic: Some(Traffic { active: 12, inactive: 30, connections_per_s: 14, ..Traffic::default() }),
        failure: None,
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

/// Services of these names, at 192.0.2.1, .2, …
pub(super) fn status(services: Vec<(&str, Vec<ServerStatus>)>) -> Status {
    let service = |(index, (name, servers)): (usize, (&str, Vec<ServerStatus>))| ServiceStatus {
        name: name.to_owned(),
        key: format!("tcp 192.0.2.{}:80", index + 1),
        scheduler: "wlc".to_owned(),
        servers,
        ..ServiceStatus::default()
    };
    Status { services: services.into_iter().enumerate().map(service).collect(), ..Status::default() }
}
