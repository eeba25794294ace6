//! Makes edits of the kernel's table, or only records them in a dry run. Every edit goes through here.

use std::{
    collections::VecDeque,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use tokio::task::JoinError;
use tracing::debug;

use crate::{
    clock::monotonic_ns,
    control::{ObservedEdit, ObservedStatus},
    engine::vip_path::has_own_mark,
    event::{Event, Publisher},
    ipvs::{AppliedEdit, Edit, IpvsClient},
    model::VipMarks,
};

/// How many of the edits of a dry run are remembered.
const REMEMBERED: usize = 20;

/// Makes edits, or only records them.
pub(super) struct Executor {
    kind: Kind,
    events: Publisher,
}

enum Kind {
    /// Edits are sent to the kernel. Services with these marks are the agent's own affair.
    Apply(Box<IpvsClient>, VipMarks),
    /// Edits are recorded; there is no client that could send them.
    DryRun(DryRunLog),
}

impl Executor {
    /// An executor that makes edits.
    pub(super) fn applying(client: IpvsClient, marks: VipMarks, events: Publisher) -> Self {
        Self { kind: Kind::Apply(Box::new(client), marks), events }
    }

    /// An executor that only records edits.
    pub(super) fn observing(events: Publisher) -> Self {
        Self { kind: Kind::DryRun(DryRunLog::default()), events }
    }

    /// Makes edits one after the other until `stop` is true of one; returns the outcome of each that was tried.
    pub(super) async fn apply_each(
        &mut self,
        edits: Vec<Edit>,
        stop: impl FnMut(&AppliedEdit) -> bool + Send + 'static,
    ) -> Result<Vec<AppliedEdit>, JoinError> {
        match &mut self.kind {
            Kind::Apply(client, _) => client.apply_each(edits, stop).await,
            Kind::DryRun(_) => Ok(edits.into_iter().map(unmade).collect()),
        }
    }

    /// Publishes an edit that was made, or that a dry run would have made.
    pub(super) fn publish(&self, made: &AppliedEdit) {
        let edit = made.edit.clone();
        let event = match &self.kind {
            Kind::Apply(_, marks) if has_own_mark(&edit.service(), *marks) => {
                return debug!("{edit}, for probes to a VIP");
            }
            Kind::Apply(..) => Event::Edit { edit, took: made.took },
            Kind::DryRun(dry_run) => {
                dry_run.record(&edit);
                Event::EditObserved { edit }
            }
        };
        self.events.publish_at(made.at_ns, event);
    }

    /// The edits of a dry run; `None` where edits are made.
    pub(super) fn dry_run(&self) -> Option<DryRunLog> {
        match &self.kind {
            Kind::Apply(..) => None,
            Kind::DryRun(dry_run) => Some(dry_run.clone()),
        }
    }
}

fn unmade(edit: Edit) -> AppliedEdit {
    AppliedEdit { edit, outcome: Ok(()), at_ns: monotonic_ns(), took: Duration::ZERO }
}

/// The edits that a dry run would have made. Clones share them.
#[derive(Clone, Debug, Default)]
pub(crate) struct DryRunLog(Arc<Mutex<Recorded>>);

#[derive(Debug, Default)]
struct Recorded {
    total: u64,
    latest: VecDeque<(Instant, String)>,
}

impl DryRunLog {
    fn record(&self, edit: &Edit) {
        let mut recorded = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        recorded.total += 1;
        if recorded.latest.len() == REMEMBERED {
            recorded.latest.pop_front();
        }
        recorded.latest.push_back((Instant::now(), edit.to_string()));
    }

    /// The number of edits and the latest ones, for the status.
    pub(crate) fn status(&self, now: Instant) -> ObservedStatus {
        let recorded = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let latest = recorded.latest.iter().map(|(at, text)| ObservedEdit {
            text: text.clone(),
            age_ms: u64::try_from(now.saturating_duration_since(*at).as_millis()).unwrap_or(u64::MAX),
        });
        ObservedStatus { total: recorded.total, latest: latest.collect() }
    }
}
