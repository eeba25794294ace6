//! What the controller tells the task: a mailbox that holds the last word on each server, so that nobody waits.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;

use super::policy::{Condition, Unasked};
use crate::{keyed::KeyMap, model::DestinationKey, probe::target::ProbeTarget};

/// An idle connection that is wanted for a destination.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct IdleWish {
    /// The destination.
    pub destination: DestinationKey,
    /// Where the connection goes.
    pub target: ProbeTarget,
    /// What to do if the server speaks unasked.
    pub unasked: Unasked,
    /// How the server is.
    pub condition: Condition,
}

/// The idle connections that are wanted, and what has become of them. Clones share it.
#[derive(Clone, Debug, Default)]
pub struct IdleHandle(Arc<Shared>);

#[derive(Debug, Default)]
struct Shared {
    mail: Mutex<Mail>,
    /// For `status`: how the connection of each destination is.
    states: Mutex<KeyMap<DestinationKey, String>>,
    arrived: Notify,
}

/// What the task has not taken yet: at most one word on each destination.
#[derive(Debug, Default)]
pub(super) struct Mail {
    /// All connections that are wanted; older than the conditions.
    pub(super) wishes: Option<Vec<IdleWish>>,
    /// How servers are now.
    pub(super) conditions: KeyMap<DestinationKey, Condition>,
}

impl IdleHandle {
    /// From now on these connections are wanted, and no others.
    pub fn replace(&self, wishes: Vec<IdleWish>) {
        *self.mail() = Mail { wishes: Some(wishes), conditions: KeyMap::default() };
        self.0.arrived.notify_one();
    }

    /// The checks say something else about a destination.
    pub fn set(&self, destination: DestinationKey, condition: Condition) {
        self.mail().conditions.insert(destination, condition);
        self.0.arrived.notify_one();
    }

    /// How the connection of a destination is, in words; `None`: none is wanted.
    #[must_use]
    pub fn state(&self, destination: &DestinationKey) -> Option<String> {
        self.states().get(destination).cloned()
    }

    /// Waits for mail, and takes it.
    pub(super) async fn take(&self) -> Mail {
        loop {
            // Registered before the look, so that what comes in between is not missed.
            let arrived = self.0.arrived.notified();
            let mail = std::mem::take(&mut *self.mail());
            if mail.wishes.is_some() || !mail.conditions.is_empty() {
                return mail;
            }
            arrived.await;
        }
    }

    pub(super) fn states(&self) -> MutexGuard<'_, KeyMap<DestinationKey, String>> {
        self.0.states.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn mail(&self) -> MutexGuard<'_, Mail> {
        self.0.mail.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
