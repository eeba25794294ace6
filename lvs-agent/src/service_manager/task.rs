//! The task that tells the service manager how it goes. Feeding its watchdog takes an answer of the controller: where
//! that is stuck, the manager hears nothing and starts the agent anew.

use std::{fmt::Write as _, time::Duration};

use tokio::{
    sync::{mpsc, oneshot, watch},
    time::{MissedTickBehavior, interval},
};
use tokio_util::sync::CancellationToken;
use tracing::warn;

use super::{Phase, ServiceManager, TurnRequest};
use crate::{clock::monotonic_ns, supervision::Restartable};

/// How often the line about how it goes is looked at; only another one is sent.
const STATUS: Duration = Duration::from_secs(5);
/// How often the watchdog is fed while it waits once: one message may be late, or lost.
const FEEDINGS: u32 = 3;

/// What the service manager has been told, and what it is still to be told.
#[derive(Debug)]
pub(crate) struct Notices {
    manager: ServiceManager,
    phase: watch::Receiver<Phase>,
    turns: mpsc::Sender<TurnRequest>,
    told: Phase,
    status: String,
    /// Whether a failure has been logged: the next ones are of the same kind.
    has_failed: bool,
}

impl Notices {
    pub(super) fn new(
        manager: ServiceManager,
        phase: watch::Receiver<Phase>,
        turns: mpsc::Sender<TurnRequest>,
    ) -> Self {
        Self {
            manager,
            phase,
            turns,
            told: Phase::default(),
            status: "starting".to_owned(),
            has_failed: false,
        }
    }

    async fn send(&mut self, message: &str) {
        match self.manager.send(message).await {
            Ok(()) => self.has_failed = false,
            Err(error) if !self.has_failed => {
                warn!("the service manager can't be notified: {error}");
                self.has_failed = true;
            }
            Err(_again) => {}
        }
    }

    /// Tells how far the agent is, as far as that is news.
    async fn tell_phase(&mut self) {
        let phase = *self.phase.borrow_and_update();
        if phase.begun > self.told.begun && phase.ready {
            // The manager takes what comes after this time for an answer to its request (`Type=notify-reload`).
            let now = monotonic_ns() / 1000;
            self.send(&format!("RELOADING=1\nMONOTONIC_USEC={now}\nSTATUS=reloading the configuration"))
                .await;
        }
        let is_reloading = phase.begun > phase.ended;
        if phase.ready && !is_reloading && phase != self.told {
            let message = format!("READY=1\nSTATUS={}", self.status);
            self.send(&message).await;
        }
        self.told = phase;
    }

    /// The controller has made a turn, and says how it goes.
    async fn tell_turn(&mut self, status: String) {
        let mut message = String::new();
        if self.manager.watchdog().is_some() {
            message.push_str("WATCHDOG=1\n");
        }
        let is_shown = self.told.ready && self.told.begun == self.told.ended;
        if status != self.status && is_shown {
            // Writing to a string can't fail.
            write!(message, "STATUS={status}").ok();
        }
        self.status = status;
        if !message.is_empty() {
            self.send(message.trim_end()).await;
        }
    }

    /// Asks the controller; `None`: it has not taken the last question yet, or has ended.
    fn ask(&self) -> Option<oneshot::Receiver<String>> {
        let (reply, answer) = oneshot::channel();
        self.turns.try_send(reply).ok().map(|()| answer)
    }
}

impl Restartable for Notices {
    async fn run(&mut self, shutdown: &CancellationToken) {
        if !self.manager.listens() {
            return shutdown.cancelled().await;
        }
        if !self.told.ready {
            let message = format!("STATUS={}", self.status);
            self.send(&message).await;
        }
        let period = self.manager.watchdog().map_or(STATUS, |watchdog| STATUS.min(watchdog / FEEDINGS));
        let mut ticks = interval(period);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut asked = None;
        loop {
            tokio::select! {
                () = shutdown.cancelled() => break,
                Ok(()) = self.phase.changed() => self.tell_phase().await,
                _ = ticks.tick(), if asked.is_none() => asked = self.ask(),
                answer = answered(&mut asked) => {
                    asked = None;
                    if let Some(status) = answer {
                        self.tell_turn(status).await;
                    }
                }
            }
        }
        self.send("STOPPING=1\nSTATUS=stopping").await;
    }
}

/// Waits for the answer to the question that was asked; for ever if none was, `None` if there will be none.
async fn answered(asked: &mut Option<oneshot::Receiver<String>>) -> Option<String> {
    match asked {
        Some(answer) => answer.await.ok(),
        None => std::future::pending().await,
    }
}

#[cfg(test)]
mod tests;
