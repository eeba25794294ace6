//! The start of the log: its format, what it goes to, and what is logged.

use std::io::{self, IsTerminal as _};

use anyhow::{Context as _, anyhow};
use clap::ValueEnum;
use tracing_subscriber::{
    EnvFilter, Registry,
    fmt::{FormatEvent, FormatFields, SubscriberBuilder, format},
};

use crate::{
    control::escaped_json,
    event::{ConfigNotice, Event, Publisher},
    log::{self, LogFilter, LogThread, LogWriter},
    model::LogTarget,
    telemetry::log::EventLog,
};

/// The format of the lines.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(super) enum LogFormat {
    /// The text for people.
    Short,
    /// The same, and the fields for programs as `name=value`.
    Text,
    /// One object a line.
    Json,
}

/// The log; what it goes to is closed when this is dropped.
pub(super) struct StartedLog {
    pub(super) thread: LogThread,
    pub(super) filter: LogFilter,
    pub(super) events: Publisher,
}

/// Starts the log. Where its target can't be opened, standard error is used instead. Without a format, lines are short
/// on a terminal, and fields of the journal where that reads standard error.
pub(super) fn start(
    format: Option<LogFormat>,
    filter: &str,
    target: &LogTarget,
) -> anyhow::Result<StartedLog> {
    let parsed = log::parse(filter).map_err(|message| anyhow!("--log: {message}"))?;
    let Opened { writer, thread, target: opened, problem } = open(target, format)?;
    let is_standard = opened == LogTarget::Standard;
    let is_terminal = is_standard && io::stderr().is_terminal();
    let usual = if is_terminal { LogFormat::Short } else { LogFormat::Text };
    // The daemon has a time of its own.
    let has_time = !matches!(opened, LogTarget::Syslog(_));
    let builder = tracing_subscriber::fmt()
        .with_env_filter(parsed)
        .with_writer(writer)
        // They would go to standard error, at once and at any price.
        .log_internal_errors(false);
    // The journal has a field for each of the object's.
    let format = if opened == LogTarget::Journal { LogFormat::Json } else { format.unwrap_or(usual) };
    let filter = match (format, has_time) {
        (LogFormat::Json, _) => install(builder.json().flatten_event(true), filter),
        (LogFormat::Text, true) => install(builder.with_target(false).with_ansi(is_terminal), filter),
        (LogFormat::Text, false) => {
            install(builder.with_target(false).with_ansi(false).without_time(), filter)
        }
        (LogFormat::Short, true) => {
            install(builder.with_target(false).with_ansi(is_terminal).fmt_fields(short()), filter)
        }
        (LogFormat::Short, false) => {
            install(builder.with_target(false).with_ansi(false).fmt_fields(short()).without_time(), filter)
        }
    };
    log::log_panics();
    let events = Publisher::default();
    events.subscribe(EventLog);
    if let Some(error) = problem {
        let target = match target {
            LogTarget::Standard => "standard error".to_owned(),
            LogTarget::File(path) => path.display().to_string(),
            LogTarget::Syslog(facility) => format!("syslog ({facility})"),
            LogTarget::Journal => "the journal".to_owned(),
        };
        events.publish(Event::Config(ConfigNotice::NoLog { target, error: error.to_string() }));
    }
    Ok(StartedLog { thread, filter, events })
}

/// The log's target, open.
struct Opened {
    writer: LogWriter,
    thread: LogThread,
    /// What it is: the one that was wanted, or another in its place.
    target: LogTarget,
    /// Why it isn't the one that the configuration names.
    problem: Option<io::Error>,
}

fn open(target: &LogTarget, format: Option<LogFormat>) -> anyhow::Result<Opened> {
    let opened = |target: LogTarget, problem| -> io::Result<_> {
        let (writer, thread) = log::open(&target)?;
        Ok(Opened { writer, thread, target, problem })
    };
    // A format that was asked for is what standard error gets.
    let goes_to_journal = *target == LogTarget::Standard && format.is_none() && log::stderr_is_journal();
    if goes_to_journal && let Ok(journal) = opened(LogTarget::Journal, None) {
        return Ok(journal);
    }
    opened(target.clone(), None)
        .or_else(|error| opened(LogTarget::Standard, Some(error)))
        .context("starting the log")
}

/// From now on this is the program's log, with this filter.
fn install<N, E>(builder: SubscriberBuilder<N, E, EnvFilter, LogWriter>, filter: &str) -> LogFilter
where
    N: for<'w> FormatFields<'w> + Send + Sync + 'static,
    E: FormatEvent<Registry, N> + Send + Sync + 'static,
{
    let builder = builder.with_filter_reloading();
    let handle = builder.reload_handle();
    builder.init();
    LogFilter::new(filter, move |filter| handle.reload(filter))
}

/// The message alone, without anything that a terminal would obey: answers of servers are part of it.
fn short() -> impl for<'w> FormatFields<'w> + Send + Sync + 'static {
    format::debug_fn(|writer, field, value| match field.name() {
        "message" => write!(writer, "{}", escaped_json(&format!("{value:?}"))),
        _ => Ok(()),
    })
}
