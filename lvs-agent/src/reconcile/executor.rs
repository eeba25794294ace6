//! Who makes the edits, or doesn't: the one place through which every edit passes.

use std::{
    collections::VecDeque,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use tokio::task::JoinError;

use crate::{
    clock::monotonic_ns,
    control::{ObservedEdit, ObservedStatus},
    event::{Event, Publisher},
    ipvs::{AppliedEdit, Edit, IpvsClient},
};

/// How many edits are remembered that would have been made.
const REMEMBERED: usize = 20;

/// Makes edits, or only publishes them.
pub(super) struct Executor {
    kind: Kind,
    events: Publisher,
}

enum Kind {
    /// The kernel is asked.
    Apply(Box<IpvsClient>),
    /// There is nothing here that could write.
    DryRun(DryRunLog),
}

impl Executor {
    /// One that makes edits.
    pub(super) fn applying(client: IpvsClient, events: Publisher) -> Self {
        Self { kind: Kind::Apply(Box::new(client)), events }
    }

    /// One that makes none.
    pub(super) fn observing(events: Publisher) -> Self {
        Self { kind: Kind::DryRun(DryRunLog::default()), events }
    }

    /// Makes edits one after the other until `ends` says so of one; what became of each that was tried.
    pub(super) async fn apply_each(
        &mut self,
        edits: Vec<Edit>,
        ends: impl FnMut(&AppliedEdit) -> bool + Send + 'static,
    ) -> Result<Vec<AppliedEdit>, JoinError> {
        match &mut self.kind {
            Kind::Apply(client) => client.apply_each(edits, ends).await,
            Kind::DryRun(_) => Ok(edits.into_iter().map(unmade).collect()),
        }
    }

    /// Publishes an edit that was made, or would have been.
    pub(super) fn publish(&self, made: &AppliedEdit) {
        let edit = made.edit.clone();
        let event = match &self.kind {
            Kind::Apply(_) => Event::Edit { edit, took: made.took },
            Kind::DryRun(dry_run) => {
                dry_run.note(&edit);
                Event::EditObserved { edit }
            }
        };
        self.events.publish_at(made.at_ns, event);
    }

    /// The edits that would have been made; `None` where they are made.
    pub(super) fn dry_run(&self) -> Option<DryRunLog> {
        match &self.kind {
            Kind::Apply(_) => None,
            Kind::DryRun(dry_run) => Some(dry_run.clone()),
        }
    }
}

fn unmade(edit: Edit) -> AppliedEdit {
    AppliedEdit { edit, outcome: Ok(()), at_ns: monotonic_ns(), took: Duration::ZERO }
}

/// The edits that would have been made. Copies are the same.
#[derive(Clone, Debug, Default)]
pub(crate) struct DryRunLog(Arc<Mutex<Memory>>);

#[derive(Debug, Default)]
struct Memory {
    total: u64,
    latest: VecDeque<(Instant, String)>,
}

impl DryRunLog {
    fn note(&self, edit: &Edit) {
        let mut memory = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        memory.total += 1;
        if memory.latest.len() == REMEMBERED {
            memory.latest.pop_front();
        }
        memory.latest.push_back((Instant::now(), edit.to_string()));
    }

    /// For people and programs.
    pub(crate) fn status(&self, now: Instant) -> ObservedStatus {
        let memory = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let latest = memory.latest.iter().map(|(at, text)| ObservedEdit {
            text: text.clone(),
            age_ms: u64::try_from(now.saturating_duration_since(*at).as_millis()).unwrap_or(u64::MAX),
        });
        ObservedStatus { total: memory.total, latest: latest.collect() }
    }
}
