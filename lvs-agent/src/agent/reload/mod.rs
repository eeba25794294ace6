//! Reloads the configuration: on SIGHUP, on a request over the control socket, and when the file changes
//! (`autoreload`). A file with faults must never change anything.

use std::{collections::BTreeSet, sync::Arc, time::Duration};

use tokio::{
    signal::unix::Signal,
    sync::{mpsc, oneshot, watch as latest},
    task::spawn_blocking,
    time::timeout,
};
use tokio_util::sync::CancellationToken;
use tracing::{debug, warn};

use super::messages::{NotReloaded, ReloadRequest, RemovedServices, ServiceUpdate, UpdateSummary};
use crate::{
    config::{Fingerprint, Reading, Source, changes, without_restart},
    control::Reloaded,
    event::{ConfigNotice, Event, Publisher, ReloadCause},
    file_watch::FileWatch,
    ipvs::{IpvsError, Operation, Table, TableReader},
    model::{Config, VirtualService},
    netlink::DEFAULT_TIMEOUT,
    notify::Notifier,
    reconcile::{DesiredTable, sysctl},
};

/// What causes a reload.
pub(crate) struct Inputs {
    /// SIGHUP.
    pub(crate) hangups: Signal,
    /// The control socket.
    pub(crate) requests: mpsc::Receiver<ReloadRequest>,
}

/// Where a new configuration goes.
pub(crate) struct Outputs {
    /// The controller.
    pub(crate) updates: mpsc::Sender<ServiceUpdate>,
    /// All other tasks.
    pub(crate) in_force: latest::Sender<Arc<Config>>,
    /// The desired state that the controller writes.
    pub(crate) desired: DesiredTable,
    /// Runs the callback.
    pub(crate) notifier: Notifier,
    /// Publishes the results.
    pub(crate) events: Publisher,
}

/// How long a reload waits for its edits, which are made in any case.
const EDIT_TIMEOUT: Duration = Duration::from_secs(20);

/// The task that reloads the configuration.
pub(crate) struct Reload {
    source: Option<Source>,
    /// The configuration in force.
    config: Arc<Config>,
    /// The fingerprint of the file as it was last read.
    fingerprint: Option<Fingerprint>,
    /// Whether the services and servers are those of the kernel's table.
    adopts: bool,
    outputs: Outputs,
}

impl Reload {
    /// `config` is in force; `source` is its file, if any.
    pub(crate) fn new(source: Option<Source>, config: Arc<Config>, outputs: Outputs) -> Self {
        Self { source, adopts: config.adopts(), config, fingerprint: None, outputs }
    }

    /// Runs until `shutdown`.
    pub(crate) async fn run(mut self, mut inputs: Inputs, shutdown: CancellationToken) {
        let mut watch = None;
        let reading = async {
            loop {
                self.follow_file(&mut watch).await;
                tokio::select! {
                    Some(()) = inputs.hangups.recv() => drop(self.reload(ReloadCause::Hangup).await),
                    Some(request) = inputs.requests.recv() => {
                        let outcome = self.reload(ReloadCause::Command).await;
                        // The client may be gone.
                        request.send(outcome).ok();
                    }
                    () = changed(&mut watch) => self.file_changed().await,
                }
            }
        };
        Box::pin(shutdown.run_until_cancelled(reading)).await;
    }

    /// Starts or stops watching the file, as the configuration says.
    async fn follow_file(&mut self, watch: &mut Option<FileWatch>) {
        let source = self.source.as_ref().filter(|_| self.config.agent.autoreload);
        match (source, &watch) {
            (None, _) => *watch = None,
            (Some(_), Some(_)) => {}
            (Some(source), None) => match FileWatch::new(&source.path) {
                Ok(started) => {
                    *watch = Some(started);
                    // It may have changed since it was last read.
                    self.file_changed().await;
                }
                Err(error) => warn!("autoreload: {} can't be watched: {error}", source.path.display()),
            },
        }
    }

    /// Reloads if the file's content has changed.
    async fn file_changed(&mut self) {
        let Some(source) = self.source.clone() else { return };
        let (fingerprint, reading) = read(source).await;
        if fingerprint.is_some() && fingerprint == self.fingerprint {
            return debug!("autoreload: the file's content is the same");
        }
        let was_read = self.fingerprint.is_some();
        self.fingerprint = fingerprint;
        match reading {
            Ok(reading)
                if !was_read && without_restart(&self.config, reading.config.clone()).0 == *self.config => {}
            reading => drop(self.finish(reading, ReloadCause::FileChanged).await),
        }
    }

