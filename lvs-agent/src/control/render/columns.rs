//! The columns of the status: which of them fit, and how wide they are.

use super::{
    super::Style,
    {Colour, shown_width},
};

/// Between two columns.
const GAP: usize = 2;
/// Before a server's line, as `ipvsadm` has it.
const ARROW: &str = "  -> ";
/// Before a reason on a line of its own.
const INDENT: usize = 7;
/// A reason has at least so many columns of its own beside the others.
const LEAST: usize = 30;

/// A column of the table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Column {
    Server,
    Forward,
    Weight,
    Active,
    Inactive,
    Rate,
    State,
    Since,
    Signal,
}

impl Column {
    /// In the order in which they are left out where there is no room.
    const DISPENSABLE: [Self; 4] = [Self::Inactive, Self::Signal, Self::Rate, Self::Forward];

    fn title(self) -> &'static str {
        match self {
            Self::Server => "RemoteAddress:Port",
            Self::Forward => "Forward",
            Self::Weight => "Weight",
            Self::Active => "ActiveConn",
            Self::Inactive => "InActConn",
            Self::Rate => "Conn/s",
            Self::State => "State",
            Self::Since => "Since",
            Self::Signal => "Signal",
        }
    }

    /// Numbers stand on the right.
    fn is_number(self) -> bool {
        matches!(self, Self::Active | Self::Inactive | Self::Rate)
    }
}

/// A server in the table.
pub(super) struct Row {
    pub(super) cells: Vec<(Column, Cell)>,
    pub(super) why: String,
}

/// A text without anything that a terminal would obey, and its colour.
pub(super) struct Cell {
    text: String,
    colour: Option<Colour>,
}

impl Cell {
    pub(super) fn new(text: &str, colour: Option<Colour>) -> Self {
        Self { text: super::escaped(text).into_owned(), colour }
    }

    pub(super) fn plain(text: &str) -> Self {
        Self::new(text, None)
    }
}

/// The columns that are shown, with their widths.
pub(super) type Columns = Vec<(Column, usize)>;

/// The columns that fit into so many columns of a terminal; all of them without a width.
pub(super) fn fitting<'a>(rows: impl Iterator<Item = &'a Row>, width: Option<usize>) -> Columns {
    let mut columns: Columns = Vec::new();
    for (column, cell) in rows.flat_map(|row| &row.cells) {
        let shown = shown_width(&cell.text);
        match columns.iter_mut().find(|(known, _)| known == column) {
            Some((_, widest)) => *widest = shown.max(*widest),
            None => columns.push((*column, shown.max(column.title().len()))),
        }
    }
    for left_out in Column::DISPENSABLE {
        if width.is_none_or(|width| total(&columns) <= width) {
            break;
        }
        columns.retain(|(column, _)| *column != left_out);
    }
    columns
}

fn total(columns: &Columns) -> usize {
    ARROW.len() + columns.iter().map(|(_, width)| width + GAP).sum::<usize>()
}

/// The titles of the columns.
pub(super) fn header(columns: &Columns, style: Style) -> String {
    let titles = columns.iter().map(|(column, width)| aligned(*column, column.title(), *width));
    let mut line = format!("{ARROW}{}", titles.collect::<Vec<_>>().join("  "));
    if style.width.is_none_or(|width| total(columns) + LEAST <= width) {
        line += "  Why";
    }
    style.paint(Colour::Faint, line.trim_end())
}

/// The lines of a server. Its reason is beside the columns where it fits, else below them if it is news.
pub(super) fn lines(row: &Row, columns: &Columns, is_news: bool, style: Style) -> Vec<String> {
    let cells = columns.iter().filter_map(|(column, width)| {
        let (_, cell) = row.cells.iter().find(|(known, _)| known == column)?;
        let text = aligned(*column, &cell.text, *width);
        Some(cell.colour.map_or_else(|| text.clone(), |colour| style.paint(colour, &text)))
    });
    let line = format!("{ARROW}{}", cells.collect::<Vec<_>>().join("  "));
    let room = style.width.map(|width| width.saturating_sub(total(columns)));
    match room {
        None => vec![format!("{line}  {}", row.why).trim_end().to_owned()],
        Some(room) if shown_width(&row.why) <= room => {
            vec![format!("{line}  {}", row.why).trim_end().to_owned()]
        }
        Some(_) if is_news => {
            let width = style.width.unwrap_or(usize::MAX).saturating_sub(INDENT).max(LEAST);
            let below = wrapped(&row.why, width).into_iter().map(|part| format!("{:INDENT$}{part}", ""));
            std::iter::once(line.trim_end().to_owned()).chain(below).collect()
        }
        Some(_) => vec![line.trim_end().to_owned()],
    }
}

fn aligned(column: Column, text: &str, width: usize) -> String {
    let room = " ".repeat(width.saturating_sub(shown_width(text)));
    if column.is_number() { format!("{room}{text}") } else { format!("{text}{room}") }
}

/// A text in lines of at most so many columns; a longer word has a line of its own.
fn wrapped(text: &str, width: usize) -> Vec<String> {
    let mut lines: Vec<String> = Vec::new();
    for word in text.split(' ') {
        match lines.last_mut() {
            Some(line) if shown_width(line) + 1 + shown_width(word) <= width => {
                line.push(' ');
                line.push_str(word);
            }
            _ => lines.push(word.to_owned()),
        }
    }
    lines
}
