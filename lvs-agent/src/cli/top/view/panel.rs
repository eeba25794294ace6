//! What is below the table: events, details, the result of a check, or the keys.

use ratatui::{
    layout::Rect,
    style::{Color, Modifier, Style},
    text::{Line, Span},
};

use super::{
    super::{
        app::{App, Panel},
        history::{Reading, bars},
        rows::Row,
    },
    Palette,
    columns::state_style,
};
use crate::control::{
    EvidenceStatus, ServerStatus, ServiceStatus, Style as TextStyle, age, bytes_per_s, check_text, escaped,
    event_text, forward, weight,
};

/// The keys and what they do.
const KEYS: [(&str, &str); 11] = [
    ("Up Down PgUp PgDn g G", "select a row"),
    ("Enter", "details of the selected row, and back"),
    ("c", "check the selected server now, and show each step"),
    ("d, u", "drain the selected server in this service; end the drain"),
    ("m, M", "put it into maintenance; end that"),
    ("s", "sort by configuration, state, connections, latency"),
    ("/", "show only what matches a text; Esc shows all"),
    ("e, Esc", "the latest events"),
    ("p", "pause, and go on"),
    ("?", "this help, and back"),
    ("q", "quit"),
];

/// The lines of the panel, the title first.
pub(super) fn lines(app: &App, palette: Palette, area: Rect) -> Vec<Line<'static>> {
    let (width, room) = (usize::from(area.width), usize::from(area.height).saturating_sub(1));
    let (title, mut lines) = match app.panel {
        Panel::Events => ("Events", events(app, palette, room)),
        Panel::Details => ("Details", details(app, palette, width)),
        Panel::Check => ("Check", check(app)),
        Panel::Help => ("Keys", keys()),
    };
    lines.truncate(room);
    let rule = "─".repeat(width.saturating_sub(title.len() + 4));
    lines.insert(0, Line::styled(format!("── {title} {rule}"), palette.faint()));
    lines
}

/// The latest events, without their dates.
fn events(app: &App, palette: Palette, room: usize) -> Vec<Line<'static>> {
    let first = app.events.len().saturating_sub(room);
    let line = |event| {
        let text = event_text(event, TextStyle::default());
        let text = text.lines().next().unwrap_or_default();
        let time = text.split_once('T').map_or(text, |(_, time)| time).to_owned();
        let style = match event.level.as_str() {
            "error" => palette.of(Color::Red),
            "warn" => palette.of(Color::Yellow),
            _ => Style::new(),
        };
        Line::styled(time, style)
    };
    app.events.iter().skip(first).map(line).collect()
}

fn details(app: &App, palette: Palette, width: usize) -> Vec<Line<'static>> {
    match app.selected_row() {
        Some(Row { service, server: Some(server) }) => {
            let most = width.saturating_sub(40).min(super::super::history::KEPT);
            let readings: Vec<_> = app.histories.last(&service.key, server.address, most).collect();
            let mut lines = vec![title(service, server, palette)];
            lines.extend(trends(&readings, palette));
            lines.extend(facts(server).into_iter().map(Line::raw));
            lines
        }
        Some(Row { service, server: None }) => of_service(service).into_iter().map(Line::raw).collect(),
        None => vec![Line::raw("nothing is selected")],
    }
}

fn title(service: &ServiceStatus, server: &ServerStatus, palette: Palette) -> Line<'static> {
    let since =
        server.state_age_ms.map_or_else(|| "since the start".to_owned(), |ms| format!("for {}", age(ms)));
    Line::from(vec![
        Span::styled(server.address.to_string(), Style::new().add_modifier(Modifier::BOLD)),
        Span::raw(format!(" in {} ({}): ", escaped(&service.name), escaped(&service.key))),
        Span::styled(escaped(&server.state).into_owned(), state_style(server, palette)),
        Span::raw(format!(" {since}")),
    ])
}

fn trends(readings: &[Reading], palette: Palette) -> Vec<Line<'static>> {
    let last = readings.last().copied().unwrap_or_default();
    #[expect(clippy::cast_precision_loss, reason = "two digits are shown")]
    let latency = last.latency_us as f64 / 1000.0;
    let of = |name: &str, now: String, value: fn(&Reading) -> u64| {
        let bars = bars(readings.iter().map(value));
        Line::from(vec![
            Span::raw(format!("{name:<12} {now:>12}  ")),
            Span::styled(bars, palette.of(Color::Cyan)),
        ])
    };
    vec![
        of("connections", format!("{}/s", last.connections_per_s), |one| one.connections_per_s),
        of("latency", format!("{latency:.2} ms"), |one| one.latency_us),
        of("failures", last.failures.to_string(), |one| one.failures),
    ]
}

/// Everything else that is known of a server.
fn facts(server: &ServerStatus) -> Vec<String> {
    let signal = &server.signal;
    let traffic = server.traffic.unwrap_or_default();
    let mut lines = vec![format!(
        "{}, weight {}; {} active, {} inactive; {} in, {} out",
        escaped(forward(&server.method)),
        weight(server),
        traffic.active,
        traffic.inactive,
        bytes_per_s(traffic.bytes_in_per_s),
        bytes_per_s(traffic.bytes_out_per_s),
    )];
    let news = |what: &str, evidence: &Option<EvidenceStatus>| {
        evidence.as_ref().map(|one| format!("{what} {} ago: {}", age(one.age_ms), escaped(&one.text)))
    };
    lines.extend(server.contradiction.as_ref().map(|text| format!("contradiction: {}", escaped(text))));
    lines.extend(server.note.as_ref().map(|note| escaped(note).into_owned()));
    lines.extend(server.checks.iter().map(check_text));
    lines.extend(news("last failure", &server.failure));
    lines.extend(news("traffic", &signal.evidence));
    let wait =
        signal.usual_wait_ms.map(|ms| format!(", clients usually wait {ms:.1} ms")).unwrap_or_default();
    let reason = signal.reason.as_ref().map(|reason| format!(": {}", escaped(reason))).unwrap_or_default();
    let idle = server.idle_connection.as_ref().map(|state| format!("; idle connection {}", escaped(state)));
    lines.push(format!("signal {}{wait}{reason}{}", signal.seen, idle.unwrap_or_default()));
    lines
}

fn of_service(service: &ServiceStatus) -> Vec<String> {
    let mut lines = vec![format!("{} ({})", escaped(&service.name), escaped(&service.key))];
    let persistent =
        service.persistent_s.map(|seconds| format!(", persistent {seconds} s")).unwrap_or_default();
    lines.push(format!("scheduler {}{persistent}", escaped(&service.scheduler)));
    let quorum = service.quorum.map(|has| if has { "quorum kept" } else { "quorum lost" });
    lines.extend(quorum.map(str::to_owned));
    lines.extend(service.alarm.then(|| "alarm: servers that look dead are retained".to_owned()));
    lines.extend(service.traffic.as_ref().map(|traffic| {
        format!(
            "{} conn/s; {} active, {} inactive; {} in, {} out",
            traffic.connections_per_s,
            traffic.active,
            traffic.inactive,
            bytes_per_s(traffic.bytes_in_per_s),
            bytes_per_s(traffic.bytes_out_per_s),
        )
    }));
    lines
}

fn check(app: &App) -> Vec<Line<'static>> {
    let text = app.checked.as_ref().map(|checked| checked.text(TextStyle::default())).unwrap_or_default();
    text.lines().map(|line| Line::raw(line.to_owned())).collect()
}

fn keys() -> Vec<Line<'static>> {
    KEYS.iter().map(|(keys, what)| Line::raw(format!("{keys:<22} {what}"))).collect()
}
