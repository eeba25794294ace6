//! Host names that have no address yet when the agent starts: the network may still be coming up. The rest of the file
//! is in force meanwhile.

use std::{
    collections::BTreeSet,
    time::{Duration, Instant},
};

use nix::sys::signal::{Signal, raise};
use tokio::{task::spawn_blocking, time::sleep};
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
    let Some((source, mut unresolved)) = unresolved else { return std::future::pending().await };
    let end = Instant::now() + NameGrace::LENGTH;
    let mut pause = FIRST_PAUSE;
    while !unresolved.is_empty() && Instant::now() < end {
        sleep(pause).await;
        pause = (pause * 2).min(LONGEST_PAUSE);
        let again = source.clone();
        // A file with faults has the reload say so, once somebody asks for it.
        let Ok(Ok(reading)) = spawn_blocking(move || again.read()).await else { continue };
        if reading.unresolved.names.len() < unresolved.len() {
            unresolved = reading.unresolved.names;
            if unresolved.is_empty() {
                source.names.end();
            }
            info!("{} has host names that have addresses now: reloading", source.path.display());
            if let Err(error) = raise(Signal::SIGHUP) {
                warn!("the reload can't be started: {error}");
            }
            pause = FIRST_PAUSE;
        }
    }
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
