//! The maintenance directory: a file in it, named after a server, takes that server out as long as the file exists. It
//! is read every second in a task of its own, as the directory may be on a disk that hangs, and name servers may hang,
//! too.

use std::{
    collections::HashMap,
    io,
    net::IpAddr,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use crate::{
    engine::{admin::MaintenanceSet, file_name::FileName},
    model::PeerText,
    supervision::Restartable,
};
use tokio::{net::lookup_host, sync::watch, time::timeout};
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

/// How often the directory is read.
const INTERVAL: Duration = Duration::from_secs(1);
/// How long it may take to resolve a name; it is retried.
const RESOLVE_TIMEOUT: Duration = Duration::from_secs(5);
/// How long the addresses of a name are used before it is resolved again.
const CACHE_TIME: Duration = Duration::from_mins(1);
/// The most files that are read: more than any director has servers.
const MAX_FILES: usize = 20_000;

/// Reads the directory again and again.
pub(crate) struct MaintenanceDirectory {
    path: PathBuf,
    /// Whether the directory could not be read the last time, which is logged once.
    failed: bool,
    /// The addresses of hosts, and when they were resolved.
    hosts: HashMap<String, (Instant, Vec<IpAddr>)>,
    maintained: watch::Sender<MaintenanceSet>,
}

impl MaintenanceDirectory {
    /// The servers that are named go to `maintained`.
    pub(crate) fn new(path: &Path, maintained: watch::Sender<MaintenanceSet>) -> Self {
        Self { path: path.to_owned(), failed: false, hosts: HashMap::new(), maintained }
    }

    /// The servers that are named now; `None`: the directory can't be read, and the servers named before stay.
    async fn read(&mut self) -> Option<MaintenanceSet> {
        let path = self.path.clone();
        let listing = tokio::task::spawn_blocking(move || names(&path)).await;
        let names = match listing.unwrap_or_else(|error| Err(io::Error::other(error))) {
            Ok(names) => names,
            Err(error) => {
                if !self.failed {
                    let path = self.path.display();
                    warn!(
                        "the maintenance directory {path} can't be read: {error}; servers in maintenance stay in \
                         maintenance"
                    );
                }
                self.failed = true;
                return None;
            }
        };
        if std::mem::take(&mut self.failed) {
            info!("the maintenance directory {} can be read again", self.path.display());
        }
        let mut servers = MaintenanceSet::new();
        for name in names.iter().filter_map(|name| FileName::parse(name)) {
            match name {
                FileName::Address(ip, port) => drop(servers.insert((ip, port))),
                FileName::Host(host, port) => {
                    servers.extend(self.addresses(&host).await.iter().map(|ip| (*ip, port)));
                }
            }
        }
        Some(servers)
    }

    /// A host's addresses from the system's resolver; the previous ones if it doesn't answer.
    async fn addresses(&mut self, host: &str) -> &[IpAddr] {
        let now = Instant::now();
        let is_fresh = |at: Instant| now.saturating_duration_since(at) < CACHE_TIME;
        if !self.hosts.get(host).is_some_and(|(at, _)| is_fresh(*at)) {
            let known = self.hosts.entry(host.to_owned()).or_insert_with(|| (now, Vec::new()));
            known.0 = now;
            match timeout(RESOLVE_TIMEOUT, lookup_host((host, 0))).await {
                Ok(Ok(addresses)) => known.1 = addresses.map(|address| address.ip()).collect(),
                Ok(Err(error)) => {
                    let host = PeerText::new(host);
                    warn!("maintenance: {host} is not an address, and can't be resolved as a name: {error}");
                }
                Err(_) => warn!("maintenance: resolving {host:?} took longer than {RESOLVE_TIMEOUT:?}"),
            }
        }
        self.hosts.get(host).map_or(&[], |(_, addresses)| addresses)
    }
}

/// The names of the files; none if the directory doesn't exist.
fn names(path: &Path) -> io::Result<Vec<String>> {
    let entries = match std::fs::read_dir(path) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(error),
    };
    entries.take(MAX_FILES).map(|entry| Ok(entry?.file_name().to_string_lossy().into_owned())).collect()
}

impl Restartable for MaintenanceDirectory {
    /// Reads until `shutdown`, or until the receiver is dropped.
    async fn run(&mut self, shutdown: &CancellationToken) {
        let reading = async {
            while !self.maintained.is_closed() {
                if let Some(servers) = self.read().await {
                    self.maintained.send_if_modified(|before| {
                        let changed = *before != servers;
                        *before = servers;
                        changed
                    });
                }
                tokio::time::sleep(INTERVAL).await;
            }
        };
        shutdown.run_until_cancelled(reading).await;
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[tokio::test]
    async fn servers_are_named_while_their_files_exist() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("maintenance");
        let (maintained, _) = watch::channel(MaintenanceSet::new());
        let mut maintenance = MaintenanceDirectory::new(&path, maintained);
        let local = (IpAddr::from([127, 0, 0, 1]), Some(80));
        let other = (IpAddr::from([10, 0, 0, 1]), None);
        assert_eq!(maintenance.read().await, Some(MaintenanceSet::new()), "there is no directory");
        fs::create_dir(&path).unwrap();
        fs::write(path.join("10.0.0.1"), "").unwrap();
        assert_eq!(maintenance.read().await, Some(MaintenanceSet::from([other])));
        fs::write(path.join("localhost:80"), "").unwrap();
        assert!(maintenance.read().await.unwrap().contains(&local));
        fs::remove_file(path.join("localhost:80")).unwrap();
        assert_eq!(maintenance.read().await, Some(MaintenanceSet::from([other])));
        fs::remove_dir_all(&path).unwrap();
        fs::write(&path, "").unwrap();
        assert_eq!(maintenance.read().await, None, "it is no directory: the servers named before stay");
    }

    #[tokio::test]
    async fn the_task_ends_at_shutdown() {
        let directory = tempfile::tempdir().unwrap();
        let (sender, mut receiver) = watch::channel(MaintenanceSet::new());
        let shutdown = CancellationToken::new();
        fs::write(directory.path().join("10.0.0.1"), "").unwrap();
        let mut reader = MaintenanceDirectory::new(directory.path(), sender);
        let changed = async {
            receiver.changed().await.unwrap();
            assert_eq!(receiver.borrow().len(), 1);
            shutdown.cancel();
        };
        tokio::join!(reader.run(&shutdown), changed);
    }
}
