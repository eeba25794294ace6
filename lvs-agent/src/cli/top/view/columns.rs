//! The columns of a server's row: which fit, and what is in them.

use ratatui::{
    style::{Color, Style},
    text::{Line, Span},
};

use super::{
    super::{
        history::{Histories, bars},
        rows::{Order, Row},
    },
    Palette,
};
use crate::control::{ServerStatus, ServiceStatus, age, escaped, is_news, shown_width, weight, why};

/// Before a server's name.
const INDENT: &str = "  ";
/// The narrowest and the widest column of names.
const NAME: (usize, usize) = (20, 48);
/// A column of reasons has at least so many columns of the terminal.
const WHY: usize = 30;
/// A sparkline beside a column of reasons.
const BARS: usize = 16;

/// A column of fixed width.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Column {
    State,
    Since,
    Weight,
    Active,
    Inactive,
    Rate,
    Wait,
}

impl Column {
    /// Those that are always there.
    const ALWAYS: [Self; 5] = [Self::State, Self::Since, Self::Weight, Self::Active, Self::Rate];
    /// Those that are there where there is room, the more important first.
    const MORE: [Self; 2] = [Self::Wait, Self::Inactive];

    fn title(self) -> &'static str {
        match self {
            Self::State => "State",
            Self::Since => "Since",
            Self::Weight => "Wt",
            Self::Active => "Active",
            Self::Inactive => "Inact",
            Self::Rate => "Conn/s",
            Self::Wait => "Wait ms",
        }
    }

    fn width(self) -> usize {
        match self {
            Self::State => 10,
            Self::Weight => 4,
            Self::Wait => 7,
            Self::Since | Self::Active | Self::Inactive | Self::Rate => 6,
        }
    }

    /// Numbers stand on the right.
    fn is_number(self) -> bool {
        !matches!(self, Self::State | Self::Since)
    }

    fn text(self, server: &ServerStatus) -> String {
        let traffic = server.traffic.unwrap_or_default();
        match self {
            Self::State if server.held => "held".to_owned(),
            Self::State => escaped(&server.state).into_owned(),
            Self::Since => server.state_age_ms.map_or_else(|| "start".to_owned(), age),
            Self::Weight => weight(server).split(' ').next().unwrap_or_default().to_owned(),
            Self::Active => traffic.active.to_string(),
            Self::Inactive => traffic.inactive.to_string(),
            Self::Rate => traffic.connections_per_s.to_string(),
            Self::Wait => {
                server.signal.usual_wait_ms.map_or_else(|| "-".to_owned(), |wait| format!("{wait:.1}"))
            }
        }
    }
}

/// The columns that are shown.
#[derive(Debug)]
pub(super) struct Columns {
    /// Of the terminal.
    pub(super) width: usize,
    name: usize,
    shown: Vec<Column>,
    /// The sparkline; where there is no column of reasons, a reason stands in its place.
    bars: usize,
    why: usize,
}

impl Columns {
    /// Those that fit into the width.
    pub(super) fn fitting<'a>(rows: impl Iterator<Item = &'a Row<'a>>, width: usize) -> Self {
        let names = rows.filter_map(|row| row.server).map(|server| INDENT.len() + name(server).len());
        let name = names.max().unwrap_or_default().clamp(NAME.0, NAME.1).min(width / 2);
        let mut shown = Column::ALWAYS.to_vec();
        let used = |columns: &[Column]| name + columns.iter().map(|one| one.width() + 1).sum::<usize>() + 1;
        let (mut bars, mut why) = (width.saturating_sub(used(&shown)), 0);
        if bars > BARS + WHY {
            for more in Column::MORE {
                if used(&shown) + more.width() + 1 + BARS + 1 + WHY <= width {
                    shown.push(more);
                }
            }
            bars = BARS;
            why = width.saturating_sub(used(&shown) + BARS + 1);
        }
        Self { width, name, shown, bars, why }
    }

    /// The titles.
    pub(super) fn header(&self, order: Order, palette: Palette) -> Line<'static> {
        let mut text = fitted("Service, server", self.name, false);
        for column in &self.shown {
            text.push(' ');
            text += &fitted(column.title(), column.width(), column.is_number());
        }
        text += " ";
        if self.why > 0 {
            text += &fitted("Trend", self.bars, false);
            text += " Why";
        } else {
            text += "Trend, or why";
        }
        if order != Order::Configuration {
            text.extend(["  (by ", order.name(), ")"]);
        }
        Line::styled(cut(&text, self.width), palette.faint())
    }

    /// A server's row.
    pub(super) fn server(
        &self,
        service: &ServiceStatus,
        server: &ServerStatus,
        histories: &Histories,
        palette: Palette,
    ) -> Line<'static> {
        let mut spans = vec![Span::raw(fitted(&format!("{INDENT}{}", name(server)), self.name, false))];
        for column in &self.shown {
            let text = fitted(&column.text(server), column.width(), column.is_number());
            let style = if *column == Column::State { state_style(server, palette) } else { Style::new() };
            spans.push(Span::raw(" "));
            spans.push(Span::styled(text, style));
        }
        let rates = histories.last(&service.key, server.address, self.bars);
        let rates: Vec<_> = rates.map(|reading| reading.connections_per_s).collect();
        let trend =
            || Span::styled(fitted(&bars(rates.iter().copied()), self.bars, true), palette.of(Color::Cyan));
        spans.push(Span::raw(" "));
        match self.why {
            0 if is_news(server) => spans.push(Span::raw(cut(&reason(server), self.bars))),
            0 => spans.push(trend()),
            room => spans.extend([trend(), Span::raw(format!(" {}", cut(&reason(server), room)))]),
        }
        Line::from(spans)
    }
}

/// Its address, and whether it is a backup.
fn name(server: &ServerStatus) -> String {
    let backup = if server.backup { " (backup)" } else { "" };
    format!("{}{backup}", server.address)
}

fn reason(server: &ServerStatus) -> String {
    let contradiction = server.contradiction.iter().map(|text| format!("contradiction: {}", escaped(text)));
    contradiction.chain(Some(why(server))).collect::<Vec<_>>().join("; ")
}

/// The colour of a server's state.
pub(super) fn state_style(server: &ServerStatus, palette: Palette) -> Style {
    match server.state.as_str() {
        _ if server.held => palette.of(Color::Yellow),
        "up" => palette.of(Color::Green),
        "down" => palette.of(Color::Red),
        "unknown" | "unchecked" => palette.faint(),
        _ => palette.of(Color::Yellow),
    }
}

/// A text of exactly so many columns.
fn fitted(text: &str, width: usize, right: bool) -> String {
    let text = cut(text, width);
    let room = " ".repeat(width.saturating_sub(shown_width(&text)));
    if right { room + &text } else { text + &room }
}

/// A text of at most so many columns.
pub(super) fn cut(text: &str, width: usize) -> String {
    if shown_width(text) <= width {
        return text.to_owned();
    }
    let mut shown = String::new();
    for c in text.chars() {
        shown.push(c);
        if shown_width(&shown) >= width {
            shown.pop();
            break;
        }
    }
    if width > 0 { shown + "…" } else { shown }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_are_cut_by_columns_and_not_by_bytes() {
        for (text, width, expected) in
            [("abc", 3, "abc"), ("abcd", 3, "ab…"), ("中文字", 4, "中…"), ("ü", 1, "ü"), ("ab", 0, "")]
        {
            assert_eq!(cut(text, width), expected, "{text} {width}");
            assert!(shown_width(&cut(text, width)) <= width);
        }
        assert_eq!(fitted("7", 3, true), "  7");
    }
}
