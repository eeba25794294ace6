//! One way in which others are told that fails: the first failure is told, and that it works again.

use std::{io, time::Duration};

use crate::{
    backoff::Backoff,
    event::{AnnounceWay, LineFile},
    telemetry::metrics::count_announce_failure,
};

/// From a failure to the next try.
const AGAIN: Backoff = Backoff::new(Duration::from_secs(1), Duration::from_secs(30));

/// How often in a row it has failed.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Trouble {
    failures: u32,
}

impl Trouble {
    /// Whether it fails at present.
    pub(super) fn is_there(self) -> bool {
        self.failures > 0
    }

    /// How long to wait until it is tried again.
    pub(super) fn pause(self) -> Duration {
        AGAIN.delay(self.failures.saturating_sub(1))
    }

    /// Notes an outcome; what there is to tell of it.
    pub(super) fn note(
        &mut self,
        way: AnnounceWay,
        outcome: io::Result<()>,
        words: impl FnOnce(&io::Error) -> String,
    ) -> Option<LineFile> {
        let was_failing = self.is_there();
        match outcome {
            Ok(()) => {
                self.failures = 0;
                was_failing.then_some(LineFile::Works)
            }
            Err(error) => {
                self.failures = self.failures.saturating_add(1);
                count_announce_failure(way.name());
                (!was_failing).then(|| LineFile::Fails { error: words(&error) })
            }
        }
    }
}
