//! What `top` shows, and what keys do to it. Pure: requests to the agent are values.

use std::{collections::VecDeque, time::Duration};

use ratatui::crossterm::event::{KeyCode, KeyEvent, KeyModifiers};

use super::{
    history::Histories,
    rows::{Order, Row, RowKey, rows},
};
use crate::control::{Checked, EventLine, Events, Reply, Request, ServerName, Status};

/// How many events are kept, more than any terminal shows.
const EVENTS: usize = 300;
/// The longest filter.
const LONGEST_FILTER: usize = 64;

/// What the keys go to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) enum Input {
    /// The table.
    #[default]
    Browse,
    /// The text of the filter.
    Filter,
    /// A question, and what is done if the answer is yes.
    Confirm(String, Request),
}

/// What is below the table.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Panel {
    /// The latest events.
    #[default]
    Events,
    /// Everything about the selected service or server.
    Details,
    /// The result of a check that was asked for.
    Check,
    /// The keys.
    Help,
}

/// What a key leads to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Step {
    Nothing,
    Ask(Request),
    Quit,
}

/// The state of the screen.
#[derive(Debug, Default)]
pub(super) struct App {
    /// As it was last read.
    pub(super) status: Option<Status>,
    /// Why it can't be read now.
    pub(super) problem: Option<String>,
    pub(super) histories: Histories,
    /// The latest last.
    pub(super) events: VecDeque<EventLine>,
    /// The agent and its last event that was read.
    pub(super) position: Option<(u64, u64)>,
    pub(super) order: Order,
    pub(super) filter: String,
    pub(super) selected: Option<RowKey>,
    pub(super) input: Input,
    pub(super) panel: Panel,
    /// What came of the last command.
    pub(super) note: Option<String>,
    pub(super) checked: Option<Checked>,
    pub(super) is_paused: bool,
    /// The first row that is shown.
    pub(super) first: usize,
    /// How many rows are shown.
    pub(super) page: usize,
}

