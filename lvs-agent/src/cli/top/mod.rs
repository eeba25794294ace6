//! `lvs-agent top`: services and servers on a terminal, with keys for what an operator does. It asks the agent as every
//! other command does; nothing of it runs in the agent.

mod app;
mod history;
mod rows;
#[cfg(test)]
mod testing;
mod view;

use std::{
    io::{self, IsTerminal as _},
    process::ExitCode,
    thread,
    time::Duration,
};

use anyhow::{Context as _, bail};
use ratatui::{
    DefaultTerminal,
    crossterm::event::{self, Event, KeyEventKind},
};
use tokio::{
    signal::unix::{SignalKind, signal},
    sync::mpsc,
    task::JoinSet,
    time::{Instant, sleep_until},
};

use self::{
    app::{App, Step, pause},
    view::{Palette, draw},
};
use super::{
    arguments::{ControlArguments, unexpected},
    terminal::{Terminal, parse_pause, recent},
};
use crate::control::{self, Events, Reply, Request, Status};

/// Keys that may wait: more than a hand can press while a screen is drawn.
const KEYS: usize = 64;
/// How soon the reader of keys notices that nobody wants them any more.
const LOOK: Duration = Duration::from_millis(100);
/// Events of so long ago are shown at the start.
const SINCE: Duration = Duration::from_mins(10);

/// How the screen is kept up to date.
#[derive(Debug, clap::Args)]
pub(super) struct TopArguments {
    /// The pause between two readings.
    #[arg(long, value_name = "PAUSE", default_value = "2s", value_parser = parse_pause)]
    every: Duration,
    #[command(flatten)]
    control: ControlArguments,
}

/// What the agent has answered.
enum Answer {
    /// With the time that it took.
    Status(Result<Status, String>, Duration),
    Events(Result<Events, String>),
    Command(Result<Reply, String>),
}

/// Shows the screen until somebody quits, or by a signal.
pub(super) async fn top(arguments: &TopArguments) -> anyhow::Result<ExitCode> {
    if !io::stdin().is_terminal() {
        bail!("top needs a terminal; lvs-agent status --watch writes to anything");
    }
    let Some(terminal) = Terminal::of_stdout() else {
        bail!("top needs a terminal; lvs-agent status --watch writes to anything");
    };
    let palette = Palette { has_colours: terminal.style().colour };
    // It has a panic hook of its own, too, that gives the terminal back.
    let mut screen = ratatui::try_init().context("preparing the terminal")?;
    let shown = arguments.show(&mut screen, palette).await;
    ratatui::try_restore().context("giving the terminal back")?;
    shown.map(|()| ExitCode::SUCCESS)
}

impl TopArguments {
    async fn show(&self, screen: &mut DefaultTerminal, palette: Palette) -> anyhow::Result<()> {
        let mut terminate = signal(SignalKind::terminate()).context("listening for SIGTERM")?;
        let mut hangup = signal(SignalKind::hangup()).context("listening for SIGHUP")?;
        let mut keys = read_keys()?;
        let mut app = App::default();
        let mut asked: JoinSet<Answer> = JoinSet::new();
        let mut next = Instant::now();
        let mut is_reading = false;
        // After a command nothing is shown that may be older.
        let mut max_age = Some(recent(self.every));
        loop {
            screen.draw(|frame| draw(frame, &mut app, palette)).context("drawing")?;
            tokio::select! {
                _ = terminate.recv() => return Ok(()),
                _ = hangup.recv() => return Ok(()),
                key = keys.recv() => match key {
                    // The terminal is gone.
                    None => return Ok(()),
                    Some(Event::Key(key)) if key.kind == KeyEventKind::Press => match app.press(key) {
                        Step::Quit => return Ok(()),
                        Step::Ask(request) => {
                            app.note = Some("asking the agent …".to_owned());
                            asked.spawn(self.command(request));
                        }
                        Step::Nothing => {}
                    },
                    // Another size, among others: the screen is drawn anew.
                    Some(_) => {}
                },
                Some(answer) = asked.join_next() => match answer.context("asking the agent")? {
                    Answer::Status(status, took) => {
                        is_reading = false;
                        next = Instant::now() + pause(self.every, took);
                        app.set_status(status);
                    }
                    Answer::Events(events) => {
                        // What is wrong stands in the title, by the status.
                        if let Ok(events) = events {
                            app.add_events(events);
                        }
                    }
                    Answer::Command(reply) => {
                        app.answered(reply);
                        (next, max_age) = (Instant::now(), None);
                    }
                },
                () = sleep_until(next), if !is_reading && !app.is_paused => {
                    is_reading = true;
                    asked.spawn(self.status(max_age.replace(recent(self.every))));
                    asked.spawn(self.events(app.position));
                }
            }
        }
    }

    fn ask(&self, request: Request) -> impl Future<Output = Result<Reply, String>> + use<> {
        let path = self.control.path().to_owned();
        async move { control::ask(&path, &request).await.map_err(|error| error.to_string()) }
    }

    fn status(&self, max_age_ms: Option<u64>) -> impl Future<Output = Answer> + use<> {
        let asking = self.ask(Request::Status { service: None, max_age_ms });
        async move {
            let begun = Instant::now();
            let status = asking.await.and_then(|reply| match reply {
                Reply::Status(status) => Ok(status),
                _ => Err(unexpected().to_string()),
            });
            Answer::Status(status, begun.elapsed())
        }
    }

    fn events(&self, position: Option<(u64, u64)>) -> impl Future<Output = Answer> + use<> {
        let (instance, after) = position.unzip();
        let since_ms = position.is_none().then(|| u64::try_from(SINCE.as_millis()).unwrap_or(u64::MAX));
        let asking = self.ask(Request::Events { after, instance, since_ms, service: None });
        async move {
            Answer::Events(asking.await.and_then(|reply| match reply {
                Reply::Events(events) => Ok(events),
                _ => Err(unexpected().to_string()),
            }))
        }
    }

    fn command(&self, request: Request) -> impl Future<Output = Answer> + use<> {
        let asking = self.ask(request);
        async move { Answer::Command(asking.await) }
    }
}

/// Reads keys in a thread of its own, until nobody wants them or the terminal is gone.
fn read_keys() -> anyhow::Result<mpsc::Receiver<Event>> {
    let (pressed, keys) = mpsc::channel(KEYS);
    let read = move || {
        while !pressed.is_closed() {
            // An error: the terminal is gone. So is whoever shows the screen, where a key can't be sent.
            let Ok(is_there) = event::poll(LOOK) else { return };
            if is_there && !event::read().is_ok_and(|event| pressed.blocking_send(event).is_ok()) {
                return;
            }
        }
    };
    thread::Builder::new().name("keys".to_owned()).spawn(read).context("reading keys")?;
    Ok(keys)
}
