use super::*;
use crate::control::{AgentStatus, ObservedEdit, SignalStatus, Visibility};

fn server(address: &str, state: &str, weight: Option<u16>) -> ServerStatus {
    ServerStatus {
        address: address.parse().unwrap(),
        method: "masquerade".to_owned(),
        weight,
        table_weight: weight.map(i32::from),
        state: state.to_owned(),
        backup: false,
        held: false,
        note: None,
        state_age_ms: None,
        checks: Vec::new(),
        traffic: Some(Traffic { active: 12, inactive: 3, connections_per_s: 7, ..Traffic::default() }),
        failure: None,
        probe_path: None,
        idle_connection: None,
        contradiction: None,
        signal: SignalStatus {
            seen: Visibility::Both,
            reason: None,
            usual_wait_ms: Some(0.25),
            evidence: None,
        },
    }
}

fn http(result: CheckOutcome, text: &str) -> CheckStatus {
    CheckStatus { check: "http".to_owned(), result, text: text.to_owned(), took_ms: 0.42, age_ms: 1234 }
}

/// Two services: one with a server that is up, one that is down and a backup, the other without servers.
fn status() -> Status {
    let up = ServerStatus {
        checks: vec![http(CheckOutcome::Success, "answered")],
        ..server("10.0.0.1:80", "up", Some(2))
    };
    let dead = ServerStatus {
        state_age_ms: Some(81_200),
        table_weight: Some(1),
        checks: vec![http(CheckOutcome::Failure, "status 503, wanted 200-399")],
        failure: Some(EvidenceStatus { text: "status 503, wanted 200-399".to_owned(), age_ms: 1234 }),
        signal: SignalStatus {
            seen: Visibility::ClientOnly,
            reason: Some("answers bypass the director".to_owned()),
            usual_wait_ms: None,
            evidence: Some(EvidenceStatus { text: "3 SYNs refused".to_owned(), age_ms: 82_000 }),
        },
        ..server("10.0.0.12:8080", "down", Some(0))
    };
    let sorry = ServerStatus {
        backup: true,
        traffic: None,
        contradiction: Some("for 2m its clients fail".to_owned()),
        signal: SignalStatus::none("backups have no passive detection"),
        ..server("10.0.0.9:80", "unchecked", None)
    };
    let web = ServiceStatus {
        name: "web".to_owned(),
        key: "tcp 192.0.2.80:80".to_owned(),
        scheduler: "wlc".to_owned(),
        persistent_s: Some(300),
        health: Health::Degraded,
        second_chance: Some("on".to_owned()),
        traffic: Some(Traffic { connections_per_s: 14, bytes_in_per_s: 12_345, ..Traffic::default() }),
        servers: vec![up, dead, sorry],
        ..ServiceStatus::default()
    };
    let empty = ServiceStatus {
        name: "mark 7".to_owned(),
        key: "mark 7".to_owned(),
        scheduler: "rr".to_owned(),
        health: Health::NoServer,
        alarm: true,
        second_chance: Some("off: it is not TCP".to_owned()),
        quorum: Some(false),
        ..ServiceStatus::default()
    };
    Status {
        agent: AgentStatus { version: "1.2.3".to_owned(), mode: "observe".to_owned(), uptime_ms: 11_520_000 },
        health: Health::NoServer,
        services: vec![web, empty],
        observed: Some(ObservedStatus {
            total: 1,
            latest: vec![ObservedEdit { text: "set server".to_owned(), age_ms: 61_000 }],
        }),
        connections: [("conn_reuse_mode".to_owned(), 1), ("expire_nodest_conn".to_owned(), 0)].into(),
        warnings: vec!["web: beware".to_owned()],
        ..Status::default()
    }
}

