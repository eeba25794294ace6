//! `lvs-agent status`: asks the agent, once or again and again, and says by its exit code how things are.

use std::{
    io::{self, Write as _},
    process::ExitCode,
    time::Duration,
};

use anyhow::Context as _;
use tokio::time::{MissedTickBehavior, interval};

use super::{
    arguments::{ControlArguments, unexpected},
    exit_code,
    terminal::{Terminal, parse_pause, recent},
};
use crate::control::{self, Health, Reply, Request, Status, Style, escaped_json};

/// What the status is asked for, and how it is printed.
#[derive(Debug, clap::Args)]
pub(super) struct StatusArguments {
    /// Only this service, given by name or address.
    #[arg(value_name = "SERVICE")]
    service: Option<String>,
    /// Print the status as one JSON object a line; its schema is docs/status.schema.json.
    #[arg(long)]
    json: bool,
    /// Print it again and again, every two seconds or after this pause, such as --watch=5s.
    #[arg(
        long,
        value_name = "PAUSE",
        num_args = 0..=1,
        require_equals = true,
        default_missing_value = "2s",
        value_parser = parse_pause
    )]
    watch: Option<Duration>,
    #[command(flatten)]
    control: ControlArguments,
}

/// Prints the status. Whoever reads may go at any time, which is no error.
pub(super) async fn status(arguments: &StatusArguments) -> ExitCode {
    let shown = match arguments.watch {
        None => arguments.once().await,
        Some(pause) => arguments.watch(pause).await,
    };
    shown.unwrap_or_else(|error| super::failed(&format_args!("{error:#}"), exit_code::NO_STATUS))
}

impl StatusArguments {
    async fn once(&self) -> anyhow::Result<ExitCode> {
        let status = self.ask(None).await?;
        let terminal = Terminal::of_stdout();
        let text = self.text(&status, terminal.map(Terminal::style).unwrap_or_default())?;
        print(&text)?;
        Ok(code(status.health))
    }

    /// Ends when nobody reads any more, or by a signal.
    async fn watch(&self, pause: Duration) -> anyhow::Result<ExitCode> {
        let mut ticks = interval(pause);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let (mut last_error, mut is_first) = (None, true);
        loop {
            ticks.tick().await;
            let status = self.ask(Some(recent(pause))).await;
            // It may have another size by now.
            let terminal = Terminal::of_stdout().filter(|_| !self.json);
            let health = status.as_ref().map_or(Health::NoServer, |status| status.health);
            let printed = match (terminal, status) {
                (Some(terminal), status) => {
                    let text = match status {
                        Ok(status) => self.text(&status, terminal.style())?,
                        Err(error) => format!("{}\n", escaped_json(&format!("{error:#}"))),
                    };
                    print(&terminal.frame(&text, is_first))?
                }
                (None, Ok(status)) => {
                    last_error = None;
                    let gap = if is_first || self.json { "" } else { "\n" };
                    print(&format!("{gap}{}", self.text(&status, Style::default())?))?
                }
                (None, Err(error)) => {
                    let text = format!("{error:#}");
                    if last_error.as_ref() != Some(&text) {
                        super::complain(&text);
                        last_error = Some(text);
                    }
                    Reader::Listens
                }
            };
            if printed == Reader::Gone {
                return Ok(code(health));
            }
            is_first = false;
        }
    }

    async fn ask(&self, max_age_ms: Option<u64>) -> anyhow::Result<Status> {
        let request = Request::Status { service: self.service.clone(), max_age_ms };
        match control::ask(self.control.path(), &request).await? {
            Reply::Status(status) => Ok(status),
            _ => Err(unexpected()),
        }
    }

    fn text(&self, status: &Status, style: Style) -> anyhow::Result<String> {
        if !self.json {
            return Ok(control::table(status, style));
        }
        let json = serde_json::to_string(status).context("writing JSON")?;
        Ok(escaped_json(&json).into_owned() + "\n")
    }
}

/// Whoever reads standard output.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Reader {
    Listens,
    Gone,
}

/// Writes to standard output.
pub(super) fn print(text: &str) -> anyhow::Result<Reader> {
    let mut stdout = io::stdout();
    match stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush()) {
        Ok(()) => Ok(Reader::Listens),
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(Reader::Gone),
        Err(error) => Err(error).context("writing to standard output"),
    }
}

fn code(health: Health) -> ExitCode {
    ExitCode::from(match health {
        Health::Up => 0,
        Health::Degraded => exit_code::DEGRADED,
        Health::NoServer => exit_code::NO_SERVER,
    })
}
