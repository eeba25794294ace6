//! Looks at the file that may be half of it: somebody has deleted it and writes it anew, slowly, in a way that tells
//! nobody when it is done. What would delete services waits until the file has stayed as it is for a while.

use std::time::Duration;

use tokio::time::Instant;

use crate::config::{Content, Loss};

/// How long a file must stay as it is where something in the middle of it is missing. That is no half file, but may be
/// half of a change.
const MIDDLE: Duration = Duration::from_secs(2);
/// The same where its end is missing: longer than a slow writer pauses between two parts.
const END: Duration = Duration::from_secs(5);
/// The same on demand. Who asks is there, and has most likely written it before.
pub(super) const ON_DEMAND: Duration = Duration::from_secs(1);
/// How often a file that changes all the time is looked at on demand.
pub(super) const LOOKS: usize = 5;

/// How long a file must stay as it is before it is believed. `is_beginning`: the file in force begins with it.
pub(super) fn patience(loss: Loss, is_beginning: bool) -> Duration {
    match loss {
        _ if is_beginning => END,
        Loss::End(_) => END,
        Loss::Some(_) => MIDDLE,
        Loss::Nothing => Duration::ZERO,
    }
}

/// A look that is not believed yet.
pub(super) struct Doubt {
    content: Content,
    until: Instant,
}

impl Doubt {
    /// Looks at `content` again after `patience`.
    pub(super) fn new(content: Content, patience: Duration, now: Instant) -> Self {
        Self { content, until: now + patience }
    }

    /// Whether the file, which is `content` now, has stayed as it was; `None`: it hasn't, which begins a new doubt.
    pub(super) fn is_over(&self, content: &Content, now: Instant) -> Option<bool> {
        (self.content == *content).then_some(now >= self.until)
    }
}

/// Waits until the file is to be looked at again; for ever if there is no doubt.
pub(super) async fn due(doubt: Option<&Doubt>) {
    match doubt {
        Some(doubt) => tokio::time::sleep_until(doubt.until).await,
        None => std::future::pending().await,
    }
}
