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
    file_work::on_file,
    model::PeerText,
    supervision::Restartable,
};
use tokio::{net::lookup_host, sync::watch, time::timeout};
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

/// How often the directory is read.
const INTERVAL: Duration = Duration::from_secs(1);
/// How long the start of the agent waits for the directory and its names, which take milliseconds: who serves meanwhile
/// goes on serving, but nobody is checked.
const START_TIMEOUT: Duration = Duration::from_secs(1);
/// How long it may take to resolve a name …
const RESOLVE_TIMEOUT: Duration = Duration::from_secs(5);
/// … and how soon it is tried again if that fails: after a boot names come with the network.
const RETRY_TIME: Duration = Duration::from_secs(5);
/// How long the addresses of a name are used before it is resolved again.
const CACHE_TIME: Duration = Duration::from_mins(1);
/// The most files that are read: more than any director has servers.
const MAX_FILES: usize = 20_000;

/// What is known of a host.
#[derive(Default)]
struct Host {
    addresses: Vec<IpAddr>,
    /// When its name is resolved again; `None`: it has not been yet.
    due: Option<Instant>,
    /// Whether the last attempt has failed.
    failed: bool,
}

/// Reads the directory again and again.
pub(crate) struct MaintenanceDirectory {
    path: PathBuf,
    /// Whether the directory could not be read the last time, which is logged once.
    failed: bool,
    /// What is known of hosts by their names.
    hosts: HashMap<String, Host>,
    maintained: watch::Sender<MaintenanceSet>,
}

impl MaintenanceDirectory {
    /// Reads the directory for the first time, so that its servers are out from the first edit on. Further ones go to
    /// the receiver. Of a directory or a name server that hangs nothing is known yet.
    pub(crate) async fn open(path: &Path) -> (Self, watch::Receiver<MaintenanceSet>) {
        let (maintained, mut receiver) = watch::channel(MaintenanceSet::new());
        let mut directory = Self { path: path.to_owned(), failed: false, hosts: HashMap::new(), maintained };
        let mut servers = MaintenanceSet::new();
        if timeout(START_TIMEOUT, directory.read(&mut servers)).await.is_err() {
            let path = directory.path.display();
            warn!(
                "the maintenance directory {path}, or a name in it, takes longer than {START_TIMEOUT:?}: what is not \
                 known yet is not in maintenance until it is"
            );
        }
        directory.maintained.send_replace(servers);
        receiver.mark_unchanged();
        (directory, receiver)
    }

