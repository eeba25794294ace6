//! The screen of `top`, as it follows from its state.

mod columns;
mod panel;

use ratatui::{
    Frame,
    layout::{Constraint, Layout, Rect},
    style::{Color, Modifier, Style},
    text::{Line, Span},
    widgets::Paragraph,
};

use self::columns::Columns;
use super::{
    app::{App, Input, Panel},
    rows::Row,
};
use crate::control::{Health, ServiceStatus, Status, agent_text, escaped, is_up, servers_up, verdict};

/// Below so many lines there is no room for a panel.
const LEAST_LINES: u16 = 14;
/// The keys, for whoever sees the screen for the first time.
const HINTS: &str = "? help  q quit  Enter details  c check  d drain  m maintenance  s sort  / filter";

/// Whether there are colours.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Palette {
    pub(super) has_colours: bool,
}

impl Palette {
    fn of(self, colour: Color) -> Style {
        if self.has_colours { Style::new().fg(colour) } else { Style::new() }
    }

    fn health(self, health: Health) -> Style {
        match health {
            Health::Up => self.of(Color::Green),
            Health::Degraded => self.of(Color::Yellow),
            Health::NoServer => self.of(Color::Red),
        }
    }

    /// Less important; without colours, as the rest.
    fn faint(self) -> Style {
        self.of(Color::DarkGray)
    }
}

/// Draws the whole screen.
pub(super) fn draw(frame: &mut Frame<'_>, app: &mut App, palette: Palette) {
    let area = frame.area();
    let below = if area.height < LEAST_LINES { 0 } else { panel_lines(app.panel).min((area.height - 3) / 2) };
    let [title, header, table, panel, footer] = Layout::vertical([
        Constraint::Length(1),
        Constraint::Length(1),
        Constraint::Min(1),
        Constraint::Length(below),
        Constraint::Length(1),
    ])
    .areas(area);
    frame.render_widget(Paragraph::new(title_line(app, palette)), title);
    draw_table(frame, app, palette, header, table);
    frame.render_widget(Paragraph::new(panel::lines(app, palette, panel)), panel);
    frame.render_widget(Paragraph::new(footer_line(app, palette)), footer);
}

fn panel_lines(panel: Panel) -> u16 {
    match panel {
        Panel::Events => 7,
        Panel::Details | Panel::Check => 14,
        Panel::Help => 12,
    }
}

/// The agent, and how it goes.
fn title_line(app: &App, palette: Palette) -> Line<'static> {
    let mut spans = vec![Span::styled("lvs-agent", Style::new().add_modifier(Modifier::BOLD))];
    if let Some(status) = &app.status {
        spans.extend(summary(status, palette));
    }
    if let Some(problem) = &app.problem {
        spans.push(Span::styled(format!("  {}", escaped(problem)), palette.of(Color::Red)));
    }
    if app.is_paused {
        spans.push(Span::styled("  paused", palette.of(Color::Yellow)));
    }
    if !app.filter.is_empty() {
        spans.push(Span::raw(format!("  filter {:?}", app.filter)));
    }
    Line::from(spans)
}

fn summary(status: &Status, palette: Palette) -> [Span<'static>; 2] {
    let (agent, services) = (agent_text(&status.agent), status.services.len());
    let text = format!(" {agent}: {services} services, {}, ", servers_up(status));
    [Span::raw(text), Span::styled(verdict(status.health), palette.health(status.health))]
}

/// The rows around the selected one.
fn draw_table(frame: &mut Frame<'_>, app: &mut App, palette: Palette, header: Rect, area: Rect) {
    let page = usize::from(area.height);
    let rows = app.rows();
    let selected = app.selected.as_ref();
    let at = rows.iter().position(|row| selected.is_some_and(|key| row.is(key))).unwrap_or_default();
    let first = app.first.min(at).max((at + 1).saturating_sub(page)).min(rows.len().saturating_sub(page));
    let shown: Vec<_> = rows.iter().enumerate().skip(first).take(page).collect();
    let columns = Columns::fitting(shown.iter().map(|(_, row)| *row), usize::from(area.width));
    let mut lines: Vec<_> = shown
        .iter()
        .map(|(number, row)| {
            let line = row_line(row, &columns, app, palette);
            let is_selected = *number == at && selected.is_some();
            if is_selected { line.style(Style::new().add_modifier(Modifier::REVERSED)) } else { line }
        })
        .collect();
    if rows.is_empty() {
        lines.push(Line::from(nothing(app)));
    }
    frame.render_widget(Paragraph::new(columns.header(app.order, palette)), header);
    frame.render_widget(Paragraph::new(lines), area);
    (app.first, app.page) = (first, page);
}

/// Why there is no row.
fn nothing(app: &App) -> &'static str {
    match &app.status {
        None if app.problem.is_none() => "asking the agent …",
        None => "",
        Some(_) if !app.filter.is_empty() => "nothing matches the filter; Esc shows all",
        Some(_) => "there are no services",
    }
}

fn row_line(row: &Row<'_>, columns: &Columns, app: &App, palette: Palette) -> Line<'static> {
    match row.server {
        Some(server) => columns.server(row.service, server, &app.histories, palette),
        None => service_line(row.service, columns.width, palette),
    }
}

/// A service's row: what it is, and how it goes.
fn service_line(service: &ServiceStatus, width: usize, palette: Palette) -> Line<'static> {
    let (protocol, address) = service.key.split_once(' ').unwrap_or(("", &service.key));
    let mut name = format!("{} {}", escaped(&protocol.to_uppercase()), escaped(address));
    if service.name != service.key {
        name = format!("{name}  {}", escaped(&service.name));
    }
    let up = service.servers.iter().filter(|server| is_up(server)).count();
    let mut verdict = format!("{up} of {} up", service.servers.len());
    if service.health == Health::NoServer {
        verdict = format!("no server ({verdict})");
    }
    if service.quorum == Some(false) {
        verdict += ", quorum lost";
    }
    let rate = service.traffic.as_ref().map(|traffic| format!("{} conn/s", traffic.connections_per_s));
    let rest: Vec<_> = [Some(escaped(&service.scheduler).into_owned()), rate].into_iter().flatten().collect();
    let room = width.saturating_sub(2 + verdict.len());
    Line::from(vec![
        Span::styled(columns::cut(&name, room), Style::new().add_modifier(Modifier::BOLD)),
        Span::styled(format!("  {verdict}"), palette.health(service.health)),
        Span::styled(format!("  {}", rest.join("  ")), palette.faint()),
    ])
}

/// A question, the filter, what came of a command, or the keys.
fn footer_line(app: &App, palette: Palette) -> Line<'static> {
    match (&app.input, &app.note) {
        (Input::Confirm(question, _), _) => Line::styled(
            escaped(question).into_owned(),
            palette.of(Color::Yellow).add_modifier(Modifier::BOLD),
        ),
        (Input::Filter, _) => {
            Line::raw(format!("filter: {}▏  Enter keeps it, Esc drops it", escaped(&app.filter)))
        }
        (Input::Browse, Some(note)) => Line::raw(escaped(note).into_owned()),
        (Input::Browse, None) => Line::styled(HINTS, palette.faint()),
    }
}

#[cfg(test)]
mod tests;
