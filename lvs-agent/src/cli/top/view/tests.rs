use ratatui::{Terminal, backend::TestBackend, crossterm::event::KeyCode};

use super::*;
use crate::{
    cli::top::testing::{server, status},
    control::{EventLine, Events},
};

const PLAIN: Palette = Palette { has_colours: false };

/// The lines of the screen, without blanks at their ends.
fn screen(app: &mut App, width: u16, height: u16) -> Vec<String> {
    let mut terminal = Terminal::new(TestBackend::new(width, height)).unwrap();
    terminal.draw(|frame| draw(frame, app, PLAIN)).unwrap();
    let buffer = terminal.backend().buffer();
    let line = |y| (0..width).map(|x| buffer[(x, y)].symbol()).collect::<String>().trim_end().to_owned();
    (0..height).map(line).collect()
}

fn app() -> App {
    let mut app = App::default();
    let mut held = server("10.0.0.3:80", "up");
    held.held = true;
    held.note = Some("it is being drained".to_owned());
    app.set_status(Ok(status(vec![
        ("web", vec![server("10.0.0.1:80", "up"), server("10.0.0.2:80", "down"), held]),
        ("mail", vec![server("[2001:db8::1]:25", "up")]),
    ])));
    let fields = [("event".to_owned(), "transition".into()), ("service".to_owned(), "web".into())];
    app.add_events(Events {
        instance: 1,
        next: 7,
        lines: vec![EventLine {
            number: 7,
            timestamp: "2026-01-02T03:04:05.678901Z".to_owned(),
            level: "warn".to_owned(),
            fields: fields.into_iter().collect(),
            message: "10.0.0.2:80 is down: connection refused".to_owned(),
            timeline: None,
        }],
        ..Events::default()
    });
    app
}

#[test]
fn a_small_terminal_shows_all_that_matters() {
    let mut app = app();
    let lines = screen(&mut app, 80, 24);
    let shown = lines.join("\n");
    assert!(lines.iter().all(|line| line.chars().count() <= 80), "{shown}");
    assert!(lines[1].starts_with("Service, server"), "{shown}");
    assert!(lines[2].starts_with("TCP 192.0.2.1:80  web  2 of 3 up"), "{shown}");
    for expected in [
        "  10.0.0.1:80        up         1m21s     1     12     14",
        "  10.0.0.2:80        down       1m21s     0     12     14 http: connection refu…",
        "  10.0.0.3:80        held       1m21s     1     12     14 it is being drained; …",
        "03:04:05.678Z  transition        web: 10.0.0.2:80 is down: connection refused",
    ] {
        assert!(shown.contains(expected), "{expected:?} is not in\n{shown}");
    }
    assert!(lines[23].starts_with("? help  q quit"), "{shown}");
}

#[test]
fn a_wide_terminal_says_why_of_every_server() {
    let shown = screen(&mut app(), 160, 24).join("\n");
    assert!(shown.contains("http answered in 0.4 ms, 0.3s ago"), "{shown}");
    assert!(shown.contains("Wait ms"), "{shown}");
}

#[test]
fn the_details_of_the_selected_server_are_shown() {
    let mut app = app();
    for code in [KeyCode::Down, KeyCode::Down, KeyCode::Enter] {
        app.press(code.into());
    }
    let shown = screen(&mut app, 80, 30).join("\n");
    for expected in [
        "10.0.0.2:80 in web (tcp 192.0.2.1:80): down for 1m21s",
        "connections          14/s",
        "failures                1  █",
    ] {
        assert!(shown.contains(expected), "{expected:?} is not in\n{shown}");
    }
}

#[test]
fn any_size_is_drawn_and_the_selected_row_is_in_it() {
    let mut app = app();
    let many = (1..=200).map(|number| server(&format!("10.0.1.{number}:80"), "up")).collect();
    app.set_status(Ok(status(vec![("big", many)])));
    app.press(KeyCode::End.into());
    for panel in [Panel::Events, Panel::Details, Panel::Check, Panel::Help] {
        app.panel = panel;
        for (width, height) in [(1, 1), (3, 3), (20, 5), (80, 24), (300, 100)] {
            let lines = screen(&mut app, width, height);
            // Narrower ones cut the address off.
            if width >= 80 {
                assert!(lines.iter().any(|line| line.contains("10.0.1.200")), "{width} {height}: {lines:?}");
            }
        }
    }
}

#[test]
fn what_a_terminal_would_obey_is_escaped() {
    let mut evil = server("10.0.0.1:80", "down");
    evil.checks[0].text = "a\x1b[2Jb\u{202e}".to_owned();
    evil.note = Some("n\x1b]0;x\x07".to_owned());
    let mut app = App::default();
    app.set_status(Ok(status(vec![("w\x1b[31meb", vec![evil])])));
    app.note = Some("\x1b[2J".to_owned());
    for panel in [Panel::Events, Panel::Details] {
        app.panel = panel;
        app.press(KeyCode::Down.into());
        let shown = screen(&mut app, 160, 30).join("\n");
        assert!(!shown.contains(['\x1b', '\u{202e}', '\x07']), "{shown}");
        assert!(shown.contains("\\u{1b}"), "{shown}");
    }
}

#[test]
fn why_there_is_nothing_to_see_is_said() {
    let mut app = App::default();
    assert!(screen(&mut app, 80, 24)[2].starts_with("asking the agent"));
    app.set_status(Err("no agent answers at /run/x".to_owned()));
    assert!(screen(&mut app, 80, 24)[0].contains("no agent answers"));
    app.set_status(Ok(status(Vec::new())));
    assert!(screen(&mut app, 80, 24)[2].starts_with("there are no services"));
}