impl App {
    /// The rows of the table.
    pub(super) fn rows(&self) -> Vec<Row<'_>> {
        self.status.as_ref().map(|status| rows(status, self.order, &self.filter)).unwrap_or_default()
    }

    /// The selected row.
    pub(super) fn selected_row(&self) -> Option<Row<'_>> {
        let key = self.selected.as_ref()?;
        self.rows().into_iter().find(|row| row.is(key))
    }

    /// Takes a status, or why there is none.
    pub(super) fn set_status(&mut self, read: Result<Status, String>) {
        match read {
            Ok(status) => {
                self.histories.add(&status);
                (self.status, self.problem) = (Some(status), None);
            }
            Err(problem) => self.problem = Some(problem),
        }
        if self.selected_row().is_none() {
            self.selected = self.rows().first().map(Row::key);
        }
    }

    /// Takes new events. Those of another agent begin anew.
    pub(super) fn add_events(&mut self, read: Events) {
        if self.position.is_some_and(|(instance, _)| instance != read.instance) {
            self.events.clear();
        }
        self.position = Some((read.instance, read.next));
        self.events.extend(read.lines);
        self.events.drain(..self.events.len().saturating_sub(EVENTS));
    }

    /// Takes the answer to a request that a key has led to.
    pub(super) fn answered(&mut self, reply: Result<Reply, String>) {
        self.note = match reply {
            Ok(Reply::Servers(servers)) => {
                Some(servers.iter().map(ToString::to_string).collect::<Vec<_>>().join("; "))
            }
            Ok(Reply::Checked(checked)) => {
                (self.checked, self.panel) = (Some(checked), Panel::Check);
                None
            }
            Ok(_) => Some("the agent sent an unexpected answer; is it of another version?".to_owned()),
            Err(error) => Some(error),
        };
    }

    /// Takes a key.
    pub(super) fn press(&mut self, key: KeyEvent) -> Step {
        if key.modifiers.contains(KeyModifiers::CONTROL) && key.code == KeyCode::Char('c') {
            return Step::Quit;
        }
        match std::mem::take(&mut self.input) {
            Input::Browse => self.browse(key.code),
            Input::Filter => {
                self.edit_filter(key.code);
                Step::Nothing
            }
            Input::Confirm(_, request) if matches!(key.code, KeyCode::Char('y' | 'Y')) => Step::Ask(request),
            Input::Confirm(..) => {
                self.note = Some("nothing was done".to_owned());
                Step::Nothing
            }
        }
    }

    fn browse(&mut self, key: KeyCode) -> Step {
        self.note = None;
        match key {
            KeyCode::Char('q') => return Step::Quit,
            KeyCode::Up | KeyCode::Char('k') => self.move_by(-1),
            KeyCode::Down | KeyCode::Char('j') => self.move_by(1),
            KeyCode::PageUp => self.move_by(-i64::try_from(self.page).unwrap_or(1)),
            KeyCode::PageDown | KeyCode::Char(' ') => self.move_by(i64::try_from(self.page).unwrap_or(1)),
            KeyCode::Home | KeyCode::Char('g') => self.move_by(i64::MIN),
            KeyCode::End | KeyCode::Char('G') => self.move_by(i64::MAX),
            KeyCode::Char('s') => self.order = self.order.next(),
            KeyCode::Char('/') => self.input = Input::Filter,
            KeyCode::Char('p') => self.is_paused = !self.is_paused,
            KeyCode::Enter => self.toggle(Panel::Details),
            KeyCode::Char('?' | 'h') => self.toggle(Panel::Help),
            KeyCode::Char('e') => self.panel = Panel::Events,
            KeyCode::Esc if self.panel != Panel::Events => self.panel = Panel::Events,
            KeyCode::Esc => self.filter.clear(),
            KeyCode::Char('c') => {
                return self.about_server(|server, service| Request::Check { server, service });
            }
            KeyCode::Char('d') => {
                self.confirm("drain", |server, service| Request::Drain { server, service, remove: false });
            }
            KeyCode::Char('u') => {
                self.confirm("end the drain of", |server, service| Request::Undrain { server, service });
            }
            KeyCode::Char('m') => {
                self.confirm("put into maintenance", |server, service| Request::Maintenance {
                    server,
                    service,
                    on: true,
                });
            }
            KeyCode::Char('M') => {
                self.confirm("end the maintenance of", |server, service| Request::Maintenance {
                    server,
                    service,
                    on: false,
                });
            }
            _ => {}
        }
        Step::Nothing
    }

    fn edit_filter(&mut self, key: KeyCode) {
        self.input = Input::Filter;
        match key {
            KeyCode::Enter => self.input = Input::Browse,
            KeyCode::Esc => (self.input, self.filter) = (Input::Browse, String::new()),
            KeyCode::Backspace => {
                self.filter.pop();
            }
            KeyCode::Char(c) if self.filter.len() < LONGEST_FILTER => self.filter.push(c),
            _ => {}
        }
        if self.selected_row().is_none() {
            self.selected = self.rows().first().map(Row::key);
        }
    }

    fn toggle(&mut self, panel: Panel) {
        self.panel = if self.panel == panel { Panel::Events } else { panel };
    }

    /// Selects the row so many below.
    fn move_by(&mut self, by: i64) {
        let rows = self.rows();
        let at = rows.iter().position(|row| self.selected.as_ref().is_some_and(|key| row.is(key)));
        let last = i64::try_from(rows.len()).unwrap_or(i64::MAX) - 1;
        let to = i64::try_from(at.unwrap_or_default())
            .unwrap_or_default()
            .saturating_add(by)
            .clamp(0, last.max(0));
        let selected = usize::try_from(to).ok().and_then(|to| rows.get(to)).map(Row::key);
        self.selected = selected;
    }

    /// A request about the selected server in its service.
    fn about_server(&mut self, request: impl FnOnce(ServerName, Option<String>) -> Request) -> Step {
        self.selected_server()
            .map_or(Step::Nothing, |selected| Step::Ask(request(selected.server, Some(selected.service_key))))
    }

    fn confirm(&mut self, what: &str, request: impl FnOnce(ServerName, Option<String>) -> Request) {
        if let Some(Selected { server, service_key, title }) = self.selected_server() {
            let request = request(server, Some(service_key));
            self.input = Input::Confirm(format!("{what} {title}? y/n"), request);
        }
    }

    /// The selected server; where it is none, the note says so.
    fn selected_server(&mut self) -> Option<Selected> {
        let selected = self.selected_row().and_then(|Row { service, server }| {
            let address = server?.address.to_string();
            let title = format!("{address} in {}", service.name);
            Some(Selected { server: address.parse().ok()?, service_key: service.key.clone(), title })
        });
        if selected.is_none() {
            self.note = Some("select a server first".to_owned());
        }
        selected
    }
}

/// A server, as it is named to the agent and to people.
struct Selected {
    server: ServerName,
    service_key: String,
    title: String,
}

