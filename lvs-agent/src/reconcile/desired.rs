//! The desired state of the kernel's table, a mailbox between the controller and the reconciler: only changes, and only
//! the latest one of each service.

use std::{
    collections::BTreeMap,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
};

use tokio::sync::{Notify, watch};

use crate::{
    ipvs::{Wanted, WantedService},
    model::ServiceKey,
};

/// The changes that the reconciler has not taken yet: at most one for each service.
#[derive(Debug, Default)]
pub(super) struct Changes {
    /// The whole table is to be like this; services in neither list are foreign. It is older than the urgent changes.
    pub(super) table: Option<Wanted>,
    /// Managed services that are written before all others.
    pub(super) urgent: BTreeMap<ServiceKey, WantedService>,
    /// How many changes there have been, including these.
    pub(super) number: u64,
}

/// How far the reconciler is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Settled {
    /// So many changes have been applied, as far as possible.
    number: u64,
    /// Whether the table is as desired, as far as is known; if not, the reconciler retries.
    pub(crate) up_to_date: bool,
}

impl Default for Settled {
    /// Nothing was desired yet.
    fn default() -> Self {
        Self { number: 0, up_to_date: true }
    }
}

/// The desired state of the table. Clones share it.
#[derive(Clone, Debug, Default)]
pub(crate) struct DesiredTable(Arc<Shared>);

#[derive(Debug, Default)]
struct Shared {
    changes: Mutex<Changes>,
    /// Whether there are any, readable without the lock.
    has_changes: AtomicBool,
    changed: Notify,
    settled: watch::Sender<Settled>,
}

impl DesiredTable {
    /// From now on a service is to be like this, as soon as possible.
    pub(crate) fn want(&self, key: ServiceKey, service: WantedService) {
        self.change(|changes| drop(changes.urgent.insert(key, service)));
    }

    /// From now on the whole table is to be like this; services that are no longer managed become foreign.
    pub(crate) fn replace(&self, wanted: Wanted) {
        self.change(|changes| {
            (changes.table, changes.urgent) = (Some(wanted), BTreeMap::new());
        });
    }

    fn change(&self, change: impl FnOnce(&mut Changes)) {
        let mut changes = self.0.changes.lock().unwrap_or_else(PoisonError::into_inner);
        change(&mut changes);
        changes.number += 1;
        self.0.has_changes.store(true, Ordering::Release);
        drop(changes);
        self.0.changed.notify_one();
    }

    /// Whether there are changes to take.
    pub(super) fn has_changes(&self) -> bool {
        self.0.has_changes.load(Ordering::Acquire)
    }

    /// The changes since the last call.
    pub(super) fn take(&self) -> Changes {
        let mut changes = self.0.changes.lock().unwrap_or_else(PoisonError::into_inner);
        self.0.has_changes.store(false, Ordering::Release);
        let number = changes.number;
        std::mem::replace(&mut *changes, Changes { number, ..Changes::default() })
    }

    /// So many changes have been applied, as far as is possible now.
    pub(super) fn settle(&self, number: u64, up_to_date: bool) {
        let settled = Settled { number, up_to_date };
        self.0.settled.send_if_modified(|before| std::mem::replace(before, settled) != settled);
    }

    /// Waits until all changes up to now have been applied, as far as is possible.
    pub(crate) async fn settled(&self) -> Settled {
        let number = self.0.changes.lock().unwrap_or_else(PoisonError::into_inner).number;
        let mut settled = self.0.settled.subscribe();
        let settled = settled.wait_for(|settled| settled.number >= number).await;
        // It can't fail: `self` holds the sender.
        settled.map_or_else(|_| Settled::default(), |settled| *settled)
    }

    /// Waits until there may be changes to take.
    pub(super) async fn changed(&self) {
        self.0.changed.notified().await;
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio::time::timeout;

    use super::*;
    use crate::model::AddressFamily;

    fn key(mark: u32) -> ServiceKey {
        ServiceKey::Mark { mark, family: AddressFamily::V4 }
    }

    fn service(scheduler: &str) -> WantedService {
        WantedService::new(scheduler.try_into().expect("a name"))
    }

    #[tokio::test]
    async fn the_latest_change_of_each_service_is_taken_once() {
        let desired = DesiredTable::default();
        assert!(!desired.has_changes());
        desired.want(key(1), service("rr"));
        desired.want(key(2), service("rr"));
        desired.want(key(1), service("wrr"));
        assert!(desired.has_changes());
        desired.changed().await;
        let changes = desired.take();
        assert!(changes.table.is_none());
        assert_eq!(changes.urgent, BTreeMap::from([(key(1), service("wrr")), (key(2), service("rr"))]));
        assert!(!desired.has_changes() && desired.take().urgent.is_empty());
    }

    #[tokio::test]
    async fn waiting_ends_once_all_changes_are_applied() {
        let desired = DesiredTable::default();
        desired.want(key(1), service("rr"));
        desired.want(key(2), service("rr"));
        let taken = desired.take().number;
        desired.want(key(3), service("rr"));
        desired.settle(taken, true);
        assert!(timeout(Duration::ZERO, desired.settled()).await.is_err(), "the third isn't");
        let waiting = tokio::spawn({
            let desired = desired.clone();
            async move { desired.settled().await }
        });
        desired.settle(desired.take().number, false);
        assert!(!waiting.await.unwrap().up_to_date);
        desired.settle(desired.take().number, true);
        assert!(desired.settled().await.up_to_date);
    }

    #[test]
    fn a_whole_table_replaces_earlier_changes_only() {
        let desired = DesiredTable::default();
        desired.want(key(1), service("rr"));
        desired.replace(Wanted::default());
        desired.want(key(2), service("rr"));
        let changes = desired.take();
        assert_eq!(changes.table, Some(Wanted::default()));
        assert_eq!(changes.urgent, BTreeMap::from([(key(2), service("rr"))]));
    }
}