    /// Reloads in any case.
    async fn reload(&mut self, cause: ReloadCause) -> Result<Reloaded, NotReloaded> {
        let Some(source) = self.source.clone() else {
            let error = NotReloaded::NoFile;
            self.publish(Event::ReloadFailed { cause, error: error.to_string() });
            return Err(error);
        };
        let (fingerprint, reading) = read(source).await;
        self.fingerprint = fingerprint;
        self.finish(reading, cause).await
    }

    /// Puts a reading in force, and publishes the result.
    async fn finish(
        &mut self,
        reading: Result<Reading, NotReloaded>,
        cause: ReloadCause,
    ) -> Result<Reloaded, NotReloaded> {
        let outcome = match reading {
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
        let (config, settings) = without_restart(&self.config, reading.config);
        if !settings.is_empty() {
            warnings.push(self.warn(ConfigNotice::NeedsRestart { settings }));
        }
        let taken_over = changes(&self.config, &config);
        let config = Arc::new(config);
        // The adoption task sends adopted services to the controller.
        let is_unchanged = config.services == self.config.services || self.adopts;
        let UpdateSummary { table_changed, added, removed } =
            if is_unchanged { UpdateSummary::default() } else { self.replace(&config.services).await? };
        sysctl::apply(&config, &self.outputs.events);
        self.config = config.clone();
        self.outputs.in_force.send_replace(config);
        if table_changed {
            warnings.extend(self.await_edits().await);
        }
        Ok(Reloaded {
            table_changed,
            services_added: added.services,
            services_removed: removed.services,
            servers_added: added.destinations,
            servers_removed: removed.destinations,
            taken_over,
            warnings,
        })
    }

    /// Waits until the table is as desired; returns a warning if it isn't.
    async fn await_edits(&self) -> Option<String> {
        let reason = match timeout(EDIT_TIMEOUT, self.outputs.desired.settled()).await {
            Ok(settled) if settled.up_to_date => return None,
            Ok(_) => "the kernel's table is not up to date yet: some edits have failed and are retried",
            Err(_) => "the kernel's table is still being edited",
        };
        Some(format!("{}; see the log", self.warn(ConfigNotice::EditsPending { reason })))
    }

    /// Publishes a notice, and returns it as a warning for the reply.
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
        let table = if has_new_destinations(&self.config.services, services) {
            read_table().await?
        } else {
            Table::default()
        };
        let (reply, summary) = oneshot::channel();
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
        summary.await.map_err(|_| NotReloaded::Stopping)
    }
}

/// Waits for a change of the file; for ever if it isn't watched.
async fn changed(watch: &mut Option<FileWatch>) {
    match watch {
        Some(watch) => watch.changed().await,
        None => std::future::pending().await,
    }
}

/// Reads the file in a thread of its own: it may be long, or on a disk that hangs.
async fn read(source: Source) -> (Option<Fingerprint>, Result<Reading, NotReloaded>) {
    let reading = spawn_blocking(move || source.read_with_fingerprint());
    match reading.await {
        Ok((fingerprint, reading)) => {
            (fingerprint, reading.map_err(|error| NotReloaded::Faulty(error.to_string())))
        }
        Err(error) => (None, Err(NotReloaded::Faulty(error.to_string()))),
    }
}

/// Whether a destination is in `new` only: its presence in the table must be known.
fn has_new_destinations(old: &[VirtualService], new: &[VirtualService]) -> bool {
    let known: BTreeSet<_> = old.iter().flat_map(VirtualService::all_destinations).collect();
    new.iter().flat_map(VirtualService::all_destinations).any(|destination| !known.contains(&destination))
}

/// Reads the kernel's table over a socket of its own, so that no edit waits for it.
async fn read_table() -> Result<Table, IpvsError> {
    let reading = spawn_blocking(|| TableReader::new(DEFAULT_TIMEOUT).table());
    let failed = |reason| Err(IpvsError::Socket { operation: Operation::ReadServices, reason });
    reading.await.unwrap_or_else(|error| failed(error.to_string()))
}

#[cfg(test)]
mod tests;
