//! What is wanted of the table, on its way from those who decide to the one who writes: only what has changed, the last
//! word on each service.

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

/// The changes that were not taken yet. There is never more of it than there are services.
#[derive(Debug, Default)]
pub(super) struct Changes {
    /// The whole table is to be like this, the services in neither list foreign; it was wanted before the others.
    pub(super) whole: Option<Wanted>,
    /// Managed services; each to be written before all that isn't urgent.
    pub(super) urgent: BTreeMap<ServiceKey, WantedService>,
    /// How many changes there have been, these included.
    pub(super) number: u64,
}

/// What has come of what is wanted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Rest {
    /// So many changes have been dealt with.
    number: u64,
    /// Whether the table is as wanted, as far as is known; if not, it is tried again later.
    pub(crate) in_order: bool,
}

impl Default for Rest {
    /// Nothing was wanted.
    fn default() -> Self {
        Self { number: 0, in_order: true }
    }
}

/// The desired state of the table, a mailbox between the controller and the reconciler. Clones share it.
#[derive(Clone, Debug, Default)]
pub(crate) struct DesiredTable(Arc<Shared>);

#[derive(Debug, Default)]
struct Shared {
    changes: Mutex<Changes>,
    /// Whether there are any, to be had without the lock.
    has_news: AtomicBool,
    news: Notify,
    rest: watch::Sender<Rest>,
}

impl DesiredTable {
    /// From now on one service is to be like this, and that as soon as possible.
    pub(crate) fn want(&self, key: ServiceKey, service: WantedService) {
        self.change(|changes| drop(changes.urgent.insert(key, service)));
    }

    /// From now on the whole table is to be like this; what was managed and no longer is becomes foreign.
    pub(crate) fn replace(&self, wanted: Wanted) {
        self.change(|changes| {
            (changes.whole, changes.urgent) = (Some(wanted), BTreeMap::new());
        });
    }

    fn change(&self, change: impl FnOnce(&mut Changes)) {
        let mut changes = self.0.changes.lock().unwrap_or_else(PoisonError::into_inner);
        change(&mut changes);
        changes.number += 1;
        self.0.has_news.store(true, Ordering::Release);
        drop(changes);
        self.0.news.notify_one();
    }

    /// Whether there is anything to take.
    pub(super) fn has_news(&self) -> bool {
        self.0.has_news.load(Ordering::Acquire)
    }

    /// What has changed since this was last asked.
    pub(super) fn take(&self) -> Changes {
        let mut changes = self.0.changes.lock().unwrap_or_else(PoisonError::into_inner);
        self.0.has_news.store(false, Ordering::Release);
        let number = changes.number;
        std::mem::replace(&mut *changes, Changes { number, ..Changes::default() })
    }

    /// All that can be done now is done about so many changes.
    pub(super) fn rest(&self, number: u64, in_order: bool) {
        let rest = Rest { number, in_order };
        self.0.rest.send_if_modified(|before| std::mem::replace(before, rest) != rest);
    }

    /// Waits until all that can be done now is done about what is wanted by now.
    pub(crate) async fn dealt_with(&self) -> Rest {
        let number = self.0.changes.lock().unwrap_or_else(PoisonError::into_inner).number;
        let mut rest = self.0.rest.subscribe();
        let rest = rest.wait_for(|rest| rest.number >= number).await;
        // The sender is this desired's own.
        rest.map_or_else(|_| Rest::default(), |rest| *rest)
    }

    /// Waits until there may be something to take.
    pub(super) async fn news(&self) {
        self.0.news.notified().await;
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
    async fn the_last_word_on_each_service_is_read_once() {
        let desired = DesiredTable::default();
        assert!(!desired.has_news());
        desired.want(key(1), service("rr"));
        desired.want(key(2), service("rr"));
        desired.want(key(1), service("wrr"));
        assert!(desired.has_news());
        desired.news().await;
        let changes = desired.take();
        assert!(changes.whole.is_none());
        assert_eq!(changes.urgent, BTreeMap::from([(key(1), service("wrr")), (key(2), service("rr"))]));
        assert!(!desired.has_news() && desired.take().urgent.is_empty());
    }

    #[tokio::test]
    async fn it_is_told_when_what_is_wanted_is_dealt_with() {
        let desired = DesiredTable::default();
        desired.want(key(1), service("rr"));
        desired.want(key(2), service("rr"));
        let taken = desired.take().number;
        desired.want(key(3), service("rr"));
        desired.rest(taken, true);
        assert!(timeout(Duration::ZERO, desired.dealt_with()).await.is_err(), "the third isn't");
        let waiting = tokio::spawn({
            let desired = desired.clone();
            async move { desired.dealt_with().await }
        });
        desired.rest(desired.take().number, false);
        assert!(!waiting.await.unwrap().in_order);
        desired.rest(desired.take().number, true);
        assert!(desired.dealt_with().await.in_order);
    }

    #[test]
    fn a_whole_table_comes_before_what_is_wanted_later_only() {
        let desired = DesiredTable::default();
        desired.want(key(1), service("rr"));
        desired.replace(Wanted::default());
        desired.want(key(2), service("rr"));
        let changes = desired.take();
        assert_eq!(changes.whole, Some(Wanted::default()));
        assert_eq!(changes.urgent, BTreeMap::from([(key(2), service("rr"))]));
    }
}
