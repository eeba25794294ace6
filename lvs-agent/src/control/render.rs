//! A status for people to read.

mod columns;

use std::time::Duration;

use self::columns::{Cell, Column, Row};
use super::{
    AgentStatus, CheckOutcome, CheckStatus, EvidenceStatus, Health, ObservedStatus, ServerStatus,
    ServiceStatus, Status, Style, SyncDaemonStatus, Traffic,
    terminal::{Colour, escaped, shown_width},
};

/// Evidence of so long ago is no news any more where the server is well.
const OLD: Duration = Duration::from_mins(10);

/// A line about the agent, then a line for each service and below it one for each server: how `ipvsadm -Ln` would show
/// it, its state, and why. At the end what concerns all of them.
///
/// Where the columns don't fit into the width, the less important ones are left out, and reasons come on lines of their
/// own, those of servers that are well not at all.
#[must_use]
pub fn table(status: &Status, style: Style) -> String {
    let mut lines = vec![summary(status, style)];
    let rows: Vec<Vec<Row>> =
        status.services.iter().map(|service| service.servers.iter().map(row).collect()).collect();
    let columns = columns::fitting(rows.iter().flatten(), style.width);
    if rows.iter().any(|rows| !rows.is_empty()) {
        lines.push(columns::header(&columns, style));
    }
    for (service, rows) in status.services.iter().zip(&rows) {
        lines.push(title(service, style));
        for (server, row) in service.servers.iter().zip(rows) {
            lines.extend(columns::lines(row, &columns, is_news(server), style));
            lines.extend(server.contradiction.as_ref().map(|contradiction| {
                let text = format!("contradiction: {}", escaped(contradiction));
                format!("       {}", style.paint(Colour::Bad, &text))
            }));
        }
    }
    lines.extend(around(status, style));
    lines.join("\n") + "\n"
}

/// The agent and how it goes, in a line.
fn summary(status: &Status, style: Style) -> String {
    let agent = agent(&status.agent);
    let verdict = style.paint(colour_of(status.health), verdict(status.health));
    let role = status.role.as_ref().filter(|role| role.reason != "configured" || role.role != "active");
    let role = role.map_or_else(String::new, |role| format!("; {}", escaped(&role.to_string())));
    format!("lvs-agent {agent}: {}, {verdict}{role}", servers_up(status))
}

/// The agent's version and mode, and how long it has run.
pub(crate) fn agent(agent: &AgentStatus) -> String {
    let AgentStatus { version, mode, uptime_ms } = agent;
    format!("{}, {}, up for {}", escaped(version), escaped(mode), age(*uptime_ms))
}

/// How many servers are up, such as `3 of 4 servers up`.
pub(crate) fn servers_up(status: &Status) -> String {
    let servers = || status.services.iter().flat_map(|service| &service.servers);
    let up = servers().filter(|server| is_up(server)).count();
    format!("{up} of {} servers up", servers().count())
}

/// How it goes, in words.
pub(crate) fn verdict(health: Health) -> &'static str {
    match health {
        Health::Up => "all is up",
        Health::Degraded => "degraded",
        Health::NoServer => "a service has no server",
    }
}

/// The line of a service, such as `TCP 192.0.2.80:80 wlc persistent 300`, and how it goes.
fn title(service: &ServiceStatus, style: Style) -> String {
    let ServiceStatus {
        name,
        key,
        scheduler,
        persistent_s,
        health,
        alarm,
        quorum,
        second_chance,
        traffic,
        servers,
    } = service;
    let (protocol, address) = key.split_once(' ').unwrap_or(("", key));
    let mut parts = vec![format!(
        "{} {}",
        escaped(&protocol.to_uppercase()),
        style.paint(Colour::Strong, &escaped(address))
    )];
    parts.push(escaped(scheduler).into_owned());
    parts.extend(persistent_s.map(|seconds| format!("persistent {seconds}")));
    if name != key {
        parts.push(style.paint(Colour::Strong, &escaped(name)));
    }
    let up = servers.iter().filter(|server| is_up(server)).count();
    let verdict = if *health == Health::NoServer {
        format!("no server ({up} of {} up)", servers.len())
    } else {
        format!("{up} of {} up", servers.len())
    };
    parts.push(style.paint(colour_of(*health), &verdict));
    parts.extend((*quorum == Some(false)).then(|| style.paint(Colour::Bad, "quorum lost")));
    parts.extend(alarm.then(|| style.paint(Colour::Bad, "alarm: servers that look dead are retained")));
    parts.extend(second_chance.as_ref().map(|chance| {
        let colour = if chance == "on" { Colour::Faint } else { Colour::Warning };
        style.paint(colour, &format!("second chance {}", escaped(chance)))
    }));
    parts.extend(traffic.as_ref().map(|traffic| {
        let Traffic { connections_per_s, bytes_in_per_s, bytes_out_per_s, .. } = traffic;
        let rates = format!(
            "{connections_per_s} conn/s, {} in, {} out",
            bytes_per_s(*bytes_in_per_s),
            bytes_per_s(*bytes_out_per_s)
        );
        style.paint(Colour::Faint, &rates)
    }));
    parts.join("  ")
}

