//! The time after a start in which host names may have no address yet, because the network is still coming up.

use std::{
    collections::BTreeSet,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use crate::model::ServiceKey;

/// Whether a name without an address is a fault.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum NamePolicy {
    /// It is.
    #[default]
    Needed,
    /// What has it is left out, with a warning.
    MayBeMissing,
}

/// What had to be left out for lack of an address.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Unresolved {
    /// The names.
    pub names: BTreeSet<String>,
    /// Services that are there without some of their servers.
    pub partial: BTreeSet<ServiceKey>,
}

/// The time after a start in which names may be missing. Its clones are the same.
#[derive(Clone, Debug, Default)]
pub struct NameGrace(Arc<State>);

#[derive(Debug, Default)]
struct State {
    is_open: AtomicBool,
    /// Services that stay as they are in the kernel's table until all their names have addresses.
    kept: Mutex<BTreeSet<ServiceKey>>,
}

impl NameGrace {
    /// How long it lasts at most: far longer than links, routes and name servers take after a boot.
    pub const LENGTH: Duration = Duration::from_mins(10);

    /// One that has begun.
    #[must_use]
    pub fn begun() -> Self {
        let grace = Self::default();
        grace.0.is_open.store(true, Ordering::Relaxed);
        grace
    }

    /// Ends it.
    pub fn end(&self) {
        self.0.is_open.store(false, Ordering::Relaxed);
    }

    /// What it means for a reading now.
    #[must_use]
    pub fn policy(&self) -> NamePolicy {
        if self.0.is_open.load(Ordering::Relaxed) { NamePolicy::MayBeMissing } else { NamePolicy::Needed }
    }

    /// Has services left as they are in the kernel's table until all their names have addresses: what serves there
    /// would be taken out otherwise.
    pub fn keep(&self, services: impl IntoIterator<Item = ServiceKey>) {
        self.0.kept.lock().unwrap_or_else(PoisonError::into_inner).extend(services);
    }

    /// Whether a service that is there without some of its servers is left as it is.
    pub(super) fn keeps(&self, service: &ServiceKey) -> bool {
        self.0.kept.lock().unwrap_or_else(PoisonError::into_inner).contains(service)
    }
}
