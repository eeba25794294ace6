//! The task that looks up the routes to the servers again whenever something about them has changed.

use std::{
    collections::BTreeSet,
    net::IpAddr,
    time::{Duration, Instant},
};

use tokio::{
    sync::{mpsc, watch as latest},
    time::{sleep, sleep_until},
};
use tokio_util::sync::CancellationToken;
use tracing::{debug, warn};

use super::{Neighbours, NetworkChanges, NetworkError, RouteSnapshot, Surveyor};

/// Changes come in groups (a device goes, its addresses, its routes): those within this time are looked up together.
const SETTLE: Duration = Duration::from_millis(20);
/// Surveys take at most one part in so many of the time, however much changes.
const SHARE: u32 = 10;
/// From a failure to the next try.
const PAUSE: Duration = Duration::from_secs(1);

/// Makes surveys of the routes.
pub(crate) struct SurveyTask {
    changes: NetworkChanges,
    surveyor: Surveyor,
    neighbours: Neighbours,
    /// Whose routes matter.
    servers: latest::Receiver<BTreeSet<IpAddr>>,
    snapshots: mpsc::Sender<RouteSnapshot>,
    timeout: Duration,
    last: RouteSnapshot,
    /// How long the last survey took.
    took: Duration,
}

impl SurveyTask {
    /// Listens in the calling thread's network namespace. The kernel has `timeout` for each answer.
    pub(crate) async fn connect(
        servers: latest::Receiver<BTreeSet<IpAddr>>,
        snapshots: mpsc::Sender<RouteSnapshot>,
        timeout: Duration,
    ) -> Result<Self, NetworkError> {
        Ok(Self {
            // Before the first survey, so that nothing falls between the two.
            changes: NetworkChanges::open()?,
            surveyor: Surveyor::connect(timeout).await?,
            neighbours: Neighbours::connect(timeout).await?,
            servers,
            snapshots,
            timeout,
            last: RouteSnapshot::default(),
            took: Duration::ZERO,
        })
    }

    /// Makes a survey, and makes the kernel resolve the neighbours that are new.
    pub(crate) async fn survey(&mut self) -> Result<RouteSnapshot, NetworkError> {
        let begun = Instant::now();
        let servers = self.servers.borrow_and_update().clone();
        let snapshot = self.surveyor.survey(servers).await?;
        for (device, address) in snapshot.neighbours().difference(&self.last.neighbours()) {
            // What is known already, and what is answered, comes through the watch of the neighbour table.
            if let Err(error) = self.neighbours.resolve(*device, *address).await {
                debug!(%address, "{error}");
            }
        }
        self.took = begun.elapsed();
        self.last = snapshot.clone();
        Ok(snapshot)
    }

    /// Passes on every snapshot that differs from the last one, until `shutdown`.
    pub(crate) async fn run(mut self, shutdown: CancellationToken) {
        let surveys = async {
            loop {
                if self.settled().await.is_err() || self.pass_on().await.is_err() {
                    return;
                }
            }
        };
        tokio::select! {
            () = shutdown.cancelled() => {}
            () = surveys => debug!("nobody follows the network any more"),
        }
    }

    /// Waits until something has changed and no more changes come with it, at least for as long as the last look
    /// allows.
    async fn settled(&mut self) -> Result<(), Closed> {
        tokio::select! {
            notified = self.changes.next() => match notified {
                Ok(()) => {}
                Err(error) => self.reopen(&error).await,
            },
            changed = self.servers.changed() => changed.map_err(|_| Closed)?,
        }
        let until = tokio::time::Instant::now() + SETTLE.max(self.took * SHARE);
        loop {
            tokio::select! {
                () = sleep_until(until) => return Ok(()),
                notified = self.changes.next() => if let Err(error) = notified { self.reopen(&error).await },
            }
        }
    }

    /// Looks until it works, and passes on what is new.
    async fn pass_on(&mut self) -> Result<(), Closed> {
        let before = self.last.clone();
        let snapshot = loop {
            match self.survey().await {
                Ok(snapshot) => break snapshot,
                Err(error) => warn!("{error}; trying again"),
            }
            sleep(PAUSE).await;
        };
        if snapshot == before {
            return Ok(());
        }
        self.snapshots.send(snapshot).await.map_err(|_| Closed)
    }

    async fn reopen(&mut self, error: &NetworkError) {
        warn!("{error}; trying again");
        loop {
            sleep(PAUSE).await;
            match self.open().await {
                Ok(()) => return,
                Err(error) => warn!("{error}; trying again"),
            }
        }
    }

    async fn open(&mut self) -> Result<(), NetworkError> {
        self.changes = NetworkChanges::open()?;
        self.surveyor = Surveyor::connect(self.timeout).await?;
        Ok(())
    }
}

/// The receiver of the snapshots is gone.
struct Closed;
