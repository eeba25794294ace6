//! Events for people to read.

use super::{
    EventLine, Style, Timeline,
    terminal::{Colour, escaped, shown_width},
};

/// The longest names of events have about so many columns.
const NAME: usize = 16;

/// A line, and below it how a failover came about.
#[must_use]
pub fn event_text(line: &EventLine, style: Style) -> String {
    let colour = match line.level.as_str() {
        "error" => Some(Colour::Bad),
        "warn" => Some(Colour::Warning),
        "debug" => Some(Colour::Faint),
        _ => None,
    };
    let name = escaped(line.text("event").unwrap_or_default()).into_owned();
    let room = " ".repeat(NAME.saturating_sub(shown_width(&name)));
    let name = colour.map_or_else(|| name.clone(), |colour| style.paint(colour, &name));
    let mut message = escaped(&line.message).into_owned();
    // Messages about a server name it; its service not always.
    if let Some(service) = line.text("service").map(escaped)
        && !message.contains(&*service)
    {
        message = format!("{service}: {message}");
    }
    let time = style.paint(Colour::Faint, &milliseconds(&line.timestamp));
    let mut text = format!("{time}  {name}{room}  {message}\n");
    if let Some(timeline) = &line.timeline {
        text += &timeline_text(timeline, style);
    }
    text
}

fn timeline_text(timeline: &Timeline, style: Style) -> String {
    let Timeline { service, server, total_ms, steps } = timeline;
    let title = format!("failover of {} in {}, {total_ms:.1} ms:", escaped(server), escaped(service));
    let title = format!("    {}\n", style.paint(Colour::Strong, &title));
    let lines = steps.iter().map(|step| {
        let (at, kind) = (format!("{:.1}", step.at_ms), step.step.to_string());
        format!("    {at:>9} ms  {kind:<9}  {}\n", escaped(&step.text))
    });
    std::iter::once(title).chain(lines).collect()
}

/// RFC 3339 with milliseconds in place of microseconds.
fn milliseconds(timestamp: &str) -> String {
    let shown = escaped(timestamp);
    match shown.split_once('.') {
        Some((seconds, rest)) if rest.is_ascii() && rest.len() > 3 => {
            format!("{seconds}.{}Z", rest.get(..3).unwrap_or_default())
        }
        _ => shown.into_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::control::{StepKind, TimelineStep};

    fn line(message: &str) -> EventLine {
        let fields = serde_json::json!({"event": "edit", "at_ns": 1, "service": "tcp 192.0.2.80:80"});
        let serde_json::Value::Object(fields) = fields else { panic!("an object") };
        let step = |at_ms, step, text: &str| TimelineStep { at_ms, step, text: text.to_owned() };
        EventLine {
            number: 7,
            timestamp: "2026-01-02T03:04:05.678901Z".to_owned(),
            level: "info".to_owned(),
            fields,
            message: message.to_owned(),
            timeline: Some(Timeline {
                service: "web".to_owned(),
                server: "10.0.0.2:80".to_owned(),
                total_ms: 46.06,
                steps: vec![
                    step(0.0, StepKind::Evidence, "3 SYNs refused"),
                    step(46.06, StepKind::Edit, "set server"),
                ],
            }),
        }
    }

    #[test]
    fn a_line_is_followed_by_the_timeline_of_its_failover() {
        let expected = "\
2026-01-02T03:04:05.678Z  edit              table: set server tcp 192.0.2.80:80 -> 10.0.0.2:80 weight 0
    failover of 10.0.0.2:80 in web, 46.1 ms:
          0.0 ms  evidence   3 SYNs refused
         46.1 ms  edit       set server
";
        let message = "table: set server tcp 192.0.2.80:80 -> 10.0.0.2:80 weight 0";
        assert_eq!(event_text(&line(message), Style::default()), expected);
        assert!(event_text(&line("it is so"), Style::default()).contains("tcp 192.0.2.80:80: it is so"));
    }

    #[test]
    fn nothing_reaches_the_terminal_as_others_sent_it() {
        const EVIL: &str = "\x1b[2J\u{9b}\r\u{202e}";
        let mut line = line(EVIL);
        (line.timestamp, line.level) = (EVIL.to_owned(), EVIL.to_owned());
        line.fields.insert("event".to_owned(), EVIL.into());
        line.fields.insert("service".to_owned(), EVIL.into());
        if let Some(timeline) = &mut line.timeline {
            (timeline.service, timeline.server) = (EVIL.to_owned(), EVIL.to_owned());
            timeline.steps[0].text = EVIL.to_owned();
        }
        let text = event_text(&line, Style::default());
        assert!(!text.contains(|c: char| (c.is_control() && c != '\n') || c == '\u{202e}'), "{text:?}");
    }
}
