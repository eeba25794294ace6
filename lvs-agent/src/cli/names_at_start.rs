//! Host names that have no address yet when the agent starts: the network may still be coming up. The rest of the file
//! is in force meanwhile.

use std::{collections::BTreeSet, time::Duration};

use nix::sys::signal::{Signal, raise};
use tokio::{
    task::spawn_blocking,
    time::{Instant, sleep},
};
use tracing::{info, warn};

use crate::{
    config::{ConfigError, NameGrace, Reading, Source},
    ipvs::TableReader,
};

/// The first pause between two attempts; each is twice as long as the one before.
const FIRST_PAUSE: Duration = Duration::from_secs(1);
/// How long the kernel may take for each answer about its table, which takes it milliseconds.
const TABLE_TIMEOUT: Duration = Duration::from_secs(5);
/// The longest pause.
const LONGEST_PAUSE: Duration = Duration::from_secs(15);

/// Reads the file, whose names may have no address yet.
pub(super) fn read(source: &Source) -> Result<Reading, ConfigError> {
    let mut reading = source.read()?;
    if reading.unresolved.names.is_empty() {
        source.names.end();
    }
    keep_what_serves(source, &mut reading);
    Ok(reading)
}

/// Leaves alone what serves already: a service in the kernel's table some of whose servers have no address yet is taken
/// over once all have. It would lose them otherwise.
fn keep_what_serves(source: &Source, reading: &mut Reading) {
    if reading.unresolved.partial.is_empty() {
        return;
    }
    // Whoever can't read the table hears of it right after.
    let Ok(table) = TableReader::new(TABLE_TIMEOUT).table() else { return };
    let serves = |key: &_| table.services.get(key).is_some_and(|entry| !entry.destinations.is_empty());
    source.names.keep(reading.unresolved.partial.iter().filter(|key| serves(key)).copied());
    source.leave_out_kept(reading);
}

/// Looks the names up again and again, and has the file reloaded whenever more of them have addresses; ends only with
/// the program.
pub(super) async fn follow(unresolved: Option<(Source, BTreeSet<String>)>) -> anyhow::Result<()> {
    let Some((source, unresolved)) = unresolved else { return std::future::pending().await };
    let look_up = || {
        let again = source.clone();
        async {
            // A file with faults has the reload say so, once somebody asks for it.
            let reading = spawn_blocking(move || again.read()).await.ok()?.ok()?;
            Some(reading.unresolved.names)
        }
    };
    let fewer = |are_all_known: bool| {
        if are_all_known {
            source.names.end();
        }
        info!("{} has host names that have addresses now: reloading", source.path.display());
        if let Err(error) = raise(Signal::SIGHUP) {
            warn!("the reload can't be started: {error}");
        }
    };
    let unresolved = look_up_again(unresolved, look_up, fewer).await;
    source.names.end();
    if !unresolved.is_empty() {
        let names = unresolved.into_iter().collect::<Vec<_>>().join(", ");
        let minutes = NameGrace::LENGTH.as_secs() / 60;
        warn!(
            "after {minutes} minutes these host names have no address still: {names}; what has them stays left out; \
             correct them, and reload"
        );
    }
    std::future::pending().await
}

/// Calls `look_up`, which returns the names without an address or nothing, until there are none or time is up; and
/// `fewer` whenever they have become fewer, with whether all have addresses. Returns the names that are left.
async fn look_up_again<F: Future<Output = Option<BTreeSet<String>>>>(
    mut unresolved: BTreeSet<String>,
    look_up: impl Fn() -> F,
    fewer: impl Fn(bool),
) -> BTreeSet<String> {
    let end = Instant::now() + NameGrace::LENGTH;
    let mut pause = FIRST_PAUSE;
    while !unresolved.is_empty() && Instant::now() < end {
        sleep(pause).await;
        pause = (pause * 2).min(LONGEST_PAUSE);
        let Some(names) = look_up().await else { continue };
        if names.len() < unresolved.len() {
            unresolved = names;
            fewer(unresolved.is_empty());
            pause = FIRST_PAUSE;
        }
    }
    unresolved
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;

    use super::*;

    /// The names that are left, after how many seconds each look-up was, and what was said of fewer names, if so many
    /// names have no address so many seconds after the start.
    async fn looked_up(missing: fn(u64) -> Option<usize>) -> (usize, Vec<u64>, Vec<bool>) {
        let begun = Instant::now();
        let (times, told) = (RefCell::new(Vec::new()), RefCell::new(Vec::new()));
        let names = |count: usize| (0..count).map(|number| format!("web{number}")).collect::<BTreeSet<_>>();
        let look_up = || {
            let second = begun.elapsed().as_secs();
            times.borrow_mut().push(second);
            std::future::ready(missing(second).map(names))
        };
        let left = look_up_again(names(2), look_up, |are_all| told.borrow_mut().push(are_all)).await;
        (left.len(), times.take(), told.take())
    }

    #[tokio::test(start_paused = true)]
    async fn names_are_looked_up_at_growing_intervals_for_ten_minutes() {
        let (left, times, told) = looked_up(|_| Some(2)).await;
        assert_eq!((left, told), (2, vec![]));
        assert_eq!(times[..6], [1, 3, 7, 15, 30, 45]);
        assert!(times[4..].windows(2).all(|pair| pair[1] - pair[0] == 15), "{times:?}");
        assert_eq!(times.last(), Some(&600));
        // A file that can't be read is read again as well.
        let (left, unread, _) = looked_up(|_| None).await;
        assert_eq!((left, unread), (2, times));
    }

    #[tokio::test(start_paused = true)]
    async fn an_address_begins_the_intervals_anew_and_the_last_one_ends_them() {
        let (left, times, told) = looked_up(|second| match second {
            0..30 => Some(2),
            30..33 => Some(1),
            _ => Some(0),
        })
        .await;
        assert_eq!((left, told), (0, vec![false, true]));
        assert_eq!(times, [1, 3, 7, 15, 30, 31, 33]);
    }
}
