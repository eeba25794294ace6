//! The service manager that has started the agent, if one has: it hears when the agent is at work, that it reloads,
//! that it stops, how it goes, and as long as the controller makes its turns (`sd_notify(3)`).
//!
//! Written here rather than taken from a crate: a datagram to a manager that doesn't read must never hold anything up,
//! and what crates offer waits.

mod socket;
mod task;

use tokio::sync::{mpsc, oneshot, watch};

pub(crate) use self::{socket::ServiceManager, task::Notices};

/// A request for how it goes, in a line. Whoever answers has made a turn.
pub(crate) type TurnRequest = oneshot::Sender<String>;

/// Requests that may wait for the controller: the next one is made when the last one is answered.
const REQUESTS: usize = 1;

/// How far the agent is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Phase {
    /// Whether it is at work.
    ready: bool,
    /// How many reloads have begun, and how many have ended: one that begins and ends while nobody looks is told all
    /// the same.
    begun: u64,
    ended: u64,
}

/// Tells the service manager how far the agent is. Never waits.
#[derive(Clone, Debug)]
pub(crate) struct PhaseHandle {
    phase: watch::Sender<Phase>,
}

impl PhaseHandle {
    /// The kernel's table has been read, and the first edits are made.
    pub(crate) fn ready(&self) {
        self.phase.send_modify(|phase| phase.ready = true);
    }

    /// A reload has begun; it ends when what is returned is dropped.
    pub(crate) fn reloading(&self) -> Reloading {
        self.phase.send_modify(|phase| phase.begun += 1);
        Reloading(self.clone())
    }

    /// Tells nobody.
    #[cfg(test)]
    pub(crate) fn unheard() -> Self {
        Self { phase: watch::Sender::new(Phase::default()) }
    }
}

/// A reload that has begun.
#[derive(Debug)]
pub(crate) struct Reloading(PhaseHandle);

impl Drop for Reloading {
    fn drop(&mut self) {
        self.0.phase.send_modify(|phase| phase.ended += 1);
    }
}

/// The task that tells the service manager, where to say how far the agent is, and the questions that the controller
/// is asked.
pub(crate) fn notices(manager: ServiceManager) -> (Notices, PhaseHandle, mpsc::Receiver<TurnRequest>) {
    let (phase_sender, phase) = watch::channel(Phase::default());
    let (turns, requests) = mpsc::channel(REQUESTS);
    (Notices::new(manager, phase, turns), PhaseHandle { phase: phase_sender }, requests)
}