/// How long to wait for the next status: the agent has more to do than to answer.
pub(super) fn pause(every: Duration, took: Duration) -> Duration {
    /// At most one part in so many of the time is spent on asking.
    const SHARE: u32 = 10;
    every.max(took * SHARE)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::top::testing::{server, status};

    fn app() -> App {
        let mut app = App { page: 2, ..App::default() };
        app.set_status(Ok(status(vec![
            ("web", vec![server("10.0.0.1:80", "up"), server("10.0.0.2:80", "down")]),
            ("mail", vec![server("10.0.0.3:25", "up")]),
        ])));
        app
    }

    fn press(app: &mut App, keys: &str) -> Step {
        let mut step = Step::Nothing;
        for c in keys.chars() {
            let code = match c {
                '\n' => KeyCode::Enter,
                '\x1b' => KeyCode::Esc,
                other => KeyCode::Char(other),
            };
            step = app.press(code.into());
        }
        step
    }

    fn selected(app: &App) -> String {
        let key = app.selected.as_ref().unwrap();
        key.server.map_or_else(|| key.service.clone(), |server| server.to_string())
    }

    #[test]
    fn the_selection_moves_and_stays_within_the_rows() {
        let mut app = app();
        assert_eq!(selected(&app), "tcp 192.0.2.1:80");
        for (keys, expected) in [
            ("j", "10.0.0.1:80"),
            (" ", "tcp 192.0.2.2:80"),
            ("jj", "10.0.0.3:25"),
            ("G", "10.0.0.3:25"),
            ("k", "tcp 192.0.2.2:80"),
            ("g", "tcp 192.0.2.1:80"),
            ("k", "tcp 192.0.2.1:80"),
        ] {
            press(&mut app, keys);
            assert_eq!(selected(&app), expected, "{keys}");
        }
    }

    #[test]
    fn the_selection_follows_its_server_and_not_the_line() {
        let mut app = app();
        press(&mut app, "jj");
        assert_eq!(selected(&app), "10.0.0.2:80");
        press(&mut app, "s");
        assert_eq!((app.order, selected(&app).as_str()), (Order::State, "10.0.0.2:80"));
        app.set_status(Ok(status(vec![("web", vec![server("10.0.0.2:80", "up")])])));
        assert_eq!(selected(&app), "10.0.0.2:80");
        app.set_status(Ok(status(vec![("web", vec![])])));
        assert_eq!(selected(&app), "tcp 192.0.2.1:80");
    }

    #[test]
    fn a_command_is_sent_once_it_is_confirmed() {
        let mut app = app();
        assert_eq!(press(&mut app, "d"), Step::Nothing);
        assert_eq!(app.note.as_deref(), Some("select a server first"));
        press(&mut app, "j");
        assert_eq!(press(&mut app, "dn"), Step::Nothing);
        assert_eq!(app.note.as_deref(), Some("nothing was done"));
        let (server, service) = ("10.0.0.1:80".parse().unwrap(), Some("tcp 192.0.2.1:80".to_owned()));
        press(&mut app, "d");
        let Input::Confirm(question, _) = &app.input else { panic!("{:?}", app.input) };
        assert_eq!(question, "drain 10.0.0.1:80 in web? y/n");
        let drain = Request::Drain { server, service: service.clone(), remove: false };
        assert_eq!(press(&mut app, "y"), Step::Ask(drain));
        let on = |on| Step::Ask(Request::Maintenance { server, service: service.clone(), on });
        assert_eq!((press(&mut app, "my"), press(&mut app, "My")), (on(true), on(false)));
        let undrain = Request::Undrain { server, service: service.clone() };
        assert_eq!(press(&mut app, "uy"), Step::Ask(undrain));
        assert_eq!(press(&mut app, "c"), Step::Ask(Request::Check { server, service }), "it changes nothing");
    }

    #[test]
    fn the_filter_takes_keys_until_it_is_done() {
        let mut app = app();
        press(&mut app, "/mq");
        assert_eq!((app.filter.as_str(), app.rows().len(), &app.input), ("mq", 0, &Input::Filter));
        app.press(KeyCode::Backspace.into());
        press(&mut app, "ail\n");
        assert_eq!((app.rows().len(), &app.input), (2, &Input::Browse));
        assert_eq!(selected(&app), "tcp 192.0.2.2:80");
        press(&mut app, "\x1b");
        assert_eq!(app.rows().len(), 5);
        assert_eq!(press(&mut app, "q"), Step::Quit);
        press(&mut app, "/");
        let control_c = KeyEvent::new(KeyCode::Char('c'), KeyModifiers::CONTROL);
        assert_eq!(app.press(control_c), Step::Quit);
    }

    #[test]
    fn events_of_another_agent_begin_anew() {
        let line = |number| EventLine {
            number,
            timestamp: String::new(),
            level: "info".to_owned(),
            fields: serde_json::Map::new(),
            message: String::new(),
            timeline: None,
        };
        let mut app = App::default();
        let numbers = |app: &App| app.events.iter().map(|line| line.number).collect::<Vec<_>>();
        let read = |instance, lines: Vec<u64>| Events {
            instance,
            next: 9,
            lines: lines.into_iter().map(line).collect(),
            ..Events::default()
        };
        app.add_events(read(1, (1..=EVENTS as u64 + 2).collect()));
        assert_eq!((app.events.len(), app.events[0].number), (EVENTS, 3));
        app.add_events(read(2, vec![1]));
        assert_eq!((numbers(&app), app.position), (vec![1], Some((2, 9))));
    }

    #[test]
    fn a_busy_agent_is_asked_less_often() {
        let ms = Duration::from_millis;
        assert_eq!(pause(ms(1000), ms(20)), ms(1000));
        assert_eq!(pause(ms(1000), ms(300)), ms(3000));
    }
}