#[test]
fn without_a_terminal_all_is_shown_in_one_line_a_server() {
    let wanted = "\
lvs-agent 1.2.3, observe, up for 3h12m: 1 of 3 servers up, a service has no server
  -> RemoteAddress:Port  Forward  Weight    ActiveConn  InActConn  Conn/s  State               Since  Signal        Why
TCP 192.0.2.80:80  wlc  persistent 300  web  1 of 3 up  second chance on  14 conn/s, 12 kB/s in, 0 B/s out
  -> 10.0.0.1:80         Masq     2                 12          3       7  up                  start  whole 0.2 ms  http answered in 0.4 ms, 1.2s ago
  -> 10.0.0.12:8080      Masq     0 (is 1)          12          3       7  down                1m21s  half          http: status 503, wanted 200-399, after 0.4 ms, 1.2s ago; traffic 1m22s ago: 3 SYNs refused; answers bypass the director
  -> 10.0.0.9:80         Masq     out                -          -       -  unchecked (backup)  start  none          backups have no passive detection
       contradiction: for 2m its clients fail
MARK 7  rr  no server (0 of 0 up)  quorum lost  alarm: servers that look dead are retained  second chance off: it is not TCP
net.ipv4.vs: conn_reuse_mode = 1, expire_nodest_conn = 0
warning: web: beware
observing: nothing is written to the kernel's table; edits that would have been made: 1
  1m01s ago: set server
";
    assert_eq!(table(&status(), Style::default()), wanted);
}

#[test]
fn on_a_terminal_the_columns_fit_and_reasons_stand_below() {
    for width in [80, 100, 132] {
        let text = table(&status(), Style { colour: false, width: Some(width) });
        for line in text.lines().filter(|line| line.starts_with("  ->") || line.starts_with("       ")) {
            assert!(shown_width(line) <= width, "{width}: {line}");
        }
        assert!(text.contains("http: status 503"), "{text}");
    }
    let narrow = table(&status(), Style { colour: false, width: Some(80) });
    assert!(!narrow.contains("http answered"), "nothing is wrong with that server: {narrow}");
}

#[test]
fn colours_change_nothing_else() {
    let coloured = table(&status(), Style { colour: true, width: None });
    let mut plain = coloured.clone();
    for number in [0, 1, 2, 31, 32, 33] {
        plain = plain.replace(&format!("\x1b[{number}m"), "");
    }
    assert_eq!(plain, table(&status(), Style::default()));
    assert!(coloured.contains("\x1b[31mdown"), "{coloured:?}");
}

#[test]
fn no_text_of_others_reaches_the_terminal_as_it_is() {
    const EVIL: &str = "a\x1b]0;owned\x07\u{9b}2J\u{202e}\r\n  -> 10.9.9.9:80";
    let mut status = status();
    let evil = || EVIL.to_owned();
    status.warnings = vec![evil()];
    status.observed =
        Some(ObservedStatus { total: 1, latest: vec![ObservedEdit { text: evil(), age_ms: 1 }] });
    status.agent = AgentStatus { version: evil(), mode: evil(), uptime_ms: 1 };
    let service = &mut status.services[0];
    (service.name, service.key, service.scheduler) = (evil(), evil(), evil());
    let server = &mut service.servers[1];
    (server.method, server.state, server.note) = (evil(), evil(), Some(evil()));
    (server.idle_connection, server.contradiction) = (Some(evil()), Some(evil()));
    server.checks = vec![CheckStatus { check: evil(), ..http(CheckOutcome::Failure, EVIL) }];
    server.failure = Some(EvidenceStatus { text: format!("{EVIL}!"), age_ms: 1 });
    server.signal.reason = Some(evil());
    server.signal.evidence = Some(EvidenceStatus { text: evil(), age_ms: 1 });
    for width in [None, Some(80)] {
        let text = table(&status, Style { colour: false, width });
        let obeyed = text.chars().find(|c| (c.is_control() && *c != '\n') || *c == '\u{202e}');
        assert_eq!(obeyed, None, "{text:?}");
        assert_eq!(text.lines().filter(|line| line.starts_with("  -> 10.9")).count(), 0, "{text}");
    }
}

#[test]
fn ages_have_two_units_and_rates_three_digits() {
    let cases = [
        (0, "0.0s"),
        (9_999, "9.9s"),
        (59_999, "59s"),
        (61_000, "1m01s"),
        (3_600_000, "1h00m"),
        (90_000_000, "1d01h"),
        (u64::MAX, "213503982334d14h"),
    ];
    for (ms, expected) in cases {
        assert_eq!(age(ms), expected);
    }
    let rates =
        [(0, "0 B/s"), (999, "999 B/s"), (1_234, "1.2 kB/s"), (999_600, "1.0 MB/s"), (12_345_678, "12 MB/s")];
    for (bytes, expected) in rates {
        assert_eq!(bytes_per_s(bytes), expected);
    }
}