    /// Puts the servers that are named now into `servers`, addresses first. Whether the directory could be read: else
    /// the servers named before stay.
    async fn read(&mut self, servers: &mut MaintenanceSet) -> bool {
        let path = self.path.clone();
        let names = match on_file(&self.path, move || names(&path)).await {
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
                return false;
            }
        };
        if std::mem::take(&mut self.failed) {
            info!("the maintenance directory {} can be read again", self.path.display());
        }
        let mut hosts = Vec::new();
        for name in names.iter().filter_map(|name| FileName::parse(name)) {
            match name {
                FileName::Address(ip, port) => drop(servers.insert((ip, port))),
                FileName::Host(host, port) => hosts.push((host, port)),
            }
        }
        for (host, port) in hosts {
            servers.extend(self.addresses(&host).await.iter().map(|ip| (*ip, port)));
        }
        true
    }

    /// A host's addresses from the system's resolver; the previous ones if it doesn't answer. That is logged once.
    async fn addresses(&mut self, host: &str) -> &[IpAddr] {
        let known = self.hosts.entry(host.to_owned()).or_default();
        if known.due.is_none_or(|due| due <= Instant::now()) {
            let problem = match timeout(RESOLVE_TIMEOUT, lookup_host((host, 0))).await {
                Ok(Ok(addresses)) => {
                    known.addresses = addresses.map(|address| address.ip()).collect();
                    None
                }
                Ok(Err(error)) => {
                    let host = PeerText::new(host);
                    Some(format!("{host} is not an address, and can't be resolved as a name: {error}"))
                }
                Err(_) => Some(format!("resolving {host:?} took longer than {RESOLVE_TIMEOUT:?}")),
            };
            known.due = Some(Instant::now() + if problem.is_some() { RETRY_TIME } else { CACHE_TIME });
            let has_failed = problem.is_some();
            if let Some(problem) = problem.filter(|_| !known.failed) {
                warn!("maintenance: {problem}; it is tried again every {RETRY_TIME:?}");
            }
            known.failed = has_failed;
        }
        &known.addresses
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
                let mut servers = MaintenanceSet::new();
                if self.read(&mut servers).await {
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

    async fn read(directory: &mut MaintenanceDirectory) -> Option<MaintenanceSet> {
        let mut servers = MaintenanceSet::new();
        directory.read(&mut servers).await.then_some(servers)
    }

    #[tokio::test]
    async fn servers_are_named_while_their_files_exist() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("maintenance");
        let (mut maintenance, first) = MaintenanceDirectory::open(&path).await;
        let local = (IpAddr::from([127, 0, 0, 1]), Some(80));
        let other = (IpAddr::from([10, 0, 0, 1]), None);
        assert_eq!(*first.borrow(), MaintenanceSet::new(), "there is no directory");
        fs::create_dir(&path).unwrap();
        fs::write(path.join("10.0.0.1"), "").unwrap();
        assert_eq!(read(&mut maintenance).await, Some(MaintenanceSet::from([other])));
        fs::write(path.join("localhost:80"), "").unwrap();
        assert!(read(&mut maintenance).await.unwrap().contains(&local));
        fs::remove_file(path.join("localhost:80")).unwrap();
        assert_eq!(read(&mut maintenance).await, Some(MaintenanceSet::from([other])));
        fs::remove_dir_all(&path).unwrap();
        fs::write(&path, "").unwrap();
        assert_eq!(read(&mut maintenance).await, None, "it is no directory: the servers named before stay");
    }

    #[tokio::test]
    async fn the_servers_that_are_named_at_the_start_are_known_before_the_task_runs() {
        let directory = tempfile::tempdir().unwrap();
        for name in ["10.0.0.1", "localhost:80"] {
            fs::write(directory.path().join(name), "").unwrap();
        }
        let (_directory, first) = MaintenanceDirectory::open(directory.path()).await;
        assert!(first.borrow().contains(&(IpAddr::from([10, 0, 0, 1]), None)));
        assert!(first.borrow().contains(&(IpAddr::from([127, 0, 0, 1]), Some(80))));
        assert!(!first.has_changed().unwrap(), "they are no news");
    }

    #[tokio::test]
    async fn a_host_that_is_not_known_yet_is_asked_for_again() {
        let directory = tempfile::tempdir().unwrap();
        let (mut maintenance, _) = MaintenanceDirectory::open(directory.path()).await;
        // An end of the start before the name server has answered.
        maintenance.hosts.insert("localhost".to_owned(), Host::default());
        assert!(maintenance.addresses("localhost").await.contains(&IpAddr::from([127, 0, 0, 1])));
        // One that has failed is due long before one that has an address.
        assert_eq!(maintenance.addresses("no..name").await, &[] as &[IpAddr]);
        let due = |host| maintenance.hosts[host].due.unwrap();
        assert!(due("no..name") + Duration::from_secs(30) < due("localhost"));
    }

    #[tokio::test]
    async fn the_task_ends_at_shutdown() {
        let directory = tempfile::tempdir().unwrap();
        let shutdown = CancellationToken::new();
        let (mut reader, mut receiver) = MaintenanceDirectory::open(directory.path()).await;
        fs::write(directory.path().join("10.0.0.1"), "").unwrap();
        let changed = async {
            receiver.changed().await.unwrap();
            assert_eq!(receiver.borrow().len(), 1);
            shutdown.cancel();
        };
        tokio::join!(reader.run(&shutdown), changed);
    }
}
