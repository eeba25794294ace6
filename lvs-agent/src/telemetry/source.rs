//! What the metrics' port asks the agent when somebody visits it. The agent hands it in once it can answer: this room
//! knows no task.

use std::{
    pin::Pin,
    sync::{Arc, OnceLock},
    time::Duration,
};

use crate::{
    control::{Events, Status},
    model::DestinationKey,
};

/// An answer that takes a moment. The error is for people.
pub(crate) type Asked<'a, T> = Pin<Box<dyn Future<Output = Result<T, String>> + Send + 'a>>;

/// A server in the kernel's table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct TableWeight {
    /// The name of its service.
    pub(crate) service: String,
    pub(crate) destination: DestinationKey,
    pub(crate) weight: i32,
}

/// Who answers. Each answer has a time limit.
pub(crate) trait StatusSource: Send + Sync + 'static {
    /// The weights of the agent's servers in the kernel's table: as it was last read, and of the edits since.
    fn table_weights(&self) -> Asked<'_, Vec<TableWeight>>;

    /// The status of all services: not older than that, and than what has happened last.
    fn status(&self, max_age: Duration) -> Asked<'_, Arc<Status>>;

    /// The events after this number of this history, or the last few if that is not known.
    fn events(&self, after: Option<(u64, u64)>, few: usize) -> Asked<'_, Events>;
}

/// The place of the source, empty until the agent has started.
pub(crate) type SourceSlot = Arc<OnceLock<Arc<dyn StatusSource>>>;