/// What concerns all services.
fn around(status: &Status, style: Style) -> Vec<String> {
    let mut lines = Vec::new();
    if status.services.is_empty() {
        lines.push("there are no services".to_owned());
    }
    if !status.connections.is_empty() {
        let values = status.connections.iter().map(|(name, value)| format!("{} = {value}", escaped(name)));
        lines.push(format!("net.ipv4.vs: {}", values.collect::<Vec<_>>().join(", ")));
    }
    lines.extend(status.sync_daemons.iter().map(|daemon| sync_daemon(daemon, style)));
    for warning in &status.warnings {
        lines.push(style.paint(Colour::Warning, &format!("warning: {}", escaped(warning))));
    }
    lines.extend(status.observed.iter().flat_map(observed));
    lines
}

fn sync_daemon(daemon: &SyncDaemonStatus, style: Style) -> String {
    let SyncDaemonStatus { role, state, interface, id, group, problem } = daemon;
    let words = match &**state {
        "as-configured" => "as configured".to_owned(),
        "unmanaged" => "not this agent's".to_owned(),
        state => style.paint(Colour::Bad, &escaped(state)),
    };
    let problem = problem.as_ref().map_or_else(String::new, |problem| format!(": {}", escaped(problem)));
    format!("sync {}: {}, id {id}, {group}, {words}{problem}", escaped(role), escaped(interface))
}

/// What would have been written.
fn observed(observed: &ObservedStatus) -> Vec<String> {
    let ObservedStatus { total, latest } = observed;
    let first = format!(
        "observing: nothing is written to the kernel's table; edits that would have been made: {total}"
    );
    let edits = latest.iter().map(|edit| format!("  {} ago: {}", age(edit.age_ms), escaped(&edit.text)));
    std::iter::once(first).chain(edits).collect()
}

fn row(server: &ServerStatus) -> Row {
    let traffic = |number: fn(&Traffic) -> u64| {
        server.traffic.as_ref().map_or_else(|| "-".to_owned(), |traffic| number(traffic).to_string())
    };
    let cells = vec![
        (Column::Server, Cell::plain(&server.address.to_string())),
        (Column::Forward, Cell::plain(forward(&server.method))),
        (Column::Weight, Cell::plain(&weight(server))),
        (Column::Active, Cell::plain(&traffic(|traffic| traffic.active.into()))),
        (Column::Inactive, Cell::plain(&traffic(|traffic| traffic.inactive.into()))),
        (Column::Rate, Cell::plain(&traffic(|traffic| traffic.connections_per_s))),
        (Column::State, state(server)),
        (Column::Since, Cell::plain(&server.state_age_ms.map_or_else(|| "start".to_owned(), age))),
        (Column::Signal, Cell::plain(&signal(server))),
    ];
    Row { cells, why: why(server) }
}

/// How packets reach it, in ipvsadm's words.
#[must_use]
pub fn forward(method: &str) -> &str {
    match method {
        "masquerade" => "Masq",
        "direct-route" => "Route",
        "tunnel" => "Tunnel",
        "local" => "Local",
        "bypass" => "Bypass",
        other => other,
    }
}

/// The weight that it shall have, and the one that it has, if that is another.
pub(crate) fn weight(server: &ServerStatus) -> String {
    let wanted = server.weight.map_or_else(|| "out".to_owned(), |weight| weight.to_string());
    match server.table_weight {
        Some(is) if server.weight.map(i32::from) != Some(is) => format!("{wanted} (is {is})"),
        _ => wanted,
    }
}

fn state(server: &ServerStatus) -> Cell {
    let colour = match server.state.as_str() {
        _ if server.held => Colour::Warning,
        "up" => Colour::Good,
        "down" => Colour::Bad,
        "unknown" | "unchecked" => Colour::Faint,
        _ => Colour::Warning,
    };
    let backup = if server.backup { " (backup)" } else { "" };
    Cell::new(&format!("{}{backup}", server.state), Some(colour))
}

/// How much of its traffic is seen, and how long its clients usually wait.
fn signal(server: &ServerStatus) -> String {
    let signal = &server.signal;
    let usual = signal.usual_wait_ms.map_or_else(String::new, |ms| format!(" {ms:.1} ms"));
    format!("{}{usual}", signal.seen)
}

