//! Reloads the configuration: on SIGHUP, on a request over the control socket, and when the file changes
//! (`autoreload`). A file with faults must never change anything.

mod doubt;

use std::{
    collections::BTreeSet,
    fs,
    path::Path,
    sync::Arc,
    time::{Duration, SystemTime},
};

use tokio::{
    signal::unix::Signal,
    sync::{mpsc, oneshot, watch as latest},
    task::spawn_blocking,
    time::{Instant, sleep, timeout},
};
use tokio_util::sync::CancellationToken;
use tracing::{debug, warn};

use self::doubt::{Doubt, LOOKS, ON_DEMAND, due, patience};
use crate::messages::{NotReloaded, ReloadRequest, RemovedServices, ServiceUpdate, UpdateSummary};
use crate::{
    config::{Content, Loss, Reading, Source, changes, loss, without_restart},
    control::Reloaded,
    event::{ConfigNotice, Event, Publisher, ReloadCause},
    file_watch::FileWatch,
    ipvs::{IpvsError, Operation, Table, TableReader},
    model::{AgentSettings, Config, VirtualService, vip_lanes},
    netlink::DEFAULT_TIMEOUT,
    notify::Notifier,
    reconcile::{DesiredTable, sysctl},
    service_manager::PhaseHandle,
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
    /// Tells the service manager.
    pub(crate) phase: PhaseHandle,
}

/// How long a reload waits for its edits, which are made in any case.
const EDIT_TIMEOUT: Duration = Duration::from_secs(20);

/// The task that reloads the configuration.
pub(crate) struct Reload {
    source: Option<Source>,
    /// The configuration in force.
    config: Arc<Config>,
    /// The file as it was last read.
    content: Option<Content>,
    /// The file that is in force, if it was read here.
    content_in_force: Option<Content>,
    /// The file as it was last looked at, if that isn't believed yet.
    doubt: Option<Doubt>,
    /// Whether the services and servers are those of the kernel's table.
    adopts: bool,
    outputs: Outputs,
}

impl Reload {
    /// `config` is in force; `source` is its file, if any.
    pub(crate) fn new(source: Option<Source>, config: Arc<Config>, outputs: Outputs) -> Self {
        Self {
            source,
            adopts: config.adopts(),
            config,
            content: None,
            content_in_force: None,
            doubt: None,
            outputs,
        }
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
                    () = due(self.doubt.as_ref()) => self.file_changed().await,
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
        let Look { content, reading, .. } = read(source, &self.config.agent).await;
        if content.is_some() && content == self.content {
            self.doubt = None;
            return debug!("autoreload: the file's content is the same");
        }
        if let (Some(content), Ok(reading)) = (&content, &reading)
            && self.is_doubtful(content, reading)
        {
            return;
        }
        self.doubt = None;
        let was_read = self.content.is_some();
        self.content = content;
        match reading {
            Ok(reading)
                if !was_read && without_restart(&self.config, reading.config.clone()).0 == *self.config =>
            {
                self.content_in_force.clone_from(&self.content);
            }
            reading => {
                let _reloading = self.outputs.phase.reloading();
                drop(self.finish(reading, ReloadCause::FileChanged).await);
            }
        }
    }

    /// Whether the file may be half of what it is to be. It is looked at again then.
    fn is_doubtful(&mut self, content: &Content, reading: &Reading) -> bool {
        let now = Instant::now();
        if let Some(is_over) = self.doubt.as_ref().and_then(|doubt| doubt.is_over(content, now)) {
            return !is_over;
        }
        let (patience, missing) = self.patience(content, reading);
        if patience.is_zero() {
            return false;
        }
        if self.doubt.is_none() {
            self.publish(Event::Config(ConfigNotice::Doubt { missing, patience }));
        }
        self.doubt = Some(Doubt::new(content.clone(), patience, now));
        true
    }

    /// How long the file must stay as it is before it is believed, and how much it lacks.
    fn patience(&self, content: &Content, reading: &Reading) -> (Duration, usize) {
        if self.adopts {
            // Nothing is deleted with it.
            return (Duration::ZERO, 0);
        }
        let loss = loss(&self.config.services, &reading.config.services);
        let missing = match loss {
            Loss::Nothing => 0,
            Loss::Some(missing) | Loss::End(missing) => missing,
        };
        let is_beginning =
            self.content_in_force.as_ref().is_some_and(|in_force| content.is_beginning_of(in_force));
        (patience(loss, is_beginning), missing)
    }

    /// Reads the file on demand. A new file that lacks its end is looked at until it stays as it is.
    async fn read_on_demand(&self, source: &Source) -> Result<Look, NotReloaded> {
        let mut look = read(source.clone(), &self.config.agent).await;
        for _ in 0..LOOKS {
            let (Some(content), Ok(reading)) = (&look.content, &look.reading) else { return Ok(look) };
            let is_settled = look.age.is_none_or(|age| age >= ON_DEMAND);
            if is_settled || self.patience(content, reading).0 <= ON_DEMAND {
                return Ok(look);
            }
            sleep(ON_DEMAND).await;
            let next = read(source.clone(), &self.config.agent).await;
            if next.content == look.content {
                return Ok(next);
            }
            look = next;
        }
        Err(NotReloaded::Unfinished)
    }

    /// Reloads in any case.
    async fn reload(&mut self, cause: ReloadCause) -> Result<Reloaded, NotReloaded> {
        let _reloading = self.outputs.phase.reloading();
        let Some(source) = self.source.clone() else {
            let error = NotReloaded::NoFile;
            self.publish(Event::ReloadFailed { cause, error: error.to_string() });
            return Err(error);
        };
        let reading = match self.read_on_demand(&source).await {
            Ok(Look { content, reading, .. }) => {
                self.content = content;
                reading
            }
            Err(error) => Err(error),
        };
        self.doubt = None;
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
        self.content_in_force.clone_from(&self.content);
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
            read_table().await.map_err(NotReloaded::Table)?
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

/// The file at one time.
struct Look {
    /// `None`: it can't be read at all.
    content: Option<Content>,
    reading: Result<Reading, NotReloaded>,
    /// How long ago it was written to; `None`: unknown.
    age: Option<Duration>,
}

/// Reads the file in a thread of its own: it may be long, or on a disk that hangs. Marks and mode are those in force.
async fn read(source: Source, in_force: &AgentSettings) -> Look {
    let (mode, marks) = (in_force.mode, in_force.vip_marks);
    let reading = spawn_blocking(move || {
        let (content, mut reading) = source.read_with_content();
        if let Ok(reading) = &mut reading {
            vip_lanes::assign(&mut reading.config, mode, marks);
        }
        (content, reading, age(&source.path))
    });
    match reading.await {
        Ok((content, reading, age)) => {
            Look { content, reading: reading.map_err(|error| NotReloaded::Faulty(error.to_string())), age }
        }
        Err(error) => Look { content: None, reading: Err(NotReloaded::Faulty(error.to_string())), age: None },
    }
}

/// How long ago a file was written to; `None` also where it was in the future, by another machine's clock.
fn age(path: &Path) -> Option<Duration> {
    SystemTime::now().duration_since(fs::metadata(path).ok()?.modified().ok()?).ok()
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
