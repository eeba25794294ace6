//! The one task that writes to the kernel's table: always the difference between what is there and what is wanted.

use std::time::{Duration, Instant};

use tokio::{sync::watch, time::sleep};
use tokio_util::sync::CancellationToken;
use tracing::{error, info, warn};

use super::round::{self, Round};
use crate::{
    clock::monotonic_ns,
    ipvs::{Edit, IpvsClient, IpvsError, Table, Wanted, difference},
};

/// Keeps the kernel's table in step with what is wanted.
pub(super) struct TableWriter {
    client: IpvsClient,
    /// The table as last read, with this task's own edits since.
    known: Table,
}

impl TableWriter {
    /// Reads the table; nothing is written yet.
    pub(super) async fn new(mut client: IpvsClient) -> Result<Self, IpvsError> {
        let known = client.table().await?;
        Ok(Self { client, known })
    }

    /// The table as last read.
    pub(super) fn known(&self) -> &Table {
        &self.known
    }

    /// Follows `wanted` until `shutdown`; then, if there is one, makes the table as `last` wants it.
    ///
    /// `wanted` is a watch: what was wanted and is no longer is skipped, what is wanted now is never queued behind it.
    pub(super) async fn run(
        mut self,
        mut wanted: watch::Receiver<Wanted>,
        shutdown: CancellationToken,
        last: Option<Wanted>,
    ) {
        let mut failures = 0;
        loop {
            let now = wanted.borrow_and_update().clone();
            failures = if self.write(&now).await { 0 } else { failures + 1 };
            let retry = round::pause(failures);
            tokio::select! {
                () = shutdown.cancelled() => break,
                changed = wanted.changed() => if changed.is_err() { break },
                () = sleep(retry.unwrap_or_default()), if retry.is_some() => self.read_again().await,
            }
        }
        if let Some(last) = last {
            // A failure has been logged; there is no later time to try again.
            self.write(&last).await;
        }
    }

    /// Makes the table as wanted, as far as it is known not to be. Whether all of it could be done; what couldn't is
    /// logged.
    pub(super) async fn write(&mut self, wanted: &Wanted) -> bool {
        let mut round = Round::new(difference(&self.known, wanted));
        while let Some(edit) = round.next() {
            let begun = Instant::now();
            if let Err(error) = self.client.apply(&edit).await {
                error!(at_ns = monotonic_ns(), event = "edit-failed", edit = %edit, "{error}; trying again");
                metrics::counter!("lvs_table_edits_total", "result" => "failed").increment(1);
                if round.goes_on_after(&edit, &error) {
                    continue;
                }
                break;
            }
            log_edit(&edit, begun.elapsed());
            if self.known.apply(&edit).is_err() {
                // The kernel took an edit that doesn't fit what was known: someone else has edited meanwhile.
                self.read_again().await;
            }
        }
        round.is_clean()
    }

    async fn read_again(&mut self) {
        match self.client.table().await {
            Ok(table) => self.known = table,
            Err(error) => warn!("reading the table again: {error}"),
        }
    }
}

fn log_edit(edit: &Edit, took: Duration) {
    metrics::counter!("lvs_table_edits_total", "result" => "done").increment(1);
    metrics::histogram!("lvs_table_edit_seconds").record(took.as_secs_f64());
    info!(
        at_ns = monotonic_ns(),
        event = "edit",
        service = %edit.service(),
        server = edit.server().map(|server| server.to_string()),
        edit = %edit,
        took_us = u64::try_from(took.as_micros()).unwrap_or(u64::MAX),
        "table: {edit}"
    );
}
