//! How soon decisions are in the table, with visitors and without.

use std::time::Duration;

use anyhow::Result;

use super::{
    VisitorOptions, config,
    crowd::{Pages, Scraper, Watchers},
    median, start,
};
use crate::{
    bench::failing::{FailingServers, service_and_server},
    lab::namespace::Namespace,
    say,
};

/// How many times as late a decision may be with visitors.
const LATER: f64 = 1.1;
/// Servers that fail and come back.
const FAILING: u16 = 20;
/// Scrapers, and scrapes a second of each.
const SCRAPERS: (u32, u32) = (2, 25);

pub(super) fn measure(director: &Namespace, options: &VisitorOptions) -> Result<bool> {
    let mut failing = FailingServers::listen(director, FAILING)?;
    let mut text = config(options.servers);
    for number in 0..FAILING {
        text += &service_and_server(number, "100ms");
    }
    let mut agent = start(director, options.servers + FAILING, &text)?;
    failing.await_states(&mut agent)?;
    let (mut without, mut with) = (Vec::new(), Vec::new());
    for _ in 0..options.rounds {
        without.extend(failing.time_states(&mut agent, options.states)?);
        let pages = Pages::open(director, options.pages)?;
        let top = Watchers::top(director)?;
        let scraper = Scraper::start(director, SCRAPERS.0, SCRAPERS.1)?;
        std::thread::sleep(Duration::from_secs(3));
        with.extend(failing.time_states(&mut agent, options.states)?);
        let rate = scraper.end()?;
        top.end()?;
        pages.close()?;
        say(&format!("{rate:.0} scrapes a second were answered"));
    }
    agent.stop()?;
    let ms = |delays: Vec<Duration>| delays.iter().map(|delay| 1e3 * delay.as_secs_f64()).collect::<Vec<_>>();
    let (mut without, mut with) = (ms(without), ms(with));
    let (calm, visited) = (median(&mut without), median(&mut with));
    let is_soon = visited <= LATER * calm;
    let words = if is_soon { "" } else { ": TOO LATE" };
    say(&format!(
        "from a hard state to the acknowledged edit with {} scrapes a second, {} pages and top: {visited:.3} ms ({}), \
         without: {calm:.3} ms ({}), {} times each; {:.2} times, at most {LATER}{words}",
        SCRAPERS.0 * SCRAPERS.1,
        options.pages,
        spread(&with),
        spread(&without),
        with.len(),
        visited / calm
    ));
    Ok(is_soon)
}

/// The 10th and the 90th of a hundred of what has been sorted.
fn spread(sorted: &[f64]) -> String {
    let at = |share: usize| sorted.get(sorted.len() * share / 100).copied().unwrap_or_default();
    format!("{:.3} to {:.3} for 80 of 100", at(10), at(90))
}
