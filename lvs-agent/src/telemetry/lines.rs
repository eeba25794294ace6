//! The lines of events outside of the log, when somebody asks for them: with the same fields and the same text.
//!
//! The words of all events stand in the log alone (`telemetry::log`). Here it writes to a subscriber that keeps the
//! lines, in the thread that asks: nothing of it costs who publishes.

use std::{cell::RefCell, fmt, sync::OnceLock};

use serde_json::{Map, Value};
use tracing::{
    Dispatch, Level, Metadata, Subscriber,
    field::{Field, Visit},
    level_filters::LevelFilter,
    span,
    subscriber::Interest,
};

use super::log::EventLog;
use crate::event::{Record, Subscriber as _};

/// A line of the log.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Line {
    pub(crate) level: &'static str,
    /// The fields but for the message, as in the JSON of the log.
    pub(crate) fields: Map<String, Value>,
    pub(crate) message: String,
}

/// The lines of an event: one for each of its servers.
pub(crate) fn lines(record: &Record) -> Vec<Line> {
    static COLLECTOR: OnceLock<Dispatch> = OnceLock::new();
    let collector = COLLECTOR.get_or_init(|| Dispatch::new(Collector));
    tracing::dispatcher::with_default(collector, || EventLog.on_event(record));
    LINES.with(RefCell::take)
}

thread_local! {
    /// What this thread has collected.
    static LINES: RefCell<Vec<Line>> = const { RefCell::new(Vec::new()) };
}

/// Takes the lines of events, on all levels, and nothing else.
struct Collector;

impl Collector {
    fn is_wanted(metadata: &Metadata<'_>) -> bool {
        metadata.is_event()
            && *metadata.level() <= Level::DEBUG
            && metadata.target().starts_with(concat!(env!("CARGO_CRATE_NAME"), "::telemetry::log"))
    }
}

impl Subscriber for Collector {
    /// Lines of others stay as cheap as they are.
    fn register_callsite(&self, metadata: &'static Metadata<'static>) -> Interest {
        if Self::is_wanted(metadata) { Interest::always() } else { Interest::never() }
    }

    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        Self::is_wanted(metadata)
    }

    fn max_level_hint(&self) -> Option<LevelFilter> {
        Some(LevelFilter::DEBUG)
    }

    fn event(&self, event: &tracing::Event<'_>) {
        let mut fields = Fields::default();
        event.record(&mut fields);
        let level = match *event.metadata().level() {
            Level::ERROR => "error",
            Level::WARN => "warn",
            Level::INFO => "info",
            _ => "debug",
        };
        let Fields { fields, message } = fields;
        LINES.with_borrow_mut(|lines| lines.push(Line { level, fields, message }));
    }

    /// The log of events has no spans.
    fn new_span(&self, _: &span::Attributes<'_>) -> span::Id {
        span::Id::from_u64(1)
    }

    fn record(&self, _: &span::Id, _: &span::Record<'_>) {}

    fn record_follows_from(&self, _: &span::Id, _: &span::Id) {}

    fn enter(&self, _: &span::Id) {}

    fn exit(&self, _: &span::Id) {}
}

#[derive(Default)]
struct Fields {
    fields: Map<String, Value>,
    message: String,
}

impl Fields {
    fn set(&mut self, field: &Field, value: Value) {
        self.fields.insert(field.name().to_owned(), value);
    }
}

impl Visit for Fields {
    fn record_f64(&mut self, field: &Field, value: f64) {
        self.set(field, value.into());
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        self.set(field, value.into());
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        self.set(field, value.into());
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        self.set(field, value.into());
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        if field.name() == "message" {
            value.clone_into(&mut self.message);
        } else {
            self.set(field, value.into());
        }
    }

    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.record_str(field, &format!("{value:?}"));
    }
}

#[cfg(test)]
mod tests {
    use std::time::SystemTime;

    use super::*;
    use crate::event::examples;

    #[test]
    fn every_event_has_a_line_with_its_fields_whatever_the_level_of_the_log() {
        for event in examples() {
            let name = event.name();
            let record = Record { sequence: 1, at_ns: 81, time: SystemTime::now(), event };
            let lines = lines(&record);
            assert_eq!(lines.len(), 1, "{record:?}");
            let Line { fields, message, .. } = &lines[0];
            assert_eq!(
                (&fields["event"], &fields["at_ns"]),
                (&Value::from(name), &Value::from(81)),
                "{record:?}"
            );
            assert!(!message.is_empty() && !fields.contains_key("message"), "{record:?}");
        }
    }

    /// The same fields with the same values as in the log's JSON.
    #[test]
    fn a_line_has_what_the_document_shows() {
        let page = include_str!("../../../docs/events.md");
        let shown: Vec<Map<String, Value>> = page
            .lines()
            .filter(|line| line.starts_with("{\"level\""))
            .map(|line| serde_json::from_str(line).expect("JSON"))
            .collect();
        let mut found = 0;
        for event in examples() {
            let record = Record { sequence: 1, at_ns: 81_234_567_890, time: SystemTime::now(), event };
            for Line { level, fields, message } in lines(&record) {
                let mut whole = fields;
                whole.insert("level".to_owned(), level.to_uppercase().into());
                whole.insert("message".to_owned(), message.into());
                found += usize::from(shown.contains(&whole));
            }
        }
        assert!(found > 40 && found + 3 >= shown.len(), "{found} of {}", shown.len());
    }
}
