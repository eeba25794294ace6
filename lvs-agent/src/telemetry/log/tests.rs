use std::{
    collections::{BTreeMap, BTreeSet},
    io::{self, Write},
    sync::{Arc, Mutex},
    time::SystemTime,
};

use serde_json::{Map, Value};
use tracing_subscriber::fmt::MakeWriter;

use super::*;
use crate::event::examples;

/// The page that lists all events.
const PAGE: &str = include_str!("../../../../docs/events.md");
/// What every line has, or may have, that the page says once.
const COMMON: [&str; 5] = ["level", "message", "event", "at_ns", "service"];

/// A log in memory.
#[derive(Clone, Default)]
struct Memory(Arc<Mutex<Vec<u8>>>);

impl Write for Memory {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl MakeWriter<'_> for Memory {
    type Writer = Self;

    fn make_writer(&self) -> Self {
        self.clone()
    }
}

/// The lines of an event, as `--log-format json --log debug` writes them but for `timestamp` and `target`.
fn lines(event: Event) -> Vec<String> {
    let memory = Memory::default();
    let subscriber = tracing_subscriber::fmt()
        .json()
        .flatten_event(true)
        .without_time()
        .with_target(false)
        .with_max_level(tracing::Level::DEBUG)
        .with_writer(memory.clone());
    tracing::subscriber::with_default(subscriber.finish(), || {
        EventLog.on_event(&Record { sequence: 1, at_ns: 81_234_567_890, time: SystemTime::now(), event });
    });
    let bytes = memory.0.lock().unwrap().clone();
    String::from_utf8(bytes).unwrap().lines().map(str::to_owned).collect()
}

fn fields(line: &str) -> Map<String, Value> {
    let Value::Object(fields) = serde_json::from_str(line).unwrap() else { panic!("{line}") };
    fields
}

#[test]
fn every_event_has_a_line_with_its_name_and_its_time() {
    for event in examples() {
        let name = event.name();
        let lines = lines(event.clone());
        assert_eq!(lines.len(), 1, "{event:?}");
        let fields = fields(&lines[0]);
        assert_eq!(fields["event"], name);
        assert_eq!(fields["at_ns"], 81_234_567_890_u64);
        assert!(fields["message"].as_str().is_some_and(|message| !message.is_empty()), "{event:?}");
    }
}

/// The rows of the page's tables: names of events, and all words in backticks of the row.
fn rows() -> BTreeMap<String, BTreeSet<String>> {
    let mut rows = BTreeMap::new();
    for line in PAGE.lines().filter(|line| line.starts_with("| `")) {
        let (names, _) = line[2..].split_once(" | ").expect("a table has several columns");
        let words: BTreeSet<String> = line.split('`').skip(1).step_by(2).map(str::to_owned).collect();
        for name in names.split('`').skip(1).step_by(2) {
            assert!(rows.insert(name.to_owned(), words.clone()).is_none(), "{name} is listed twice");
        }
    }
    for common in ["event", "at_ns", "service", "server"] {
        rows.remove(common);
    }
    rows
}

#[test]
fn the_page_lists_every_event_with_its_fields_and_nothing_else() {
    let rows = rows();
    let mut names = BTreeSet::new();
    for event in examples() {
        let name = event.name();
        names.insert(name.to_owned());
        let row = rows.get(name).unwrap_or_else(|| panic!("docs/events.md does not list {name}"));
        for line in lines(event) {
            for field in fields(&line).keys().filter(|field| !COMMON.contains(&field.as_str())) {
                assert!(
                    field == "server" || row.contains(field),
                    "docs/events.md: {name} has a field `{field}`"
                );
            }
        }
    }
    let listed: BTreeSet<String> = rows.into_keys().collect();
    assert_eq!(listed, names, "docs/events.md and the examples of all events");
}

#[test]
fn the_page_shows_an_example_line_of_every_event() {
    let (_, shown) = PAGE.split_once("## Examples").expect("docs/events.md has examples");
    let shown: Vec<&str> = shown.lines().filter(|line| line.starts_with('{')).collect();
    // A wait is measured from now on.
    let is_fixed = |line: &&String| !line.contains("\"wait_s\"");
    let mut first = BTreeSet::new();
    let expected: Vec<String> = examples()
        .into_iter()
        .filter(|event| first.insert(event.name()))
        .flat_map(lines)
        .filter(|line| is_fixed(&line))
        .collect();
    assert!(
        shown.iter().copied().eq(expected.iter().map(String::as_str)),
        "docs/events.md should show:\n{}",
        expected.join("\n")
    );
}
