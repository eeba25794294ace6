//! A status for people to read.

use std::fmt::Write as _;

use super::{ObservedStatus, ServerStatus, Status};

/// One line a server, aligned, under a line for each service; what is said of a signal follows in words, and on a line
/// of its own a contradiction between its clients and its checks. At the end what concerns all of them.
#[must_use]
pub fn table(status: &Status) -> String {
    let mut text = String::new();
    for service in &status.services {
        let title = if service.name == service.key { String::new() } else { format!("  {}", service.key) };
        // Writing into a string can't fail.
        writeln!(text, "{}{title}", service.name).ok();
        let rows: Vec<[String; 6]> = service.servers.iter().map(row).collect();
        let width = |column: usize| rows.iter().map(|row| row[column].chars().count()).max().unwrap_or(0);
        let widths: [usize; 6] = std::array::from_fn(width);
        for (row, server) in rows.iter().zip(&service.servers) {
            let cells = row.iter().zip(widths).map(|(cell, width)| format!("{cell:<width$}"));
            let line = cells.collect::<Vec<_>>().join("  ");
            writeln!(text, "  {}", line.trim_end()).ok();
            if let Some(contradiction) = &server.contradiction {
                writeln!(text, "    contradiction: {contradiction}").ok();
            }
        }
    }
    if !status.connections.is_empty() {
        let values = status.connections.iter().map(|(name, value)| format!("{name} = {value}"));
        writeln!(text, "net.ipv4.vs: {}", values.collect::<Vec<_>>().join(", ")).ok();
    }
    for warning in &status.warnings {
        writeln!(text, "warning: {warning}").ok();
    }
    if let Some(observed) = &status.observed {
        text += &self::observed(observed);
    }
    text
}

/// What would have been written.
fn observed(observed: &ObservedStatus) -> String {
    let ObservedStatus { total, latest } = observed;
    let mut text = format!(
        "observing: nothing is written to the kernel's table; edits that would have been made: {total}\n"
    );
    for edit in latest {
        // Writing into a string can't fail.
        writeln!(text, "  {} s ago: {}", edit.age_ms / 1000, edit.text).ok();
    }
    text
}

fn row(server: &ServerStatus) -> [String; 6] {
    let signal = &server.signal;
    let weight = server.weight.map_or_else(|| "out".to_owned(), |weight| format!("weight {weight}"));
    let reason = signal.reason.as_deref().map(str::to_owned);
    let usual = signal.usual_wait_ms.map(|ms| format!("usual wait {ms:.1} ms"));
    let evidence = signal.evidence.as_ref().map(|evidence| {
        let seconds = evidence.age_ms / 1000;
        format!("{seconds} s ago: {}", evidence.text)
    });
    let note = server.note.clone();
    let idle = server.idle_connection.as_ref().map(|state| format!("idle connection {state}"));
    let age = server.state_age_ms.map(|ms| format!("for {}", duration(ms)));
    let failure = server.failure.as_ref();
    let failure = failure.map(|one| format!("last failure {} ago: {}", duration(one.age_ms), one.text));
    let words: Vec<String> =
        [age, failure, note, reason, usual, idle, evidence].into_iter().flatten().collect();
    let backup = if server.backup { " (backup)" } else { "" };
    [
        server.address.to_string(),
        server.method.clone(),
        weight,
        format!("{}{backup}", server.state),
        format!("signal {}", signal.seen),
        words.join("; "),
    ]
}

/// Whole seconds, in words.
fn duration(ms: u64) -> String {
    humantime::format_duration(std::time::Duration::from_secs(ms / 1000)).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::control::{EvidenceStatus, ServiceStatus, SignalStatus, Visibility};

    #[test]
    fn columns_are_aligned_and_words_follow() {
        let whole = SignalStatus {
            seen: Visibility::Both,
            reason: None,
            usual_wait_ms: Some(0.25),
            evidence: Some(EvidenceStatus { text: "3 refused".to_owned(), age_ms: 12_345 }),
        };
        let server = |address: &str, weight, signal| ServerStatus {
            address: address.parse().unwrap(),
            method: "masquerade".to_owned(),
            weight,
            state: "up".to_owned(),
            backup: false,
            note: None,
            idle_connection: weight.map(|_| "open".to_owned()),
            contradiction: weight.is_none().then(|| "for 2m its clients fail".to_owned()),
            state_age_ms: None,
            failure: None,
            signal,
        };
        let dead = ServerStatus {
            state_age_ms: Some(81_200),
            failure: Some(EvidenceStatus { text: "status 503, wanted 200-399".to_owned(), age_ms: 999 }),
            ..server("10.0.0.12:8080", None, SignalStatus::none("its MAC address is not known"))
        };
        let servers = vec![server("10.0.0.1:80", Some(2), whole), dead];
        let service = |name: &str, servers| ServiceStatus {
            name: name.to_owned(),
            key: "tcp 192.0.2.80:80".to_owned(),
            servers,
        };
        let status = Status {
            services: vec![service("web", servers), service("tcp 192.0.2.80:80", vec![])],
            observed: None,
            connections: [("conn_reuse_mode".to_owned(), 1), ("expire_nodest_conn".to_owned(), 0)].into(),
            warnings: vec!["web: beware".to_owned()],
        };
        let wanted = "\
web  tcp 192.0.2.80:80
  10.0.0.1:80     masquerade  weight 2  up  signal whole  usual wait 0.2 ms; idle connection open; 12 s ago: 3 refused
  10.0.0.12:8080  masquerade  out       up  signal none   for 1m 21s; last failure 0s ago: status 503, wanted 200-399; its MAC address is not known
    contradiction: for 2m its clients fail
tcp 192.0.2.80:80
net.ipv4.vs: conn_reuse_mode = 1, expire_nodest_conn = 0
warning: web: beware
";
        assert_eq!(table(&status), wanted);
    }
}
