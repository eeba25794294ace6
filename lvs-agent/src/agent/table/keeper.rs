//! Whom this agent holds out, written down without keeping an edit waiting for long.

use std::{path::PathBuf, sync::Arc, time::Duration};

use tokio::{sync::watch, task::spawn_blocking, time::timeout};
use tracing::{info, warn};

use super::super::{
    adopt::Held,
    state_file::{self, Place},
};

/// How long an edit waits for what is written down before it. A file in memory takes a tenth of that.
const PATIENCE: Duration = Duration::from_millis(2);

/// A state, and how many there were before it.
type Numbered = (u64, Arc<Held>);

/// Writes states down, the newest first; what a newer one has replaced is left out.
pub(in crate::agent) struct StateFile {
    path: PathBuf,
    place: Place,
    states: watch::Receiver<Numbered>,
    written: watch::Sender<u64>,
    works: bool,
}

/// Hands states over to be written.
pub(super) struct Keeper {
    states: watch::Sender<Numbered>,
    written: watch::Receiver<u64>,
}

impl StateFile {
    /// What the last agent has left at `path`, and who writes there from now on. `None` where that can't be.
    pub(super) fn open(path: PathBuf) -> Option<(Held, Keeper, Self)> {
        let place = match Place::here() {
            Ok(place) => place,
            Err(error) => {
                warn!(event = "state", "nothing is kept for the next start: {error}");
                return None;
            }
        };
        let held = match state_file::read(&path, &place) {
            Ok(held) => held,
            Err(why) => {
                warn!(event = "state", "{} is ignored: {why}", path.display());
                Held::default()
            }
        };
        let (states_tx, states) = watch::channel((0, Arc::new(held.clone())));
        let (written_tx, written) = watch::channel(0);
        let file = Self { path, place, states, written: written_tx, works: true };
        Some((held, Keeper { states: states_tx, written }, file))
    }

    /// Until there can be no further states.
    pub(in crate::agent) async fn run(mut self) {
        while self.states.changed().await.is_ok() {
            let (number, held) = self.states.borrow_and_update().clone();
            let (path, place) = (self.path.clone(), self.place.clone());
            let written = spawn_blocking(move || state_file::write(&path, &place, &held)).await;
            let error = match written {
                Ok(Ok(())) => None,
                Ok(Err(error)) => Some(error.to_string()),
                Err(error) => Some(error.to_string()),
            };
            self.told(error.as_deref());
            self.written.send_replace(number);
        }
    }

    /// Tells of failures once.
    fn told(&mut self, error: Option<&str>) {
        let path = self.path.display();
        match error {
            Some(error) if self.works => warn!(
                event = "state",
                "{path} can't be written: {error}; if this agent is killed, the next one won't know which weights 0 are its own"
            ),
            None if !self.works => info!(event = "state", "{path} can be written again"),
            _ => {}
        }
        self.works = error.is_none();
    }
}

impl Keeper {
    /// Hands a state over.
    pub(super) fn keep(&self, held: &Held) -> u64 {
        let mut number = 0;
        self.states.send_modify(|state| {
            number = state.0 + 1;
            *state = (number, Arc::new(held.clone()));
        });
        number
    }

    /// The same, and waits until it is written, but never for long.
    pub(super) async fn keep_now(&mut self, held: &Held) {
        let number = self.keep(held);
        let done = timeout(PATIENCE, self.written.wait_for(|written| *written >= number)).await;
        if done.is_err() {
            tracing::debug!("the edit doesn't wait for the state file");
        }
    }
}