/// One of the reasons why a server is in its state and has its weight.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Reason<'a> {
    /// Of its weight, where the state doesn't say it.
    Note(&'a str),
    /// The last result of a check.
    Check(&'a CheckStatus),
    /// An older failure.
    Failure(&'a EvidenceStatus),
    /// What the traffic said.
    Traffic(&'a EvidenceStatus),
    /// Why not all of its traffic is seen.
    Signal(&'a str),
    /// Where probes go, if not to the server's own address.
    ProbePath(&'a str),
    /// How its idle connection is.
    IdleConnection(&'a str),
}

/// Why it is in its state and has its weight: the last check and what it answered, and what the traffic said.
#[must_use]
pub fn reasons(server: &ServerStatus) -> Vec<Reason<'_>> {
    let mut all: Vec<Reason<'_>> = server.note.as_deref().map(Reason::Note).into_iter().collect();
    all.extend(server.checks.iter().filter(|one| is_shown(one, server)).map(Reason::Check));
    let is_untold = |failure: &&EvidenceStatus| {
        !server.checks.iter().any(|one| one.result == CheckOutcome::Failure && one.text == failure.text)
    };
    all.extend(server.failure.as_ref().filter(is_untold).map(Reason::Failure));
    let is_news =
        |evidence: &&EvidenceStatus| !is_up(server) || u128::from(evidence.age_ms) < OLD.as_millis();
    all.extend(server.signal.evidence.as_ref().filter(is_news).map(Reason::Traffic));
    all.extend(server.signal.reason.as_deref().map(Reason::Signal));
    all.extend(server.probe_path.as_deref().map(Reason::ProbePath));
    all.extend(server.idle_connection.as_deref().map(Reason::IdleConnection));
    all
}

/// The reasons as a phrase.
pub(crate) fn why(server: &ServerStatus) -> String {
    let word = |reason| match reason {
        Reason::Note(text) | Reason::Signal(text) => escaped(text).into_owned(),
        Reason::Check(last) => check(last),
        Reason::Failure(last) => format!("last failure {} ago: {}", age(last.age_ms), escaped(&last.text)),
        Reason::Traffic(last) => format!("traffic {} ago: {}", age(last.age_ms), escaped(&last.text)),
        Reason::ProbePath(path) => format!("probes go to the {}", escaped(path)),
        Reason::IdleConnection(state) => format!("idle connection {}", escaped(state)),
    };
    reasons(server).into_iter().map(word).collect::<Vec<_>>().join("; ")
}

/// A failed check is shown always; of others the first one, where none has failed.
fn is_shown(check: &CheckStatus, server: &ServerStatus) -> bool {
    let any_failed = server.checks.iter().any(|one| one.result != CheckOutcome::Success);
    if any_failed { check.result != CheckOutcome::Success } else { server.checks.first() == Some(check) }
}

/// The check and its result, such as `http answered in 0.4 ms, 2s ago`.
pub(crate) fn check(last: &CheckStatus) -> String {
    let CheckStatus { check, result, text, took_ms, age_ms } = last;
    let ago = age(*age_ms);
    match result {
        CheckOutcome::Success => format!("{} answered in {took_ms:.1} ms, {ago} ago", escaped(check)),
        CheckOutcome::Failure | CheckOutcome::Inconclusive => {
            format!("{}: {}, after {took_ms:.1} ms, {ago} ago", escaped(check), escaped(text))
        }
    }
}

/// Whether it takes connections as far as is known.
#[must_use]
pub fn is_up(server: &ServerStatus) -> bool {
    matches!(server.state.as_str(), "up" | "suspect")
}

/// Whether there is more to say of it than that it is well.
pub(crate) fn is_news(server: &ServerStatus) -> bool {
    let is_well = server.state == "up" || server.state == "unchecked";
    !is_well || server.held || server.note.is_some() || server.contradiction.is_some()
}

fn colour_of(health: Health) -> Colour {
    match health {
        Health::Up => Colour::Good,
        Health::Degraded => Colour::Warning,
        Health::NoServer => Colour::Bad,
    }
}

/// An age in its two greatest units; below ten seconds with a tenth.
pub(crate) fn age(ms: u64) -> String {
    let seconds = ms / 1000;
    let (minutes, hours, days) = (seconds / 60, seconds / 3600, seconds / 86_400);
    match seconds {
        0..10 => format!("{seconds}.{}s", ms % 1000 / 100),
        10..60 => format!("{seconds}s"),
        60..3600 => format!("{minutes}m{:02}s", seconds % 60),
        3600..86_400 => format!("{hours}h{:02}m", minutes % 60),
        _ => format!("{days}d{:02}h", hours % 24),
    }
}

#[expect(clippy::cast_precision_loss, reason = "three digits are shown")]
pub(crate) fn bytes_per_s(bytes: u64) -> String {
    const UNITS: [&str; 5] = ["B/s", "kB/s", "MB/s", "GB/s", "TB/s"];
    let (mut value, mut unit) = (bytes as f64, 0);
    while value >= 999.5 && unit + 1 < UNITS.len() {
        (value, unit) = (value / 1000.0, unit + 1);
    }
    let digits = usize::from(unit > 0 && value < 9.95);
    format!("{value:.digits$} {}", UNITS.get(unit).unwrap_or(&""))
}

#[cfg(test)]
mod tests;
