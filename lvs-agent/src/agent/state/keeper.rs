//! The task that writes the state file, without keeping anyone waiting for long.

use std::{path::PathBuf, sync::Arc, time::Duration};

use tokio::{sync::watch, task::spawn_blocking, time::timeout};
use tracing::{debug, info, warn};

use super::{
    super::adopt::Held,
    Left, Orders,
    file::{read, write},
    place::Place,
};

/// Something to be written, and how many there were before it.
type Numbered<T> = (u64, Arc<T>);

/// Writes down what is handed over, the newest; what something newer has replaced is left out.
pub(in crate::agent) struct StateFile {
    path: PathBuf,
    place: Place,
    held: Inbox<Held>,
    orders: Inbox<Orders>,
    works: bool,
}

/// What is to be written comes in here, and it is told when it was.
struct Inbox<T> {
    states: watch::Receiver<Numbered<T>>,
    written: watch::Sender<u64>,
}

/// Hands something over to be written.
pub(in crate::agent) struct Keeper<T> {
    states: watch::Sender<Numbered<T>>,
    written: watch::Receiver<u64>,
}

/// What was handed over, to be waited for.
#[derive(Debug)]
pub(in crate::agent) struct Ticket {
    number: u64,
    written: watch::Receiver<u64>,
}

/// What the last agent has left, and how this one leaves something.
pub(in crate::agent) struct Opened {
    pub(in crate::agent) left: Left,
    pub(in crate::agent) held: Keeper<Held>,
    pub(in crate::agent) orders: Keeper<Orders>,
    pub(in crate::agent) file: StateFile,
}

impl StateFile {
    /// Reads what is at `path`. `None` where nothing can be kept.
    pub(in crate::agent) fn open(path: PathBuf) -> Option<Opened> {
        let place = match Place::here() {
            Ok(place) => place,
            Err(error) => {
                warn!(event = "state", "nothing is kept for the next start: {error}");
                return None;
            }
        };
        let left = read(&path, &place).unwrap_or_else(|why| {
            warn!(event = "state", "{} is ignored: {why}", path.display());
            Left::default()
        });
        let (held, held_inbox) = channel(left.held.clone());
        let (orders, orders_inbox) = channel(left.orders.clone());
        let file = Self { path, place, held: held_inbox, orders: orders_inbox, works: true };
        Some(Opened { left, held, orders, file })
    }

    /// Until nothing further can be handed over.
    pub(in crate::agent) async fn run(mut self) {
        loop {
            tokio::select! {
                Ok(()) = self.held.states.changed() => {}
                Ok(()) = self.orders.states.changed() => {}
                else => return,
            }
            let (held_number, held) = self.held.states.borrow_and_update().clone();
            let (orders_number, orders) = self.orders.states.borrow_and_update().clone();
            let (path, place) = (self.path.clone(), self.place.clone());
            let written = spawn_blocking(move || write(&path, &place, &held, &orders)).await;
            let error = match written {
                Ok(Ok(())) => None,
                Ok(Err(error)) => Some(error.to_string()),
                Err(error) => Some(error.to_string()),
            };
            self.told(error.as_deref());
            self.held.written.send_replace(held_number);
            self.orders.written.send_replace(orders_number);
        }
    }

    /// Tells of failures once.
    fn told(&mut self, error: Option<&str>) {
        let path = self.path.display();
        match error {
            Some(error) if self.works => warn!(
                event = "state",
                "{path} can't be written: {error}; the next agent won't know which weights 0 are this one's, and who is drained or in maintenance by command"
            ),
            None if !self.works => info!(event = "state", "{path} can be written again"),
            _ => {}
        }
        self.works = error.is_none();
    }
}

fn channel<T>(first: T) -> (Keeper<T>, Inbox<T>) {
    let (states_tx, states) = watch::channel((0, Arc::new(first)));
    let (written_tx, written) = watch::channel(0);
    (Keeper { states: states_tx, written }, Inbox { states, written: written_tx })
}

impl<T: Clone> Keeper<T> {
    /// Hands it over.
    pub(in crate::agent) fn keep(&self, state: &T) -> Ticket {
        let mut number = 0;
        self.states.send_modify(|kept| {
            number = kept.0 + 1;
            *kept = (number, Arc::new(state.clone()));
        });
        Ticket { number, written: self.written.clone() }
    }
}

impl Ticket {
    /// Waits until it is written, or it can't be, but never for longer than `patience`.
    pub(in crate::agent) async fn written(mut self, patience: Duration) {
        let number = self.number;
        let done = timeout(patience, self.written.wait_for(|written| *written >= number)).await;
        if done.is_err() {
            debug!("the state file takes longer than {patience:?}; it isn't waited for");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        pool::{Commands, Drain},
        service::{AddressFamily, DestinationKey, ServiceKey},
    };

    const LONG: Duration = Duration::from_secs(30);

    fn orders(mark: u32) -> Orders {
        let service = ServiceKey::Mark { mark, family: AddressFamily::V4 };
        let key = DestinationKey { service, server: "10.0.0.1:80".parse().unwrap() };
        Orders::from([(key, Commands { drain: Some(Drain::Quiesce), maintenance: false })])
    }

    #[tokio::test]
    async fn what_is_kept_is_there_for_the_next_agent_once_it_is_told_so() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("state.json");
        let Opened { left, held, orders: keeper, file } = StateFile::open(path.clone()).unwrap();
        assert_eq!(left, Left::default());
        let task = tokio::spawn(file.run());
        for mark in 1..20 {
            keeper.keep(&orders(mark)).written(LONG).await;
            assert_eq!(StateFile::open(path.clone()).unwrap().left.orders, orders(mark));
        }
        // The last word is written although its writer has gone.
        drop(held);
        keeper.keep(&orders(99));
        drop(keeper);
        task.await.unwrap();
        assert_eq!(StateFile::open(path).unwrap().left.orders, orders(99));
    }

    #[tokio::test]
    async fn nobody_waits_for_a_file_that_cant_be_written() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("no/such/folder/state.json");
        let Opened { held, orders: keeper, file, .. } = StateFile::open(path).unwrap();
        let task = tokio::spawn(file.run());
        keeper.keep(&orders(1)).written(LONG).await;
        drop((held, keeper));
        task.await.unwrap();
    }
}
