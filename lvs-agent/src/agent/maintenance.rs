//! The maintenance folder: a file in it, named after a server, takes that server out as long as the file is there. Looked
//! at every second in a task of its own, as the folder may be on a disk or a server that hangs, and so may name servers.

use std::{
    collections::HashMap,
    io,
    net::{IpAddr, SocketAddr},
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use crate::engine::admin::MaintenanceSet;
use tokio::{net::lookup_host, sync::watch, time::timeout};
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

/// How often the folder is looked at.
const EVERY: Duration = Duration::from_secs(1);
/// How long a name may take to be looked up; it is tried again.
const LOOKUP: Duration = Duration::from_secs(5);
/// How long the addresses of a name hold.
const NAMES_HOLD: Duration = Duration::from_mins(1);
/// The most files that are looked at: more names than any director has servers.
const MOST: usize = 20_000;

/// What a file's name stands for.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Named {
    Address(IpAddr, Option<u16>),
    /// A host's name, and perhaps a port.
    Host(String, Option<u16>),
}

impl Named {
    /// `None` for names that no server has, such as an editor's `.name.swp`.
    fn parse(name: &str) -> Option<Self> {
        if let Ok(ip) = name.trim_start_matches('[').trim_end_matches(']').parse() {
            return Some(Self::Address(ip, None));
        }
        if let Ok(address) = name.parse::<SocketAddr>() {
            return Some(Self::Address(address.ip(), Some(address.port())));
        }
        let (host, port) = match name.rsplit_once(':') {
            Some((host, port)) => (host, Some(port.parse().ok()?)),
            None => (name, None),
        };
        let fits = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '.';
        let is_host = host.starts_with(|c: char| c.is_ascii_alphanumeric()) && host.chars().all(fits);
        is_host.then(|| Self::Host(host.to_owned(), port))
    }
}

/// Looks at the folder again and again.
pub(crate) struct Folder {
    path: PathBuf,
    /// Whether the last look failed, which is told once.
    failed: bool,
    /// The addresses of hosts, and when they were looked up.
    hosts: HashMap<String, (Instant, Vec<IpAddr>)>,
}

impl Folder {
    pub(crate) fn new(path: &Path) -> Self {
        Self { path: path.to_owned(), failed: false, hosts: HashMap::new() }
    }

    /// Until `shutdown`, or until nobody listens.
    pub(crate) async fn run(
        mut self,
        maintained: watch::Sender<MaintenanceSet>,
        shutdown: CancellationToken,
    ) {
        let looking = async {
            while !maintained.is_closed() {
                if let Some(found) = self.look().await {
                    maintained.send_if_modified(|known| {
                        let others = *known != found;
                        *known = found;
                        others
                    });
                }
                tokio::time::sleep(EVERY).await;
            }
        };
        shutdown.run_until_cancelled(looking).await;
    }

    /// The servers that are named now; `None`: it could not be looked, and what was found before admin_state.
    async fn look(&mut self) -> Option<MaintenanceSet> {
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
        let mut found = MaintenanceSet::new();
        for name in names.iter().filter_map(|name| Named::parse(name)) {
            match name {
                Named::Address(ip, port) => drop(found.insert((ip, port))),
                Named::Host(host, port) => {
                    found.extend(self.addresses(&host).await.iter().map(|ip| (*ip, port)));
                }
            }
        }
        Some(found)
    }

    /// A host's addresses: as the machine's resolver says, or as it said before if it doesn't answer.
    async fn addresses(&mut self, host: &str) -> &[IpAddr] {
        let now = Instant::now();
        let is_fresh = |at: Instant| now.saturating_duration_since(at) < NAMES_HOLD;
        if !self.hosts.get(host).is_some_and(|(at, _)| is_fresh(*at)) {
            let known = self.hosts.entry(host.to_owned()).or_insert_with(|| (now, Vec::new()));
            known.0 = now;
            match timeout(LOOKUP, lookup_host((host, 0))).await {
                Ok(Ok(addresses)) => known.1 = addresses.map(|address| address.ip()).collect(),
                Ok(Err(error)) => {
                    warn!("maintenance: {host} is not an address, and can't be resolved as a name: {error}");
                }
                Err(_) => warn!("maintenance: resolving {host} took longer than {LOOKUP:?}"),
            }
        }
        self.hosts.get(host).map_or(&[], |(_, addresses)| addresses)
    }
}

/// The names of the files. No folder is as good as an empty one.
fn names(path: &Path) -> io::Result<Vec<String>> {
    let entries = match std::fs::read_dir(path) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(error),
    };
    entries.take(MOST).map(|entry| Ok(entry?.file_name().to_string_lossy().into_owned())).collect()
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn names_of_files() {
        let address = |ip: &str, port| Some(Named::Address(ip.parse().unwrap(), port));
        let host = |name: &str, port| Some(Named::Host(name.to_owned(), port));
        let cases = [
            ("10.0.0.1", address("10.0.0.1", None)),
            ("10.0.0.1:80", address("10.0.0.1", Some(80))),
            ("2001:db8::1", address("2001:db8::1", None)),
            ("[2001:db8::1]", address("2001:db8::1", None)),
            ("[2001:db8::1]:80", address("2001:db8::1", Some(80))),
            ("web1", host("web1", None)),
            ("web1.example.org:8080", host("web1.example.org", Some(8080))),
            ("web1:http", None),
            (".10.0.0.1.swp", None),
            ("web 1", None),
            ("", None),
        ];
        for (name, expected) in cases {
            assert_eq!(Named::parse(name), expected, "{name:?}");
        }
    }

    #[tokio::test]
    async fn files_come_and_go() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("folder");
        let mut folder = Folder::new(&path);
        let local = (IpAddr::from([127, 0, 0, 1]), Some(80));
        let other = (IpAddr::from([10, 0, 0, 1]), None);
        assert_eq!(folder.look().await, Some(MaintenanceSet::new()), "there is no folder");
        fs::create_dir(&path).unwrap();
        fs::write(path.join("10.0.0.1"), "").unwrap();
        assert_eq!(folder.look().await, Some(MaintenanceSet::from([other])));
        fs::write(path.join("localhost:80"), "").unwrap();
        assert!(folder.look().await.unwrap().contains(&local));
        fs::remove_file(path.join("localhost:80")).unwrap();
        assert_eq!(folder.look().await, Some(MaintenanceSet::from([other])));
        fs::remove_dir_all(&path).unwrap();
        fs::write(&path, "").unwrap();
        assert_eq!(folder.look().await, None, "it is no folder: what was found before holds");
    }

    #[tokio::test]
    async fn it_ends_on_request_and_when_nobody_listens() {
        let directory = tempfile::tempdir().unwrap();
        let (sender, mut receiver) = watch::channel(MaintenanceSet::new());
        let shutdown = CancellationToken::new();
        fs::write(directory.path().join("10.0.0.1"), "").unwrap();
        let running = tokio::spawn(Folder::new(directory.path()).run(sender, shutdown.clone()));
        receiver.changed().await.unwrap();
        assert_eq!(receiver.borrow().len(), 1);
        shutdown.cancel();
        running.await.unwrap();
    }
}
