//! Reading the configuration again: when SIGHUP comes, when it is asked for over the control socket, and when the file
//! changes (`autoreload`). A file that can't be used changes nothing.

mod file;
mod fixed;

use std::{collections::BTreeSet, sync::Arc, time::Duration};

use tokio::{
    signal::unix::Signal,
    sync::{mpsc, oneshot, watch as latest},
    task::spawn_blocking,
    time::timeout,
};
use tokio_util::sync::CancellationToken;
use tracing::{debug, warn};

use self::file::FileWatch;
use super::messages::{NotReloaded, ReloadRequest, RemovedServices, ServiceUpdate, UpdateSummary};
use crate::{
    config::{Fingerprint, Reading, Source},
    control::Reloaded,
    event::{ConfigNotice, Event, Publisher, ReloadCause},
    ipvs::{IpvsError, Operation, Table, TableReader},
    model::{Config, DestinationKey, VirtualService},
    netlink::DEFAULT_TIMEOUT,
    notify::Notifier,
    reconcile::{DesiredTable, sysctl},
};

/// What makes it read.
pub(crate) struct Inputs {
    /// SIGHUP.
    pub(crate) hangups: Signal,
    /// The control socket.
    pub(crate) asked: mpsc::Receiver<ReloadRequest>,
}

/// Whoever acts on another configuration.
pub(crate) struct Outputs {
    /// The controller.
    pub(crate) updates: mpsc::Sender<ServiceUpdate>,
    /// Everyone else.
    pub(crate) in_force: latest::Sender<Arc<Config>>,
    /// Where the controller writes what the table is to be.
    pub(crate) desired: DesiredTable,
    /// Whoever runs the callback.
    pub(crate) notifier: Notifier,
    /// What comes of it.
    pub(crate) events: Publisher,
}

/// How long a reload waits for its edits. They are made all the same.
const EDITED: Duration = Duration::from_secs(20);

/// Reads the configuration again.
pub(crate) struct Reload {
    source: Option<Source>,
    /// What is in force.
    config: Arc<Config>,
    /// The content of the file as it was last read.
    seen: Option<Fingerprint>,
    /// Whether services and servers are those of the kernel's table.
    adopts: bool,
    outputs: Outputs,
}

impl Reload {
    /// `config` is in force, and came from `source` if from any file.
    pub(crate) fn new(source: Option<Source>, config: Arc<Config>, outputs: Outputs) -> Self {
        Self { source, adopts: config.adopts(), config, seen: None, outputs }
    }

    /// Until `shutdown`.
    pub(crate) async fn run(mut self, mut inputs: Inputs, shutdown: CancellationToken) {
        let mut watch = None;
        let reading = async {
            loop {
                self.follow_file(&mut watch).await;
                tokio::select! {
                    Some(()) = inputs.hangups.recv() => drop(self.reload(ReloadCause::Hangup).await),
                    Some(request) = inputs.asked.recv() => {
                        let outcome = self.reload(ReloadCause::Command).await;
                        // Whoever asked may have gone.
                        request.send(outcome).ok();
                    }
                    () = changed(&mut watch) => self.file_changed().await,
                }
            }
        };
        shutdown.run_until_cancelled(reading).await;
    }

    /// Watches the file if the configuration says so, and not otherwise.
    async fn follow_file(&mut self, watch: &mut Option<FileWatch>) {
        let source = self.source.as_ref().filter(|_| self.config.agent.autoreload);
        match (source, &watch) {
            (None, _) => *watch = None,
            (Some(_), Some(_)) => {}
            (Some(source), None) => match FileWatch::new(&source.path) {
                Ok(begun) => {
                    *watch = Some(begun);
                    // It may have changed since it was last read.
                    self.file_changed().await;
                }
                Err(error) => warn!("autoreload: {} can't be watched: {error}", source.path.display()),
            },
        }
    }

    /// Something may have happened to the file.
    async fn file_changed(&mut self) {
        let Some(source) = self.source.clone() else { return };
        let (seen, read) = read(source).await;
        if seen.is_some() && seen == self.seen {
            return debug!("autoreload: the file's content is the same");
        }
        let known = self.seen.is_some();
        self.seen = seen;
        match read {
            Ok(reading) if !known && fixed::keep(&self.config, reading.config.clone()).0 == *self.config => {}
            read => drop(self.take(read, ReloadCause::FileChanged).await),
        }
    }

    /// Reads the file.
    async fn reload(&mut self, cause: ReloadCause) -> Result<Reloaded, NotReloaded> {
        let Some(source) = self.source.clone() else {
            let error = NotReloaded::NoFile;
            self.publish(Event::ReloadFailed { cause, error: error.to_string() });
            return Err(error);
        };
        let (seen, read) = read(source).await;
        self.seen = seen;
        self.take(read, cause).await
    }

