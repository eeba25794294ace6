//! `lvs-agent events`: what has happened, and what happens. It is the command that asks again and again: one that is
//! slow or hangs costs the agent nothing.

use std::{collections::VecDeque, process::ExitCode, time::Duration};

use humantime::parse_duration;
use tokio::time::sleep;

use super::{
    arguments::{ControlArguments, unexpected},
    status::{Reader, print},
    terminal::Terminal,
};
use crate::control::{self, EventLine, Events, Reply, Request, Style, escaped_json, event_text};

/// How often a follower asks for new events.
const EVERY: Duration = Duration::from_millis(200);
/// How often it asks while no agent answers.
const UNANSWERED: Duration = Duration::from_secs(1);
/// How many of the events so far a follower is shown, unless it says since when.
const LAST: usize = 10;

/// Which events are shown, and how.
#[derive(Debug, clap::Args)]
pub(super) struct EventsArguments {
    /// Show new events as they happen, after the last ten or those of --since; goes on when the agent is restarted.
    #[arg(long, short)]
    follow: bool,
    /// Only events that are not older than this, such as 10m.
    #[arg(long, value_name = "DURATION", value_parser = parse_duration)]
    since: Option<Duration>,
    /// Only events about this service, given by name or address.
    #[arg(long, value_name = "SERVICE")]
    service: Option<String>,
    /// Print one JSON object a line, with the fields of docs/events.md.
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    control: ControlArguments,
}

/// Prints the events that the agent remembers, and goes on if the arguments say so.
pub(super) async fn events(arguments: &EventsArguments) -> anyhow::Result<ExitCode> {
    let style = Terminal::of_stdout().map(Terminal::style).unwrap_or_default();
    // Of those so far a follower is shown the last ones only.
    let is_tail = arguments.follow && arguments.since.is_none();
    let (mut position, mut tail) = (None, VecDeque::new());
    loop {
        let Events { instance, next, more, lines, .. } = arguments.ask(position).await?;
        position = Some((instance, next));
        if is_tail {
            tail.extend(lines);
            tail.drain(..tail.len().saturating_sub(LAST));
        } else if arguments.show(lines, style)? == Reader::Gone {
            return Ok(ExitCode::SUCCESS);
        }
        if !more {
            break;
        }
    }
    if !arguments.follow || arguments.show(tail, style)? == Reader::Gone {
        return Ok(ExitCode::SUCCESS);
    }
    arguments.follow(position, style).await
}

impl EventsArguments {
    /// Ends when nobody reads any more, or by a signal.
    async fn follow(&self, mut position: Option<(u64, u64)>, style: Style) -> anyhow::Result<ExitCode> {
        let mut is_lost = false;
        loop {
            let Events { instance, next, more, lost, lines } = match self.ask(position).await {
                Ok(events) => events,
                Err(error) => {
                    if !std::mem::replace(&mut is_lost, true) {
                        super::complain(&format!("{error:#}; waiting for it"));
                    }
                    sleep(UNANSWERED).await;
                    continue;
                }
            };
            if position.is_some_and(|(known, _)| known != instance) {
                super::complain("the agent was started anew");
            } else if is_lost {
                super::complain("the agent answers again");
            }
            if lost > 0 {
                super::complain(&format!(
                    "{lost} events are missing here: they were forgotten before they were read"
                ));
            }
            (position, is_lost) = (Some((instance, next)), false);
            if self.show(lines, style)? == Reader::Gone {
                return Ok(ExitCode::SUCCESS);
            }
            if !more {
                sleep(EVERY).await;
            }
        }
    }

    async fn ask(&self, position: Option<(u64, u64)>) -> anyhow::Result<Events> {
        let (instance, after) = position.unzip();
        // What comes after an event is new.
        let since = self.since.filter(|_| position.is_none());
        let since_ms = since.map(|since| u64::try_from(since.as_millis()).unwrap_or(u64::MAX));
        let request = Request::Events { after, instance, since_ms, service: self.service.clone() };
        match control::ask(self.control.path(), &request).await? {
            Reply::Events(events) => Ok(events),
            _ => Err(unexpected()),
        }
    }

    fn show(&self, lines: impl IntoIterator<Item = EventLine>, style: Style) -> anyhow::Result<Reader> {
        let mut text = String::new();
        for line in lines {
            if self.json {
                text += &escaped_json(&serde_json::to_string(&line)?);
                text.push('\n');
            } else {
                text += &event_text(&line, style);
            }
        }
        print(&text)
    }
}
