//! Who makes the edits, or doesn't: the one place through which every edit passes.

use std::{
    collections::VecDeque,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use tokio::task::JoinError;

use super::events;
use crate::{
    clock::monotonic_ns,
    control::{ObservedEdit, ObservedStatus},
    ipvs::{AppliedEdit, Edit, IpvsClient},
};

/// How many edits are remembered that would have been made.
const REMEMBERED: usize = 20;

/// Makes edits, or only tells of them.
pub(super) enum Executor {
    /// The kernel is asked.
    Apply(Box<IpvsClient>),
    /// There is nothing here that could write.
    DryRun(DryRunLog),
}

impl Executor {
    /// Makes edits one after the other until `ends` says so of one; what became of each that was tried.
    pub(super) async fn apply_each(
        &mut self,
        edits: Vec<Edit>,
        ends: impl FnMut(&AppliedEdit) -> bool + Send + 'static,
    ) -> Result<Vec<AppliedEdit>, JoinError> {
        match self {
            Self::Apply(client) => client.apply_each(edits, ends).await,
            Self::DryRun(_) => Ok(edits.into_iter().map(unmade).collect()),
        }
    }

    /// Tells of an edit that was made, or would have been.
    pub(super) fn tell(&self, made: &AppliedEdit) {
        match self {
            Self::Apply(_) => events::made(made),
            Self::DryRun(dry_run) => {
                dry_run.note(&made.edit);
                events::dry_run(&made.edit);
            }
        }
    }

    /// The edits that would have been made; `None` where they are made.
    pub(super) fn dry_run(&self) -> Option<DryRunLog> {
        match self {
            Self::Apply(_) => None,
            Self::DryRun(dry_run) => Some(dry_run.clone()),
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