    /// Puts what was read in force, and tells what comes of it.
    async fn take(
        &mut self,
        read: Result<Reading, NotReloaded>,
        cause: ReloadCause,
    ) -> Result<Reloaded, NotReloaded> {
        let outcome = match read {
            Ok(reading) => self.put_in_force(reading).await,
            Err(error) => Err(error),
        };
        match &outcome {
            Ok(summary) => {
                self.publish(Event::Reloaded { cause, summary: summary.clone() });
                if let (Some(callback), Some(source)) = (self.config.agent.callback.clone(), &self.source) {
                    self.outputs.notifier.callback(callback, &source.path);
                }
            }
            Err(error) => self.publish(Event::ReloadFailed { cause, error: error.to_string() }),
        }
        outcome
    }

    async fn put_in_force(&mut self, reading: Reading) -> Result<Reloaded, NotReloaded> {
        let mut warnings = self.warnings(&reading);
        let (config, fixed) = fixed::keep(&self.config, reading.config);
        if !fixed.is_empty() {
            warnings.push(self.warn(ConfigNotice::NeedsRestart { settings: fixed }));
        }
        let config = Arc::new(config);
        // Adopted services are brought to the controller by whoever follows the kernel's table.
        let none = config.services == self.config.services || self.adopts;
        let UpdateSummary { table_changed, added, removed } =
            if none { UpdateSummary::default() } else { self.replace(&config.services).await? };
        sysctl::settle(&config, &self.outputs.events);
        self.config = config.clone();
        self.outputs.in_force.send_replace(config);
        if table_changed {
            warnings.extend(self.edited().await);
        }
        Ok(Reloaded {
            table_changed,
            services_added: added.services,
            services_removed: removed.services,
            servers_added: added.destinations,
            servers_removed: removed.destinations,
            warnings,
        })
    }

    /// Waits until the table is as it is to be; if it isn't, says so.
    async fn edited(&self) -> Option<String> {
        let reason = match timeout(EDITED, self.outputs.desired.dealt_with()).await {
            Ok(rest) if rest.in_order => return None,
            Ok(_) => "the kernel's table is not up to date yet: some edits have failed and are retried",
            Err(_) => "the kernel's table is still being edited",
        };
        Some(format!("{}; see the log", self.warn(ConfigNotice::EditsPending { reason })))
    }

    /// Publishes a notice, and gives it as a warning for who has asked for the reload.
    fn warn(&self, notice: ConfigNotice) -> String {
        let warning = format!("warning: {notice}");
        self.publish(Event::Config(notice));
        warning
    }

    fn publish(&self, event: Event) {
        self.outputs.events.publish(event);
    }

    fn warnings(&self, reading: &Reading) -> Vec<String> {
        let Some(source) = &self.source else { return Vec::new() };
        self.outputs.events.publish_all(ConfigNotice::of_reading(&source.path, reading).map(Event::Config));
        reading.warnings_of(&source.path)
    }

    async fn replace(&self, services: &[VirtualService]) -> Result<UpdateSummary, NotReloaded> {
        let table = if has_new(&self.config.services, services) { table().await? } else { Table::default() };
        let (reply, replaced) = oneshot::channel();
        let (services, table) = (services.to_vec(), Arc::new(table));
        let update = ServiceUpdate {
            services,
            table,
            administered: BTreeSet::new(),
            dropped: RemovedServices::Deleted,
            reply,
        };
        let sent = self.outputs.updates.send(update).await;
        sent.map_err(|_| NotReloaded::Stopping)?;
        replaced.await.map_err(|_| NotReloaded::Stopping)
    }
}

/// Waits for a change of the file, or for ever.
async fn changed(watch: &mut Option<FileWatch>) {
    match watch {
        Some(watch) => watch.changed().await,
        None => std::future::pending().await,
    }
}

/// Reads in a thread of its own: the file may be long, or on a disk that hangs.
async fn read(source: Source) -> (Option<Fingerprint>, Result<Reading, NotReloaded>) {
    let reading = spawn_blocking(move || source.read_with_fingerprint());
    match reading.await {
        Ok((seen, read)) => (seen, read.map_err(|error| NotReloaded::Faulty(error.to_string()))),
        Err(error) => (None, Err(NotReloaded::Faulty(error.to_string()))),
    }
}

/// Whether a destination is in `new` only, of which it must be known how it stands.
fn has_new(old: &[VirtualService], new: &[VirtualService]) -> bool {
    let known: BTreeSet<DestinationKey> = old.iter().flat_map(VirtualService::destinations).collect();
    new.iter().flat_map(VirtualService::destinations).any(|destination| !known.contains(&destination))
}

/// The kernel's table, over a socket of its own: whoever edits it doesn't wait for this.
async fn table() -> Result<Table, IpvsError> {
    let reading = spawn_blocking(|| TableReader::new(DEFAULT_TIMEOUT).table());
    let failed = |reason| Err(IpvsError::Socket { operation: Operation::ReadServices, reason });
    reading.await.unwrap_or_else(|error| failed(error.to_string()))
}

#[cfg(test)]
mod tests;
